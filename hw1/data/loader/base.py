"""Define a batch of images on the device."""

from typing import NamedTuple

import torch


class Batch(NamedTuple):
    """The B images of one step that this process gets, of those of all processes that train together; B may be 0."""

    image: torch.Tensor
    """float32 [B, 3, S, S] on the device, normalised: (x / 255 - mean) / std."""
    label: torch.Tensor
    """int64 [B] on the device; -1 in a set without labels."""
    index: torch.Tensor  # type: ignore[assignment]  # hides tuple.index
    """int64 [B] on the CPU: positions in the ImageSet."""


def fill_up(images: torch.Tensor, num: int) -> torch.Tensor:
    """Bring the images or labels of a process to at least `num`, by zeros where it has none and by repeating a single one.

    Few models can do with no image, and BatchNorm, in training, not with one of a single pixel.

    Args:
        images: Images [B, 3, S, S] or labels [B].
        num: 1 or 2.

    Returns:
        [max(B, num), ...]; `images` itself if B >= num.
    """
    if len(images) >= num:
        return images
    return images.repeat(num, *[1] * (images.ndim - 1)) if len(images) else images.new_zeros(num, *images.shape[1:])
