"""How fast a model is evaluated, ours beside others', in one run: python -m benchmarks.inference

Batches of random images are on the device already; the ways take turns over them at every batch size. Writes a JSON file and a plot, and
prints its table; --markdown FILE prints that of a JSON file.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.common.options import add_result_options
from hw1.errors import RunError, UserError, run_command

SIZES = [1, 4, 16, 64, 256]


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__)
    parser.add_argument("--case", metavar="MODEL:SIZE", help="default resnet18_cbam:96, on CUDA resnext101_32x8d_cbam:224")
    parser.add_argument("--batch", type=int, action="append", metavar="N", help=f"default {', '.join(map(str, SIZES))}")
    parser.add_argument("--way", action="append", metavar="PATTERN", help="which to measure, as hw1 or timm/*; default all")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--images", type=int, default=256, help="in one evaluation, at least one batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-memory", action="store_true", help="CPU: leave out peak memory, which takes processes of its own")
    add_result_options(parser, has_plot=True)
    args = parser.parse_args(argv)

    from benchmarks.common.result_file import ResultFile, read_result
    from benchmarks.training.tables import inference_tables

    if args.markdown:
        print(inference_tables(read_result(args.markdown)))
        return
    from benchmarks.training.case import parse_case, with_weights
    from benchmarks.training.device import describe_device, open_device, prepare_process
    from benchmarks.training.inference_measure import Amounts, measure_inference, targets
    from benchmarks.training.loops import match
    from benchmarks.training.plots import plot_inference
    from benchmarks.training.validation import LABELS
    from hw1.plots.style import save_figure

    device = open_device(args.device)
    prepare_process()
    if min(args.batch or SIZES) < 1:
        raise UserError("--batch: must be at least 1")
    keys = match("--way", args.way or ["*"], list(LABELS))
    case = parse_case(f"{args.case or ('resnext101_32x8d_cbam:224' if device.type == 'cuda' else 'resnet18_cbam:96')}:1")
    amounts = Amounts(args.images, args.rounds, memory=not args.no_memory)
    file = ResultFile("inference", describe_device(device), asdict(amounts), args.out)
    blocks = file.content["sizes"] = []
    with with_weights(case) as ready:
        measure_inference(ready, args.batch or SIZES, keys, device, amounts, blocks, file.save)
    file.content["targets"] = targets(blocks)
    file.finish()
    save_figure(plot_inference(file.content), file.path.with_suffix(".png"))
    print(f"{inference_tables(file.content)}\n\n{file.path}")
    if failed := [f"batch {block['case']['batch']}: {key}: {why}" for block in blocks for key, why in block["failed"].items()]:
        raise RunError("\n".join(failed))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
