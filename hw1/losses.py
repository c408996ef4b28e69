"""Mixup that can be resumed, and the training losses: timm's, computed in float32."""

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data import Mixup
from timm.data.mixup import mixup_target
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn

from hw1.config import LossConfig, MixupConfig

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


class Float32Loss(nn.Module):
    """A loss computed in float32 whatever autocast says: on the CPU it would take log-softmax in bfloat16."""

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits [B, C] of any float type, target as `criterion` takes it -> float32 scalar, the mean over the batch."""
        return self.criterion(logits.float(), target)  # autocast lowers no operation of a cross-entropy, it only keeps low ones low


def build_mixup(mixup: MixupConfig, loss: LossConfig, num_classes: int, seed: int) -> SeededMixup | None:
    """The recipe's Mixup, or None where it never mixes (alpha or prob 0). It does the label smoothing too."""
    if not mixup.alpha or not mixup.prob:
        return None
    return SeededMixup(mixup.alpha, mixup.prob, label_smoothing=loss.label_smoothing, num_classes=num_classes, seed=seed)


class WeightedCrossEntropy(nn.CrossEntropyLoss):
    """torch's, the mean over the batch: -sum over classes of weight x target x log p. torch's own mean divides by the batch's weights,
    so that a rare class would weigh less the more of it a batch happens to hold.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Logits float32 [B, C] and labels int64 [B], or soft targets [B, C]."""
        return super().forward(input, target).mean()


def balanced_weights(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.float32]:
    """n / (C n_c) of each class, [num_classes], for n labels of C different classes; 1 on average over the labels. A class without: 0."""
    counts = np.bincount(labels, minlength=num_classes)
    return np.divide(len(labels) / np.count_nonzero(counts), counts, out=np.zeros(num_classes), where=counts > 0).astype(np.float32)


def build_train_loss(mixup_on: bool, loss: LossConfig, class_weights: NDArray[np.float32] | None = None) -> Float32Loss:
    """Cross-entropy, mean over the batch: of soft targets float32 [B, C] with Mixup, else of labels int64 [B].

    With Mixup the targets come smoothed already; without, the loss smooths them. `class_weights` [C] multiply the targets.
    """
    if class_weights is not None:
        smoothing = 0.0 if mixup_on else loss.label_smoothing
        return Float32Loss(WeightedCrossEntropy(torch.from_numpy(class_weights), label_smoothing=smoothing, reduction="none"))
    if mixup_on:
        return Float32Loss(SoftTargetCrossEntropy())
    if loss.label_smoothing:
        return Float32Loss(LabelSmoothingCrossEntropy(loss.label_smoothing))
    return Float32Loss(nn.CrossEntropyLoss())


def dominant_label(target: Tensor) -> Tensor:
    """The label, int64 [B], that training accuracy is measured against: the largest entry of soft targets [B, C], or the labels [B]."""
    return target.argmax(dim=1) if target.ndim == 2 else target
