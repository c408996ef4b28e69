"""What a later start may ask for, find and destroy: starts with --overwrite, without the start weights, beside odd locks and files."""

import json
import os
import random
import shutil
import signal
from pathlib import Path

from helpers.malformed_runs import MALFORMED, METRICS, change_state
from helpers.train_commands import rows_without_times
from hypothesis import strategies as st

from faults.fuzz import run_property
from faults.processes import EPOCHS, Bench, expect_clear, expect_same_run, run_in, updates_in
from faults.tally import Tally, expect
from hw1.config.load import load_recipe
from hw1.config.settings import STRING_KEYS
from hw1.errors import UserError


def overwrite(tally: Tally, folder: Path, n: int) -> None:
    """A command with --overwrite that is killed or stopped and given again, as a batch system does: the run goes on, to the bit."""
    bench = Bench(folder)
    for i in range(n):
        rng, runs = random.Random(f"overwrite {i}"), folder / f"runs{i}"
        with tally.attempt(f"number {i}"):
            for _ in range(2):
                begun = updates_in(runs)
                process = bench.start(runs, "--overwrite")
                process.wait_until(lambda runs=runs, begun=begun: updates_in(runs) > begun)
                process.send(rng.choice((signal.SIGKILL, signal.SIGTERM)))
                process.wait()
                expect(updates_in(runs) > begun, "the run was begun anew")
            bench.finish(runs, "--overwrite")
            expect_same_run(runs, bench.reference())


def without_weights(tally: Tally, folder: Path, n: int) -> None:
    """The file of start weights is deleted once the run has begun; and a run that stopped early lost its summary: it trains no further."""
    bench = Bench(folder)
    weights = folder / "start.safetensors"
    shutil.copy(run_in(bench.reference()) / "checkpoints/best.safetensors", weights)
    settings = [f"model.weights={weights}", "train.early_stop=1", "train.epochs=40", "optim.lr=1e-3"]
    reference = folder / "with weights"
    bench.finish(reference, *settings)
    content = weights.read_bytes()
    for i in range(n):
        runs = folder / f"runs{i}"
        with tally.attempt(f"number {i}"):
            weights.write_bytes(content)
            process = bench.start(runs, *settings)
            process.wait_until(lambda runs=runs, i=i: updates_in(runs) > i)
            process.kill()
            weights.unlink()
            bench.finish(runs, *settings)
            expect_same_run(runs, reference)
            (run_in(runs) / "summary.json").unlink()
            bench.finish(runs, *settings)
            expect_same_run(runs, reference)


def odd_locks(tally: Tally, folder: Path, n: int) -> None:
    """`.lock` as a link to a file, a pipe or a folder, of a finished and of an unfinished run: no file is changed, and nothing hangs."""
    bench = Bench(folder)
    bench.reference()
    for i in range(n):
        kind, is_finished = ("link", "dangling link", "pipe", "folder")[i % 4], bool(i // 4 % 2)
        runs, precious = folder / f"runs{i}", folder / f"precious{i}"
        with tally.attempt(f"{kind}, {'finished' if is_finished else 'unfinished'}"):
            shutil.copytree(bench.reference(), runs)
            lock = run_in(runs) / ".lock"
            lock.unlink(missing_ok=True)
            if not is_finished:
                (run_in(runs) / "summary.json").unlink()
            if kind == "link":
                precious.write_text("years of work")
            if kind in ("link", "dangling link"):
                lock.symlink_to(precious)
            elif kind == "pipe":
                os.mkfifo(lock)
            else:
                lock.mkdir()
            before = {path: path.read_bytes() for path in run_in(runs).rglob("*") if path.is_file() and path != lock}
            process = bench.start(runs)
            process.wait(120)
            expect(process.code in (0, 2) and "Traceback" not in process.output, f"exit code {process.code}: {process.output}")
            expect(process.code == 2 or is_finished, "trained without a lock")
            expect(all(path.read_bytes() == content for path, content in before.items()), "the run has changed")
            expect(precious.read_text() == "years of work" if kind == "link" else not precious.exists(), "what the link names has changed")


def malformed(tally: Tally, folder: Path, n: int) -> None:
    """States whose checksum is right and whose content is not the run's, and other rows of metrics: one line each, nothing changed."""
    bench = Bench(folder)
    bench.reference()
    cases = [("state", what) for what in MALFORMED] + [("metrics", what) for what in METRICS]
    for i, (kind, what) in enumerate(cases[:n]):
        runs = folder / f"runs{i}"
        with tally.attempt(f"{kind}: {what}"):
            shutil.copytree(bench.reference(), runs)
            run = run_in(runs)
            (run / "summary.json").unlink()
            if kind == "state":
                change_state(run, MALFORMED[what])
            else:
                rows = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
                (run / "metrics.jsonl").write_text("".join(METRICS[what](rows)))
            before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != ".lock"}
            process = bench.start(runs, f"train.epochs={EPOCHS + 1}")
            process.wait()
            expect_clear(process, 2, str(run))
            expect(len(process.output.splitlines()) <= 2, process.output)
            expect(all(path.read_bytes() == content for path, content in before.items()), "the run has changed")


