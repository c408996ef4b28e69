"""How fast a model is evaluated, ours beside others', in one run: python -m benchmarks.inference

Batches of random images are on the device already; the ways take turns over them at every batch size and in every precision. What makes a
model ready, by fusing or compiling, is timed apart. Writes a JSON file and a plot, and prints its table; --markdown FILE prints that of a
JSON file. The same --out goes on with what its file lacks.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common.options import add_result_options
from hw1.errors import RunError, UserError, run_command

SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
CPU_CASES = ["resnet18_cbam:96:auto", "resnet18_cbam:96:off"]
"""Where the processor computes in bf16; elsewhere `auto` is FP32 too, and left out."""
CUDA_CASES = ["resnext101_32x8d_cbam:224:auto"]


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.inference", description=__doc__)
    parser.add_argument(
        "--case", action="append", metavar="MODEL:SIZE[:AMP]", help=f"default {' and '.join(CPU_CASES)}, on CUDA {CUDA_CASES[0]}"
    )
    parser.add_argument("--batch", type=int, action="append", metavar="N", help=f"default {', '.join(map(str, SIZES))}")
    parser.add_argument("--way", action="append", metavar="PATTERN", help="which to measure, as hw1 or timm/*; default all")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--images", type=int, default=512, help="in one evaluation, at least one batch")
    parser.add_argument("--rounds", type=int, default=5)
    add_result_options(parser, has_plot=True)
    args = parser.parse_args(argv)

    from benchmarks.common.result_file import ResultFile, read_result
    from benchmarks.training.tables import inference_tables

    if args.markdown:
        print(inference_tables(read_result(args.markdown)))
        return
    import torch

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
    texts = args.case or (CUDA_CASES if device.type == "cuda" else CPU_CASES)
    cases = [parse_case(":1:".join(text.rsplit(":", 1)) if text.count(":") == 2 else f"{text}:1") for text in texts]
    if not args.case and cases[0].dtype(device) is torch.float32:
        cases = [case for case in cases if case.amp == "off"]
    amounts = Amounts(args.images, args.rounds)
    settings = {**asdict(amounts), "threads": torch.get_num_threads()}
    blocks = finished_blocks(args.out, settings)
    file = ResultFile("inference", describe_device(device), settings, args.out, {"sizes": blocks})
    for case in cases:
        done = [block["case"]["batch"] for block in blocks if block["case"] == case.describe() | {"batch": block["case"]["batch"]}]
        with with_weights(case) as ready:
            measure_inference(ready, [size for size in args.batch or SIZES if size not in done], keys, device, amounts, blocks, file.save)
    file.content["targets"] = targets(blocks)
    file.finish()
    save_figure(plot_inference(file.content), file.path.with_suffix(".png"))
    print(f"{inference_tables(file.content)}\n\n{file.path}")
    if failed := [f"batch {block['case']['batch']}: {key}: {why}" for block in blocks for key, why in block["failed"].items()]:
        raise RunError("\n".join(failed))


def finished_blocks(out: Path | None, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the blocks that an earlier try measured to their end."""
    from benchmarks.common.result_file import earlier_results

    blocks = earlier_results(out, settings).get("sizes", [])
    rounds = [[len(row["images_per_second"]) for row in block["results"].values()] for block in blocks]
    return [block for block, counts in zip(blocks, rounds, strict=True) if counts and min(counts) >= settings["rounds"]]


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
