"""The training step: a batch to gradients, gradients to weights. Nothing in it waits for the device."""

import torch
from torch import Tensor, nn

from hw1.data.loader.base import Batch, BatchLoader, fill_up
from hw1.runtime import distributed as dist
from hw1.training.cuda_graphs import CudaGraphRecorder, CudaGraphSteps
from hw1.training.losses import dominant_label
from hw1.training.nonfinite import average_unless, step_unless
from hw1.training.train_state import Training


def train_step(training: Training, batch: Batch, loader: BatchLoader) -> bool:
    """One batch forward and backward; returns whether it also completed an optimizer step.

    Within an optimizer step each image weighs the same, also where the last batch is smaller, and where one process has fewer than another.
    """
    progress, accum = training.progress, training.recipe.train.grad_accum
    first = progress.step - progress.step % accum
    if progress.step == first:
        training.guard.begin(training.mark())
    training.guard.see(batch.index)
    window = range(first, min(first + accum, loader.num_batches))
    is_update = progress.step + 1 == window.stop
    num_images = sum(loader.batch_size_of(step) for step in window)
    share = len(batch.label) * dist.world_size() / num_images  # gradients are averaged over the processes
    lam = training.mixup.draw(progress.epoch, progress.step) if training.mixup else 1.0
    decay = training.ema.get_decay(progress.updates + 1) if training.ema else 0.0
    if is_update:
        training.schedule.before_step(progress.updates)
    if training.is_recorded and training.recorded is None:
        training.recorded = record_steps(training)
    if not (training.recorded and training.recorded.replay(batch.image, batch.label, lam=lam, lr=training.schedule.lr, decay=decay)):
        with training.exchange(now=is_update):
            add_gradients(training, batch.image, batch.label, lam, share)
        if is_update:
            training.guard.sync_buffers(sum(loader.share_of(step) for step in window) / num_images)
            update(training, decay)
    progress.step += 1
    if is_update:
        training.guard.end()
        progress.updates += 1
    return is_update


def add_gradients(training: Training, images: Tensor, labels: Tensor, lam: float | Tensor, share: float) -> None:
    """Adds the gradients of `share` (0-1) times the batch's mean loss, and the batch to the epoch's sums; `lam` is Mixup's lambda."""
    own = len(labels)
    if dist.world_size() > 1:
        images, labels = fill_up(images, 2), fill_up(labels, 2)
    targets = labels
    if training.mixup:
        images, targets = training.mixup.mix(images, labels, lam)
    with training.autocast():
        logits = training.forward(images)
    loss = training.loss(logits.float(), targets)
    training.scaler.scale(training.guard.scale_loss(loss, share)).backward()
    _add_to_sums(training.sums, loss.detach(), logits.detach()[:own], targets[:own])


def update(training: Training, decay: float | Tensor) -> None:
    """One optimizer step from the gradients at hand, none where they or the loss are not finite; the average follows with `decay`."""
    clip, scaler = training.recipe.optim.clip_grad, training.scaler
    norm: Tensor | None = None
    if clip is not None:
        scaler.unscale_(training.optimizer)
        norm = nn.utils.clip_grad_norm_(training.model.parameters(), clip)
    elif not scaler.is_enabled():
        norm = nn.utils.get_total_norm([p.grad for p in training.model.parameters() if p.grad is not None])
    training.guard.check(None if scaler.is_enabled() else norm)
    training.is_whole = False
    if scaler.is_enabled():
        scaler.step(training.optimizer)
        scaler.update()
    else:
        step_unless(training.guard.bad, training.optimizer)
    training.optimizer.zero_grad(set_to_none=True)
    if training.ema:
        average_unless(training.guard.bad, training.ema.module, training.model, decay)
    training.is_whole = True


def record_steps(training: Training) -> CudaGraphSteps:
    """Recordings of `training`'s steps as CUDA graphs, for `train.grad_accum: 1` and anything but fp16."""

    def step(images: Tensor, labels: Tensor, lam: Tensor, decay: Tensor) -> None:
        add_gradients(training, images, labels, lam, 1.0)
        update(training, decay)

    return CudaGraphSteps(step, training.optimizer, training.device, CudaGraphRecorder())


def _add_to_sums(sums: Tensor, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
    correct = (logits.argmax(1) == dominant_label(targets)).sum()
    count = len(logits)
    sums += torch.stack([loss.to(sums.dtype) * count, correct.to(sums.dtype), torch.full_like(sums[0], count)])
