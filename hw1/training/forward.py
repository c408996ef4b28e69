"""Images to logits in a training step: the frozen beginning of the model folded and without autograd, the rest compiled where that pays."""

import os
from collections.abc import Callable

import torch
from timm.layers import DropBlock2d, DropPath
from timm.models.resnet import ResNet
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from hw1.config.recipe import FreezeConfig
from hw1.models.freeze import STEM
from hw1.models.fuse_batchnorm import fuse_batchnorm
from hw1.utils.console import say
from hw1.utils.files import cache_folder

LAYERS = ("layer1", "layer2", "layer3", "layer4")
STAGES = {STEM: ("conv1", "bn1", "act1", "maxpool"), **{layer: (layer,) for layer in LAYERS}}
DRAWS = (_DropoutNd, DropPath, DropBlock2d)


class TrainForward:
    """Calls a model in train mode: images [B, 3, S, S] to logits [B, C].

    Where the model is a ResNet, and stages from the stem on are frozen with `freeze.bn: eval`, those give the same features at every step
    for the same image: a copy with folded BatchNorm computes them, within rounding. A CBAM or dropout ends that part.

    `compiled_size`: batches of this many images go through torch.compile, which takes a minute or more at the first of them; the last,
    smaller batch of an epoch is not worth one more. None: no batch.
    """

    def __init__(self, model: nn.Module, freeze: FreezeConfig, compiled_size: int | None = None) -> None:
        self._model = model
        self._frozen = frozen_beginning(model, freeze)
        self._rest = [model.get_submodule(name) for name in LAYERS if name not in self._frozen] if self._frozen else []
        self._prefix: nn.Module | None = None
        self._compiled_size = compiled_size
        self._compiled: Callable[[Tensor], Tensor] | None = None

    @property
    def is_about_to_compile(self) -> bool:
        """Whether the next whole batch is the first to be compiled for."""
        return self._compiled_size is not None and self._compiled is None

    def __call__(self, images: Tensor) -> Tensor:
        if self._frozen and self._prefix is None:
            self._prefix = fuse_batchnorm(nn.Sequential(*(self._model.get_submodule(name) for name in self._frozen)))
        if len(images) != self._compiled_size:
            return self._run(images)
        if self._compiled is None:
            return self._run_first(images)
        return self._compiled(images)

    def use_ddp(self, exchanging: nn.Module) -> None:
        """Several processes: calls this wrapper of the model, which exchanges the gradients, and the whole of it."""
        self._model, self._frozen = exchanging, []

    def invalidate_fused(self) -> None:
        """To be called after the model's weights were set from outside."""
        self._prefix = None

    def _run(self, images: Tensor) -> Tensor:
        if self._prefix is None:
            return self._model(images)
        with torch.no_grad():
            features = self._prefix(images)
        for stage in self._rest:
            features = stage(features)
        return self._model.forward_head(features)  # type: ignore[operator]

    def _run_first(self, images: Tensor) -> Tensor:
        """Compiles; where that fails, for want of a C compiler for instance, goes on without, and says so."""
        compiled = torch.compile(self._run, dynamic=False)
        try:
            logits = compiled(images)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # torch.compile's backends have errors of their own, without a common base
            say(f"train.compile: goes on without, as it failed: {' '.join(str(error).split())[:300]}")
            self._compiled_size = None
            return self._run(images)
        self._compiled = compiled
        return logits


def frozen_beginning(model: nn.Module, freeze: FreezeConfig) -> list[str]:
    """Names of the model's children, from the first on, whose output for an image no training step changes and no chance touches."""
    names: list[str] = []
    if not isinstance(model, ResNet) or freeze.bn != "eval":
        return names
    for stage, children in STAGES.items():
        modules = [model.get_submodule(name) for name in children]
        is_trained = any(parameter.requires_grad for module in modules for parameter in module.parameters())
        if stage not in freeze.stages or is_trained or any(isinstance(part, DRAWS) for module in modules for part in module.modules()):
            break
        names += children
    return names


def keep_compiled() -> None:
    """Tells torch.compile to keep what it makes in the user's cache folder, for the next run; the user's own settings win."""
    for variable, name in (("TORCHINDUCTOR_CACHE_DIR", "inductor"), ("TRITON_CACHE_DIR", "triton")):
        os.environ.setdefault(variable, str(cache_folder() / name))
