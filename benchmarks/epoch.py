"""How fast an epoch is, from JPEG files to the last step, ours beside others', in one run: python -m benchmarks.epoch

It trains on the images in $HW1_PHOTOS (train/ and val/), or on drawn images. --timm CHECKOUT also runs the train.py of your own
checkout of timm on our model and these files. Writes a JSON file and prints its table; --markdown FILE prints that of a JSON file.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common.options import add_result_options
from hw1.errors import UserError, run_command


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.epoch", description=__doc__)
    parser.add_argument("--case", metavar="MODEL:SIZE:BATCH", help="default resnet18_cbam:96:32, on CUDA resnext101_32x8d_cbam:224:32")
    parser.add_argument("--loop", action="append", metavar="PATTERN", help="which to measure; default the fastest ways and timm's")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--images", type=int, help="in an epoch; default 512, on CUDA 4096")
    parser.add_argument("--workers", type=int, help="loader processes of every loop; default as data.num_workers: null")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--timm", type=Path, metavar="CHECKOUT", help="a checkout of timm (or its train.py) to run beside ours")
    add_result_options(parser)
    args = parser.parse_args(argv)

    from benchmarks.common.result_file import ResultFile, read_result
    from benchmarks.training.tables import epoch_table

    if args.markdown:
        print(epoch_table(read_result(args.markdown)))
        return
    from benchmarks.training.case import parse_case
    from benchmarks.training.device import describe_device, open_device, prepare_process
    from benchmarks.training.epoch_measure import Amounts, default_loops, measure_epochs, targets
    from benchmarks.training.loops import choose
    from benchmarks.training.timm_script import find_script

    device = open_device(args.device)
    prepare_process()
    is_cuda = device.type == "cuda"
    case = parse_case(args.case or ("resnext101_32x8d_cbam:224:32" if is_cuda else "resnet18_cbam:96:32"))
    amounts = Amounts(args.images or (4096 if is_cuda else 512), args.rounds, args.workers)
    if amounts.images < case.batch:
        raise UserError(f"--images: at least a batch ({case.batch}), got {amounts.images}")
    if args.timm:
        find_script(args.timm)
    photos = Path(os.environ["HW1_PHOTOS"]) if os.environ.get("HW1_PHOTOS") else None
    file = ResultFile("epoch", describe_device(device), asdict(amounts), args.out)
    block: dict[str, Any] = {}
    file.content["epoch"] = block
    measure_epochs(case, choose(args.loop or [], default_loops(device)), device, amounts, photos, block, file.save, script=args.timm)
    block["targets"] = targets(block)
    file.finish()
    print(f"{epoch_table(file.content)}\n\n{file.path}")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
