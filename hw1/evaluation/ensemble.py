"""Several answers to one image as one: the mean of their probabilities, as logits whose softmax it is."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.transforms.functional import five_crop

from hw1.evaluation.metrics import log_softmax
from hw1.evaluation.predictions import Predictions

Tta = Literal["flip", "crops"]
CROPS_RESIZE = 9 / 8
"""Five crops are taken from an image that was resized to this many times the model's input."""


class TestTimeViews(nn.Module):
    """A model that looks at several views of each image: to the logarithm of the mean of their probabilities, float32 [B, C].

    `flip`: images [B, 3, S, S] and their mirror images. `crops`: of images [B, 3, T, T], T = `input_size`, the corners and the centre at
    the model's S x S.
    """

    __test__ = False  # the name means something else to pytest

    def __init__(self, model: nn.Module, tta: Tta, size: int) -> None:
        super().__init__()
        self.model, self.tta, self.size = model, tta, size

    @property
    def input_size(self) -> int:
        """Height and width of the images that it takes, pixels."""
        return round(self.size * CROPS_RESIZE) if self.tta == "crops" else self.size

    def forward(self, images: Tensor) -> Tensor:
        views = [images, images.flip(3)] if self.tta == "flip" else five_crop(images, [self.size, self.size])
        logs = torch.stack([self.model(view).float().log_softmax(1) for view in views])
        return logs.logsumexp(0) - math.log(len(logs))


def mean_predictions(several: Sequence[Predictions]) -> Predictions:
    """The mean of what models of the same classes say of the same images. Raises `ValueError` where the images differ."""
    first = several[0]
    if any(not np.array_equal(first.index, other.index) for other in several):
        raise ValueError("predictions of different images")
    return Predictions(first.index, mean_logits([other.logits for other in several]), first.labels)


def mean_logits(several: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Logits [N, C] of several models to the logarithm of the mean of their probabilities, [N, C]."""
    logs = np.stack([log_softmax(logits) for logits in several])
    return (np.logaddexp.reduce(logs) - math.log(len(several))).astype(np.float32)
