"""The blocks of code in README.md and docs/: what each is, what it needs, and how it is carried out.

A comment above a block says how it differs from a block that is simply carried out, where the page's blocks are so far:

    <!-- needs: GPU -->                     it is not carried out; its recipes and keys are checked
    <!-- needs: minutes -->                 it is carried out by `make torture`
    <!-- run with: train.epochs=1 -->       its `hw1 train`, `ablate`, `sweep` and `folds` get these settings too
    <!-- exit: 0 1 -->                      its commands may end with these codes
    <!-- file: mine.yaml -->                the block is the content of a file
    <!-- waits for: hw1 demo -->            it is carried out once that command, recipe key or name of the package exists
    <!-- story: student -->                 part of what tests/docs/test_stories.py carries out in a fresh clone;
    <!-- whole: student -->                 there without the settings of `run with`

`install` marks the block that installs. `given`, alone on a page, says what its folder holds: `dataset`, `a run`, `a second run`. Several
stand in one comment, with `;` between.
"""

import glob
import importlib
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from faults.processes import Zygote

from helpers.paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARKERS = {"needs", "run with", "exit", "file", "waits for", "story", "whole", "given", "install"}
LANGUAGES = {"sh", "python", "yaml", "diff", "text"}
BLOCK = re.compile(
    r"^(?:<!-- (?P<marker>[^\n]*?) -->\n)?^(?P<indent> *)```(?P<language>\S*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL
)
GIVEN = re.compile(r"<!-- given: (.*?) -->")
COMMAND = re.compile(
    r"^\s*(\$ |hw1 |python3? |pip |uv |make |docker |torchrun |ray |kubectl |sbatch |sky |bash |sh |wandb |git )", re.MULTILINE
)
IMPORTS = (
    "albumentations", "matplotlib.backends.backend_agg", "scipy.stats", "sklearn.metrics", "hw1.attention.__main__",
    "hw1.audit.__main__", "hw1.evaluation.report.write", "hw1.export.__main__", "hw1.plots", "hw1.predict.__main__", "hw1.report.__main__",
)  # fmt: skip
"""What commands import, each of which would take seconds."""
TIMEOUT = 300.0
WITH_SETTINGS = ("train", "ablate", "sweep", "folds")


class Block(NamedTuple):
    """A fenced block."""

    page: Path
    line: int
    language: str
    text: str
    marker: dict[str, str]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start("language")) + 1, found["language"], found["text"], read_marker(found["marker"] or ""))
        for found in BLOCK.finditer(text)
    ]


def read_marker(text: str) -> dict[str, str]:
    pairs = [part.partition(":") for part in text.split(";") if part.strip()]
    return {name.strip(): value.strip() for name, _, value in pairs}


def given_on(page: Path) -> set[str]:
    return {each.strip() for found in GIVEN.findall(page.read_text()) for each in found.split(",")}


def lines_of(block: Block) -> list[str]:
    """Return the commands of a block, each in one line."""
    lines = re.sub(r"\\\n\s*", " ", block.text).splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def exists(what: str) -> bool:
    """Return whether `hw1 demo`, `hw1 train --new`, `hw1.load`, `train.hours`, or `recipes/vit.yaml` is there."""
    from hw1.cli import COMMANDS
    from hw1.config.load import all_keys

    if "/" in what:
        return (ROOT / what).exists()
    if what.startswith("hw1 "):
        name, *options = what.split()[1:]
        return name in COMMANDS and all(
            option in Path(str(importlib.import_module(COMMANDS[name].module).__file__)).read_text() for option in options
        )
    if what.startswith("hw1."):
        return hasattr(importlib.import_module("hw1"), what.removeprefix("hw1."))
    return what in all_keys()


def is_ready(block: Block) -> bool:
    return all(exists(what.strip()) for what in block.marker.get("waits for", "").split(",") if what.strip())


def commands_in(text: str) -> list[tuple[str, list[str]]]:
    """(recipe, overrides) of every line that names a recipe of this project."""
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = [word.strip("'") for word in re.findall(r"'[\w.]+=[^'\s]*'|[^\s\[\]`'\"]+", line)]
        recipes = [word.removeprefix("RECIPE=") for word in words if re.fullmatch(r"(RECIPE=)?recipes/\w+\.yaml", word)]
        recipes += re.findall(r"hw1 train (?:--\S+ )*([\w-]+)(?= |$)", line)
        overrides = [word.rstrip(",;:)") for word in words if re.match(r"[a-z_]+\.[a-z_]+=|seed=", word) and word != "section.key=value"]
        found += [(recipe, overrides) for recipe in recipes]
    return found