def last_batches(tally: Tally, folder: Path, n: int) -> None:
    """Batch sizes whose last batch is one image, on maps of one pixel and behind a global pool: each trains every image."""
    bench = Bench(folder, per_class=1)  # 100 images
    models = ("resnet18_half_cbam", "skresnet18")
    for i in range(n):
        size, model = (33, 99, 1, 3, 9, 11)[i % 6], models[i // 6 % 2]
        runs = folder / f"runs{i}"
        with tally.attempt(f"batches of {size}, {model}"):
            settings = [f"data.batch_size={size}", f"model.name={model}", "aug.size=32", "train.grad_accum=1", "train.epochs=1"]
            plain = ["model.cbam_stages=[]", "model.drop_layer3=0", "freeze.stages=[]"] if model == "skresnet18" else []
            bench.finish(runs, *settings, *plain, "checkpoint.every_steps=1000")
            expect(updates_in(runs) == -(-100 // size), f"{updates_in(runs)} steps")


def consoles(tally: Tally, folder: Path, n: int) -> None:
    """The console is full, closed, or its reader goes, before some batch: the same run, to the bit, exit code 0."""
    bench = Bench(folder)
    for i in range(n):
        runs, how = folder / f"runs{i}", ("full", "closed", "reader gone")[i % 3]
        with tally.attempt(f"{how}, number {i}"):
            count = random.Random(f"console {i}").randrange(1, 14)
            process = bench.start(runs, lose_console=[count, how])
            expect(process.wait() == 0, f"exit code {process.code}: {process.output}")
            expect((run_in(runs) / "summary.json").is_file(), "no summary")
            expect(len(rows_without_times(run_in(runs))) == EPOCHS, "an epoch is missing")
            expect_same_run(runs, bench.reference())


TEXT_KEYS = ("data.root", "model.weights", "log.entity", "log.group")


def override_texts(tally: Tally, folder: Path, n: int) -> None:
    """Any text after `key=` of a text key is its value, to the last character, or is refused in one line."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text("data: {generate: 1}\n")

    def check(key: str, text: str) -> None:
        expect(key in STRING_KEYS, f"{key} is no text")
        try:
            recipe = load_recipe(path, [f"{key}={text}"])
        except UserError as error:
            expect(all(problem and "\n" not in problem for problem in error.problems), f"unclear: {error}")
            return
        section, _, name = key.partition(".")
        value = getattr(getattr(recipe, section), name)
        if text in ("null", "~"):
            expect(value is None, f"{text!r} became {value!r}")
        elif text[0] in "\"'":
            expect(isinstance(value, str), f"{text!r} became {value!r}")
        else:
            expect(value in (text, os.path.expanduser(text)), f"{text!r} became {value!r}")

    run_property(tally, n, check, key=st.sampled_from(TEXT_KEYS), text=st.text(max_size=12) | st.sampled_from(TEXTS))


TEXTS = [
    " #2",
    "photos #2",
    "a: b",
    "[x]",
    "{x}",
    "007",
    "1e-4",
    "off",
    "null",
    "~",
    "~/x",
    "",
    " ",
    "'a'",
    '"a',
    "- x",
    "!x",
    "&x",
    "*x",
    "%x",
    json.dumps("ü"),
]
