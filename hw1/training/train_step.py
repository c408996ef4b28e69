"""The training step: a batch to gradients, gradients to weights. Nothing in it waits for the device."""

import torch
from torch import Tensor, nn

from hw1.data.loader.base import Batch, fill_up
from hw1.data.loader.loader import Loader
from hw1.runtime import distributed as dist
from hw1.training.cuda_graphs import CudaGraphRecorder, CudaGraphSteps
from hw1.training.losses import dominant_label
from hw1.training.mixup import Draw
from hw1.training.nonfinite import average_unless, step_unless
from hw1.training.optim import total_norm
from hw1.training.train_state import TrainState


def train_step(state: TrainState, batch: Batch, loader: Loader) -> bool:
    """Run one batch forward and backward, and the optimizer where the batch completes its step.

    Within an optimizer step each image has the same weight, also where the last batch is smaller or one process has fewer images.

    Returns:
        Whether an optimizer step was completed.
    """
    progress, accum = state.progress, state.recipe.train.grad_accum
    state.seed_dropout()

    # --- the batches of this optimizer step, and the weight of this one
    first = progress.step - progress.step % accum
    window = range(first, min(first + accum, loader.num_batches))
    is_update = progress.step + 1 == window.stop
    num_images = sum(loader.batch_size_of(step) for step in window)
    weight = len(batch.label) * dist.world_size() / num_images  # gradients are averaged over the processes

    # --- what is a function of the step
    shape = (loader.batch_size_of(progress.step), *batch.image.shape[1:])
    draw = state.mixup.draw(progress.epoch, progress.step, shape) if state.mixup else 1.0
    decay = state.ema.get_decay(progress.updates + 1) if state.ema else 0.0
    if is_update:
        state.schedule.before_step(progress.updates)

    # --- compute: from a recorded CUDA graph, or kernel by kernel
    if state.use_cuda_graphs and state.cuda_graphs is None:
        state.cuda_graphs = record_steps(state)
    if not (state.cuda_graphs and state.cuda_graphs.replay(batch.image, batch.label, draw=draw, decay=decay)):
        with state.sync_gradients(now=is_update):
            add_gradients(state, batch.image, batch.label, draw, weight)
        if is_update:
            state.guard.sync_buffers(sum(loader.local_batch_size_of(step) for step in window) / num_images)
            update(state, decay)

    progress.step += 1
    progress.updates += is_update
    return is_update


def add_gradients(state: TrainState, images: Tensor, labels: Tensor, draw: Draw, weight: float) -> None:
    """Add the gradients of the batch's mean loss, and the batch to the epoch's sums.

    Args:
        state: The run's state.
        images: float [B, 3, S, S].
        labels: int64 [B].
        draw: How the batch is mixed.
        weight: What the batch's mean loss is multiplied by.
    """
    count = len(labels)
    images, labels = fill_up(images, 2), fill_up(labels, 2)  # BatchNorm needs two values a channel
    targets = labels
    if state.mixup:
        images, targets = state.mixup.mix(images, labels, draw)
    with state.autocast():
        logits = state.forward(images)
    loss = state.loss(logits.float(), targets)
    state.scaler.scale(state.guard.scale_loss(loss, weight)).backward()
    _add_to_sums(state.sums, loss.detach(), logits.detach()[:count], targets[:count])


def update(state: TrainState, decay: float | Tensor) -> None:
    """Take one optimizer step from the gradients at hand, none where they or the loss are not finite; average the weights with `decay`."""
    clip, scaler = state.recipe.optim.clip_grad, state.scaler
    norm: Tensor | None = None
    if clip is not None or not scaler.is_enabled():
        scaler.unscale_(state.optimizer)
        parameters = [parameter for group in state.optimizer.param_groups for parameter in group["params"] if parameter.grad is not None]
        norm = total_norm([parameter.grad for parameter in parameters])
        if clip is not None:
            nn.utils.clip_grads_with_norm_(parameters, clip, norm)
        state.grad_norm.copy_(norm)
    state.guard.check(None if scaler.is_enabled() else norm)

    state.is_consistent = False
    if scaler.is_enabled():
        scaler.step(state.optimizer)
        scaler.update()
    else:
        step_unless(state.guard.bad, state.optimizer)
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema:
        average_unless(state.guard.bad, state.ema.module, state.model, decay)
    state.is_consistent = True


def record_steps(state: TrainState) -> CudaGraphSteps:
    """Record whole steps as CUDA graphs, for `train.grad_accum: 1` and any precision but fp16."""

    def step(images: Tensor, labels: Tensor, draw: Tensor, decay: Tensor) -> None:
        add_gradients(state, images, labels, draw, 1.0)
        update(state, decay)

    return CudaGraphSteps(step, state.optimizer, state.device, CudaGraphRecorder())


def _add_to_sums(sums: Tensor, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
    correct = (logits.argmax(1) == dominant_label(targets)).sum()
    count = len(logits)
    sums += torch.stack([loss.to(sums.dtype) * count, correct.to(sums.dtype), torch.full_like(sums[0], count)])
