"""What a sweep is carried out with: the recipe, the space, the folder, and the run of each trial. No Optuna."""

import fnmatch
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hw1.ablate.plan import PlannedRun, plan_run
from hw1.config.load import load_recipe
from hw1.config.recipe import MAY_CHANGE, Recipe
from hw1.config.settings import flatten
from hw1.errors import UserError
from hw1.sweep.space import Space, Values, as_overrides, read_space


@dataclass(frozen=True)
class SweepPlan:
    """A sweep.

    Attributes:
        recipe_path: The recipe's file.
        overrides: `section.key=value`, for all runs.
        recipe: The recipe with them.
        space: What varies.
    """

    recipe_path: str
    overrides: tuple[str, ...]
    recipe: Recipe
    space: Space

    @classmethod
    def read(cls, recipe_path: str, space_path: str, overrides: Sequence[str]) -> "SweepPlan":
        """Read recipe and space.

        Raises:
            UserError: With every problem of one or the other.
        """
        recipe = load_recipe(recipe_path, overrides)
        return cls(recipe_path, tuple(overrides), recipe, read_space(space_path, recipe_path, overrides))

    @property
    def folder(self) -> Path:
        """All that the sweep writes is in it."""
        return Path(self.recipe.run.dir) / f"{self.recipe.run.name}-sweep"

    @property
    def journal(self) -> Path:
        """The study."""
        return self.folder / "study.journal"

    @property
    def trials(self) -> Path:
        """Folder of the trials' runs."""
        return self.folder / "trials"

    @property
    def seeds(self) -> Path:
        """Folder of the runs over new seeds."""
        return self.folder / "seeds"

    @property
    def best_by(self) -> str:
        """The metric by which trials are compared; lower is better for loss alone."""
        return self.recipe.train.best_by

    def own_value(self, key: str) -> Any:
        """Return the recipe's value of a dotted key, as JSON has it; None for a name that a mapping such as `optim.kwargs` lacks."""
        value: Any = self.recipe.model_dump(mode="json")
        for name in key.split("."):
            value = value.get(name)
        return value

    def plan_run(self, folder: Path, name: str, values: Values, seed: int | None = None) -> PlannedRun:
        """Plan the run of these values; what it prints goes to a file beside it.

        Args:
            folder: `trials` or `seeds`.
            name: Name of the run.
            values: Of the keys that vary.
            seed: None: the recipe's.

        Raises:
            UserError: The values do not go together.
        """
        seed = self.recipe.seed if seed is None else seed
        place = [f"run.dir={json.dumps(str(folder))}", f"run.name={name}"]
        kept = [text for text in self.overrides if text.partition("=")[0].strip() not in ("seed", "run.dir", "run.name")]
        run = plan_run(self.recipe_path, [*kept, *as_overrides(values), *place], str(seed), group=self.folder.name)
        run.console = folder / f"{name}-seed{seed}.log"
        return run

    def facts(self) -> dict[str, Any]:
        """Return what may not change while a sweep is continued, as JSON has it."""
        space = {key: str(values) for key, values in self.space.items()}
        recipe = {key: value for key, value in flatten(self.recipe.model_dump()) if not _may_change(key)}
        facts: dict[str, Any] = json.loads(json.dumps({"space": space, "recipe": recipe}))
        return facts

    def require_same(self, facts: dict[str, Any]) -> None:
        """Check that a study was begun with this space and recipe.

        Raises:
            UserError: It was not; a line for each difference.
        """
        lines = []
        for what, new in self.facts().items():
            old = facts.get(what, {})
            for key in [key for key in {**old, **new} if old.get(key) != new.get(key) and (what == "space" or key in old)]:
                lines.append(f"{self.folder}: begun with another {what}: {key}: {json.dumps(old.get(key))} -> {json.dumps(new.get(key))}")
        if lines:
            raise UserError(*lines, f"{self.folder}: run.name=NAME begins another sweep")

    def runs_to_check(self) -> list[PlannedRun]:
        """Return a run for each value that is checked before the first trial: data and augmentation are tried with them all."""
        base = self.plan_run(self.trials, "checked", {})
        ends = [{key: end} for key, values in self.space.items() if key.startswith(("aug.", "data.", "model.")) for end in values.ends]
        return [base, *(self.plan_run(self.trials, "checked", values) for values in ends)]


def _may_change(key: str) -> bool:
    return key.startswith("run.") or (key != "train.epochs" and any(fnmatch.fnmatchcase(key, pattern) for pattern in MAY_CHANGE))
