"""All that a GPU can show, in one call of at most nine minutes: python -m benchmarks.gpu

In this order: what the card can do; are our variants right; every loop at the first batch size, and the most expensive kernels; layouts by
stage; epochs from JPEG files; evaluation; larger batches. Images are the images in $HW1_PHOTOS, or drawn. Everything measured is on
disk at once, in one JSON file; a plot and a table follow. --part runs some parts, --device cpu --tiny all of them in a small form.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common.options import add_result_options
from hw1.errors import RunError, UserError, run_command
from hw1.utils.text import one_line

NAMES = ("card", "correctness", "steps", "layouts", "epoch", "evaluation", "batches")


class OutOfTime(BaseException):
    """The time of the call is over; no part may catch it."""


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", nargs="+", choices=NAMES, default=list(NAMES), metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--minutes", type=float, default=9.0, help="after which it ends, whatever is still to be done")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--case", default="resnext101_32x8d_cbam:224:32", metavar="MODEL:SIZE:BATCH")
    parser.add_argument("--check-case", default="resnext50_32x4d_cbam:160:32", metavar="MODEL:SIZE:BATCH", help="of the part correctness")
    parser.add_argument("--batch", type=int, action="append", metavar="N", help="further batch sizes; default 64, 128, 256")
    parser.add_argument("--loop", action="append", metavar="PATTERN", help="only these loops, as faithful/* or timm/nhwc")
    parser.add_argument("--tiny", action="store_true", help="as little of everything as there can be")
    add_result_options(parser, has_plot=True)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    started = time.perf_counter()
    args = parse(argv)
    from benchmarks.common.result_file import ResultFile, read_result
    from benchmarks.training.gpu_report import gpu_table, plot_gpu, summarise_gpu

    if args.markdown:
        print(gpu_table(read_result(args.markdown)))
        return
    from benchmarks.training.case import parse_case, with_weights
    from benchmarks.training.device import describe_device, open_device, prepare_process
    from benchmarks.training.gpu_parts import TINY, Run, Sizes
    from benchmarks.training.loops import LABELS, choose
    from hw1.plots.style import save_figure

    if not 0 < args.minutes <= 1440:
        raise UserError(f"--minutes: more than 0, at most 1440; got {args.minutes:g}")
    device = open_device(args.device)
    prepare_process()
    sizes = TINY if args.tiny else Sizes()
    photos = Path(os.environ["HW1_PHOTOS"]) if os.environ.get("HW1_PHOTOS") else None
    file = ResultFile("gpu", describe_device(device), asdict(sizes) | {"minutes": args.minutes}, args.out)
    loops = choose(args.loop or [], list(LABELS))
    case, check, batches = parse_case(args.case), parse_case(args.check_case), args.batch or [64, 128, 256]
    with with_weights(case) as ready:
        run = Run(ready, check, batches, loops, device, sizes, photos, args.minutes, file.content, file.save, started)
        failed = run_parts(run, args.part)
    file.content["summary"] = summarise_gpu(file.content)
    file.content["complete"] = not failed
    file.save()
    save_figure(plot_gpu(file.content), file.path.with_suffix(".png"))
    print(f"{gpu_table(file.content)}\n\n{file.path}")
    if failed:
        raise RunError("\n".join(failed))


def run_parts(run: Any, names: Sequence[str]) -> list[str]:
    """Runs the parts in their order until the time is over; returns what failed, a line each. The other parts go on."""
    from benchmarks.training.gpu_parts import PARTS

    seconds = run.content["seconds"] = {}
    failed: list[str] = []

    def stop(signum: int, frame: object) -> None:
        raise OutOfTime

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(run.at(1.0) - time.perf_counter(), 0.001))
    name = "start"
    try:
        for name in [name for name in PARTS if name in names]:
            part, share = PARTS[name]
            begun = time.perf_counter()
            print(f"part {name}, at {begun - run.started:.0f} s", file=sys.stderr, flush=True)
            if begun > run.at(share):
                failed.append(f"{name}: no time was left")
                continue
            try:
                part(run, run.at(share))
            except Exception as error:
                failed.append(f"{name}: {one_line(error)}")
                print(failed[-1], file=sys.stderr, flush=True)
            seconds[name] = round(time.perf_counter() - begun, 1)
            run.content["failed_parts"] = failed
            run.save()
    except OutOfTime:
        failed.append(f"{name}: cut off, as {run.minutes:g} minutes were over")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    run.content["failed_parts"] = failed
    return failed


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
