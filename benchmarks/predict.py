"""From image files to a CSV file by whole programs, ours beside others': python -m benchmarks.predict [RUN] [--timm CHECKOUT]

`hw1 predict` with a run folder and with its `.onnx` file, a loop of onnxruntime with Pillow, and timm's own inference.py, each a process of
its own on as many threads as it likes, in turns. Images are links to the photographs of HW1_PHOTOS. Without RUN, which must be exported
(`hw1 export RUN --onnx`), an untrained ResNet-18 is used; else all must predict the same class for 99% of the images. Writes a JSON file
and prints its table; --markdown FILE prints that of a JSON file.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from benchmarks.common.options import add_result_options
from benchmarks.common.result_file import ResultFile, read_result
from benchmarks.prediction.programs import Model, Predictions, Program, programs
from hw1.errors import RunError, UserError, run_command
from hw1.runs.folder import RunFolder

ROOT = Path(__file__).parents[1]
SIZES = {1: 3, 100: 2, 10_000: 1}
"""Number of images -> tries, of which the least counts: what else the machine does can only add to it."""
MANY = 1000
"""From so many images on, of each of the others only what was fastest for fewer: minutes each."""
AGREEMENT = 0.99
"""Least share of the images on which all predict what `hw1 predict RUN` does."""


def main(argv: Sequence[str]) -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.predict", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", metavar="RUN", nargs="?", type=Path, help="run folder, exported with --onnx; default: an untrained model")
    parser.add_argument("--timm", metavar="CHECKOUT", type=Path, help="timm's repository, for its inference.py")
    parser.add_argument("--images", type=int, action="append", metavar="N", help=f"default {', '.join(map(str, SIZES))}")
    add_result_options(parser)
    args = parser.parse_args(argv)
    if args.markdown:
        print(table(read_result(args.markdown)))
        return
    photos = find_photos()
    if args.timm and not (args.timm / "inference.py").is_file():
        raise UserError(f"--timm {args.timm}: has no inference.py")
    sizes = {number: SIZES.get(number, 1) for number in args.images or SIZES}
    with opened_model(args.run) as model:
        found = programs(model, args.timm and args.timm.absolute())
        settings = {"tries": sizes, "model": model.config["architecture"], "size": model.config["pretrained_cfg"]["input_size"][1]}
        file = ResultFile("predict", {}, settings | {"is_trained": args.run is not None}, args.out)
        blocks = file.content["sizes"] = []
        for number, tries in sizes.items():
            chosen = fastest_of_each(found, blocks[-1]) if number >= MANY and blocks else found
            blocks.append(measure_size(chosen, photos, number, tries))
            file.save()
            if args.run and (apart := {name: share for name, share in blocks[-1]["agreement"].items() if share < AGREEMENT}):
                raise RunError(f"{number} images: not the same classes as {next(iter(found))}: {apart}")
    file.content["targets"] = targets(blocks)
    file.finish()
    print(f"{table(file.content)}\n\n{file.path}")


def find_photos() -> list[Path]:
    """Return the photographs of HW1_PHOTOS, in order.

    Raises:
        UserError: There are none.
    """
    photos = sorted(Path(os.environ.get("HW1_PHOTOS") or "missing").resolve().rglob("*.jpg"))
    if not photos:
        raise UserError("HW1_PHOTOS: must name a folder with .jpg files")
    return photos


@contextlib.contextmanager
def opened_model(run: Path | None) -> Iterator[Model]:
    """Yield the model of a run, or of one that is made for the purpose.

    Raises:
        UserError: It was not exported with `--onnx`.
    """
    if run:
        if not (run / "export" / "model.onnx").is_file():
            raise UserError(f"{run}: has no export/model.onnx; hw1 export {run} --onnx makes it")
        yield Model(RunFolder(run.absolute()))
        return
    from benchmarks.prediction.untrained_run import make_untrained_run

    with tempfile.TemporaryDirectory(prefix="hw1-predict-") as folder:
        yield Model(make_untrained_run(Path(folder)))


def measure_size(found: Mapping[str, Program], photos: Sequence[Path], number: int, tries: int) -> dict[str, Any]:
    """Let every program predict so many photographs, `tries` times in turns."""
    from benchmarks.common.process import Usage, run_measured

    usages: dict[str, list[Usage]] = {name: [] for name in found}
    predictions: dict[str, Predictions] = {}
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    with tempfile.TemporaryDirectory(prefix="hw1-predict-") as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for position, photo in enumerate(islice(cycle(photos[:: max(len(photos) // number, 1)]), number)):
            (images / f"{position:05}.jpg").symlink_to(photo)
        for attempt in range(tries):
            for name, program in found.items():
                print(f"{number} images: {name}", file=sys.stderr, flush=True)
                out = Path(folder) / f"{attempt} {name}".replace("/", "")
                out.mkdir()
                usages[name].append(run_measured(program.command(images, out), program.folder or ROOT, environment))
                predictions[name] = program.read(out)
    reference = next(iter(predictions.values()))
    results = {name: {field: [getattr(usage, field) for usage in rows] for field in Usage._fields} for name, rows in usages.items()}
    agreement = {name: round(agree(reference, each), 4) for name, each in predictions.items()}
    return {"images": number, "results": results, "agreement": agreement}


def fastest_of_each(found: Mapping[str, Program], block: Mapping[str, Any]) -> dict[str, Program]:
    """Return ours, and of each other program the options with which it took the least time on the clock."""
    seconds = {name: min(row["wall_seconds"]) for name, row in block["results"].items()}
    best: dict[str, str] = {}
    for name in sorted(seconds, key=seconds.__getitem__):
        best.setdefault(name if name.startswith("hw1") else name.partition(",")[0], name)
    return {name: program for name, program in found.items() if name in best.values()}


def agree(reference: Predictions, found: Predictions) -> float:
    """Return the share of the files for which both predict the same class.

    Raises:
        RunError: They are not of the same files.
    """
    if reference.keys() != found.keys():
        raise RunError(f"{len(found)} files were predicted, not the same {len(reference)}")
    return sum(found[name] == label for name, label in reference.items()) / len(reference)


def targets(blocks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Our faster way beside the fastest of the others, on the clock, at every number of images."""
    found = []
    for block in blocks:
        seconds = {name: min(row["wall_seconds"]) for name, row in block["results"].items()}
        ours = min((name for name in seconds if name.startswith("hw1")), key=seconds.__getitem__)
        other = min((name for name in seconds if not name.startswith("hw1")), key=seconds.__getitem__)
        ratio = round(seconds[other] / seconds[ours], 3)
        claim = f"{block['images']} images: {ours}, times as fast as {other}"
        found.append({"claim": claim, "needed": 1.0, "measured": ratio, "met": ratio >= 1.0})
    return found


def table(result: Mapping[str, Any]) -> str:
    """Return the result as a table in Markdown."""
    from benchmarks.training.tables import number, target_lines

    blocks, settings, machine = result["sizes"], result["settings"], result["machine"]
    heads = ["program", *(f"{block['images']:,} images: wall s, processor s, MiB" for block in blocks), "the same class"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name in blocks[0]["results"] if blocks else ():
        cells = []
        for block in blocks:
            row = block["results"].get(name)
            if row is None:
                cells.append("")
                continue
            cells.append(f"{min(row['wall_seconds']):.2f}, {min(row['processor_seconds']):.2f}, {number(max(row['peak_mib']))}")
        share = [block["agreement"][name] for block in blocks if name in block["agreement"]][-1]
        lines.append(f"| {' | '.join([name, *cells])} | {share:.2%} |")
    trained = "trained" if settings["is_trained"] else "untrained"
    caption = (
        f"{result['hardware']}, {machine['started'][:10]}, load average before {machine['load_before']}: {settings['model']}, {trained}, "
        f"{settings['size']} px; whole processes, the least of {', '.join(map(str, settings['tries'].values()))} tries."
    )
    return "\n".join([*lines, "", caption, "", *target_lines(result.get("targets", []))])


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
