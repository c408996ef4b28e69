"""Three users, each in a fresh clone, and only the commands of README.md and docs/ that are marked with the story.

`python -m pytest -s -m long tests/docs/test_stories.py` shows how long each block takes.
HW1_INSTALL=1 installs as the README says, from the internet; without it the clone's .venv takes what this Python has.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest
from helpers.documents import PAGES, Block, blocks_of, write_folder
from helpers.paths import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]
SETTINGS = """
settings() { case $1 in train|ablate) echo "$SETTINGS";; esac; }
hw1() { command hw1 "$1" ${2:+"$2"} $(settings "$1") "${@:3}"; }
torchrun() { command torchrun "$@" $SETTINGS; }
"""
"""What `run with` says is added to commands of bash."""


def blocks_of_story(story: str) -> list[Block]:
    blocks = [block for page in PAGES for block in blocks_of(page)]
    return [block for block in blocks if story in [word.strip() for word in block.marker.get("story", "").split(",")]]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The last commit, cloned, with the user's images beside it."""
    folder = tmp_path / "hw1"
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    write_photos(folder)
    return folder


def write_photos(folder: Path) -> None:
    """300 images of 10 classes in `my_photos`, 30 more in `new_photos`, and the same as training and validation in `dataset`."""
    photos = os.environ.get("HW1_PHOTOS")
    if not photos:
        images = folder.parent / "images"
        write_folder(images)
        for name in ("my_photos", "new_photos", "dataset"):
            shutil.copytree(images / name, folder / name)
        return
    classes = sorted(path for path in Path(photos, "train").iterdir() if path.is_dir() and len(list(path.iterdir())) >= 33)[:10]
    for source in classes:
        files = sorted(source.iterdir())
        splits = {"my_photos/{}": files[:30], "new_photos": files[30:33], "dataset/train/{}": files[:24], "dataset/val/{}": files[24:30]}
        for name, chosen in splits.items():
            place = folder / name.format(f"class {source.name}")
            place.mkdir(parents=True, exist_ok=True)
            for file in chosen:
                shutil.copy(file, place / f"{source.name}-{file.name}")


def install_from_this_python(folder: Path) -> None:
    """Make .venv of what is installed where this test runs; the command hw1 is the clone's."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / ".venv"], check=True)
    packages = next((folder / ".venv/lib").glob("python*")) / "site-packages"
    (packages / "tests.pth").write_text(f"{folder}\n{sysconfig.get_path('purelib')}\n")
    for name, module in {"hw1": "hw1", "torchrun": "torch.distributed.run"}.items():
        (folder / ".venv/bin" / name).write_text(f'#!/bin/sh\nexec "{folder}/.venv/bin/python" -m {module} "$@"\n')
        (folder / ".venv/bin" / name).chmod(0o755)


def tell_story(story: str, folder: Path) -> None:
    blocks = blocks_of_story(story)
    assert blocks
    for block in blocks:
        started = time.monotonic()
        if "file" in block.marker:
            (folder / block.marker["file"]).write_text(block.text)
            continue
        text = block.text
        if "install" in block.marker and not os.environ.get("HW1_INSTALL"):
            install_from_this_python(folder)
            text = text.replace("make install", ": make install")
        settings = "" if story in block.marker.get("whole", "") else block.marker.get("run with", "")
        carry_out(block, text, settings, folder)
        print(f"{story}: {block}: {time.monotonic() - started:.0f} s")


def carry_out(block: Block, text: str, settings: str, folder: Path) -> None:
    activated = "" if "install" in block.marker else "source .venv/bin/activate\n"
    env = {**os.environ, "SETTINGS": settings, "XDG_CACHE_HOME": str(folder.parent / "cache")}
    env.pop("PYTHONPATH", None)
    allowed = {int(code) for code in block.marker.get("exit", "0").split()}
    command = ["bash", "-uc", f"{SETTINGS}{activated}{text}"] if 1 in allowed else ["bash", "-euc", f"{SETTINGS}{activated}{text}"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode in allowed, f"{block}\n{done.stdout}{done.stderr}"


def test_a_student_with_300_photos(clone: Path) -> None:
    tell_story("student", clone)
    assert (clone / "audit/audit.html").is_file()
    assert (clone / "runs/photos/seed118/eval/val/index.html").is_file()
    assert len((clone / "classes.csv").read_text().splitlines()) == 1 + len(list((clone / "new_photos").iterdir()))


def test_an_engineer_as_far_as_a_cpu_goes(clone: Path) -> None:
    tell_story("engineer", clone)
    assert list((clone / "runs/finetune/seed118/wandb").glob("offline-run-*"))
    assert (clone / "runs/base/seed118/summary.json").is_file()


def test_a_researcher_who_adds_a_loss(clone: Path) -> None:
    tell_story("researcher", clone)
    assert "name: focal" in (clone / "runs/focal/seed118/config.yaml").read_text()
    assert (clone / "report/report.html").is_file()
