"""Results of a run: killed while they are written, made from an edited export, or from another run's weights."""

import random
import shutil
from pathlib import Path

import numpy as np
from helpers.edited_exports import EDITS
from helpers.model_runs import FINGERPRINT, SIZE, call, make_run
from helpers.run_folders import tree
from PIL import Image

import hw1.attention.__main__ as attention
import hw1.export.__main__ as export
import hw1.predict.__main__ as predict
from faults.processes import start
from faults.tally import Tally, expect
from hw1.commands import validate
from hw1.data.synthetic import draw_image
from hw1.runs.checkpoint import load_weights, save_state, save_weights
from hw1.runs.folder import RunFolder
from hw1.runs.identity import identify

NAMES = ["ant", "bee", "cow", "dog"]


def killed_validate(tally: Tally, folder: Path, n: int) -> None:
    """kill -9 while an evaluation takes the place of another, of labelled images and of others: one of the two is there, whole."""
    run, data = _run_with_data(folder)
    command, place = ["hw1.commands.validate", str(run.path)], run.path / "eval"
    _kill_second(tally, folder, n - n // 3, place, str(place), [*command], [*command, "--temperature", "3"])
    flat = shutil.copytree(data / "val" / "ant", folder / "flat")
    command += ["--split", str(flat)]
    _kill_second(tally, folder, n // 3, place, str(place), command, [*command, "--full-names"])


def killed_export(tally: Tally, folder: Path, n: int) -> None:
    """kill -9 while an export takes the place of another."""
    run, _ = _run_with_data(folder)
    weights, meta = load_weights(run.best)
    state = {"model": weights, "classes": NAMES, "progress": {"epoch": 3, "step": 0}, "identity": meta["identity"]}
    save_state(run.state_file(3, 0), state)
    command, place = ["hw1.export.__main__", str(run.path)], run.path / "export"
    _kill_second(tally, folder, n, place, f"{run.path}/.export", command, [*command, "--checkpoint", "last"])


def _kill_second(tally: Tally, folder: Path, n: int, place: Path, watched: str, first: list[str], second: list[str]) -> None:
    """Kill the second command before `n` of its operations, spread evenly up to the last in `watched`; once more, it cleans up."""

    def run(command: list[str], **hooks: list[object]) -> dict[str, bytes]:
        process = start(folder / "out.txt", *command, hooks={"cheap_figures": [], **hooks})
        code = process.wait()
        expect(code == (-9 if "die_before" in hooks else 0), f"exit code {code}: {process.output}")
        return {name: b"" if name.endswith(".npz") else data for name, data in tree(place).items() if ".new/" not in name}

    counted = folder / "counted.txt"
    wanted = [run(first), run(second, count_operations=[str(counted), watched])]
    expect(wanted[0] != wanted[1], "both are the same")
    total = int(counted.read_text())
    for count in (round((i + 1) / n * total) for i in range(n)):
        with tally.attempt(f"{' '.join(second[2:])}, before operation {count}"):
            run(first)
            found = run(second, die_before=[count, watched])
            expect(found in wanted, f"half of each: {sorted(found)}")
            tally.seen["the new one" if found == wanted[1] else "the old one"] += 1
            expect(run(second) == wanted[1], f"not the same: {sorted(tree(place))}")
            expect(not [*place.parent.rglob(".*.new")], "a remnant stays")


def edited_exports(tally: Tally, folder: Path, n: int) -> None:
    """Exports with one or two edits, such as other classes, a temperature of 0, NaN among the weights: one line, nothing is written."""
    run, data = _run_with_data(folder)
    expect(call(export.main, run.path).returncode == 0, "cannot be exported")
    for i in range(n):
        rng, copy, out = random.Random(f"export {i}"), folder / f"export{i}", folder / "p.csv"
        names = rng.sample(sorted(EDITS), 1 + i % 2)
        with tally.attempt(" and ".join(names)):
            shutil.copytree(run.path / "export", copy)
            for name in names:
                try:
                    EDITS[name][0](copy)
                except (ValueError, KeyError, TypeError, OSError, AttributeError, IndexError):  # the first left nothing to edit
                    tally.seen["second edit impossible"] += 1
            result = call(predict.main, copy, data / "val", "--out", out)
            expect((result.returncode, len(result.stderr.splitlines())) == (2, 1), f"exit code {result.returncode}: {result.stderr}")
            expect(not out.exists(), "a file was written")
        shutil.rmtree(copy)


def weights_of_others(tally: Tally, folder: Path, n: int) -> None:
    """best.safetensors, or a state, of a run of another seed or on other data, given to each command: one line."""
    run, data = _run_with_data(folder)
    weights, meta = load_weights(run.best)
    recipe = run.read_recipe()
    image, figure = data / "val/ant/0.png", folder / "a.png"
    commands = {
        "validate": (validate.main, []), "predict": (predict.main, [image]), "export": (export.main, []),
        "attention": (attention.main, [image, "--out", figure]),
    }  # fmt: skip
    for i in range(n):
        seed = identify(recipe.model_copy(update={"seed": 1000 + i}), FINGERPRINT)
        identity = seed if i % 2 else identify(recipe, f"{i:020}")
        save_weights(run.best, weights, {**meta, "identity": identity})
        save_state(run.state_file(3, 0), {"model": weights, "classes": NAMES, "progress": {"epoch": 3, "step": 0}, "identity": identity})
        for name, (main, arguments) in commands.items():
            for checkpoint in ("best", "last"):
                with tally.attempt(f"{name}, {checkpoint}, {'seed' if i % 2 else 'data'}, {i}"):
                    result = call(main, run.path, *arguments, "--checkpoint", checkpoint)
                    expect(result.returncode == 2, f"exit code {result.returncode}: {result.stderr}")
                    expect("belongs to another run" in result.stderr and len(result.stderr.splitlines()) == 1, result.stderr)
                    written = [path for path in (run.path / "eval", run.path / "export", figure) if path.exists()]
                    expect(not written, f"was written: {written}")


def _run_with_data(folder: Path) -> tuple[RunFolder, Path]:
    data, rng = folder / "data", np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate(NAMES):
            (data / split / name).mkdir(parents=True)
            for number in range(3):
                Image.fromarray(draw_image(label, SIZE, rng)).save(data / split / name / f"{number}.png")
    return make_run(folder / "runs", data, NAMES, "data.num_workers=0"), data
