"""README.md and docs/: every block of code is carried out, or says what it needs; every recipe, key and command in them is there."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from faults.processes import Zygote
from helpers.documents import (
    COMMAND,
    IMPORTS,
    LANGUAGES,
    MARKERS,
    PAGES,
    Block,
    Shell,
    blocks_of,
    commands_in,
    given_on,
    is_ready,
    read_marker,
    write_folder,
)
from helpers.paths import ROOT

from hw1.cli import COMMANDS
from hw1.config.load import all_keys, load_recipe
from hw1.config.recipe import Recipe

README = ROOT / "README.md"
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
EXTENDING = [page for page in PAGES if page.parent.name == "extending"]
"""Their commands are of a patched project."""
CUT_DOWN = ["train.epochs=1", "aug.size=32", "data.root=dataset"]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def is_carried_out(block: Block, *, minutes: bool = False) -> bool:
    """Whether the block's commands are run here; those of the README that stand on another page too, with the README's."""
    needs_nothing = "needs" not in block.marker or (minutes and block.marker["needs"] == "minutes")
    is_code = block.language in ("sh", "python", "diff") and "file" not in block.marker
    return is_code and needs_nothing and (block.page == README or block.text not in README.read_text())


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_is_of_a_kind_that_is_carried_out_or_says_what_it_needs(block: Block) -> None:
    assert block.language in LANGUAGES, "a block names its language: sh, python, yaml, diff; text is for what is no command"
    assert block.marker.keys() <= MARKERS
    assert all(value for name, value in block.marker.items() if name != "install")
    if block.language == "text":
        assert not COMMAND.search(block.text), "a command that no test carries out"


@pytest.mark.parametrize(("text", "is_found"), [("$ hw1 train x", True), ("  make run", True), ("epoch 1/2  train loss", False)])
def test_a_command_in_a_block_of_text_would_be_found(text: str, is_found: bool) -> None:
    assert bool(COMMAND.search(text)) == is_found


# --------------------------------------------------------------------------------------------------- names in the pages


@pytest.mark.parametrize("page", [page for page in PAGES if page not in EXTENDING], ids=name_of)
def test_every_recipe_and_key_of_a_command_is_one_of_the_project(page: Path) -> None:
    mine = {block.marker["file"] for block in blocks_of(page) if "file" in block.marker}
    for recipe, overrides in commands_in("\n".join(block.text for block in blocks_of(page) if block.language == "sh")):
        if f"{recipe}.yaml" not in mine and "NAME" not in recipe:
            load_recipe(recipe if recipe in ("mine", "RECIPE") else ROOT / recipe if "/" in recipe else recipe, overrides)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_key_and_command_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    sections = "|".join(name for name, field in Recipe.model_fields.items() if hasattr(field.annotation, "model_fields"))
    files = {f"{stem}.{suffix}" for stem in sections.split("|") for suffix in ("py", "sh", "onnx", "patch", "safetensors")}
    keys = set(re.findall(rf"`((?:{sections})\.[a-z_]+)\b(?!\()", text)) - files
    assert keys <= set(all_keys())
    commands = set(re.findall(r"`hw1 ([a-z][a-z-]*)", text))
    assert {f"hw1 {command}" for command in commands} <= {f"hw1 {command}" for command in COMMANDS}
    for path in re.findall(r"`((?:recipes|hw1|tests|benchmarks|docs|notebooks)/[\w/.-]+\.\w+)`", text):
        assert (ROOT / path).exists(), path


def test_the_reader_of_commands_finds_them() -> None:
    found = commands_in((ROOT / "docs/cloud/README.md").read_text())
    assert ("recipes/finetune.yaml", ["train.epochs=14"]) in found
    assert ("photos", ["data.root=my_photos"]) in commands_in(README.read_text())


# ------------------------------------------------------------------------------------------------------------- commands


@pytest.fixture(scope="module")
def zygote() -> Zygote:
    return Zygote(imports=IMPORTS)


@pytest.fixture(scope="module")
def filled(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images and a finished run."""
    folder = tmp_path_factory.mktemp("filled") / "folder"
    write_folder(folder)
    for seed in ("seed=118", "seed=1"):
        Shell(folder, zygote).run(Block(README, 0, "sh", " ".join(["hw1 train photos", *CUT_DOWN, seed]), {}))
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "page", [page for page in PAGES if page not in EXTENDING and any(map(is_carried_out, blocks_of(page)))], ids=name_of
)
def test_the_commands_of_a_page_work(page: Path, zygote: Zygote, filled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(filled, folder, symlinks=True)
    for seed, wanted in (("seed118", "a run"), ("seed1", "a second run")):
        if wanted not in given_on(page):
            shutil.rmtree(folder / "runs/photos" / seed)
    carry_out_page(page, Shell(folder, zygote))


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", [page for page in PAGES if any(b.marker.get("needs") == "minutes" for b in blocks_of(page))], ids=name_of)
def test_the_commands_of_a_page_work_that_take_longer(page: Path, zygote: Zygote, filled: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(filled, folder, symlinks=True)
    if "a run" not in given_on(page):
        shutil.rmtree(folder / "runs")
    carry_out_page(page, Shell(folder, zygote), minutes=True)


def carry_out_page(page: Path, shell: Shell, *, minutes: bool = False) -> None:
    for block in blocks_of(page):
        if "file" in block.marker:
            (shell.folder / block.marker["file"]).write_text(block.text)
        elif is_carried_out(block, minutes=minutes) and block.language != "diff" and is_ready(block):
            shell.run(block)


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Zygote]:
    """A copy of the project with every patch of the pages on extending, and a process of that code."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("hw1", "recipes"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("train.py", "validate.py"):
        shutil.copy(ROOT / name, folder)
    for block in BLOCKS:
        if block.language == "diff":
            command = ["patch", "--strip=1", "--no-backup-if-mismatch", "--fuzz=0"]
            done = subprocess.run(command, cwd=folder, input=block.text, capture_output=True, text=True)
            assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
    return folder, Zygote(folder, IMPORTS)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("page", EXTENDING, ids=name_of)
def test_the_example_of_a_page_on_extending_works(page: Path, extended: tuple[Path, Zygote], tmp_path: Path) -> None:
    carry_out_page(page, Shell(tmp_path, extended[1]))


# --------------------------------------------------------------------------------------------------------------- README


def test_the_readme_is_short() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 200
    assert len(text.split()) <= 2000


def test_a_marker_is_read_in_parts() -> None:
    assert read_marker("needs: GPU, Docker; run with: train.epochs=1 aug.size=32") == {
        "needs": "GPU, Docker",
        "run with": "train.epochs=1 aug.size=32",
    }
