"""Everything that one training holds between two steps, and how it becomes a checkpoint and back."""

import dataclasses
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers import convert_sync_batchnorm
from timm.utils import ModelEmaV3
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hw1.config.recipe import Recipe, base_lr
from hw1.data.image_folder import ClassMap
from hw1.models.conv_matmul import use_conv_matmul
from hw1.models.factory import build_model
from hw1.models.freeze import freeze_stages
from hw1.runtime import distributed as dist
from hw1.runtime.device import Autocast, amp_dtype, autocast_of, get_rng_state, set_rng_state, use_compile, use_cuda_graphs
from hw1.training.cuda_graphs import CudaGraphSteps
from hw1.training.forward import TrainForward, keep_compiled
from hw1.training.losses import balanced_weights, build_train_loss
from hw1.training.lr_schedule import Schedule, build_schedule
from hw1.training.mixup import SeededMixup, build_mixup
from hw1.training.nonfinite import Mark, NonFiniteGuard
from hw1.training.optim import build_optimizer

DROPOUT_STREAM = 4  # last seed word here; augmentation has 1, order 2 (hw1.data), Mixup 3 (hw1.training.losses)


@dataclass
class Progress:
    """How far a run is; plain numbers only."""

    epoch: int = 0
    """Epochs trained and validated."""
    step: int = 0
    """Batches done of the epoch under way."""
    updates: int = 0
    """Optimizer steps in all."""
    epoch_seconds: float = 0.0
    """Training time of the epoch under way."""
    wait_seconds: float = 0.0
    """The part of it in which the device waited for data."""
    seconds: float = 0.0
    """Training and validation time of all finished epochs."""
    best_epoch: int = 0
    best_top1: float = -1.0
    best_loss: float = float("inf")


@dataclass
class Training:
    """Model, optimizer and all other state of one run.

    Several processes have the same of all after each optimizer step, but for the random state and the times in `progress`.
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
    sums: Tensor
    """[3] on the device: loss, correct predictions and images, summed over the epoch under way."""
    is_recorded: bool = False
    """Whether whole steps are recorded as CUDA graphs."""
    recorded: CudaGraphSteps | None = None
    """The recordings, from the first step on."""
    progress: Progress = field(default_factory=Progress)
    wandb_id: str | None = None
    _exchanging: DistributedDataParallel | None = None
    is_whole: bool = True
    """Not while the optimizer is at work, when it holds parts of two states."""

    def __post_init__(self) -> None:
        self.guard = NonFiniteGuard(self.sums, list(self.model.buffers()), self.device)

    @property
    def evaluated(self) -> nn.Module:
        """The model that is validated and kept as the best: the average of the weights where there is one."""
        return self.ema.module if self.ema else self.model

    def join(self) -> None:
        """Several processes: from here on, `forward`'s gradients are averaged over all of them. To be called by all, once the state is set.

        The sum of three gradients or more depends, in its last bits, on how DistributedDataParallel packs them, which it changes after its
        first pass. One that changes nothing comes first, so that a step gives the same bits in a run that was continued.
        """
        if dist.world_size() == 1:
            return
        devices = [self.device] if self.device.type == "cuda" else None
        self._exchanging = DistributedDataParallel(self.model, device_ids=devices)
        self._exchanging.broadcast_buffers = False  # `NonFiniteGuard.sync_buffers` does better: rank 0's would come from its share alone
        self.model.eval()  # no dropout is drawn, no statistics are kept
        size = self.recipe.aug.size
        self._exchanging(torch.zeros(1, 3, size, size, device=self.device)).sum().mul(0.0).backward()
        self.optimizer.zero_grad(set_to_none=True)
        self.forward.use_ddp(self._exchanging)

    def exchange(self, *, now: bool) -> AbstractContextManager[Any]:
        """Around forward and backward of a batch: several processes exchange gradients `now`, or leave that to a later batch."""
        return nullcontext() if now or self._exchanging is None else self._exchanging.no_sync()

    def seed_dropout(self, updates: int = 0) -> None:
        """Draws from (seed, rank) from here on, or from (seed, rank, updates) where there is no state to go on with."""
        seed, rank = self.recipe.seed, dist.rank()
        words = np.random.SeedSequence((seed, rank, updates, DROPOUT_STREAM)).generate_state(1, np.uint64)
        torch.manual_seed(seed if rank == updates == 0 else int(words[0]))

    def state_dict(self) -> dict[str, Any]:
        """All of it; the tensors are those at work, which the next step changes."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema else None,
            "rng": get_rng_state(),
            "other_rngs": [],  # of ranks 1, 2, ...: `Session` asks them
            "sums": self.sums.cpu(),
            "progress": dataclasses.asdict(self.progress),
            "classes": list(self.classes.names),
            "fingerprint": self.fingerprint,
            "wandb_id": self.wandb_id,
        }

    def copy_state(self) -> dict[str, Any]:
        """`state_dict` as a copy in host memory, which takes its size there once."""
        return _to_host(self.state_dict())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.forward.invalidate_fused()
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        if self.ema:
            self.ema.module.load_state_dict(state["ema"])
        self.sums.copy_(state["sums"])
        self.progress = Progress(**state["progress"])
        if num_processes(state) == dist.world_size():
            set_rng_state([state["rng"], *state.get("other_rngs", ())][dist.rank()])
        else:
            self.seed_dropout(self.progress.updates)
        self.wandb_id = state["wandb_id"]
        self.guard.keep()

    def mark(self) -> Mark:
        """This moment, for `roll_back`; call only between optimizer steps."""
        return Mark(dataclasses.replace(self.progress), get_rng_state())

    def roll_back(self, mark: Mark, num_steps: int) -> None:
        """Makes the state that of `mark` after the guard let `num_steps` steps change nothing on the device: counters, random state, rate.

        Of an fp16 scaler the scale is set back too, not how many steps ago it changed.
        """
        vars(self.progress).update(vars(mark.progress))
        set_rng_state(mark.rng)
        if self.progress.updates:
            self.schedule.before_step(self.progress.updates - 1)
        if self.scaler.is_enabled():
            state = self.scaler.state_dict()
            self.scaler.load_state_dict({**state, "scale": state["scale"] / state["backoff_factor"] ** num_steps})


