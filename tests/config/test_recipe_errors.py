"""Mistakes in recipes: in which words they are reported, and of which source; and the command's exit without torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.heavy import HEAVY
from helpers.paths import ROOT
from helpers.recipe_texts import load, problems

from hw1.config.load import all_keys, load_recipe, with_sources
from hw1.config.open_values import close_like
from hw1.config.recipe import IMAGENET_MEAN

# -------------------------------------------------------------------------------------------- all problems, and sources


def test_all_problems_are_reported_at_once_each_with_its_source(folder):
    Path("base.yaml").write_text("optim: {lr: 0.1, wieght_decay: 3}\naug: {size: 0}\n")
    Path("mid.yaml").write_text("base: base.yaml\noptim: {lr: fast}\nmixop: {alpha: 1}\nmodel: {cbam_kernel: 6, cbam_kernel: 6}\n")
    found = problems(
        "base: mid.yaml\ntrain: {epoch: 3, compile: 1, ema_decay: 2}\naug: {ratio: [2, 1]}\nmixup: {alpha: {prob: 1}}",
        "sched.warmup_epochs=2",
        "data.root",
        "data.val_fraction=[",
        "model.ensemble.width=3",
        "seed=-1",
    )
    assert sorted(found) == sorted(
        [
            "mid.yaml: model.cbam_kernel: stands twice, again in line 4",
            "command line: data.root: an override reads section.key=value",
            "command line: data.val_fraction: not valid YAML: expected the node content, but found '<stream end>'",
            "base.yaml: optim.wieght_decay: unknown key; nearest: optim.weight_decay",
            "mid.yaml: mixop: unknown key; nearest: mixup",
            "x.yaml: train.epoch: unknown key; nearest: train.epochs",
            "command line: model.ensemble.width: unknown key, and nothing like it is supported; recipes/base.yaml lists all keys",
            "base.yaml: aug.size: must be greater than or equal to 16, got 0",
            "mid.yaml: optim.lr: must be a valid number, got 'fast'",
            "x.yaml: train.compile: must be a valid boolean, got 1",
            "x.yaml: train.ema_decay: must be less than 1, got 2",
            "x.yaml: mixup.alpha: must be a valid number, got a section",
            "command line: seed: must be greater than or equal to 0, got -1",
            "x.yaml: aug.ratio: the first value must not exceed the second, got [2.0, 1.0]",
            "command line: sched.warmup_epochs: sched.name=plateau has no warm-up; use another schedule, or 0",
        ]
    )


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("sead", "seed"),
        ("optimizer", "optim"),
        ("lr", "optim.lr"),
        ("epochs", "train.epochs"),
        ("batch_size", "data.batch_size"),
        ("optim.Lr", "optim.lr"),
        ("optim.momentum", "optim.betas"),
        ("train.image_size", "aug.size"),
        ("train.lr", "optim.lr"),
        ("sched.epochs", "train.epochs"),
        ("model.droprate", "model.drop_rate"),
        ("optimizer.name", "optim.name"),
        ("mixop.alfa", "mixup.alpha"),
        ("mixup.alpha.x", "mixup.alpha"),
        ("mixup.alpha.x.y", "mixup.alpha"),
        ("mixup.alfa" + ".x" * 5000, "mixup.alpha"),
    ],
)
def test_an_unknown_key_names_the_nearest_at_every_depth(folder, key, nearest):
    assert problems("{}", f"{key}=1") == [f"command line: {key}: unknown key; nearest: {nearest}"]


@pytest.mark.parametrize("key", ["aug.auto_augment", "model.ensemble", "teacher"])
def test_what_is_not_supported_is_said_to_be_so(folder, key):
    """A far key would be taken for the same thing under another name."""
    (found,) = problems("{}", f"{key}=1")
    assert found == f"command line: {key}: unknown key, and nothing like it is supported; recipes/base.yaml lists all keys"


def test_each_known_key_one_letter_off_is_recognised(folder):
    for key in all_keys():
        wrong = key[:-1] + ("x" if key[-1] != "x" else "y")
        section, _, name = wrong.rpartition(".")
        text = f"{section}: {{{name}: 1}}" if section else f"{name}: 1"
        if len(name) > 2:
            assert problems(text) == [f"x.yaml: {wrong}: unknown key; nearest: {key}"]


def test_a_key_named_with_dots_in_a_file_is_refused(folder):
    assert problems("optim.lr: 1e-4") == ["x.yaml: optim.lr: keys have no dots here; write optim: {lr: ...}"]
    assert problems("{}", "mixup={x.alpha: 1}") == ["command line: mixup.x.alpha: keys have no dots here; write x: {alpha: ...}"]


def test_the_source_is_the_file_that_set_the_key_last(folder):
    Path("a.yaml").write_text("optim: {lr: a}\ntrain: {epochs: a}\nseed: a")
    Path("b.yaml").write_text("base: a.yaml\ntrain: {epochs: b}\nseed: b")
    assert set(problems("base: b.yaml\nseed: c")) == {
        "a.yaml: optim.lr: must be a valid number, got 'a'",
        "b.yaml: train.epochs: must be a valid integer, got 'b'",
        "x.yaml: seed: must be a valid integer, got 'c'",
    }
    assert load("base: b.yaml\nseed: 1", "train.epochs=2", "optim.lr=3", "seed=4").seed == 4


def test_a_contradiction_is_not_reported_of_a_value_that_is_wrong_itself(folder):
    assert problems("optim: {lr: fast}\nsched: {min_lr: 0.01}") == ["x.yaml: optim.lr: must be a valid number, got 'fast'"]
    assert problems("sched: {min_lr: 0.01}", "optim.lr=[1") == [
        "command line: optim.lr: not valid YAML: expected ',' or ']', but got '<stream end>'"
    ]
    assert problems("base: gone.yaml\nsched: {min_lr: 0.01}") == ["x.yaml: base: gone.yaml: no such recipe; nearest: x.yaml"]


def test_problems_found_later_get_the_source_of_their_key(folder):
    Path("a.yaml").write_text("model: {name: a}\nfreeze: {stages: [x]}")
    Path("x.yaml").write_text("base: a.yaml\ntrain: {device: mps}")
    late = ["model.name: no such model", "freeze.stages: no", "train.device: none", "aug.size: odd", "mixup.prob: p", "run folder: full"]
    assert with_sources(late, "x.yaml", ["freeze.stages=[y]", "mixup={prob: 1}"]) == [
        "a.yaml: model.name: no such model",
        "command line: freeze.stages: no",
        "x.yaml: train.device: none",
        "x.yaml: aug.size: odd",  # set nowhere
        "command line: mixup.prob: p",
        "run folder: full",  # no key
    ]


# ---------------------------------------------------------------------------------------------------------- the command


def train(*arguments: str) -> tuple[int, str, list[str], set[str]]:
    """The exit code of train.py in the working folder, its output, its messages and what it imported."""
    command = [sys.executable, "-X", "importtime", str(ROOT / "train.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    return done.returncode, done.stdout, [line for line in lines if not line.startswith("import time:")], imported


def test_the_printed_config_loads_to_the_same_recipe(folder):
    overrides = ["optim.lr=3e-4", "model.cbam_stages=[]", "log.tags=[a, 'off']", "data.root=d", "log.entity=1e5x"]
    code, text, messages, _ = train(str(ROOT / "recipes/resnet50.yaml"), *overrides, "--print-config")
    assert (code, messages) == (0, [])
    Path("x.yaml").write_text(text)
    printed = load_recipe("x.yaml")
    assert printed == close_like(load_recipe(ROOT / "recipes/resnet50.yaml", overrides), printed)
    assert (printed.aug.size, printed.aug.mean, printed.aug.interpolation) == (224, IMAGENET_MEAN, "bilinear")
    assert load_recipe("x.yaml").run.name == "resnet50"
    assert os.listdir() == ["x.yaml"]


def test_a_mistake_exits_with_2_before_anything_heavy_is_imported_or_written(folder):
    Path("x.yaml").write_text("mixop: {}\nseed: 1.5")
    code, text, messages, imported = train("x.yaml", "train.epochs=0", "lr")
    assert (code, text) == (2, "")
    assert messages == [
        "command line: lr: an override reads section.key=value",
        "x.yaml: mixop: unknown key; nearest: mixup",
        "x.yaml: seed: must be a valid integer, got 1.5",
        "command line: train.epochs: must be greater than or equal to 1, got 0",
    ]
    assert "yaml" in imported
    assert not imported & HEAVY
    assert os.listdir() == ["x.yaml"]


def test_an_option_that_does_not_exist_exits_with_2(folder):
    code, _, messages, imported = train(str(ROOT / "recipes/base.yaml"), "--over-write")
    assert code == 2
    assert messages[-1].endswith("--over-write")
    assert not any("Traceback" in line for line in messages)
    assert not imported & HEAVY
    assert os.listdir() == []
