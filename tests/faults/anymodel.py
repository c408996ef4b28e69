"""Any model of timm's with any recipe that comes with hw1: it can be trained, or one line says why not."""

import random
from pathlib import Path

import timm

from faults.tally import Tally, expect
from hw1.config.auto import AUTO_KEYS
from hw1.config.load import load_recipe
from hw1.config.open_values import is_open
from hw1.config.shipped import shipped_recipes
from hw1.errors import UserError
from hw1.models.factory import check_model
from hw1.models.resolve import resolve

KEYS = (
    "model.drop_path=0.1", "model.grad_checkpointing=true", "model.in_chans=1", "freeze.stages=0.5", "freeze.stages=3", "aug.size=auto",
    "aug.fit=pad", "aug.mean=[0, 0, 0]", "model.kwargs={nothing: 1}", "model.kwargs={depth: 2}", "model.cbam_stages=[1]",
    "freeze.stages=[x]",
)  # fmt: skip


def any_model(tally: Tally, folder: Path, n: int) -> None:
    """A model drawn from all of timm's, a recipe, and up to two keys: nothing is left open, and what is wrong is a line."""
    names, recipes = timm.list_models(), list(shipped_recipes().values())
    for i in range(n):
        rng = random.Random(f"any model {i}")
        name, path, keys = rng.choice(names), rng.choice(recipes), rng.sample(KEYS, rng.randrange(3))
        with tally.attempt(f"{name} with {path.name} {' '.join(keys)}"):
            lines: list[str] = []
            try:
                recipe = load_recipe(path, [f"model.name={name}", *keys], tell=lines.append)
            except UserError as error:
                expect(all("\n" not in problem for problem in error.problems), f"unclear: {error}")
                continue
            recipe, notes = resolve(recipe)
            values = {**{f"aug.{key}": getattr(recipe.aug, key) for key in AUTO_KEYS}, "freeze.stages": recipe.freeze.stages}
            expect(not any(is_open(key, value) for key, value in values.items()), f"left open: {values}")
            problems = check_model(recipe.model, recipe.freeze, image_size=min(recipe.aug.size, 224))
            for line in (*lines, *notes, *problems):
                expect("\n" not in line and line.split(": ")[0] and len(line) < 700, f"unclear: {line}")
            tally.seen["problems" if problems else "fine"] += 1
            wrong = [
                line for line in problems if line.startswith(("model.cbam", "model.drop_layer3")) and "model.cbam_stages=[1]" not in keys
            ]
            expect(not wrong, f"refused for another model's keys: {wrong}")
