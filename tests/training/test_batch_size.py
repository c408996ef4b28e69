"""The largest batch that fits: the search, a trial that runs out of memory, and what a run remembers of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.audit_images import clean_root
from helpers.paths import ROOT
from helpers.train_commands import run, write_recipe

from hw1.config.load import dump_recipe, load_recipe
from hw1.config.recipe import Recipe, base_lr, step_images
from hw1.runs.folder import RunFolder
from hw1.training import batch_size
from hw1.training.batch_size import choose_batch_size, fits, largest, possible_sizes

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
SMALL = {"model": {"name": "resnet18_half_cbam", "pretrained": False}, "freeze": {"stages": ()}, "aug": {"size": 32}}


@pytest.mark.parametrize("images", [1, 7, 32, 48, 64, 96])
def test_sizes_divide_the_optimizer_step(images):
    assert possible_sizes(images, 1) == [size for size in range(1, images + 1) if images % size == 0]
    assert possible_sizes(64, 4) == [4, 8, 16, 32, 64]
    assert possible_sizes(7, 4) == [7]
    assert max(100_000 // size for size in possible_sizes(100_000, 1)) <= 4096


@pytest.mark.parametrize("limit", range(66))
def test_the_search_finds_the_largest_that_fits_in_few_trials(limit):
    asked: list[int] = []
    sizes = possible_sizes(64, 1)
    found = largest(sizes, lambda size: asked.append(size) is None and size <= limit)
    assert found == max((size for size in sizes if size <= limit), default=1)
    assert len(asked) <= 4
    assert len(set(asked)) == len(asked)


def memory_of(limit: int):
    """What stands for a trial on a GPU with memory for so many images."""

    def train(recipe: Recipe, device: torch.device, num_classes: int) -> None:
        if recipe.data.batch_size > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")

    return train


@pytest.mark.parametrize(("limit", "size", "accum"), [(100, 64, 1), (64, 64, 1), (63, 32, 2), (10, 8, 8), (0, 1, 64)])
def test_the_step_stays_the_recipes(monkeypatch, capsys, limit, size, accum):
    monkeypatch.setattr(batch_size, "_train_two_steps", memory_of(limit))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    recipe = Recipe.model_validate({"data": {"batch_size": "auto:16"}, "train": {"grad_accum": 4}, "optim": {"lr_scale": "linear"}})
    chosen = choose_batch_size(recipe, CUDA, 5)
    assert (chosen.data.batch_size, chosen.train.grad_accum) == (size, accum)
    assert base_lr(chosen) == base_lr(recipe) == 2e-4
    assert (
        capsys.readouterr().err == f"data.batch_size: auto is {size} here, with train.grad_accum {accum}: a step has 64 images as before\n"
    )


def test_another_error_is_no_answer(monkeypatch):
    def broken(*arguments: object) -> None:
        raise RuntimeError("device-side assert triggered")

    monkeypatch.setattr(batch_size, "_train_two_steps", broken)
    with pytest.raises(RuntimeError, match="device-side"):
        fits(Recipe(), CPU, 5)


def test_on_a_cpu_it_is_the_recipes_own_batch():
    recipe = Recipe.model_validate({"data": {"batch_size": "auto:48"}, "train": {"grad_accum": 2}})
    chosen = choose_batch_size(recipe, CPU, 5)
    assert (chosen.data.batch_size, chosen.train.grad_accum) == (48, 2)
    assert choose_batch_size(chosen, CPU, 5) is chosen


def test_auto_stands_over_the_number_below(folder):
    Path("mine.yaml").write_text(f"base: {ROOT}/recipes/base.yaml\ndata: {{batch_size: 256}}\ntrain: {{grad_accum: 2}}\n")
    Path("auto.yaml").write_text("base: mine.yaml\ndata: {batch_size: auto}\n")
    Path("bare.yaml").write_text("data: {batch_size: auto}\n")
    for recipe in (
        load_recipe("auto.yaml"),
        load_recipe("mine.yaml", ["data.batch_size=auto"]),
        load_recipe("auto.yaml", ["data.batch_size=auto"]),
    ):
        assert recipe.data.batch_size == "auto:256"
        assert step_images(recipe) == 512
    assert step_images(load_recipe("bare.yaml")) == step_images(Recipe()) == 32
    assert load_recipe("auto.yaml", ["data.batch_size=8"]).data.batch_size == 8
    Path("dumped.yaml").write_text(dump_recipe(load_recipe("auto.yaml", ["run.name=x"])))
    assert load_recipe("dumped.yaml") == load_recipe("auto.yaml", ["run.name=x"])


LIMITED = """
import json, resource, sys
import torch
from hw1.config.recipe import Recipe
from hw1.training.batch_size import fits, with_batch_size
torch.set_num_threads(1)
recipe = Recipe.model_validate({**json.loads(sys.argv[1]), "data": {"batch_size": 4096}})
cpu = torch.device("cpu")
assert fits(with_batch_size(recipe, 2), cpu, 5)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300 * 2**20,) * 2)
print([size for size in (2, 4096) if fits(with_batch_size(recipe, size), cpu, 5)])
"""


@pytest.mark.slow
def test_a_trial_in_a_process_whose_memory_is_limited():
    """A real allocator refuses: 4096 images of 32 x 32 need gigabytes, two need little."""
    result = subprocess.run([sys.executable, "-c", LIMITED, json.dumps(SMALL)], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.stdout.strip() == "[2]", result.stderr


def test_a_trial_takes_real_steps_of_the_recipe(monkeypatch):
    """With accumulation, the whole model once it is unfrozen, and the batch's size."""
    seen: list[tuple[int, int, bool]] = []
    real = batch_size.train_step

    def step(state, batch, loader):
        trained = all(parameter.requires_grad for parameter in state.model.parameters())
        seen.append((len(batch.image), state.recipe.train.grad_accum, trained))
        return real(state, batch, loader)

    monkeypatch.setattr(batch_size, "train_step", step)
    freeze = {"freeze": {"stages": ("layer1",), "until_epoch": 3}}
    recipe = Recipe.model_validate({**SMALL, **freeze, "data": {"batch_size": 3}, "train": {"grad_accum": 8}})
    assert fits(recipe, CPU, 5)
    assert seen == [(3, 2, True)] * 4


