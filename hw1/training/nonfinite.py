"""Keep a step whose loss or gradient is not finite from changing anything, without waiting for the device to know."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hw1.runtime import distributed as dist


class NonFiniteGuard:
    """Check every optimizer step on the device: from the first whose loss or gradient is not finite on, none changes anything.

    `bad` makes the optimizer's kernels and the weight average do nothing (`step_unless`, `average_unless`). What the forward pass has
    already changed, the epoch's `sums` and the `buffers` (BatchNorm's statistics), is set back to the snapshot of the last good step.

    With several processes all come to the same decision: they bring sums and buffers to one state first (`sync_buffers`).

    Args:
        sums: Float [3], the epoch's running sums.
        buffers: The model's buffers.
        device: Device of all of them.
    """

    def __init__(self, sums: Tensor, buffers: Sequence[Tensor], device: torch.device) -> None:
        self.bad = torch.zeros((), device=device)
        """float32 scalar: 1 from the first bad step on, before that 0."""
        self.waits = device.type != "cpu"
        """Whether a look at a tensor's value would wait for the device; where not, a good step restores nothing."""
        self._loss_is_bad = torch.zeros((), dtype=torch.bool, device=device)
        self._num_bad = torch.zeros((), device=device)
        dtypes = dict.fromkeys(tensor.dtype for tensor in buffers)
        self._live = [[sums], *([tensor for tensor in buffers if tensor.dtype == dtype] for dtype in dtypes)]
        self._snapshot = [_flatten(tensors) for tensors in self._live]
        self._views = [_views(flat, tensors) for flat, tensors in zip(self._snapshot, self._live, strict=True)]

    # ------------------------------------------------------------------------------------------- within a step

    def scale_loss(self, loss: Tensor, weight: float) -> Tensor:
        """Multiply the loss by `weight`; give NaN, and with it NaN gradients, where this step or one before it is bad.

        `GradScaler` then skips the step. A gradient that only fp16 made infinite is not bad: the scaler handles it.

        Args:
            loss: float32 scalar.
            weight: Weight of this batch in the optimizer step.
        """
        self._loss_is_bad |= ~torch.isfinite(loss.detach())
        return loss * torch.where(self._loss_is_bad | (self.bad > 0), torch.nan, weight)

    @torch.no_grad()
    def sync_buffers(self, weight: float) -> None:
        """Bring sums and buffers of all processes to the same state before the step is checked; do nothing in a single process.

        Changes of the sums are added up; changes of the buffers are averaged by each process' share of the step's images. Averages of
        batch statistics are then those over all images, and fixed statistics stay the same to the bit. A loss that is not finite in one
        process makes the summed loss so in all.

        Args:
            weight: This process' share (0-1) of the step's images.
        """
        if dist.world_size() == 1:
            return
        for live, snapshot in zip(self._live, self._snapshot, strict=True):
            if not snapshot.is_floating_point():
                continue  # counts of batches, equal everywhere
            change = _flatten(live).sub_(snapshot)
            if live is not self._live[0]:
                change *= weight
            dist.all_reduce_(change)
            torch._foreach_copy_(live, _views(change.add_(snapshot), live))
        self._loss_is_bad |= ~torch.isfinite(self._live[0][0]).all()

    @torch.no_grad()
    def check(self, norm: Tensor | None) -> None:
        """Decide whether the step is bad, and undo what a bad one has changed in sums and buffers.

        Args:
            norm: Norm of the whole gradient, scalar; None where `GradScaler` looks after it.
        """
        is_bad = self._loss_is_bad if norm is None else self._loss_is_bad | ~torch.isfinite(norm)
        torch.maximum(self.bad, is_bad.float(), out=self.bad)
        self._num_bad += self.bad
        self._loss_is_bad.zero_()
        if not self.waits and not self.bad:
            self.snapshot()
            return
        for live, snapshot, views in zip(self._live, self._snapshot, self._views, strict=True):
            torch.where(self.bad > 0, snapshot, _flatten(live), out=snapshot)
            torch._foreach_copy_(live, views)

    # ------------------------------------------------------------------------------------------- between steps

    @torch.no_grad()
    def snapshot(self) -> None:
        """Take sums and buffers as the state to restore. Call after they were set from outside."""
        for live, snapshot in zip(self._live, self._snapshot, strict=True):
            torch.cat([tensor.reshape(-1) for tensor in live], out=snapshot)

    @torch.no_grad()
    def restore(self) -> None:
        """Undo what batches have changed in sums and buffers since the last checked step."""
        self._loss_is_bad.zero_()
        for live, views in zip(self._live, self._views, strict=True):
            torch._foreach_copy_(live, views)

    def num_bad_steps(self) -> int:
        """Return the optimizer steps since the first bad one, itself included; 0 where all were good. Waits for the device."""
        return int(self._num_bad.item())


def step_unless(bad: Tensor, optimizer: Optimizer) -> None:
    """Take the optimizer's step, which changes nothing where `bad` is 1.

    torch's fused kernels read the flag themselves, as they do for `GradScaler`; other optimizers make the caller wait for the device.

    Args:
        bad: float32 scalar on the optimizer's device, 0 or 1.
        optimizer: The optimizer.
    """
    if optimizer.defaults.get("fused"):
        optimizer.grad_scale, optimizer.found_inf = None, bad  # type: ignore[attr-defined]
        optimizer.step()
        del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
    elif not bad:
        optimizer.step()


@torch.no_grad()
def average_unless(bad: Tensor, average: nn.Module, model: nn.Module, decay: float | Tensor) -> None:
    """Set average = decay * average + (1 - decay) * model for all floating-point state, unless `bad`, a float32 scalar, is 1."""
    weight = torch.where(bad > 0, 0.0, 1.0 - decay)
    for old, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        old.lerp_(new, weight) if old.is_floating_point() else old.copy_(new)


def _flatten(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _views(flat: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return views of `flat` in the shapes of the tensors."""
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
