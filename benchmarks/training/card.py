"""What the device can do: bytes a second of a copy, products a second, convolutions in both layouts; and where a step's time goes."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType

from benchmarks.training.case import Case
from benchmarks.training.device import synchronize, use_defaults
from benchmarks.training.loops import Loop
from benchmarks.training.ours import recipe_of
from benchmarks.training.peers import build_frozen_model
from benchmarks.training.roofline import Rates
from hw1.config.recipe import TrainConfig
from hw1.data.loader.base import Batch
from hw1.runtime.device import amp_dtype

TOP = 10
CALLS = 10
Passes = dict[str, dict[str, float]]


def step_dtype(device: torch.device) -> torch.dtype:
    """What convolutions compute in on this device."""
    return amp_dtype(TrainConfig(), device) or torch.float32


def measure_rates(device: torch.device, *, mebibytes: int, side: int, dtype: torch.dtype | None = None) -> Rates:
    """Of a copy of so many MiB, and of the product of two square matrices of `side` rows, in the step's precision or another."""
    source = torch.zeros(mebibytes * 2**20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = seconds_of(lambda: target.copy_(source), device)
    one = torch.randn(side, side, device=device).to(dtype or step_dtype(device))
    product = seconds_of(lambda: one @ one, device)
    return Rates(flops=2.0 * side**3 / product, bytes=2.0 * source.numel() / copy)


def seconds_of(work: Callable[[], Any], device: torch.device, *, least: float = 0.05, samples: int = 5) -> float:
    """Median seconds of `work`: of samples that each repeat it until `least` seconds have passed, after two calls that do not count."""
    work()
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    repeats = max(round(least / max(time.perf_counter() - start, 1e-6)), 1)
    found = []
    for _ in range(samples):
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        synchronize(device)
        found.append((time.perf_counter() - start) / repeats)
    return sorted(found)[samples // 2]


def measure_layouts(case: Case, device: torch.device, *, least: float, until: float = float("inf")) -> list[dict[str, Any]]:
    """Microseconds a step that each kind of convolution of each stage takes: NCHW and NHWC; forward, dgrad and wgrad apart.

    Rows of the stages' different convolutions with `count`, how often the step has them; those not begun by `until` are missing.
    """
    use_defaults()
    torch.backends.cudnn.benchmark = True
    model = build_frozen_model(recipe_of(case, "faithful/nchw"), case.num_classes, torch.device("cpu"), channels_last=False)
    rows = []
    for (stage, convolution, shape), count in _convolutions(model.to("meta"), case).items():
        if time.perf_counter() > until:
            break
        row: dict[str, Any] = {"stage": stage, "convolution": _describe(convolution), "input": list(shape), "count": count}
        for name, order in (("nchw", torch.contiguous_format), ("nhwc", torch.channels_last)):
            row[name] = _time_passes(convolution, shape, device, order, least)
        rows.append(row)
    return rows


Key = tuple[int, int, tuple[int, ...], tuple[int, ...], tuple[int, ...], int]
"""Channels in and out, kernel, stride, padding, groups."""


def _convolutions(model: nn.Module, case: Case) -> dict[tuple[str, Key, tuple[int, ...]], int]:
    found: dict[tuple[str, Key, tuple[int, ...]], int] = {}

    def hook_of(stage: str) -> Any:
        def see(module: nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            padding: Any = module.padding
            key: Key = (
                module.in_channels, module.out_channels, module.kernel_size, module.stride, tuple(padding), module.groups,
            )  # fmt: skip
            place = (stage, key, tuple(inputs[0].shape))
            found[place] = found.get(place, 0) + 1

        return see

    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and "cbam" not in name:
            stage = name.partition(".")[0] if name.startswith("layer") else "stem"
            module.register_forward_hook(hook_of(stage))
    with torch.no_grad():
        model(torch.empty(case.batch, 3, case.size, case.size, device="meta"))
    return found


def _describe(key: Key) -> str:
    inputs, outputs, kernel, stride, _, groups = key
    text = f"{kernel[0]}x{kernel[1]}, {inputs} to {outputs}"
    return text + (f", stride {stride[0]}" if stride[0] > 1 else "") + (f", {groups} groups" if groups > 1 else "")


def _time_passes(key: Key, shape: tuple[int, ...], device: torch.device, order: torch.memory_format, least: float) -> dict[str, float]:
    """Microseconds of forward, dgrad and wgrad."""
    inputs, outputs, kernel, stride, padding, groups = key
    dtype = step_dtype(device)
    image = torch.randn(shape, device=device).to(dtype).contiguous(memory_format=order)
    weight = torch.randn(outputs, inputs // groups, *kernel, device=device).to(dtype).contiguous(memory_format=order)
    options = (stride, padding, (1, 1), False, (0, 0), groups)
    gradient = torch.randn_like(torch.ops.aten.convolution(image, weight, None, *options))

    def backward(of_input: bool) -> Any:
        mask = (of_input, not of_input, False)
        return lambda: torch.ops.aten.convolution_backward(gradient, image, weight, None, *options, mask)

    work = {
        "forward": lambda: torch.ops.aten.convolution(image, weight, None, *options),
        "dgrad": backward(True),
        "wgrad": backward(False),
    }
    found = {}
    with torch.no_grad():
        for name, each in work.items():
            calls = CALLS if device.type == "cuda" else 1
            seconds = seconds_of(_recorded(each) if calls > 1 else each, device, least=least, samples=3) / calls
            found[name] = round(seconds * 1e6, 2)
    return found


def _recorded(work: Callable[[], Any]) -> Callable[[], None]:
    """`CALLS` calls as one CUDA graph: the host takes longer to launch a small kernel than the device to run it."""
    for _ in range(3):
        work()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            work()
    return graph.replay


def layout_sums(rows: list[dict[str, Any]]) -> dict[str, dict[str, Passes]]:
    """Stage -> `1x1`, `grouped` or `dense` -> layout -> pass -> microseconds a step."""
    sums: dict[str, dict[str, Passes]] = {}
    for row in rows:
        kind = "grouped" if "groups" in row["convolution"] else "1x1" if row["convolution"].startswith("1x1") else "dense"
        passes = sums.setdefault(row["stage"], {}).setdefault(kind, {"nchw": {}, "nhwc": {}})
        for layout, found in passes.items():
            for name, value in row[layout].items():
                found[name] = round(found.get(name, 0.0) + value * row["count"], 1)
    return sums


def profile_kernels(loop: Loop, batches: Sequence[Batch], device: torch.device, steps: int = 3) -> list[dict[str, Any]]:
    """The `TOP` most expensive kernels (on the CPU: operators) of a warm loop: calls and microseconds a step, share of all of them."""
    loop.begin()
    loop.step(batches[0])
    synchronize(device)
    is_cuda = device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CUDA if is_cuda else torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profiler:
        for number in range(steps):
            loop.step(batches[number % len(batches)])
        synchronize(device)
    spent = {}
    for event in profiler.key_averages():
        time_of = event.self_device_time_total if is_cuda else event.self_cpu_time_total
        if not is_cuda or event.device_type == DeviceType.CUDA:
            spent[event.key] = (time_of, event.count)
    total = sum(value for value, _ in spent.values()) or 1.0
    return [
        {"kernel": name[:160], "calls": round(count / steps, 2), "microseconds": round(value / steps, 1), "share": round(value / total, 4)}
        for name, (value, count) in sorted(spent.items(), key=lambda item: -item[1][0])[:TOP]
    ]
