"""Mixup whose draws are a function of (seed, epoch, step)."""

import numpy as np
from timm.data.mixup import Mixup, mixup_target
from torch import Tensor

from hw1.config.recipe import LossConfig, MixupConfig

MIXUP_STREAM = 3  # last word of the seed; augmentation has 1, order 2 (hw1.data), so that their random streams differ


class SeededMixup(Mixup):
    """timm's Mixup in batch mode, drawn from (seed, epoch, step) instead of NumPy's global generator.

    Mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", section 2): x = lam * x_i + (1 - lam) * x_j, and the same for the
    one-hot labels, with one lam ~ Beta(alpha, alpha) for each batch. As in timm, the partners of a batch are its images in reverse order,
    which are random pairs because batches are shuffled. Batches of odd size are accepted (timm refuses them): the middle image is mixed
    with itself.

    Args:
        alpha: Of the Beta distribution, above 0.
        prob: Probability that a batch is mixed, 0-1.
        label_smoothing: Fraction of the target spread over all classes.
        num_classes: Number of classes.
        seed: Of the run.
    """

    def __init__(self, alpha: float, prob: float, *, label_smoothing: float, num_classes: int, seed: int) -> None:
        super().__init__(  # type: ignore[no-untyped-call]  # timm has no types for it
            mixup_alpha=alpha, prob=prob, mode="batch", label_smoothing=label_smoothing, num_classes=num_classes
        )
        self.seed = seed

    def draw(self, epoch: int, step: int) -> float:
        """Return lambda (0-1) of batch `step` in `epoch`; 1.0 for a batch that is not mixed.

        Lambda is drawn in any case, so that runs that differ only in `prob` mix their common batches alike.
        """
        rng = np.random.default_rng((self.seed, epoch, step, MIXUP_STREAM))
        is_mixed = rng.random() < self.mix_prob
        lam = float(rng.beta(self.mixup_alpha, self.mixup_alpha))
        return lam if is_mixed else 1.0

    def mix(self, images: Tensor, labels: Tensor, lam: float | Tensor) -> tuple[Tensor, Tensor]:
        """Mix a batch without changing it (timm mixes in place) and without waiting for the device.

        Args:
            images: Float [B, 3, S, S].
            labels: Int64 [B].
            lam: Lambda, 0-1; may be a scalar on the device, because no branch depends on it. 1 returns the images with the same bits.

        Returns:
            Mixed images of the same shape, and soft targets, float32 [B, C].
        """
        targets = mixup_target(labels, self.num_classes, lam, self.label_smoothing)  # type: ignore[no-untyped-call]
        return images.flip(0).lerp_(images, lam), targets  # partner + lam * (image - partner), in the tensor of flip

    def __call__(self, images: Tensor, labels: Tensor, *, epoch: int, step: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Mix a batch with the lambda of batch `step` in `epoch`; see `mix`."""
        return self.mix(images, labels, self.draw(epoch, step))


def build_mixup(mixup: MixupConfig, loss: LossConfig, num_classes: int, seed: int) -> SeededMixup | None:
    """Build Mixup, which also smooths the labels; None if it would never mix (alpha or prob 0)."""
    if not mixup.alpha or not mixup.prob:
        return None
    return SeededMixup(mixup.alpha, mixup.prob, label_smoothing=loss.label_smoothing, num_classes=num_classes, seed=seed)
