"""Average predictions: over test-time augmentations of an image, and over models."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hw1.evaluation.metrics import log_softmax
from hw1.evaluation.predictions import Predictions

Tta = Literal["flip", "crops"]
CROPS_RESIZE = 9 / 8
"""Five crops are taken from an image that was resized to this many times the model's input size."""


class TestTimeAugmentation(nn.Module):
    """Average a model's probabilities over several views of each image.

    `flip` takes an image [3, S, S] and its mirror image. `crops` takes the four corners and the centre [3, S, S] of an image [3, T, T],
    T = `input_size`.
    """

    __test__ = False  # pytest would collect a class of this name

    def __init__(self, model: nn.Module, tta: Tta, size: int) -> None:
        """Wrap `model`, whose input is `size` x `size` pixels."""
        super().__init__()
        self.model, self.tta, self.size = model, tta, size

    @property
    def input_size(self) -> int:
        """Height and width of the input images, pixels."""
        return round(self.size * CROPS_RESIZE) if self.tta == "crops" else self.size

    def forward(self, images: Tensor) -> Tensor:
        """Return the logarithm of the mean probabilities, float32 [B, C], for images [B, 3, T, T]."""
        if self.tta == "flip":
            views = [images, images.flip(3)]
        else:
            from torchvision.transforms.functional import five_crop

            views = five_crop(images, [self.size, self.size])
        log_probabilities = torch.stack([self.model(view).float().log_softmax(1) for view in views])
        return log_probabilities.logsumexp(0) - math.log(len(log_probabilities))


def mean_predictions(predictions: Sequence[Predictions]) -> Predictions:
    """Average the probabilities of several models of the same classes on the same images.

    Raises:
        ValueError: The images differ.
    """
    first = predictions[0]
    if any(not np.array_equal(first.index, other.index) for other in predictions):
        raise ValueError("predictions of different images")
    return Predictions(first.index, mean_logits([each.logits for each in predictions]), first.labels)


def mean_logits(logits: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return the logarithm of the mean probabilities, [N, C], of the logits [N, C] of each model."""
    log_probabilities = np.stack([log_softmax(each) for each in logits])
    mean = np.logaddexp.reduce(log_probabilities) - math.log(len(log_probabilities))
    return np.asarray(mean, dtype=np.float32)
