"""Training losses, computed in float32."""

import numpy as np
import torch
from numpy.typing import NDArray
from timm.loss.asymmetric_loss import AsymmetricLossSingleLabel
from timm.loss.binary_cross_entropy import BinaryCrossEntropy
from timm.loss.cross_entropy import LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.loss.poly_loss import PolyCrossEntropy
from torch import Tensor, nn

from hw1.config.recipe import LossConfig


class Float32Loss(nn.Module):
    """Compute a loss in float32 also under autocast, which on the CPU would compute log-softmax in bfloat16.

    Args:
        criterion: Maps logits [B, C] and targets to a scalar.
    """

    def __init__(self, criterion: nn.Module) -> None:
        super().__init__()
        self.criterion = criterion

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a float32 scalar, of logits [B, C] of any float type and a target as `criterion` takes it."""
        loss: Tensor = self.criterion(logits.float(), target)  # autocast does not convert float32 inputs of a cross-entropy
        return loss


class WeightedCrossEntropy(nn.CrossEntropyLoss):
    """Cross-entropy with class weights: the mean over the batch of -sum over classes of weight x target x log p.

    Create it with `reduction="none"`. torch's `mean` divides by the sum of the batch's weights, so that an image of a rare class would
    count less the more of them the batch holds.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss, a scalar, of logits, float32 [B, C], and labels, int64 [B], or soft targets [B, C]."""
        return super().forward(input, target).mean()


def balanced_weights(labels: NDArray[np.int64], num_classes: int) -> NDArray[np.float32]:
    """Return class weights [num_classes]: n / (C n_c), where class c has n_c of n labels and C classes have labels.

    The weights are 1 on average over the labels; classes without labels have weight 0.
    """
    counts = np.bincount(labels, minlength=num_classes)
    return np.divide(len(labels) / np.count_nonzero(counts), counts, out=np.zeros(num_classes), where=counts > 0).astype(np.float32)


def build_train_loss(mixup_on: bool, loss: LossConfig, class_weights: NDArray[np.float32] | None = None) -> Float32Loss:
    """Build the loss of training, mean over the batch.

    Args:
        mixup_on: Targets are soft, float32 [B, C], and already smoothed; else they are labels, int64 [B], which the loss smooths.
        loss: Section `loss` of the recipe.
        class_weights: [C], multiply the targets of the cross-entropy.
    """
    smoothing = 0.0 if mixup_on else loss.label_smoothing
    if class_weights is not None:
        return Float32Loss(WeightedCrossEntropy(torch.from_numpy(class_weights), label_smoothing=smoothing, reduction="none"))
    criterion: nn.Module
    if loss.name == "bce":
        criterion = BinaryCrossEntropy(smoothing=smoothing)
    elif loss.name == "poly":
        criterion = PolyCrossEntropy(smoothing=smoothing)
    elif loss.name == "asl":
        criterion = AsymmetricLossSingleLabel(eps=smoothing)  # type: ignore[no-untyped-call]  # timm has no types for it
    elif mixup_on:
        criterion = SoftTargetCrossEntropy()  # type: ignore[no-untyped-call]  # nor for this
    elif smoothing:
        criterion = LabelSmoothingCrossEntropy(smoothing)  # type: ignore[no-untyped-call]  # nor for this
    else:
        criterion = nn.CrossEntropyLoss()
    return Float32Loss(criterion)


def dominant_label(target: Tensor) -> Tensor:
    """Return the labels, int64 [B], for training accuracy: the largest entry of soft targets [B, C], or the labels [B] themselves."""
    return target.argmax(dim=1) if target.ndim == 2 else target
