"""What is answered before torch is imported: the help, mistakes in a recipe, and files that are not there."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.heavy import HEAVY
from helpers.paths import ROOT

from hw1.config.load import dump_recipe, load_recipe
from hw1.data.folders import WAYS_OUT


def answer(*arguments: object) -> tuple[int, str, list[str], set[str]]:
    """Exit code, output, messages, and the modules that were imported for them."""
    command = [sys.executable, "-X", "importtime", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    return done.returncode, done.stdout, [line for line in lines if not line.startswith("import time:")], imported


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_help_of_hw1_imports_nothing_but_the_names_of_its_commands(at_home: None) -> None:
    code, out, messages, imported = answer("-m", "hw1", "--help")
    assert (code, messages) == (0, [])
    assert "  train  " in out
    assert {name for name in imported if name.startswith("hw1")} == {"hw1", "hw1.cli", "hw1.errors"}
    assert not imported & {*HEAVY, "pydantic", "yaml", "tqdm"}


def test_import_hw1_imports_nothing_at_all(at_home: None) -> None:
    *_, imported = answer("-c", "import hw1")
    assert {name.partition(".")[0] for name in imported} & {*HEAVY, "pydantic", "yaml", "tqdm", "argparse"} == set()


def test_the_python_functions_import_nothing_heavy_before_they_are_called(at_home: None) -> None:
    *_, imported = answer("-c", "import hw1; hw1.train, hw1.load, hw1.Run")
    assert "hw1.api" in imported
    assert not imported & {*HEAVY, "tqdm"}


@pytest.mark.parametrize("script", ["train.py", "validate.py"])
def test_the_help_of_the_scripts_imports_nothing_heavy(at_home: None, script: str) -> None:
    code, out, messages, imported = answer(script, "--help")
    assert (code, messages) == (0, [])
    assert out.startswith(f"usage: {script} ")
    assert not imported & {*HEAVY, "tqdm"}


@pytest.mark.parametrize(
    ("changes", "problems"),
    [
        (["trian.epochs=1"], ["trian.epochs: unknown key; nearest: train.epochs"]),
        (["data.root=null"], ["data.root: not set; add data.root=FOLDER (with train/ and val/, or class folders alone)"]),
        (["data.root=gone"], ["data.root: gone: no such folder"]),
        (["data.root=imagse"], ["data.root: imagse: no such folder; did you mean images?"]),
        (["data.root=x.yaml"], ["data.root: x.yaml: not a folder"]),
        (
            ["data.root=gone", "data.generate=1", "data.val_fraction=0.1"],
            ["data.val_fraction: generated data has its own val/; leave it null"],
        ),
        (["model.weights=gone.pth"], ["model.weights: gone.pth: no such file"]),
        (["model.weights=images"], ["model.weights: images: no such file"]),
        (["model.weights=gone.pth", "data.root=gone"], ["model.weights: gone.pth: no such file", "data.root: gone: no such folder"]),
        (
            ["data.cache=disk", "data.cache_dir=x.yaml"],
            [f"data.cache_dir: x.yaml: cannot be written to: File exists; {WAYS_OUT}"],
        ),
    ],
)
def test_a_mistake_is_said_before_torch_or_numpy_is_imported_and_nothing_is_written(
    folder: Path, changes: list[str], problems: list[str]
) -> None:
    (folder / "images").mkdir()
    (folder / "x.yaml").write_text("data: {root: images}")
    code, out, messages, imported = answer(ROOT / "train.py", "x.yaml", *changes)
    assert (code, out) == (2, "")
    assert messages == [f"command line: {problem}" for problem in problems]
    assert not imported & {*HEAVY, "tqdm"}
    assert sorted(path.name for path in folder.iterdir()) == ["images", "x.yaml"]


def test_the_file_that_set_the_key_is_named(folder: Path) -> None:
    (folder / "base.yaml").write_text("data: {root: gone}\nmodel: {weights: gone.pth}")
    (folder / "x.yaml").write_text("base: base.yaml\nmodel: {weights: other.pth}")
    code, _, messages, _ = answer(ROOT / "train.py", "x.yaml")
    assert code == 2
    assert messages == ["x.yaml: model.weights: other.pth: no such file", "base.yaml: data.root: gone: no such folder"]


def test_a_run_that_is_continued_needs_its_data_but_not_the_weights_that_it_began_with(folder: Path) -> None:
    recipe = load_recipe(ROOT / "recipes/finetune.yaml", ["run.name=x", "seed=1", "data.root=gone", "model.weights=gone.pth"])
    checkpoints = folder / "runs" / "x" / "seed1" / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints.parent / "config.yaml").write_text(dump_recipe(recipe))
    (checkpoints / "epoch0000-step000001.pt").touch()
    code, _, messages, imported = answer(ROOT / "train.py", checkpoints.parent / "config.yaml")
    assert (code, messages) == (2, [f"{checkpoints.parent / 'config.yaml'}: data.root: gone: no such folder"])
    assert not imported & HEAVY


def test_validate_says_before_torch_that_the_data_of_a_run_are_gone(folder: Path) -> None:
    run = folder / "runs" / "x" / "seed1"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text(dump_recipe(load_recipe(ROOT / "recipes/base.yaml", ["data.root=gone", "run.name=x"])))
    code, _, messages, imported = answer(ROOT / "validate.py", run)
    assert (code, messages) == (2, ["data.root: gone: no such folder"])
    assert not imported & HEAVY
