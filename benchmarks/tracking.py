"""What trackers cost: python -m benchmarks.tracking, runs with wandb (offline) and TensorBoard beside runs without, in turns.

Trains on links to some of the images in $HW1_PHOTOS (train/ and val/), else on drawn images. Every step is a row of the step curves; the
images, tables and figures of validation come once, in the tenth epoch, as by default. What is compared is what passes from the end of the
first epoch to the end of the last, which holds all that is done after an epoch: time, and the processor time of all processes of the run,
the clients' own among them, which other work on the machine changes little. Start and end of the clients, once a run, stand beside it.
Writes `results/tracking_<hardware>_<date>.json`.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks.common.options import add_result_options
from benchmarks.common.result_file import ResultFile, read_result
from hw1.config.recipe import Recipe
from hw1.errors import UserError, run_command

EPOCHS = 11  # ten after the first, and in them the tenth, which has media
TRACKED = ("log.wandb=offline", "log.to=[tensorboard]")
MINUTE = 60.0
TRAIN_IMAGES, VAL_IMAGES = 6, 3  # of each class


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracking", description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    add_result_options(parser)
    args = parser.parse_args(argv)
    if args.markdown:
        print(describe(read_result(args.markdown)))
        return
    settings = ["model.name=resnet18_half_cbam", "model.pretrained=false", "freeze.stages=[]", "aug.size=64", "log.every_steps=1"]
    settings += [f"train.epochs={EPOCHS}", "train.device=cpu"]
    file = ResultFile("tracking", {}, {"settings": settings, "tracked": TRACKED, "pairs": args.pairs}, args.out)
    with tempfile.TemporaryDirectory() as folder:
        settings = [*settings, *prepare_images(Path(folder))]
        pairs = file.content["pairs"] = []
        for number in range(args.pairs):
            names = ("off", "on") if number % 2 == 0 else ("on", "off")
            runs = {
                name: measure([*settings, f"run.dir={folder}/runs", f"run.name={name}{number}", *(TRACKED if name == "on" else ())])
                for name in names
            }
            pairs.append(runs)
            file.content["result"] = summarize(pairs)
            file.save()
    file.finish()
    print(f"{describe(file.content)}\n\n{file.path}")


def prepare_images(folder: Path) -> list[str]:
    """Link some photographs of each class, where there are any; return the settings that name the data."""
    if not os.environ.get("HW1_PHOTOS"):
        return [f"data.root={folder}/data", f"data.generate={TRAIN_IMAGES}"]
    for split, num in (("train", TRAIN_IMAGES), ("val", VAL_IMAGES)):
        for source in sorted((Path(os.environ["HW1_PHOTOS"]) / split).iterdir()):
            target = folder / "data" / split / source.name
            target.mkdir(parents=True)
            for path in sorted(source.iterdir())[:num]:
                (target / path.name).symlink_to(path)
    return [f"data.root={folder}/data"]


def measure(settings: Sequence[str]) -> dict[str, float]:
    """Train; return seconds, and seconds of processor time, of all epochs after the first, and seconds before and after these."""
    started = time.monotonic()
    command = [sys.executable, "-m", "hw1", "train", "base", *settings]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    folder = {key: value for key, _, value in (setting.partition("=") for setting in settings)}
    metrics = Path(folder["run.dir"], folder["run.name"], f"seed{Recipe().seed}", "metrics.jsonl")
    ends, written = [], 0
    while process.poll() is None:
        with suppress(OSError):
            if (changed := metrics.stat().st_mtime_ns) != written:  # written anew at the end of each epoch, before trackers are told
                ends.append((time.monotonic(), processor_seconds(process.pid)))
                written = changed
        time.sleep(0.002)
    if process.returncode or len(ends) != EPOCHS:
        raise UserError(f"{' '.join(command)}: failed after {len(ends)} epochs")
    (first, used), (last, used_last) = ends[0], ends[-1]
    return {"epochs": last - first, "processor": used_last - used, "start": first - started, "end": time.monotonic() - last}


def processor_seconds(pid: int) -> float:
    """Seconds that a process and all below it have computed, those included that have ended: wandb's client has a process of its own."""
    found: dict[int, tuple[int, int]] = {}  # parent and clock ticks
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            found[int(path.parent.name)] = int(fields[1]), sum(map(int, fields[11:15]))
    family, size = {pid}, 0
    while size < len(family):
        size = len(family)
        family |= {process for process, (parent, _) in found.items() if parent in family}
    return sum(found[process][1] for process in family if process in found) / os.sysconf("SC_CLK_TCK")


def summarize(pairs: Sequence[dict[str, dict[str, float]]]) -> dict[str, Any]:
    """What trackers add to an epoch, and to a run once; the median of the pairs, and all of them."""
    result: dict[str, Any] = {}
    for name in ("epochs", "processor"):
        added = [(pair["on"][name] - pair["off"][name]) / (EPOCHS - 1) for pair in pairs]
        result[name] = {
            "seconds_per_epoch": added,
            "median": statistics.median(added),
            "share_of_a_minute": statistics.median(added) / MINUTE,
        }
    once = [sum(pair["on"][part] - pair["off"][part] for part in ("start", "end")) for pair in pairs]
    return result | {"seconds_per_run": once, "seconds_per_run_median": statistics.median(once)}


def describe(content: dict[str, Any]) -> str:
    lines = [f"{content['hardware']}, {len(content['pairs'])} pairs; trackers add"]
    for name, words in (("epochs", "of time"), ("processor", "of processor time")):
        part = content["result"][name]
        low, high = min(part["seconds_per_epoch"]), max(part["seconds_per_epoch"])
        lines.append(
            f"- {part['median']:.3f} s {words} to an epoch ({low:.3f} to {high:.3f}): {part['share_of_a_minute']:.2%} of one of a minute"
        )
    return "\n".join([*lines, f"- {content['result']['seconds_per_run_median']:.1f} s to a run, once"])


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
