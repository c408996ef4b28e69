"""Convolutions on a CPU as matrix products beside torch's own, by shape, precision and threads: python -m benchmarks.convolutions

What the rules of hw1/models/conv_matmul.py rest on. Milliseconds a call of output, input's and weights' gradient, the least
of some calls, the ways taking turns. Writes a JSON file and prints its table; --markdown FILE prints that of a JSON file.
"""

import argparse
import copy
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.common.options import add_result_options
from benchmarks.common.result_file import ResultFile, read_result
from hw1.errors import run_command
from hw1.models import conv_matmul as products
from hw1.models.conv_matmul import Way
from hw1.runtime.device import keep_freed_memory

SHAPES = (  # kernel, channels in and out, height and width of the output, stride, images
    *((3, c, c, size, 1, batch) for size in (2, 3, 6, 7) for batch in (2, 8, 32) for c in (64, 128, 256, 512)),
    *((3, c, 2 * c, size, 2, batch) for size in (2, 3, 6, 7, 12) for batch in (2, 8, 32) for c in (64, 128, 256)),
    *((1, c, d, size, 1, 8) for c, d in ((2048, 512), (512, 2048)) for size in (3, 7)),
    *((1, c, d, 6, 1, 8) for c, d in ((256, 1024), (1024, 1024))),
    *((1, c, d, size, 1, 32) for c, d, size in ((1024, 1024, 6), (256, 1024, 14), (1024, 1024, 14), (512, 512, 28), (256, 256, 56))),
    *((1, c, d, size, 2, batch) for c, d, size in ((64, 128, 12), (256, 512, 3)) for batch in (8, 32)),
    *((1, c, d, 16, 1, 32) for c, d in ((16, 96), (96, 24), (240, 40))),
)
PARTS = ("output", "dx", "dw")
WAYS: tuple[Way, ...] = ("conv", "taps", "patches")
Shape = tuple[int, int, int, int, int, int]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolutions", description=__doc__)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--threads", type=int, action="append", metavar="N", help="default: 1, and one a core")
    add_result_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    if args.markdown:
        print(table(read_result(args.markdown)))
        return
    keep_freed_memory()
    cores = len(os.sched_getaffinity(0))
    threads = args.threads or sorted({1, cores})
    file = ResultFile("convolutions", {}, {"calls": args.calls, "threads": threads}, args.out)
    rows = file.content["results"] = []
    for number in threads:
        torch.set_num_threads(number)
        for dtype in (torch.float32, torch.bfloat16):
            for shape in SHAPES:
                about = {"shape": shape, "precision": str(dtype).removeprefix("torch."), "threads": number}
                rows.append(about | time_shape(shape, args.calls, dtype))
            file.save()
    file.finish()
    print(f"{table(file.content)}\n\n{file.path}")


def time_shape(shape: Shape, calls: int, dtype: torch.dtype) -> dict[str, Any]:
    """Milliseconds of every part in each way, and what the rules choose; bf16 by autocast, with its casts."""
    kernel, c, d, size, stride, batch = shape
    torch.manual_seed(0)
    plain = nn.Conv2d(c, d, kernel, stride, padding=kernel // 2, bias=False).to(memory_format=torch.channels_last)
    ours = copy.deepcopy(plain)
    ours.__class__ = products.MatmulConv2d
    found = {way: dict.fromkeys(PARTS, float("inf")) for way in WAYS}
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16, cache_enabled=False):
        work = {}
        for way in WAYS:
            with always(way):
                work[way] = parts_of(plain if way == "conv" else ours, c, size * stride, batch)
        for _ in range(calls + 1):  # the first warms up, and is hardly the least
            for way, parts in work.items():
                for part, function in parts.items():
                    with always(way):
                        start = time.perf_counter()
                        function()
                        found[way][part] = min(found[way][part], 1000 * (time.perf_counter() - start))
    geometry = products.Geometry(batch, (size * stride,) * 2, tuple(plain.weight.shape), (stride,) * 2, (kernel // 2,) * 2)
    milliseconds = {way: {part: round(value, 2) for part, value in parts.items()} for way, parts in found.items()}
    return {"milliseconds": milliseconds, "chosen": products.choose_ways(geometry, dtype)._asdict()}


def always(way: Way) -> Any:
    """Let `MatmulConv2d` compute everything in one way."""
    return patch.object(products, "choose_ways", lambda *_: products.Ways(way, way, way))


def parts_of(conv: nn.Module, channels: int, size: int, batch: int) -> dict[str, Callable[[], object]]:
    """Each part in a graph that needs no other: `_ConvMatmul` computes all that its graph needs."""
    image = torch.randn(batch, channels, size, size).to(memory_format=torch.channels_last)
    [weight] = conv.parameters()

    def forward() -> object:  # as in training: without gradients there are no patches
        return conv(image)

    def backward(leaf: Tensor) -> Callable[[], object]:
        weight.requires_grad_(leaf is weight)
        output = conv(image if leaf is weight else leaf)
        dy = torch.randn_like(output)
        return lambda: torch.autograd.grad(output, leaf, dy, retain_graph=True)

    return {"output": forward, "dx": backward(image.clone().requires_grad_()), "dw": backward(weight)}


def table(result: dict[str, Any]) -> str:
    """Markdown; what the rules choose is bold."""
    when = f"{result['hardware']}, {result['machine']['started'][:10]}"
    lines = [f"{when}. Milliseconds by torch's convolution, by taps and by patches; bold is what is used.", ""]
    heads = ("threads", "precision", "kernel", "channels", "output", "images", "output", "input's gradient", "weights' gradient")
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in result["results"]:
        kernel, c, d, size, stride, batch = row["shape"]
        times = row["milliseconds"]
        cells = [
            " ".join(f"**{times[way][part]}**" if way == row["chosen"][part] else str(times[way][part]) for way in WAYS) for part in PARTS
        ]
        name = f"{kernel} x {kernel}" + (f", stride {stride}" if stride > 1 else "")
        about = [str(row["threads"]), row["precision"], name, f"{c} to {d}", f"{size} x {size}", str(batch)]
        lines.append(f"| {' | '.join(about + cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
