"""Ways to evaluate a model on batches that are on the device: this project's, timm's, and plain PyTorch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch._inductor.config
from timm.utils import AverageMeter, accuracy
from torch import Tensor, nn

from benchmarks.training.case import Case
from benchmarks.training.device import use_defaults
from benchmarks.training.ours import recipe_of
from benchmarks.training.peers import TIMM, Flags, build_frozen_model
from hw1.data.loader.base import Batch
from hw1.evaluation.evaluate import evaluate
from hw1.evaluation.metrics import summarize
from hw1.models.fuse_batchnorm import fuse_batchnorm
from hw1.runtime.device import Autocast, amp_dtype, autocast_of, keep_freed_memory, set_determinism

FLAGS: dict[str, Flags] = TIMM | {
    "frozen": Flags("--channels-last --torchcompile, TORCHINDUCTOR_FREEZING=1", True, "default"),
}
"""What timm's validate.py can be asked for, and what torch.compile knows beyond: weights as constants, in oneDNN's order."""
LABELS = {
    "hw1": "hw1.evaluation.evaluate, with its metrics",
    "hw1/anew": "hw1.evaluation.evaluate, BatchNorm fused anew in each evaluation",
    "plain": "plain PyTorch, FP32, NCHW",
    **{f"timm/{name}": f"timm-style validation, {flags.label}" for name, flags in FLAGS.items()},
}
OURS = ("hw1", "hw1/anew")
PEERS = [key for key in LABELS if key not in OURS]


def why_not(key: str, device: torch.device) -> str | None:
    """Why a way cannot run here; None where it can."""
    return "no CUDA device" if key == "timm/graphs" and device.type != "cuda" else None


class Validation(Protocol):
    channels_last: bool

    def begin(self) -> None:
        """Sets the process's switches as this way wants them."""

    def run(self, batches: Sequence[Batch]) -> float:
        """Evaluates all batches and returns the top-1 accuracy: the device has finished then."""

    def logits(self, batch: Batch) -> Tensor:
        """float32 [B, C], on the CPU."""


@dataclass
class Batches:
    """The part of a loader that `hw1.evaluation.evaluate` asks."""

    batches: Sequence[Batch]

    @property
    def num_batches(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int) -> Iterator[Batch]:
        return iter(self.batches)


class OurValidation:
    """What `train.py` does after an epoch: `evaluate`, then `summarize`; with `hw1` the model is made ready once, as `hw1 predict` does."""

    channels_last = True

    def __init__(self, key: str, case: Case, device: torch.device) -> None:
        self.recipe = recipe_of(case, "faithful/nhwc")
        model = build_frozen_model(self.recipe, case.num_classes, device, channels_last=True)
        self.model = fuse_batchnorm(model) if key == "hw1" else model
        self.autocast = autocast_of(device, amp_dtype(self.recipe.train, device))

    def begin(self) -> None:
        use_defaults()
        keep_freed_memory()
        set_determinism(self.recipe.train.deterministic)

    def run(self, batches: Sequence[Batch]) -> float:
        predictions = evaluate(self.model, Batches(batches), autocast=self.autocast)
        return float(summarize(predictions.logits, predictions.labels)["top1"])

    def logits(self, batch: Batch) -> Tensor:
        return torch.from_numpy(evaluate(self.model, Batches([batch]), autocast=self.autocast).logits)


class TimmValidation:
    """What timm's validate.py does with a batch: loss, top-1 and top-5, each read at once. `flags` None: plain PyTorch in FP32, NCHW."""

    def __init__(self, key: str, case: Case, device: torch.device) -> None:
        self.flags = FLAGS.get(key.partition("/")[2])
        self.channels_last = bool(self.flags and self.flags.channels_last)
        self.is_frozen = key == "timm/frozen"
        recipe = recipe_of(case, "faithful/nhwc")
        self.model: nn.Module = build_frozen_model(recipe, case.num_classes, device, channels_last=self.channels_last).eval()
        self.forward: Callable[[Tensor], Tensor] = self.model
        if self.flags and self.flags.compile_mode:
            mode = None if self.flags.compile_mode == "default" else self.flags.compile_mode
            options: Any = {"freezing": True} if self.is_frozen else None  # else it would share what the other way has compiled
            self.forward = torch.compile(self.model, mode=mode, options=options, dynamic=False)
        dtype = amp_dtype(recipe.train, device) if self.flags else None
        self.autocast: Autocast = autocast_of(device, dtype if dtype is torch.bfloat16 else None)
        self.criterion = nn.CrossEntropyLoss().to(device)

    def begin(self) -> None:
        use_defaults()
        torch._inductor.config.freezing = self.is_frozen  # it is read when the first batch compiles
        if self.flags:
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.benchmark = True

    def run(self, batches: Sequence[Batch]) -> float:
        losses, top1, top5 = AverageMeter(), AverageMeter(), AverageMeter()
        with torch.inference_mode():
            for batch in batches:
                images = batch.image
                if self.channels_last:
                    images = images.contiguous(memory_format=torch.channels_last)
                with self.autocast():
                    output = self.forward(images)
                    loss = self.criterion(output, batch.label)
                first, fifth = accuracy(output, batch.label, topk=(1, 5))
                losses.update(loss.item(), len(images))
                top1.update(first.item(), len(images))
                top5.update(fifth.item(), len(images))
        return top1.avg / 100

    def logits(self, batch: Batch) -> Tensor:
        with torch.inference_mode(), self.autocast():
            return self.model(batch.image).float().cpu()  # type: ignore[no-any-return]


def build_validation(key: str, case: Case, device: torch.device) -> Validation:
    return OurValidation(key, case, device) if key in OURS else TimmValidation(key, case, device)
