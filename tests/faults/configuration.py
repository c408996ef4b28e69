"""Recipes with mistakes: all are refused before data or device is touched, with no traceback, and nothing is written."""

import os
import subprocess
import sys
from pathlib import Path

from helpers.heavy import HEAVY
from helpers.paths import ROOT
from helpers.train_commands import command

from faults.tally import Tally, expect
from hw1.config.load import all_keys, load_recipe
from hw1.errors import UserError

GOOD = "base: {base}\n"
KEYS = sorted(key for key in all_keys() if key.count("."))
TEXTS: list[bytes] = [
    b"", b"# nothing\n", b"null", b"[]", b"42", b"\xff\xfes\x00", b"seed: \xe9", b"seed: [1", b"a: b: c", b"seed: 1\nseed: 2", b"\x00",
    b"!!python/object/apply:os.system ['touch canary']", b"seed: !!python/object/new:os.system ['touch canary']",
    b"seed: !!python/name:os.system", b"a: &a [x, x]\nb: [*a, *a]", b"a: &a {b: *a}", b"seed: " + b"[" * 5000, b"base: recipe.yaml",
    b"base: /dev/zero", b"base: ../../../../../../etc/passwd", b"base: nowhere.yaml", b"1: 2", b"'': 2", b"? [a]\n: 1", b"x" * 10**6,
    b"a: &a [x, x, x, x]\n" + b"".join(b"%c: &%c [%s]\n" % (k, k, b", ".join([b"*%c" % (k - 1)] * 9)) for k in range(98, 106)),
    b"log: {wandb: offline, project: a/b}", b"log: {wandb: offline, tags: ['']}", b"log: {wandb: offline, tags: [" + b"x" * 65 + b"]}",
    b"run: {name: ../escape}", b"run: {name: /tmp/escape}", b'run: {dir: "a\\0b"}', b"seed: 1e400", b"seed: 99999999999999999999",
]  # fmt: skip
NUMBERS = ("optim.lr", "optim.weight_decay")
HUGE = ("data.batch_size", "data.num_workers", "aug.size", "model.num_classes", "train.epochs", "train.grad_accum", "optim.lr")
WRONG = (".nan", ".inf", "1e308", "-1", "{a: b}", "[[[]]]", "2020-01-01", "!!python/object:os.system {}", "999999999999999999999999", "*x")


def mutations() -> list[tuple[str, bytes]]:
    """Name and text of each; every mutation is one that no key of the recipe may take."""
    good = GOOD.format(base=ROOT / "recipes" / "base.yaml")
    texts = [(f"text {i}", text) for i, text in enumerate(TEXTS)]
    sections = sorted({key.partition(".")[0] for key in KEYS})
    unknown = [(f"unknown {section}.sead", f"{good}{section}: {{sead: 1}}\n") for section in sections]
    deep = [(f"unknown {key}.x.y", f"{good}{_nested(key, '{x: {y: 1}}')}") for key in KEYS]
    wrong = [(f"{key}={value}", f"{good}{_nested(key, value)}") for key in KEYS for value in WRONG[4:6]]
    numbers = [(f"{key}={value}", f"{good}{_nested(key, value)}") for key in NUMBERS for value in WRONG]
    huge = [(f"{key}={value}", f"{good}{_nested(key, value)}") for key in HUGE for value in ("1" + "0" * 30, "1e40")]
    written = [("unknown sead", f"{good}sead: 1\n"), *unknown, *deep, *wrong, *numbers, *huge]
    return texts + [(name, text.encode()) for name, text in written]


def _nested(key: str, value: str) -> str:
    section, _, name = key.partition(".")
    return f"{section}: {{{name}: {value}}}\n"


def broken_recipes(tally: Tally, folder: Path, n: int) -> None:
    """All mutations by the real loader, about `n` of them by the real command, which must not even import what touches data or device."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    found = mutations()
    for name, text in found:
        with tally.attempt(name):
            path.write_bytes(text)
            try:
                load_recipe(path)
            except UserError as error:
                expect(all(problem and "\n" not in problem for problem in error.problems), f"unclear: {error}")
            else:
                expect(False, "was loaded")
            expect(os.listdir(folder) == ["recipe.yaml"], f"written: {os.listdir(folder)}")
    for name, text in found[:: -(-len(found) // n)] if n else []:
        with tally.attempt(f"{name}, by the command"):
            path.write_bytes(text)
            importing = [sys.executable, "-X", "importtime", *command("train.py", path)[1:]]
            result = subprocess.run(importing, cwd=folder, capture_output=True, text=True, timeout=120)
            expect(result.returncode == 2 and "Traceback" not in result.stderr, f"exit code {result.returncode}: {result.stderr}")
            imported = {line.rpartition("|")[2].strip() for line in result.stderr.splitlines()}
            expect("yaml" in imported and not imported & HEAVY, f"imported {imported & HEAVY}: data or device could be touched")
            expect(os.listdir(folder) == ["recipe.yaml"], f"written: {os.listdir(folder)}")
