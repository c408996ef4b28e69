"""Convolutions on a CPU as matrix products beside torch's own, one thread, by shape: python -m benchmarks.convolutions

What the rules of hw1/models/conv_matmul.py rest on. Milliseconds a call of output, input's and weights' gradient, the least
of some calls, the two taking turns. Writes a JSON file and prints its table; --markdown FILE prints that of a JSON file.
"""

import argparse
import copy
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from benchmarks.common.options import add_result_options
from benchmarks.common.result_file import ResultFile, read_result
from benchmarks.common.timing import use_one_thread
from hw1.errors import run_command
from hw1.models import conv_matmul as products
from hw1.runtime.device import keep_freed_memory

SHAPES = (  # kernel, channels in and out, height and width of the output, images
    *((3, c, c, size, batch) for size in (2, 3, 6, 7) for batch in (8, 32) for c in (64, 128, 256, 512)),
    *((1, 2048, 2048, size, 8) for size in (3, 7)),
    *((1, c, d, 6, 8) for c, d in ((256, 1024), (1024, 1024))),
    *((1, c, d, size, 32) for c, d, size in ((1024, 1024, 6), (256, 1024, 14), (1024, 1024, 14), (512, 512, 28), (256, 256, 56))),
)
PARTS = ("output", "dx", "dw")
Shape = tuple[int, int, int, int, int]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.convolutions", description=__doc__)
    parser.add_argument("--calls", type=int, default=5)
    add_result_options(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    args = parse(argv)
    if args.markdown:
        print(table(read_result(args.markdown)))
        return
    use_one_thread()
    keep_freed_memory()
    file = ResultFile("convolutions", {}, {"calls": args.calls, "threads": 1}, args.out)
    rows = file.content["results"] = []
    for dtype in (torch.float32, torch.bfloat16):
        for shape in SHAPES:
            rows.append({"shape": shape, "precision": str(dtype).removeprefix("torch."), **time_shape(shape, args.calls, dtype)})
            file.save()
    file.finish()
    print(f"{table(file.content)}\n\n{file.path}")


def time_shape(shape: Shape, calls: int, dtype: torch.dtype) -> dict[str, Any]:
    """Milliseconds of every part by torch and as products, and what the rules compute as products; bf16 by autocast, with its casts."""
    kernel, c, d, size, batch = shape
    torch.manual_seed(0)
    plain = nn.Conv2d(c, d, kernel, padding=kernel // 2, bias=False).to(memory_format=torch.channels_last)
    ours = nn.Sequential(copy.deepcopy(plain))
    products.use_conv_matmul(ours)
    always = patch.object(products, "choose_matmul", lambda *_: products.UseMatmul(True, True, True))
    with always, torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16, cache_enabled=False):
        work = {"torch": parts_of(plain, c, size, batch), "products": parts_of(ours, c, size, batch)}
        found: dict[str, dict[str, float]] = {way: dict.fromkeys(PARTS, float("inf")) for way in work}
        for _ in range(calls + 1):  # the first warms up, and is hardly the least
            for way, parts in work.items():
                for part, function in parts.items():
                    start = time.perf_counter()
                    function()
                    found[way][part] = min(found[way][part], 1000 * (time.perf_counter() - start))
    ways = products.choose_matmul(batch, size**2, plain.weight.shape, dtype)._asdict()
    milliseconds = {way: {part: round(value, 2) for part, value in parts.items()} for way, parts in found.items()}
    return {"milliseconds": milliseconds, "chosen": [part for part in PARTS if ways[part]]}


def parts_of(conv: nn.Module, channels: int, size: int, batch: int) -> dict[str, Callable[[], object]]:
    """Each part in a graph that needs no other: `_ConvMatmul` computes all that its graph needs."""
    image = torch.randn(batch, channels, size, size).to(memory_format=torch.channels_last)
    [weight] = conv.parameters()

    def forward() -> object:
        with torch.no_grad():
            return conv(image)

    def backward(leaf: Tensor) -> Callable[[], object]:
        weight.requires_grad_(leaf is weight)
        output = conv(image if leaf is weight else leaf)
        dy = torch.randn_like(output)
        return lambda: torch.autograd.grad(output, leaf, dy, retain_graph=True)

    return {"output": forward, "dx": backward(image.clone().requires_grad_()), "dw": backward(weight)}


def table(result: dict[str, Any]) -> str:
    """Markdown; what the rules choose is bold."""
    when = f"{result['hardware']}, {result['machine']['started'][:10]}, one thread"
    lines = [f"{when}. Milliseconds, torch's own → products; bold where products are used.", ""]
    heads = ("precision", "kernel", "channels", "output", "images", "output", "input's gradient", "weights' gradient")
    lines += [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in result["results"]:
        kernel, c, d, size, batch = row["shape"]
        times = row["milliseconds"]
        cells = [f"{times['torch'][part]} → {times['products'][part]}" for part in PARTS]
        cells = [f"**{cell}**" if part in row["chosen"] else cell for part, cell in zip(PARTS, cells, strict=True)]
        about = [row.get("precision", "float32"), f"{kernel} x {kernel}", f"{c} to {d}", f"{size} x {size}", str(batch)]
        lines.append(f"| {' | '.join(about + cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
