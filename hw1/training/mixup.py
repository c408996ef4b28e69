"""Mixup whose draws are a function of (seed, epoch, step)."""

import numpy as np
from timm.data import Mixup
from timm.data.mixup import mixup_target
from torch import Tensor

from hw1.config.recipe import LossConfig, MixupConfig

MIXUP_STREAM = 3  # last seed word here; augmentation has 1, order 2 (hw1.data): no two uses of one seed share a random stream


class SeededMixup(Mixup):
    """timm's Mixup in batch mode, drawn from (seed, epoch, step) instead of NumPy's global generator.

    Mixup (Zhang et al., "mixup: Beyond Empirical Risk Minimization", section 2): x = lam * x_i + (1 - lam) * x_j, and the same of
    the one-hot labels; one lam ~ Beta(alpha, alpha) a batch. Partners are timm's: the batch and its reverse, which pairs at random
    because batches are shuffled. A batch is mixed with probability `prob`. Batches of any size are accepted; timm refuses odd ones
    (the middle image of an odd batch is its own partner).
    """

    def __init__(self, alpha: float, prob: float, *, label_smoothing: float, num_classes: int, seed: int) -> None:
        super().__init__(mixup_alpha=alpha, prob=prob, mode="batch", label_smoothing=label_smoothing, num_classes=num_classes)
        self.seed = seed

    def draw(self, epoch: int, step: int) -> float:
        """Lambda (0-1) of batch `step` in `epoch`; 1.0 for a batch that is not mixed.

        Lambda is drawn whatever the coin says: two runs that differ only in `prob` agree on every batch that both mix.
        """
        rng = np.random.default_rng((self.seed, epoch, step, MIXUP_STREAM))
        mixed = rng.random() < self.mix_prob
        lam = float(rng.beta(self.mixup_alpha, self.mixup_alpha))
        return lam if mixed else 1.0

    def mix(self, images: Tensor, labels: Tensor, lam: float | Tensor) -> tuple[Tensor, Tensor]:
        """Images float [B, 3, S, S] and labels int64 [B] -> mixed images of the same shape, soft targets float32 [B, C].

        The arguments are left as they are (timm mixes in place). `lam` 1 gives the images' own bits: no branch depends on its value, so
        that it may be a scalar on the device. Never waits for the device.
        """
        targets = mixup_target(labels, self.num_classes, lam, self.label_smoothing)
        return images.flip(0).lerp_(images, lam), targets  # partner + lam * (image - partner), in the one tensor that flip made

    def __call__(self, images: Tensor, labels: Tensor, *, epoch: int, step: int) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """`mix` with the lambda of batch `step` in `epoch`."""
        return self.mix(images, labels, self.draw(epoch, step))


def build_mixup(mixup: MixupConfig, loss: LossConfig, num_classes: int, seed: int) -> SeededMixup | None:
    """The recipe's Mixup, or None where it never mixes (alpha or prob 0). It does the label smoothing too."""
    if not mixup.alpha or not mixup.prob:
        return None
    return SeededMixup(mixup.alpha, mixup.prob, label_smoothing=loss.label_smoothing, num_classes=num_classes, seed=seed)
