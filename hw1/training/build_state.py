"""Build all that a run trains with, from its recipe."""

import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers import convert_sync_batchnorm
from timm.utils import ModelEmaV3
from torch import nn

from hw1.config.recipe import Recipe, base_lr
from hw1.data.image_set import ClassMap
from hw1.models.conv_matmul import use_conv_matmul
from hw1.models.depthwise import use_fast_depthwise
from hw1.models.dropout import use_fast_dropout
from hw1.models.factory import build_model
from hw1.models.freeze import freeze_stages
from hw1.runtime import distributed as dist
from hw1.runtime.device import amp_dtype, autocast_of, use_cuda_graphs
from hw1.training.forward import build_forward
from hw1.training.losses import balanced_weights, build_train_loss
from hw1.training.lr_schedule import build_schedule, updates_per_epoch
from hw1.training.mixup import build_mixup
from hw1.training.optim import build_optimizer
from hw1.training.train_state import TrainState
from hw1.utils.console import say


def build_train_state(
    recipe: Recipe,
    device: torch.device,
    classes: ClassMap,
    labels: NDArray[np.int64],
    fingerprint: str,
    steps_per_epoch: int,
    *,
    load_weights: bool,
) -> TrainState:
    """Build everything that the recipe names.

    Args:
        recipe: The recipe.
        device: Where to train.
        classes: The classes of the data.
        labels: int64 [N], labels of the training images.
        fingerprint: Digest of the data.
        steps_per_epoch: Batches in an epoch.
        load_weights: Load the start weights; False where a checkpoint will fill in the state.

    Raises:
        UserError: The recipe asks for what cannot be built.
    """
    torch.manual_seed(recipe.seed)
    model, frozen = _build_on(device, recipe, classes.num_classes, load_weights=load_weights)
    dtype = amp_dtype(recipe.train, device)
    optimizer = _build_optimizer(model, recipe, frozen)
    per_epoch = updates_per_epoch(recipe.train, steps_per_epoch)
    updates = recipe.train.epochs * per_epoch
    mixup = build_mixup(recipe.mixup, recipe.loss, classes.num_classes, recipe.seed)
    weights = balanced_weights(labels, classes.num_classes) if recipe.loss.class_weights == "balanced" else None
    decay = recipe.train.ema_decay
    return TrainState(
        recipe=recipe,
        device=device,
        classes=classes,
        fingerprint=fingerprint,
        model=model,
        forward=build_forward(model, recipe, recipe.freeze, device, updates),
        optimizer=optimizer,
        schedule=build_schedule(optimizer, recipe.sched, epochs=recipe.train.epochs, steps_per_epoch=per_epoch),
        scaler=torch.amp.GradScaler(device.type, enabled=dtype is torch.float16),
        autocast=autocast_of(device, dtype),
        mixup=mixup,
        loss=build_train_loss(mixup is not None, recipe.loss, weights).to(device),
        ema=ModelEmaV3(model, decay=decay, use_warmup=True, foreach=False) if decay else None,
        steps_per_epoch=steps_per_epoch,
        frozen=frozen,
        sums=torch.zeros(3, device=device, dtype=torch.float32 if device.type == "mps" else torch.float64),
        # checkpointing looks at the random state, which no capture allows
        use_cuda_graphs=not recipe.model.grad_checkpointing
        and use_cuda_graphs(recipe.train, device, dtype, updates, is_fused=bool(optimizer.defaults.get("fused"))),
    )


def _build_on(device: torch.device, recipe: Recipe, num_classes: int, *, load_weights: bool) -> tuple[nn.Module, list[nn.Parameter]]:
    """Return the model, and the parameters that are frozen until `freeze.until_epoch`; none where they stay so."""
    tell = say if dist.is_main() else lambda line: None
    model = build_model(recipe.model, num_classes, load_weights=load_weights, image_size=recipe.aug.size, tell=tell)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    names = [name for name in freeze_stages(model, recipe.freeze) if name in trained]
    if recipe.train.sync_bn and dist.world_size() > 1:
        model = convert_sync_batchnorm(model)
    memory_format = torch.channels_last if recipe.train.channels_last else torch.contiguous_format
    model = model.to(device).to(memory_format=memory_format)
    use_conv_matmul(model)
    use_fast_depthwise(model)
    use_fast_dropout(model)
    return model, [model.get_parameter(name) for name in names if recipe.freeze.until_epoch is not None]


def _build_optimizer(model: nn.Module, recipe: Recipe, frozen: list[nn.Parameter]) -> torch.optim.Optimizer:
    """Build the optimizer with the `frozen` parameters too: it passes over those without a gradient."""
    for parameter in frozen:
        parameter.requires_grad_(True)
    optimizer = build_optimizer(model, recipe.optim.model_copy(update={"lr": base_lr(recipe)}))
    for parameter in frozen:
        parameter.requires_grad_(False)
    return optimizer