def num_processes(state: dict[str, Any]) -> int:
    """How many processes a saved state is of."""
    return 1 + len(state.get("other_rngs", ()))


def _to_host(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _to_host(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to_host(item) for item in value)
    return value


def build_training(
    recipe: Recipe,
    device: torch.device,
    classes: ClassMap,
    labels: NDArray[np.int64],
    fingerprint: str,
    steps_per_epoch: int,
    *,
    load_weights: bool,
) -> Training:
    """Builds everything from the recipe; `labels`: of the training images; `load_weights=False` where a checkpoint will fill it in.

    Raises `UserError` for what cannot be.
    """
    torch.manual_seed(recipe.seed)
    model = build_model(recipe.model, classes.num_classes, load_weights=load_weights, image_size=recipe.aug.size)
    freeze_stages(model, recipe.freeze)
    if recipe.train.sync_bn and dist.world_size() > 1:
        model = convert_sync_batchnorm(model)
    memory_format = torch.channels_last if recipe.train.channels_last else torch.contiguous_format
    model = model.to(device).to(memory_format=memory_format)
    dtype = amp_dtype(recipe.train, device)
    use_conv_matmul(model)
    optimizer = build_optimizer(model, recipe.optim.model_copy(update={"lr": base_lr(recipe)}))
    updates_per_epoch = -(-steps_per_epoch // recipe.train.grad_accum)
    mixup = build_mixup(recipe.mixup, recipe.loss, classes.num_classes, recipe.seed)
    weights = balanced_weights(labels, classes.num_classes) if recipe.loss.class_weights == "balanced" else None
    decay = recipe.train.ema_decay
    num_updates = recipe.train.epochs * updates_per_epoch
    is_compiled = use_compile(recipe.train, device, num_updates)
    if is_compiled:
        keep_compiled()
    own_share = recipe.data.batch_size // dist.world_size() + (dist.rank() < recipe.data.batch_size % dist.world_size())
    return Training(
        recipe=recipe,
        device=device,
        classes=classes,
        fingerprint=fingerprint,
        model=model,
        forward=TrainForward(model, recipe.freeze, own_share if is_compiled else None),
        optimizer=optimizer,
        schedule=build_schedule(optimizer, recipe.sched, epochs=recipe.train.epochs, steps_per_epoch=updates_per_epoch),
        scaler=torch.amp.GradScaler(device.type, enabled=dtype is torch.float16),
        autocast=autocast_of(device, dtype),
        mixup=mixup,
        loss=build_train_loss(mixup is not None, recipe.loss, weights).to(device),
        is_recorded=use_cuda_graphs(recipe.train, device, dtype, num_updates),
        ema=ModelEmaV3(model, decay=decay, use_warmup=True, foreach=False) if decay else None,
        sums=torch.zeros(3, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64),
    )
