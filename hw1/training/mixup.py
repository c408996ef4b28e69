"""Mixup and CutMix whose draws are a function of (seed, epoch, step)."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data.mixup import Mixup, mixup_target
from torch import Tensor

from hw1.config.recipe import LossConfig, MixupConfig
from hw1.runtime import distributed as dist

MIXUP_STREAM = 3  # last word of the seed; augmentation has 1, order 2 (hw1.data), so that their random streams differ

Draw = float | Tensor
"""What is drawn for a batch. Mixup alone, once a batch: lambda, a number or a scalar on the device. Else float32 [1 or B, 6], a row for the
batch or for each image: its weight outside of the box, its weight in the targets, and top, bottom, left and right of the box, in pixels,
which the partner fills."""


class SeededMixup(Mixup):
    """timm's Mixup, drawn from (seed, epoch, step) instead of NumPy's global generator, and carried out without waiting for the device.

    Mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", section 2): x = lam * x_i + (1 - lam) * x_j, and the same for the
    one-hot labels, with lam ~ Beta(alpha, alpha). CutMix (Yun et al. 2019): a box of (1 - lam) of x_i, cut off at the edges, shows x_j, and
    the labels are mixed by the area. As in timm, the partners of a batch are its images in reverse order, which are random pairs because
    batches are shuffled. Batches of odd size are accepted (timm refuses them): the middle image is mixed with itself.

    Several processes draw for the whole batch, and each takes what belongs to its images; partners are found within its share.

    Args:
        mixup: Section `mixup` of the recipe, with `alpha` or `cutmix_alpha` above 0.
        label_smoothing: Fraction of the target spread over all classes.
        num_classes: Number of classes.
        seed: Of the run.
    """

    def __init__(self, mixup: MixupConfig, *, label_smoothing: float, num_classes: int, seed: int) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # timm has no types for it
            mixup_alpha=mixup.alpha,
            cutmix_alpha=mixup.cutmix_alpha,
            prob=mixup.prob,
            switch_prob=mixup.switch_prob,
            mode=mixup.mode,
            label_smoothing=label_smoothing,
            num_classes=num_classes,
        )
        self.off_epoch = mixup.off_epoch
        self.seed = seed

    def draw(self, epoch: int, step: int, shape: Sequence[int] = (1, 3, 1, 1)) -> Draw:
        """Draw how batch `step` in `epoch` is mixed. A weight of 1 leaves an image as it is.

        All is drawn in any case, so that runs that differ only in `prob` mix their common batches alike.

        Args:
            epoch: From 0.
            step: From 0.
            shape: [B, 3, H, W] of the batch over all processes; counts for CutMix and for modes other than `batch`.
        """
        rng = np.random.default_rng((self.seed, epoch, step, MIXUP_STREAM))
        count = {"batch": 1, "elem": shape[0], "pair": shape[0] // 2}[self.mode]
        is_mixed = rng.random(count) < self.mix_prob
        cuts = np.full(count, not self.mixup_alpha)
        if self.mixup_alpha and self.cutmix_alpha:
            cuts = rng.random(count) < self.switch_prob
        lam = rng.beta(alphas := np.where(cuts, self.cutmix_alpha, self.mixup_alpha), alphas)
        is_mixed &= self.off_epoch is None or epoch < self.off_epoch
        if self.mode == "batch" and not self.cutmix_alpha:
            return float(lam[0]) if is_mixed[0] else 1.0
        rows = np.zeros((count, 6), np.float32)
        rows[:, :2] = np.where(is_mixed, lam, 1.0)[:, None]
        for row in np.flatnonzero(cuts):
            box = draw_box(rng, shape[-2:], lam[row] if self.mode == "batch" else np.float32(lam[row]))  # as timm has it
            if is_mixed[row]:
                top, bottom, left, right = box
                rows[row] = 1.0, 1.0 - (bottom - top) * (right - left) / (shape[-2] * shape[-1]), *box
        return torch.from_numpy(rows if self.mode == "batch" else self._own_rows(rows, shape[0]))

    def _own_rows(self, rows: NDArray[np.float32], num_images: int) -> NDArray[np.float32]:
        """Return the rows of this process' images, at least one; of a pair both images have its row, and one without partner is left."""
        sizes = [len(part) for part in np.array_split(np.arange(num_images), dist.world_size())]  # as `EpochBatches` shares them out
        counts = [size // 2 if self.mode == "pair" else size for size in sizes]
        rank = dist.rank()
        own = rows[sum(counts[:rank]) :][: counts[rank]]
        unmixed = np.array([[1, 1, 0, 0, 0, 0]], np.float32)
        if self.mode == "pair":
            own = np.concatenate([own, unmixed[: sizes[rank] % 2], own[::-1]])
        return own if len(own) else unmixed

    def mix(self, images: Tensor, labels: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Mix a batch without changing it (timm mixes in place) and without waiting for the device.

        Args:
            images: Float [B, 3, H, W].
            labels: Int64 [B].
            draw: What `draw` returned; may be on the device, because no branch depends on its values.

        Returns:
            Mixed images of the same shape, and soft targets, float32 [B, C].
        """
        weight = lam = draw
        if isinstance(draw, Tensor) and draw.ndim:
            weight, lam = weight_map(_on_device(draw, images.device), images)
        targets = mixup_target(labels, self.num_classes, lam, self.label_smoothing)  # type: ignore[no-untyped-call]
        return images.flip(0).lerp_(images, weight), targets  # partner + weight * (image - partner), in the tensor of flip

    def __call__(self, images: Tensor, labels: Tensor, *, epoch: int, step: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Mix a batch as it is drawn for batch `step` in `epoch`; see `mix`."""
        return self.mix(images, labels, self.draw(epoch, step, images.shape))


def draw_box(rng: np.random.Generator, size: Sequence[int], lam: np.floating) -> tuple[int, int, int, int]:
    """Draw CutMix's box of (1 - lam) of an image around a uniform centre, cut off at the edges, as timm's `rand_bbox`.

    Args:
        rng: Source of the draws.
        size: Height and width of the image.
        lam: Share of the image that is kept.

    Returns:
        Top, bottom, left, right.
    """
    ratio = np.sqrt(1 - lam)
    bounds: list[int] = []
    for length in size:
        side, centre = int(length * ratio), int(rng.integers(0, length))
        bounds += [max(centre - side // 2, 0), min(centre + (side + 1) // 2, length)]
    return bounds[0], bounds[1], bounds[2], bounds[3]


def weight_map(rows: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weight of each pixel, [1 or B, 1, H, W], and of each image in the targets, [1 or B, 1], from rows as in `Draw`."""
    outside, lam, top, bottom, left, right = rows[:, :, None, None].unbind(1)
    y = torch.arange(images.shape[-2], device=images.device)[:, None]
    x = torch.arange(images.shape[-1], device=images.device)
    is_inside = (y >= top) & (y < bottom) & (x >= left) & (x < right)
    return torch.where(is_inside, 0.0, outside).to(images.dtype)[:, None], lam[:, 0]


def _on_device(draw: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and not draw.is_cuda:
        draw = draw.pin_memory()  # from pageable memory the copy would wait for the device
    return draw.to(device, non_blocking=True)


def build_mixup(mixup: MixupConfig, loss: LossConfig, num_classes: int, seed: int) -> SeededMixup | None:
    """Build Mixup or CutMix, which also smooths the labels; None if it would never mix (both alphas 0, or prob 0)."""
    if not (mixup.alpha or mixup.cutmix_alpha) or not mixup.prob:
        return None
    return SeededMixup(mixup, label_smoothing=loss.label_smoothing, num_classes=num_classes, seed=seed)
