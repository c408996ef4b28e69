"""How fast one training step is, ours beside others', in one run: python -m benchmarks.train_step

Loops take turns over the same batches, on the device already; on a CPU each has a process of its own, as a training has. Each --case has
its own table; --growth adds how the cost grows, --check compares gradients and loss curves of our variants with plain FP32 instead of
timing them. Writes a JSON file and a plot, and prints its table; --markdown FILE prints that of a JSON file.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from benchmarks.common.options import add_result_options
from hw1.errors import RunError, run_command

if TYPE_CHECKING:
    from benchmarks.common.result_file import ResultFile
    from benchmarks.training.case import Case
    from benchmarks.training.roofline import Rates

CPU_CASES = [f"resnet18_cbam:96:{batch}:{amp}" for amp in ("auto", "off") for batch in (8, 32, 128)]
"""Where the processor computes in bf16; elsewhere `auto` is FP32 too, and left out."""
CHECKED_CPU_CASES = [case for case in CPU_CASES if ":8:" in case]
"""Two hundred steps of each variant with larger batches take an hour."""
CPU_LOOPS = ["faithful/n*", "fast/n*", "report", "timm/n*", "timm/compiled", "timm-fast/n*", "timm-fast/compiled"]
"""Not our compiled ones: a training on a CPU compiles nothing, and compiling takes minutes."""
COPY_MEBIBYTES, MATRIX_SIDE = 256, 1024
CUDA_CASES = ["resnext101_32x8d_cbam:224:32"]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.train_step", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--case", action="append", metavar="MODEL:SIZE:BATCH[:AMP]", help=f"on CUDA {CUDA_CASES[0]}; else several, as {CPU_CASES[0]}"
    )
    parser.add_argument(
        "--loop",
        action="append",
        metavar="PATTERN",
        help="which to measure, as faithful/* or timm/nhwc; default all, on a CPU all but our compiled ones",
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn, at least one step")
    parser.add_argument("--quick", action="store_true", help="two rounds of a step each, little growth: not for publication")
    parser.add_argument("--growth", action="store_true", help="also how the cost grows with batch, image size, model and data set")
    parser.add_argument("--check", action="store_true", help="only compare gradients and loss curves with plain FP32")
    parser.add_argument("--steps", type=int, default=200, help="--check: steps of a loss curve")
    add_result_options(parser, has_plot=True)
    args = parser.parse_args(argv)
    if args.quick:
        args.rounds, args.seconds, args.steps = 2, 0.0, 20
    return args


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    from benchmarks.common.result_file import ResultFile, read_result
    from benchmarks.training import tables

    if args.markdown:
        result = read_result(args.markdown)
        print(tables.check_table(result) if result["benchmark"] == "train_check" else tables.step_tables(result))
        return
    import torch

    from benchmarks.training.case import parse_case
    from benchmarks.training.device import describe_device, open_device, prepare_process

    device = open_device(args.device)
    prepare_process()
    on_cpu = CHECKED_CPU_CASES if args.check else CPU_CASES
    cases = [parse_case(text) for text in args.case or (CUDA_CASES if device.type == "cuda" else on_cpu)]
    if not args.case and cases[0].dtype(device) is torch.float32:
        cases = [case for case in cases if case.amp == "off"]
    settings = {name: getattr(args, name) for name in ("rounds", "seconds", "steps")}
    name = "train_check" if args.check else "train_step"
    file = ResultFile(name, describe_device(device), settings, args.out)
    (_check if args.check else _time)(args, cases, file)


def _time(args: argparse.Namespace, cases: "list[Case]", file: "ResultFile") -> None:
    import torch

    from benchmarks.training.card import measure_rates
    from benchmarks.training.case import with_weights
    from benchmarks.training.device import open_device
    from benchmarks.training.growth import measure_growth
    from benchmarks.training.loops import LABELS, choose
    from benchmarks.training.measure import Amounts, CaseBench, roofline, roofline_shares, targets_of
    from benchmarks.training.plots import plot_growth, plot_steps
    from benchmarks.training.tables import step_tables
    from hw1.plots.style import save_figure

    device = open_device(args.device)
    amounts = Amounts(args.rounds, args.seconds)
    file.content["settings"] |= asdict(amounts)
    blocks = file.content["cases"] = []
    rates: dict[torch.dtype, Rates] = {}
    for number, case in enumerate(cases, 1):
        with with_weights(case) as ready:
            loops = choose(args.loop or (CPU_LOOPS if device.type == "cpu" else []), list(LABELS))
            bench = CaseBench(ready, loops, device, amounts, file.save)
            blocks.append(bench.block)
            bench.run()
            bench.close()
        dtype = case.dtype(device)
        found = measure_rates(device, mebibytes=COPY_MEBIBYTES, side=MATRIX_SIDE, dtype=dtype)
        rates[dtype] = found.or_better(rates.get(dtype, found))
        for done, block in zip(cases[:number], blocks, strict=True):
            if done.dtype(device) is dtype:  # a shared machine is never faster than it is, but at times slower
                block["roofline"] = roofline(done, rates[dtype], device)
                block["roofline_share"] = roofline_shares(block)
                block["targets"] = targets_of(block, device.type == "cuda")
        file.save()
        save_figure(plot_steps(file.content), file.path.with_suffix(".png"))
    if args.growth:
        growth: dict[str, Any] = {}
        file.content["growth"] = growth
        measure_growth(cases[0], args.loop or [], device, growth, file.save, quick=args.quick)
        save_figure(plot_growth(file.content), file.path.with_name(f"{file.path.stem}_growth.png"))
    file.finish()
    print(f"{step_tables(file.content)}\n\n{file.path}")
    if failed := [f"{block['case']['model']}: {key}: {why}" for block in blocks for key, why in block["failed"].items()]:
        raise RunError("\n".join(failed))


def _check(args: argparse.Namespace, cases: "list[Case]", file: "ResultFile") -> None:
    from benchmarks.training.case import with_weights
    from benchmarks.training.check import check_case, verdict
    from benchmarks.training.device import open_device
    from benchmarks.training.loops import choose
    from benchmarks.training.ours import OURS
    from benchmarks.training.plots import plot_check
    from benchmarks.training.tables import check_table
    from hw1.plots.style import save_figure

    device = open_device(args.device)
    blocks = file.content["checks"] = []
    for case in cases:
        keys = [key for key in choose(args.loop or [], list(OURS)) if key in OURS]
        with with_weights(case) as ready:
            check_case(ready, keys, device, args.steps, blocks, file.save)
        save_figure(plot_check(file.content), file.path.with_suffix(".png"))
    file.finish()
    print(f"{check_table(file.content)}\n\n{file.path}")
    if wrong := verdict(blocks):
        raise RunError("\n".join(wrong))


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
