"""What a run holds between two optimizer steps, and how it becomes a checkpoint and back."""

import dataclasses
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hw1.config.recipe import FreezeConfig, Recipe
from hw1.data.image_set import ClassMap
from hw1.runs.identity import identify
from hw1.runtime import distributed as dist
from hw1.runtime.device import Autocast, seed_generators
from hw1.training.cuda_graphs import CudaGraphSteps
from hw1.training.forward import FrozenPrefix, TrainForward, build_forward
from hw1.training.lr_schedule import Schedule, build_schedule, updates_per_epoch
from hw1.training.mixup import SeededMixup
from hw1.training.nonfinite import NonFiniteGuard
from hw1.training.progress import Progress

DROPOUT_STREAM = 4  # last seed word here; augmentation has 1, order 2 (hw1.data), Mixup 3


@dataclass
class TrainState:
    """Model, optimizer and all other state of one run.

    With several processes all of it is the same in each after every optimizer step, but for the times in `progress`.
    """

    recipe: Recipe
    device: torch.device
    classes: ClassMap
    fingerprint: str
    model: nn.Module
    forward: TrainForward
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler
    autocast: Autocast
    mixup: SeededMixup | None
    loss: nn.Module
    ema: ModelEmaV3 | None
    steps_per_epoch: int
    sums: Tensor
    """[3] on the device: loss, correct predictions and images, summed over the epoch under way."""
    frozen: list[nn.Parameter] = field(default_factory=list)
    """Parameters of the optimizer that are not trained before `freeze.until_epoch`."""
    use_cuda_graphs: bool = False
    cuda_graphs: CudaGraphSteps | None = None
    """The recorded steps, from the first step on."""
    progress: Progress = field(default_factory=Progress)
    wandb_id: str | None = None
    is_consistent: bool = True
    """False while the optimizer works, when weights and moments are partly those of the next step."""
    _ddp: DistributedDataParallel | None = None

    def __post_init__(self) -> None:
        self.identity = identify(self.recipe, self.fingerprint)  # of the whole recipe: `shorten` changes no identity
        self.grad_norm = torch.full((1,), torch.nan, device=self.device)  # before clipping; NaN until it is known: in fp16, if clipped
        self.guard = NonFiniteGuard(self.sums, list(self.model.buffers()), self.device)

    @property
    def evaluated(self) -> nn.Module:
        """The model that is validated and kept as the best: the average of the weights where there is one."""
        return self.ema.module if self.ema else self.model

    @property
    def freeze(self) -> FreezeConfig:
        """What is frozen in the epoch under way."""
        freeze = self.recipe.freeze
        is_over = freeze.until_epoch is not None and self.progress.epoch >= freeze.until_epoch
        return freeze.model_copy(update={"stages": ()}) if is_over else freeze

    def unfreeze(self) -> bool:
        """Train the frozen stages too, from `freeze.until_epoch` on; return whether that begins here. Call at the start of an epoch.

        What was made for the frozen model, its recorded steps, compiled code and buckets of gradients, is made anew.
        """
        if not self.frozen or self.freeze.stages:
            return False
        for parameter in self.frozen:
            parameter.requires_grad_(True)
        self.frozen = []
        updates = self.recipe.train.epochs * updates_per_epoch(self.recipe.train, self.steps_per_epoch)
        self.forward = build_forward(self.model, self.recipe, self.freeze, self.device, updates)
        self.cuda_graphs = self._ddp = None
        self.wrap_ddp()
        return True

    def wrap_ddp(self) -> None:
        """Average gradients over all processes from here on. Call in every process, once the state is set.

        The last bits of a sum of three gradients or more depend on DistributedDataParallel's buckets, which it rearranges after its first
        pass. A first pass that changes nothing makes a step give the same bits in a continued run.
        """
        if dist.world_size() == 1:
            return
        devices = [self.device] if self.device.type == "cuda" else None
        self._ddp = DistributedDataParallel(self.forward.module, device_ids=devices)
        self._ddp.broadcast_buffers = False  # `NonFiniteGuard.sync_buffers` averages over all shares; rank 0's come from its own alone
        self.model.eval()  # no dropout is drawn, no statistics are kept
        size = self.recipe.aug.size
        self._ddp(torch.zeros(1, self.recipe.model.in_chans, size, size, device=self.device)).sum().mul(0.0).backward()
        self.optimizer.zero_grad(set_to_none=True)
        self.forward.module = self._ddp

    def sync_gradients(self, *, now: bool) -> AbstractContextManager[Any]:
        """Return a context for a forward and backward pass whose gradients several processes exchange `now`, or with a later batch."""
        return nullcontext() if now or self._ddp is None else self._ddp.no_sync()

    def seed_dropout(self) -> None:
        """Make dropout of the next batch a function of (seed, rank, epoch, step), as order, augmentation and Mixup are."""
        words = (self.recipe.seed, dist.rank(), self.progress.epoch, self.progress.step, DROPOUT_STREAM)
        seed_generators(int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0]), self.device)

    def start_epoch(self, *, improved: bool) -> None:
        """Count the finished epoch and clear what was summed over it."""
        progress = self.progress
        progress.epoch, progress.step = progress.epoch + 1, 0
        progress.epoch_seconds = progress.wait_seconds = progress.told_loss = progress.told_images = 0.0
        if improved:
            progress.best_epoch = progress.epoch
        self.sums.zero_()
        self.guard.snapshot()

    def shorten(self, recipe: Recipe) -> None:
        """Follow a recipe of fewer epochs from here on, the same but for times. Call between two epochs."""
        former = self.schedule.state_dict()
        self.recipe = recipe
        per_epoch = updates_per_epoch(recipe.train, self.steps_per_epoch)
        self.schedule = build_schedule(self.optimizer, recipe.sched, epochs=recipe.train.epochs, steps_per_epoch=per_epoch)
        self.schedule.load_state_dict(former)
        if self.mixup:
            self.mixup.off_epoch = recipe.mixup.off_epoch

    def roll_back(self, num_steps: int) -> None:
        """Go to the end of the last good optimizer step, after the guard let `num_steps` steps change nothing on the device.

        Undoes what batches of an unfinished step have changed, and sets counters and learning rate. Of an fp16 scaler the scale is set
        back too, not how many steps ago it changed.
        """
        self.guard.restore()
        progress, accum = self.progress, self.recipe.train.grad_accum
        progress.updates -= num_steps
        windows = progress.updates - progress.epoch * updates_per_epoch(self.recipe.train, self.steps_per_epoch)
        progress.step = min(windows * accum, self.steps_per_epoch)
        if progress.updates:
            self.schedule.before_step(progress.updates - 1)
        if self.scaler.is_enabled():
            state = self.scaler.state_dict()
            self.scaler.load_state_dict({**state, "scale": state["scale"] / state["backoff_factor"] ** num_steps})

    def state_dict(self) -> dict[str, Any]:
        """Return the whole state; its tensors are those in use, which the next step changes."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema else None,
            "sums": self.sums.cpu(),
            "progress": dataclasses.asdict(self.progress),
            "num_processes": dist.world_size(),
            "classes": list(self.classes.names),
            "fingerprint": self.fingerprint,
            "identity": self.identity,
            "wandb_id": self.wandb_id,
        }

    def copy_state(self) -> dict[str, Any]:
        """Return a copy of `state_dict` in host memory, which takes its size there once."""
        copy: dict[str, Any] = _to_host(self.state_dict())
        return copy

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a saved state, also one of version 0.1, whose `rng` entries are not needed any more, or from before `best_by`."""
        self.model.load_state_dict(state["model"])
        if isinstance(self.forward.module, FrozenPrefix):
            self.forward.module.refresh()
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema:
            self.ema.module.load_state_dict(state["ema"])
        self.sums.copy_(state["sums"])
        progress = state["progress"]
        former = {"stale_epochs": progress["epoch"] - progress["best_epoch"], "best_score": progress["best_top1"]}
        self.progress = Progress(**{**former, **progress})
        self.wandb_id = state["wandb_id"]
        self.guard.snapshot()


def _to_host(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _to_host(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_host(item) for item in value)
    return value