@pytest.mark.slow
def test_it_is_found_once_and_the_run_remembers_it(tmp_path, monkeypatch):
    """In a run on the CPU that takes itself for one on a GPU with memory for 12 images."""
    monkeypatch.setattr(batch_size, "_train_two_steps", memory_of(12))
    real = choose_batch_size
    monkeypatch.setattr("hw1.training.setup.choose_batch_size", lambda recipe, device, num: real(recipe, CUDA, num))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    arguments = (write_recipe(tmp_path, clean_root(tmp_path / "data")), "train.deterministic=false", "data.batch_size=auto")
    first = run("train.py", *arguments, "train.epochs=1")
    assert first.returncode == 0, first.stderr
    assert "data.batch_size: auto is 12 here, with train.grad_accum 5: a step has 60 images as before" in first.stderr
    recipe = RunFolder(tmp_path / "runs/tiny/seed5").read_recipe()
    assert (recipe.data.batch_size, recipe.train.grad_accum) == (12, 5)
    monkeypatch.setattr(batch_size, "_train_two_steps", memory_of(1))
    second = run("train.py", *arguments, "train.epochs=2")
    assert second.returncode == 0, second.stderr
    assert "auto is" not in second.stderr
    assert RunFolder(tmp_path / "runs/tiny/seed5").read_recipe().data.batch_size == 12
    refused = run("train.py", *arguments[:2], "data.batch_size=auto:64")
    assert refused.returncode == 2
    assert 'made with another recipe: data.batch_size: 12 -> "auto:64"' in refused.stderr