class Shell:
    """Carries out commands in a folder, those of hw1 in forks of a process that has imported everything."""

    def __init__(self, folder: Path, zygote: Zygote) -> None:
        self.folder, self._zygote = folder, zygote

    def run(self, block: Block) -> None:
        codes = {int(code) for code in block.marker.get("exit", "0").split()}
        for line in [block.text] if block.language == "python" else lines_of(block):
            code, output = self._python(line) if block.language == "python" else self._line(line, block.marker.get("run with", ""))
            assert code in codes, f"{block}: exit code {code} of: {line}\n{output}"

    def _line(self, line: str, settings: str) -> tuple[int, str]:
        words = shlex.split(line, comments=True)
        if arguments := hw1_arguments(words):
            return self._call("helpers.documents.carry_out", with_settings(arguments, settings))
        return self._call("helpers.documents.carry_out_in_bash", [line])

    def _python(self, text: str) -> tuple[int, str]:
        return self._call("helpers.documents.carry_out_python", [text])

    def _call(self, function: str, arguments: list[str]) -> tuple[int, str]:
        out = self.folder / ".output"
        env = {"XDG_CACHE_HOME": str(self.folder.parent / "cache"), "WANDB_MODE": "offline", "WANDB_SILENT": "true", "COLUMNS": "100"}
        argv = [str(self.folder), *arguments]
        pid = self._zygote.ask({"call": function, "argv": argv, "out": str(out), "env": env, "hooks": {}})
        until = time.monotonic() + TIMEOUT
        while (code := self._zygote.ask({"poll": pid})) is None:
            assert time.monotonic() < until, f"still running: {arguments}\n{out.read_text()}"
            time.sleep(0.02)
        return code, out.read_text(errors="replace")


def hw1_arguments(words: list[str]) -> list[str]:
    """Return what follows `hw1`, however it is called; nothing for another command or one with a pipe."""
    if not words or {"|", "&&", ">", "<"} & set(words):
        return []
    if words[0] == "hw1":
        return words[1:]
    if words[:2] in (["python", "train.py"], ["python", "validate.py"]):
        return [words[1].removesuffix(".py"), *words[2:]]
    if words[:2] == ["python", "-m"] and words[2].startswith("hw1"):
        return [*words[2].split(".")[1:], *words[3:]]
    return []


def with_settings(arguments: list[str], settings: str) -> list[str]:
    """Return the arguments with further settings of the recipe, and with the files that a pattern outside of quotes names."""
    if arguments[0] == "ablate":
        arguments = [each for word in arguments for each in (sorted(glob.glob(word, root_dir=ROOT)) or [word])]
    return [arguments[0], *arguments[1:2], *settings.split(), *arguments[2:]] if arguments[0] in WITH_SETTINGS else arguments


# Of the process that is forked, with the folder and the arguments.


def carry_out(folder: str, *arguments: str) -> None:
    from hw1.cli import main

    os.chdir(folder)
    sys.exit(main(arguments))


def carry_out_python(folder: str, text: str) -> None:
    os.chdir(folder)
    exec(compile(text, "block", "exec"), {"__name__": "__main__"})


def carry_out_in_bash(folder: str, line: str) -> None:
    os.chdir(folder)
    command = f'hw1() {{ "{sys.executable}" -m hw1 "$@"; }}; {line}'
    os.execvp("bash", ["bash", "-euo", "pipefail", "-c", command])


def write_folder(folder: Path) -> None:
    """Make what the pages speak of: `dataset`, `my_photos`, `new_photos`, and the recipes of the project."""
    import cv2
    import numpy as np

    from hw1.data.synthetic import CLASS_NAMES, draw_image

    rng = np.random.default_rng(0)
    counts = {"dataset/train/{}": 8, "dataset/val/{}": 3, "dataset/test": 1, "my_photos/{}": 11, "new_photos": 1}
    for number, label in enumerate((0, 33, 57, 82)):
        for name, count in counts.items():
            place = folder / name.format(CLASS_NAMES[label])
            place.mkdir(parents=True, exist_ok=True)
            for image in range(count):
                file = place / f"{image + 1 if '{}' in name else number + 1}.jpg"
                assert cv2.imwrite(str(file), draw_image(label, 64, rng))
    for name in ("recipes", "train.py", "validate.py"):
        (folder / name).symlink_to(ROOT / name)


def all_blocks() -> Iterator[Block]:
    for page in PAGES:
        yield from blocks_of(page)
