"""What a recipe leaves open: which keys were written for another model, and how a run that is continued closes them."""

from pathlib import Path

import pytest
from helpers.paths import ROOT
from helpers.run_folders import BASE, started

from hw1.config.load import differences, dump_recipe, load_recipe
from hw1.config.open_values import close_like
from hw1.config.recipe import IMAGENET_MEAN, AugConfig, Recipe
from hw1.errors import UserError
from hw1.runs.folder import RunFolder
from hw1.runs.identity import identify
from hw1.runs.status import run_status

FINETUNE = ROOT / "recipes/finetune.yaml"


def changed(*overrides: str) -> Recipe:
    return load_recipe(BASE, ["run.name=a", "train.epochs=3", *overrides])


def told(path: Path | str, *overrides: str) -> tuple[Recipe, list[str]]:
    lines: list[str] = []
    return load_recipe(path, overrides, tell=lines.append), lines


def test_keys_of_cbam_written_for_another_model_ask_for_nothing_in_one_line():
    recipe, lines = told(FINETUNE, "model.name=vit_tiny_patch16_224.augreg_in21k")
    assert (recipe.model.cbam_stages, recipe.model.drop_layer3, recipe.model.cbam_init) == ((), 0.0, "paper")
    assert recipe.model.drop_rate == 0.5
    [line] = lines
    assert line == (
        "model.cbam_stages, model.drop_layer3, model.cbam_init: only the *_cbam models have them, and "
        "vit_tiny_patch16_224.augreg_in21k goes without"
    )
    assert told(FINETUNE, "model.name=resnet50_cbam.tv_in1k") == (load_recipe(FINETUNE, ["model.name=resnet50_cbam.tv_in1k"]), [])


def test_keys_written_for_the_model_stay(folder):
    typed, lines = told(FINETUNE, "model.name=resnet18", "model.cbam_stages=[3]", "freeze.stages=[layer9]")
    assert (typed.model.cbam_stages, typed.freeze.stages) == ((3,), ("layer9",))
    assert all("cbam_stages" not in line for line in lines)
    Path("x.yaml").write_text(f"base: {FINETUNE}\nmodel: {{name: resnet18, cbam_kernel: 3}}\nfreeze: {{stages: [layer9]}}")
    in_file, _ = told("x.yaml")
    assert (in_file.model.cbam_kernel, in_file.freeze.stages, in_file.model.cbam_stages) == (3, ("layer9",), ())


def test_frozen_stages_of_another_model_are_frozen_if_there():
    assert load_recipe(FINETUNE).freeze.stages == ("stem", "layer1", "layer2")
    assert load_recipe(FINETUNE, ["model.name=resnet50_cbam"]).freeze.stages == ("stem", "layer1", "layer2")
    assert load_recipe(FINETUNE, ["model.name=convnext_tiny"]).freeze.stages == ("stem?", "layer1?", "layer2?")
    assert load_recipe(FINETUNE, ["model.name=convnext_tiny", "freeze.stages=0.5"]).freeze.stages == 0.5


def test_a_recipe_without_a_base_leaves_the_same_open(folder):
    Path("x.yaml").write_text("aug: {hflip: 0.1}")
    aug = load_recipe("x.yaml").aug
    assert {aug.size, aug.crop_pct, aug.interpolation, aug.mean, aug.std} == {"auto"}


def test_a_run_is_continued_with_its_own_values(folder):
    recipe = changed("model.name=resnet18")
    closed = recipe.model_copy(
        update={
            "aug": AugConfig(size=64, mean=(0.5, 0.5, 0.5), interpolation="bicubic"),
            "freeze": recipe.freeze.model_copy(update={"stages": ()}),
        }
    )
    run = started(closed, last=True)
    assert run.read_recipe() == closed
    assert run_status(run, recipe) == "interrupted"
    assert close_like(recipe, run.read_recipe()) == closed
    for override, refused in (("aug.size=96", "aug.size: 64 -> 96"), ("freeze.stages=[layer1]", 'freeze.stages: [] -> ["layer1"]')):
        assert differences(closed, changed("model.name=resnet18", override))[0] == [refused]
    with pytest.raises(UserError, match=r"aug\.crop_pct: 1\.0 -> 0\.9: cannot change after training"):
        run.read_recipe(["aug.crop_pct=0.9"])


def test_a_run_of_before_there_was_auto_goes_on_unchanged(folder):
    """Its config.yaml has numbers, and no key of the resize."""
    text = dump_recipe(changed().model_copy(update={"aug": AugConfig()}))
    new = (
        "  fit:",
        "  crop_pct:",
        "  interpolation:",
        "  drop_path:",
        "  grad_checkpointing:",
        "  in_chans:",
        "  kwargs:",
    )  # kwargs of model and optim
    former = [line for line in text.splitlines() if not line.startswith(new)]
    assert len(former) == len(text.splitlines()) - len(new) - 1
    run = RunFolder.of(changed())
    started(changed(), last=True)
    run.config.write_text("\n".join(former))
    aug = run.read_recipe().aug
    assert (aug.size, aug.fit, aug.crop_pct, aug.interpolation, aug.mean) == (224, "squash", 1.0, "bilinear", IMAGENET_MEAN)
    assert run_status(run, changed()) == "interrupted"
    assert close_like(changed(), run.read_recipe()).aug == aug
    assert identify(run.read_recipe(), "f")["recipe"] == "72ccd88b32becf2c", "as version 0.2 wrote it into checkpoints"
