"""The forward pass of a training step: a frozen beginning without autograd, the rest compiled where that pays."""

import os
from collections.abc import Callable

import torch
from timm.layers import DropBlock2d, DropPath
from timm.models.resnet import ResNet
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from hw1.config.recipe import FreezeConfig, Recipe
from hw1.models.freeze import STEM
from hw1.models.fuse_batchnorm import fuse_batchnorm
from hw1.runtime import distributed as dist
from hw1.runtime.device import use_compile
from hw1.utils.console import say
from hw1.utils.files import cache_folder

LAYERS = ("layer1", "layer2", "layer3", "layer4")
STAGES = {STEM: ("conv1", "bn1", "act1", "maxpool"), **{layer: (layer,) for layer in LAYERS}}
RANDOM_MODULES = (_DropoutNd, DropPath, DropBlock2d)


class FrozenPrefix(nn.Module):
    """A ResNet whose frozen beginning runs without autograd and with fused BatchNorm.

    The frozen children give the same features for an image at every step, so a fused copy computes them, within rounding.

    Args:
        model: The ResNet; it keeps all parameters.
        names: Its children that are frozen, from the first on (`frozen_children`).
    """

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self._names = names
        self._rest = [name for name in LAYERS if name not in names]
        self.refresh()

    def refresh(self) -> None:
        """Fuse the frozen children anew. Call after the model's weights were set from outside."""
        self.prefix = fuse_batchnorm(nn.Sequential(*(self.model.get_submodule(name) for name in self._names)))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits [B, C] of images [B, 3, S, S]."""
        with torch.no_grad():
            features = self.prefix(images)
        for name in self._rest:
            features = self.model.get_submodule(name)(features)
        logits: Tensor = self.model.forward_head(features)  # type: ignore[operator]
        return logits


class TrainForward:
    """Call the module that is trained: images [B, 3, S, S] to logits [B, C].

    Args:
        module: The model, its `FrozenPrefix`, or the DistributedDataParallel around either.
        compiled_size: Batches of this many images go through torch.compile, which takes a minute or more at the first of them; the
            last, smaller batch of an epoch is not worth one more. None compiles nothing.
    """

    def __init__(self, module: nn.Module, compiled_size: int | None = None) -> None:
        self.module = module
        self._compiled_size = compiled_size
        self._compiled: Callable[[Tensor], Tensor] | None = None

    @property
    def is_about_to_compile(self) -> bool:
        """Whether the next whole batch is the first to be compiled for."""
        return self._compiled_size is not None and self._compiled is None

    def __call__(self, images: Tensor) -> Tensor:
        """Compute logits [B, C]; compile first where it is time."""
        if len(images) != self._compiled_size:
            return self._call(images)
        if self._compiled is None:
            return self._compile(images)
        return self._compiled(images)

    def _call(self, images: Tensor) -> Tensor:
        logits: Tensor = self.module(images)
        return logits

    def _compile(self, images: Tensor) -> Tensor:
        """Compile; where that fails, for want of a C compiler for instance, go on without and say so."""
        compiled: Callable[[Tensor], Tensor] = torch.compile(self.module, dynamic=False)
        try:
            logits = compiled(images)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # torch.compile's backends have errors of their own, without a common base
            say(f"train.compile: goes on without, as it failed: {' '.join(str(error).split())[:300]}")
            self._compiled_size = None
            return self._call(images)
        self._compiled = compiled
        return logits


def build_forward(model: nn.Module, recipe: Recipe, freeze: FreezeConfig, device: torch.device, num_updates: int) -> TrainForward:
    """Return how the recipe's forward passes are computed.

    Args:
        model: The model.
        recipe: The recipe.
        freeze: What is frozen in the epoch under way.
        device: Where to train.
        num_updates: Optimizer steps of the whole run.
    """
    names = frozen_children(model, freeze)
    module = FrozenPrefix(model, names) if names else model
    if not use_compile(recipe.train, device, num_updates):
        return TrainForward(module)
    keep_compiled()
    num, size = dist.world_size(), recipe.data.batch_size
    return TrainForward(module, size // num + (dist.rank() < size % num))


def frozen_children(model: nn.Module, freeze: FreezeConfig) -> list[str]:
    """List the model's children, from the first on, whose output for an image no training step and no random draw changes.

    Only ResNets with `freeze.bn: eval` have any. A CBAM or dropout ends the list.
    """
    names: list[str] = []
    if not isinstance(model, ResNet) or freeze.bn != "eval":
        return names
    for stage, children in STAGES.items():
        modules = [model.get_submodule(name) for name in children]
        is_trained = any(parameter.requires_grad for module in modules for parameter in module.parameters())
        is_random = any(isinstance(part, RANDOM_MODULES) for module in modules for part in module.modules())
        is_named = not isinstance(freeze.stages, tuple) or stage in freeze.stages
        if not is_named or is_trained or is_random:
            break
        names += children
    return names


def keep_compiled() -> None:
    """Let torch.compile keep its results in the user's cache folder for the next run; the user's own settings win."""
    for variable, name in (("TORCHINDUCTOR_CACHE_DIR", "inductor"), ("TRITON_CACHE_DIR", "triton")):
        os.environ.setdefault(variable, str(cache_folder() / name))
