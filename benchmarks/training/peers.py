"""Others' training steps on the same model, frozen in the same way: rebuilt from their descriptions, on public parts of torch and timm."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from timm.data import Mixup
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.task import ClassificationTask
from torch import nn
from torch.nn import functional as F

from benchmarks.training.case import Case
from benchmarks.training.device import use_defaults
from benchmarks.training.ours import recipe_of
from benchmarks.training.same import first_loss
from hw1.config.recipe import Recipe
from hw1.data.loader.base import Batch
from hw1.models.factory import build_model
from hw1.models.freeze import freeze_stages, set_train_mode
from hw1.runtime.device import Autocast, amp_dtype, autocast_of


class Flags(NamedTuple):
    """Those of timm's train.py; `--amp --amp-dtype bfloat16` goes without saying where the device computes in it."""

    label: str
    channels_last: bool
    compile_mode: str | None = None
    """`--torchcompile-mode`; "default" is `--torchcompile` alone."""


TIMM: dict[str, Flags] = {
    "nchw": Flags("no further flags", False),
    "nhwc": Flags("--channels-last", True),
    "compiled": Flags("--channels-last --torchcompile", True, "default"),
    "compiled-nchw": Flags("--torchcompile", False, "default"),
    "graphs": Flags("--channels-last --torchcompile-mode reduce-overhead", True, "reduce-overhead"),
}
"""Table of the timm-style loops: `timm/nchw` ... with the report's freezing, `timm-fast/nchw` ... with that of recipes/fast.yaml."""

FREEZING = {"timm": "faithful", "timm-fast": "fast"}
PEERS = {"report": "the report's loop"} | {
    f"{peer}/{flags}": f"timm-style{', fast freezing' if peer == 'timm-fast' else ''}, {TIMM[flags].label}"
    for peer in FREEZING
    for flags in TIMM
}


def why_not(key: str, device: torch.device) -> str | None:
    """Why a peer cannot run here; None where it can."""
    return "no CUDA device" if key.endswith("/graphs") and device.type != "cuda" else None


def build_frozen_model(recipe: Recipe, num_classes: int, device: torch.device, *, channels_last: bool) -> nn.Module:
    """The recipe's model as `hw1.training.build_state` makes it: the same weights, the same ones trained, BatchNorm in the same mode."""
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.model, num_classes, image_size=recipe.aug.size)
    freeze_stages(model, recipe.freeze)
    model = model.to(device).to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    set_train_mode(model, recipe.freeze)
    return model


class ReportLoop:
    """FP32, NCHW, deterministic cuDNN, torch's AdamW as it comes, loss and accuracy read after every step.

    As the report says and its source shows: Mixup with partners by a random permutation, the loss as the sum of two cross-entropies.
    Convolutions may use TF32, as PyTorch lets them where nobody forbids it.
    """

    channels_last = False

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case = case
        self.device = device
        recipe = recipe_of(case, "faithful/nchw")
        self.model = build_frozen_model(recipe, case.num_classes, device, channels_last=False)
        trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=recipe.optim.lr, betas=recipe.optim.betas, weight_decay=recipe.optim.weight_decay)
        self.mixup = recipe.mixup
        self.rng = np.random.default_rng(recipe.seed)
        self.loss_sum = self.accuracy_sum = 0.0

    def begin(self) -> None:
        use_defaults()
        torch.backends.cudnn.deterministic = True

    def step(self, batch: Batch) -> None:
        lam = float(self.rng.beta(self.mixup.alpha, self.mixup.alpha)) if self.rng.random() < self.mixup.prob else 1.0
        partner = torch.randperm(len(batch.label), device=self.device)
        images = batch.image if lam == 1.0 else lam * batch.image + (1 - lam) * batch.image[partner]
        logits = self.model(images)
        loss = lam * F.cross_entropy(logits, batch.label) + (1 - lam) * F.cross_entropy(logits, batch.label[partner])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.loss_sum += loss.item()
        self.accuracy_sum += (logits.argmax(1) == batch.label).float().mean().item()

    def first_loss(self, batch: Batch) -> float:
        return first_loss(self.model, batch, autocast_of(self.device, None))

    def why_not_as_asked(self) -> str | None:
        return None


class TimmLoop:
    """What timm's train.py does in a step, with timm's own Mixup, task, loss and optimizer.

    bf16 autocast where the device computes in bf16, the loss inside of it; AdamW by `create_optimizer_v2`, with torch's fused kernel
    (`--opt-kwargs fused=True`); the loss read after every step. The batch comes as PrefetchLoader hands it over, on the device and
    normalised, and already in the memory order that the loop would turn it into. Mixup is applied here, in place as timm does it.
    """

    def __init__(self, case: Case, key: str, device: torch.device, *, mixes: bool = True) -> None:
        """Without `mixes` the loader has mixed already, and labels are soft targets float32 [B, C]."""
        peer, _, name = key.partition("/")
        flags = TIMM[name]
        self.case = case
        self.device = device
        self.channels_last = flags.channels_last
        self.recipe = recipe = recipe_of(case, f"{FREEZING[peer]}/nhwc")
        self.model = build_frozen_model(recipe, case.num_classes, device, channels_last=flags.channels_last)
        dtype = amp_dtype(recipe.train, device)
        self.autocast: Autocast = autocast_of(device, dtype if dtype is torch.bfloat16 else None)
        self.optimizer = create_optimizer_v2(
            self.model,
            opt="adamw",
            lr=recipe.optim.lr,
            weight_decay=recipe.optim.weight_decay,
            betas=recipe.optim.betas,
            fused=True,
        )
        np.random.seed(recipe.seed)  # Mixup draws from it, as does the collating one
        self.mixup = Mixup(recipe.mixup.alpha, prob=recipe.mixup.prob, label_smoothing=0.0, num_classes=case.num_classes) if mixes else None
        self.task = ClassificationTask(self.model, SoftTargetCrossEntropy(), device=device, verbose=False)
        if flags.compile_mode:
            self.task.compile(mode=None if flags.compile_mode == "default" else flags.compile_mode)
        self.loss_sum = 0.0

    def begin(self) -> None:
        use_defaults()
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.benchmark = True

    def step(self, batch: Batch) -> None:
        self.step_on(batch.image, batch.label)

    def step_on(self, images: torch.Tensor, labels: torch.Tensor) -> None:
        if self.mixup:
            images, labels = self.mixup(images, labels)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with self.autocast():
            loss = self.task(images, labels)["loss"]
        loss.backward()
        self.optimizer.step()
        self.loss_sum += loss.item()
        self.optimizer.zero_grad()

    def first_loss(self, batch: Batch) -> float:
        return first_loss(self.model, batch, self.autocast)

    def why_not_as_asked(self) -> str | None:
        return None


def builder_of(key: str) -> Callable[[Case, torch.device], ReportLoop | TimmLoop]:
    """What builds the loop `key` of PEERS."""
    return ReportLoop if key == "report" else partial(_timm_loop, key)


def _timm_loop(key: str, case: Case, device: torch.device) -> TimmLoop:
    return TimmLoop(case, key, device)
