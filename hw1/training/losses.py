"""Mixup that can be resumed, and the training losses: timm's, computed in float32."""

import numpy as np
import torch
from numpy.typing import NDArray
from timm.loss import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import Tensor, nn

from hw1.config.recipe import LossConfig


class Float32Loss(nn.Module):
    """A loss computed in float32 whatever autocast says: on the CPU it would take log-softmax in bfloat16."""

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Logits [B, C] of any float type, target as `criterion` takes it -> float32 scalar, the mean over the batch."""
        return self.criterion(logits.float(), target)  # autocast lowers no operation of a cross-entropy, it only keeps low ones low


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
