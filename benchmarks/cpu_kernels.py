"""What hw1 replaces of torch on a CPU beside torch's own, one thread, in turns: python -m benchmarks.cpu_kernels

Depthwise gradients in float32 (a whole training step in bf16), weights in oneDNN's order and what is computed with them (an evaluation),
AdamW on contiguous views (an optimizer step in channels_last order), dropout's draws (forward and backward of the layer). The least
milliseconds of processor time of some tries. Writes a JSON file and prints its table; --markdown FILE prints that of a JSON file.
Products in the place of convolutions: `benchmarks.convolutions`.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any
from unittest.mock import patch

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hw1.models  # noqa: F401  registers the models with CBAM
from benchmarks.common.options import add_result_options
from benchmarks.common.result_file import ResultFile, read_result
from benchmarks.common.timing import use_one_thread
from hw1.config.recipe import OptimConfig
from hw1.errors import run_command
from hw1.models import fuse_batchnorm
from hw1.models.depthwise import use_fast_depthwise
from hw1.models.dropout import use_fast_dropout
from hw1.runtime.device import keep_freed_memory
from hw1.training import optim

DEPTHWISE = ("tf_efficientnet_lite0", "mobilenetv3_large_100", "convnext_atto")
EVALUATED = ("resnet18_cbam", "resnext50_32x4d_cbam")
STEP_SIZE, STEP_BATCH, EVAL_SIZE, EVAL_BATCHES = 128, 32, 96, (1, 4, 64)
DROPOUT_BATCHES = (8, 32, 128)
Work = Callable[[], object]


def main(argv: Sequence[str]) -> None:
    """Carry out the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cpu_kernels", description=__doc__)
    parser.add_argument("--tries", type=int, default=5)
    add_result_options(parser)
    args = parser.parse_args(argv)
    if args.markdown:
        print(table(read_result(args.markdown)))
        return
    use_one_thread()
    keep_freed_memory()
    file = ResultFile("cpu_kernels", {}, {"tries": args.tries, "threads": 1}, args.out)
    rows = file.content["results"] = []
    for name in DEPTHWISE:
        rows.append({"what": f"training step, {name}, bf16", "batch": STEP_BATCH} | least(depthwise_steps(name), args.tries))
        file.save()
    for name in EVALUATED:
        for is_bf16 in (False, True):
            for batch in EVAL_BATCHES:
                what = f"evaluation, {name}, {'bf16' if is_bf16 else 'float32'}"
                rows.append({"what": what, "batch": batch} | least(evaluations(name, batch, is_bf16), args.tries))
                file.save()
    rows.append({"what": "AdamW, resnet18_cbam, channels_last", "batch": None} | least(optimizer_steps(), args.tries))
    for batch in DROPOUT_BATCHES:
        rows.append({"what": "dropout, 256 x 6 x 6, bf16", "batch": batch} | least(dropouts(batch), args.tries))
    file.finish()
    print(f"{table(file.content)}\n\n{file.path}")


def least(ways: dict[str, Work], tries: int) -> dict[str, float]:
    """Return the least milliseconds of processor time of each way, in turns; one try more warms up."""
    found = dict.fromkeys(ways, float("inf"))
    for _ in range(tries + 1):
        for way, work in ways.items():
            start = time.process_time()
            work()
            found[way] = min(found[way], 1000 * (time.process_time() - start))
    return {way: round(value, 2) for way, value in found.items()}


def depthwise_steps(name: str) -> dict[str, Work]:
    """Forward and backward in bf16 by torch and by hw1, and in float32."""

    def step_of(*, is_ours: bool, is_bf16: bool) -> Work:
        model = make_model(name).train()
        if is_ours:
            use_fast_depthwise(model)
        images, labels = make_images(STEP_BATCH, STEP_SIZE), torch.zeros(STEP_BATCH, dtype=torch.long)

        def step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
                logits = model(images)
            F.cross_entropy(logits.float(), labels).backward()
            model.zero_grad()

        return step

    return {
        "torch": step_of(is_ours=False, is_bf16=True),
        "hw1": step_of(is_ours=True, is_bf16=True),
        "float32": step_of(is_ours=False, is_bf16=False),
    }


def evaluations(name: str, batch: int, is_bf16: bool) -> dict[str, Work]:
    """Evaluate with BatchNorm fused: by torch's layers, and by packed ones, which compute activations and residuals, too."""
    model, images = make_model(name).eval(), make_images(batch, EVAL_SIZE)
    with patch.object(fuse_batchnorm, "use_packed_layers", lambda model: None):
        plain = fuse_batchnorm.fuse_batchnorm(model)
    packed = fuse_batchnorm.fuse_batchnorm(model)

    def evaluation_of(model: nn.Module) -> Work:
        def evaluate() -> None:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
                model(images)

        return evaluate

    return {"torch": evaluation_of(plain), "hw1": evaluation_of(packed)}


def optimizer_steps() -> dict[str, Work]:
    """Take a step of torch's fused AdamW, and of the same on contiguous views."""

    with patch.object(optim, "_step_on_contiguous_views", lambda optimizer: None):
        plain = make_optimizer()
    return {"torch": plain.step, "hw1": make_optimizer().step}


def dropouts(batch: int) -> dict[str, Work]:
    """Go forward and backward through torch's layer, and through that with four elements of a draw."""
    fast = nn.Sequential(nn.Dropout(0.3))
    use_fast_dropout(fast)
    features = torch.randn(batch, 256, 6, 6, dtype=torch.bfloat16).to(memory_format=torch.channels_last).requires_grad_()

    def work_of(layer: nn.Module) -> Work:
        return lambda: layer(features).backward(features.detach())

    return {"torch": work_of(nn.Dropout(0.3)), "hw1": work_of(fast)}


def make_optimizer() -> torch.optim.Optimizer:
    """Make the optimizer of a model that has gradients."""
    model = make_model("resnet18_cbam")
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    return optim.build_optimizer(model, OptimConfig())


def make_model(name: str) -> nn.Module:
    """Make a model of 100 classes in channels_last order."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=100)
    return model.to(memory_format=torch.channels_last)


def make_images(batch: int, size: int) -> Tensor:
    """Make noise in channels_last order."""
    return torch.randn(batch, 3, size, size).to(memory_format=torch.channels_last)


def table(result: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    lines = ["| what | images | torch, ms | hw1, ms | times as fast | float32, ms |", "|---|---|---|---|---|---|"]
    for row in result["results"]:
        cells = [row["what"], row["batch"] or "", row["torch"], row["hw1"], f"{row['torch'] / row['hw1']:.2f}", row.get("float32", "")]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    machine, tries = result["machine"], result["settings"]["tries"]
    caption = f"{result['hardware']}, {machine['started'][:10]}, one thread, load average before {machine['load_before']}: least of {tries}"
    return "\n".join([*lines, "", f"{caption}. Steps at {STEP_SIZE} px, evaluations at {EVAL_SIZE}."])


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
