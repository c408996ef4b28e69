"""Keeps a step whose loss or gradient is not finite from changing anything; no step waits for the device to know."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from hw1.runtime import distributed as dist


@dataclass
class Mark:
    """Where a training stood before an optimizer step."""

    progress: Any
    rng: dict[str, Any]
    samples: list[Tensor] = field(default_factory=list)
    """int64 [B], one a batch of the step: positions in the training set."""


class NonFiniteGuard:
    """Judges every optimizer step on the device: from the first whose loss or gradient is not finite on, none changes anything.

    `bad` makes the optimizer's kernels and the average of the weights do nothing (`step_unless`, `average_unless`). What a forward pass has
    touched already, the live tensors (`sums`, and `buffers`: BatchNorm's statistics), is put back. `find` waits for the device and tells.

    Several processes judge alike: they come to one state of the live tensors first (`sync_buffers`).
    """

    def __init__(self, sums: Tensor, buffers: Sequence[Tensor], device: torch.device) -> None:
        self.bad = torch.zeros((), device=device)
        """float32 scalar: 1 from the first bad step on, before that 0."""
        self._loss_is_bad = torch.zeros((), dtype=torch.bool, device=device)
        self._num_bad = torch.zeros((), device=device)
        dtypes = dict.fromkeys(tensor.dtype for tensor in buffers)
        self._live = [[sums], *([tensor for tensor in buffers if tensor.dtype == dtype] for dtype in dtypes)]
        self._kept = [_flat(tensors) for tensors in self._live]
        self._views = [_like(kept, tensors) for kept, tensors in zip(self._kept, self._live, strict=True)]
        self._judged: list[Mark] = []
        self._open: Mark | None = None

    def begin(self, mark: Mark) -> None:
        """To be called before the first batch of an optimizer step."""
        self._open = mark

    def see(self, samples: Tensor) -> None:
        """Notes the samples of a batch of this step, int64 [B]."""
        assert self._open is not None
        self._open.samples.append(samples)

    def scale_loss(self, loss: Tensor, share: float) -> Tensor:
        """The loss, float32 scalar, times `share`; NaN, and with it all gradients, where this step or one before it is bad.

        `GradScaler` then leaves out the step. A gradient that only fp16 made infinite is not bad: it does so by itself.
        """
        self._loss_is_bad |= ~torch.isfinite(loss.detach())
        return loss * torch.where(self._loss_is_bad | (self.bad > 0), torch.nan, share)

    @torch.no_grad()
    def sync_buffers(self, weight: float) -> None:
        """Several processes: their live tensors become the same, before the step is judged; one process: nothing.

        What the steps have added to the sums is added up, what they have changed in the buffers is averaged, by the process' `weight`: its
        share (0-1) of the step's images. Averages of batch statistics are then those over all images, and fixed statistics stay to the bit.
        A loss that is not finite in one process makes the sum of losses so, in all.
        """
        if dist.world_size() == 1:
            return
        for live, kept in zip(self._live, self._kept, strict=True):
            if not kept.is_floating_point():
                continue  # counts of batches, which are the same
            change = _flat(live).sub_(kept)
            if live is not self._live[0]:
                change *= weight
            dist.all_reduce_(change)
            torch._foreach_copy_(live, _like(change.add_(kept), live))
        self._loss_is_bad |= ~torch.isfinite(self._live[0][0]).all()

    @torch.no_grad()
    def check(self, norm: Tensor | None) -> None:
        """Takes the norm of the whole gradient, None where `GradScaler` looks after it, and puts back what a bad step has touched."""
        is_bad = self._loss_is_bad if norm is None else self._loss_is_bad | ~torch.isfinite(norm)
        torch.maximum(self.bad, is_bad.float(), out=self.bad)
        self._num_bad += self.bad
        self._loss_is_bad.zero_()
        for live, kept, views in zip(self._live, self._kept, self._views, strict=True):
            torch.where(self.bad > 0, kept, _flat(live), out=kept)
            torch._foreach_copy_(live, views)

    def end(self) -> None:
        """To be called after each optimizer step."""
        assert self._open is not None
        self._judged.append(self._open)
        self._open = None

    @torch.no_grad()
    def keep(self) -> None:
        """Takes the live tensors as they are for what is to be put back: after they were set from outside."""
        for live, kept in zip(self._live, self._kept, strict=True):
            kept.copy_(_flat(live))

    @torch.no_grad()
    def find(self) -> tuple[Mark, int] | None:
        """The first bad step and the number of steps since, itself included; None where all were good. Waits for the device."""
        num_bad = int(self._num_bad.item())
        if not num_bad:
            self._judged.clear()
            return None
        self._put_back()  # batches of a further step may have been seen
        return self._judged[-num_bad], num_bad

    def give_up(self) -> Mark | None:
        """Undoes what the batches of an optimizer step have touched that is not judged yet, and returns its mark; None if there is none."""
        mark, self._open = self._open, None
        if mark is not None:
            self._loss_is_bad.zero_()
            self._put_back()
        return mark

    @torch.no_grad()
    def _put_back(self) -> None:
        for live, views in zip(self._live, self._views, strict=True):
            torch._foreach_copy_(live, views)


def step_unless(bad: Tensor, optimizer: Optimizer) -> None:
    """The optimizer's step, which changes nothing where `bad`, a float32 scalar on its device, is 1.

    torch's fused kernels look at it by themselves, as they do for `GradScaler`; others make the caller wait for the device.
    """
    if optimizer.defaults.get("fused"):
        optimizer.grad_scale, optimizer.found_inf = None, bad  # type: ignore[attr-defined]
        optimizer.step()
        del optimizer.grad_scale, optimizer.found_inf  # type: ignore[attr-defined]
    elif not bad:
        optimizer.step()


@torch.no_grad()
def average_unless(bad: Tensor, average: nn.Module, model: nn.Module, decay: float | Tensor) -> None:
    """average = decay * average + (1 - decay) * model, of all its floating-point state; unchanged where `bad`, a float32 scalar, is 1."""
    weight = torch.where(bad > 0, 0.0, 1.0 - decay)
    for own, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        own.lerp_(new, weight) if own.is_floating_point() else own.copy_(new)


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def _like(flat: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Views of `flat` in the shapes of the tensors."""
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]
