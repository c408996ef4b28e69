"""The fused augmentation for a whole batch on the training device, from pictures that lie there in one tensor.

The same factors (`hw1.data.policy`) make the same picture as `hw1.data.fused`, within rounding. Every shape is known beforehand and nothing
is asked of the device, so that it compiles to one graph and never makes the host wait.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from hw1.config import AugConfig
from hw1.data.fused import MAX_SHRINK, NAMES, output_to_crop
from hw1.data.kernels import CONTRAST, HUE, SATURATION
from hw1.data.policy import Factors

EDGE = 1e-4  # pixels of the output: at the crop's edge itself a pixel is inside, however its position was rounded


class Draws(NamedTuple):
    """The factors of a batch, with J adjustments a picture, as tensors that are small to copy to the device."""

    crop: Tensor
    """int64 [B, 4]: the crop's first pixel, counted in the store; pixels from one row to the next; width and height of the crop."""
    matrix: Tensor
    """float32 [B, 2, 3]: `output_to_crop`, into a crop of [S, S] where the crop is resized first."""
    names: Tensor
    """int64 [B, J] of `hw1.data.kernels`' BRIGHTNESS ... HUE, in the order of application."""
    amounts: Tensor
    """float32 [B, J]; hue's in sixths of the circle."""


class Crops(NamedTuple):
    """Rectangles of pixels anywhere in `pixels`."""

    pixels: Tensor
    """uint8 [P, 3]."""
    start: Tensor
    stride: Tensor
    width: Tensor
    height: Tensor
    """int64 [B, 1, 1] each, as in `Draws.crop`."""


def pack_factors(factors: Sequence[Factors], starts: Sequence[int], widths: Sequence[int], size: int) -> Draws:
    """starts: first pixel of each picture in the store; widths: of the pictures."""
    crops, matrices = [], []
    for (box, flip, angle, _), start, stride in zip(factors, starts, widths, strict=True):
        left, top, width, height = box
        crops.append((start + top * stride + left, stride, width, height))
        is_resized = max(width, height) > MAX_SHRINK * size
        matrices.append(output_to_crop(size if is_resized else width, size if is_resized else height, flip, angle, size))
    shape = len(factors), -1
    names = np.array([NAMES[name] for each in factors for name, _ in each.jitter], np.int64).reshape(shape)
    amounts = np.array([amount * 6 if name == "hue" else amount for each in factors for name, amount in each.jitter], np.float32)
    return Draws(
        torch.tensor(crops),
        torch.from_numpy(np.stack(matrices).astype(np.float32)),
        torch.from_numpy(names),
        torch.from_numpy(amounts.reshape(shape)),
    )


class BatchPictures(nn.Module):
    """Pictures of a store -> normalised batch."""

    def __init__(self, aug: AugConfig, *, channels_last: bool) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.size = aug.size
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.register_buffer("mean", torch.tensor(aug.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(aug.std).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor, *which: Tensor) -> Tensor:
        """pixels: uint8 [P, 3] RGB -> float32 [B, 3, S, S], normalised."""
        image = self.pictures(pixels, *which) / 255.0
        return ((image - self.mean) / self.std).contiguous(memory_format=self.memory_format)

    def pictures(self, pixels: Tensor, *which: Tensor) -> Tensor:
        """[B, 3, S, S] of whole numbers from 0 to 255."""
        raise NotImplementedError


class BatchTaken(BatchPictures):
    """From a store of [S, S] pictures, as they are. `which`: int64 [B], positions in it."""

    def pictures(self, pixels: Tensor, *which: Tensor) -> Tensor:
        return pixels.view(-1, self.size, self.size, 3).index_select(0, *which).permute(0, 3, 1, 2)


class BatchAugment(BatchPictures):
    """What `augment_fused` makes of each picture. `which`: `Draws`. `tallest`, `widest`: pixels; no crop of the store is larger."""

    def __init__(self, aug: AugConfig, tallest: int, widest: int, *, channels_last: bool) -> None:
        super().__init__(aug, channels_last=channels_last)
        self.tallest = tallest
        self.largest = max(tallest, widest)

    def pictures(self, pixels: Tensor, *which: Tensor) -> Tensor:
        draws = Draws(*which)
        crops = Crops(pixels, *(each[:, None, None] for each in draws.crop.unbind(1)))
        if self.largest > MAX_SHRINK * self.size:
            crops = resize_large_crops(crops, self.size, self.tallest, taps=math.ceil(2 * self.largest / self.size))
        return jitter(warp(crops, draws.matrix, self.size), draws.names, draws.amounts)


def resize_large_crops(crops: Crops, size: int, tallest: int, taps: int) -> Crops:
    """The crops in a store of their own: [size, size] where they are more than MAX_SHRINK times larger, else as they are.

    The filter is `hw1.data.steps.resize_crop`'s, first along the rows, then along the columns, with 8 bits between them as there; `taps`
    pixels lie under it at most. All crops take the same way: for one that is not resized, the weights are a single 1.
    """
    pixels, start, stride, width, height = crops
    batch, side = len(start), math.floor(MAX_SHRINK * size)
    is_large = torch.maximum(width, height) > MAX_SHRINK * size
    new_width, new_height = torch.where(is_large, size, width), torch.where(is_large, size, height)

    row_start = start + _count(tallest, start)[None, :, None].clamp(max=height - 1) * stride
    across = torch.zeros((), device=pixels.device)
    for column, weight in _taps(width, new_width, side, taps):
        across = across + _read(pixels, row_start + column[:, None]) * weight[:, None, :, None]
    rows = _to_bytes(across).flatten(0, 1)  # [B x tallest, side, 3]

    picture = _count(batch, start)[:, None]
    down = torch.zeros((), device=pixels.device)
    for row, weight in _taps(height, new_height, side, taps):
        down = down + rows.index_select(0, (picture * tallest + row).flatten()).view(batch, side, side, 3) * weight[:, :, None, None]
    starts = picture[:, :, None] * side * side
    return Crops(_to_bytes(down).view(-1, 3), starts, torch.full_like(starts, side), new_width, new_height)


def _taps(length: Tensor, new_length: Tensor, side: int, taps: int) -> list[tuple[Tensor, Tensor]]:
    """For each tap the pixel that it reads, int64, and its weight, both [B, side]: a triangle as wide as two pixels of the coarser grid.

    length: pixels before, new_length: after; [B, 1, 1]. What lies beyond `new_length` means nothing.
    """
    length = length[:, 0]
    scale = length / new_length[:, 0]
    reach = scale.clamp(min=1.0)
    centre = (_count(side, length) + 0.5) * scale
    first = (centre - reach + 0.5).floor()
    positions = [first + tap for tap in range(taps)]
    weights = [
        (1 - (position + 0.5 - centre).abs() / reach).clamp(min=0.0) * ((position >= 0) & (position < length)) for position in positions
    ]
    total = torch.stack(weights).sum(0).clamp(min=1e-6)
    return [(position.long().clamp(min=0).minimum(length - 1), weight / total) for position, weight in zip(positions, weights, strict=True)]


def warp(crops: Crops, matrix: Tensor, size: int) -> Tensor:
    """The crops resampled through the matrices (`Draws.matrix`), bilinear, black outside: float32 [B, 3, S, S], whole numbers."""
    pixels, start, stride, width, height = crops
    column, row = _count(size, matrix)[None, None, :], _count(size, matrix)[None, :, None]
    x, y = (each[:, 0, None, None] * column + each[:, 1, None, None] * row + each[:, 2, None, None] for each in matrix.unbind(1))
    edge_x, edge_y = 0.5 + width * (EDGE / size), 0.5 + height * (EDGE / size)
    inside = (x >= -edge_x) & (x <= width - 1 + edge_x) & (y >= -edge_y) & (y <= height - 1 + edge_y)
    x, y = x.clamp(min=0).minimum(width - 1), y.clamp(min=0).minimum(height - 1)
    left, upper = x.long(), y.long()
    right, lower = (left + 1).minimum(width - 1), start + (upper + 1).minimum(height - 1) * stride
    part_x, part_y = (x - left)[..., None], (y - upper)[..., None]
    upper = start + upper * stride
    above = torch.lerp(_read(pixels, upper + left), _read(pixels, upper + right), part_x)
    below = torch.lerp(_read(pixels, lower + left), _read(pixels, lower + right), part_x)
    image = (torch.lerp(above, below, part_y) + 0.5).floor() * inside[..., None]
    return image.permute(0, 3, 1, 2)


def jitter(image: Tensor, names: Tensor, amounts: Tensor) -> Tensor:
    """Each picture's adjustments in its own order, as `hw1.data.kernels.shade` makes them: float32 [B, 3, S, S], rounded at the end."""
    image = image.contiguous()
    for name, factor in zip(names[..., None, None, None].unbind(1), amounts[..., None, None, None].unbind(1), strict=True):
        grey = 0.299 * image[:, 0:1] + 0.587 * image[:, 1:2] + 0.114 * image[:, 2:3]
        mean = (grey.mean((1, 2, 3), keepdim=True) + 0.5).floor()
        other = torch.where(name == CONTRAST, mean, torch.where(name == SATURATION, grey, 0.0))
        blended = (factor * image + (1 - factor) * other).clamp(0, 255)
        image = torch.where(name == HUE, turn_hue(image, factor), blended)
    return (image + 0.5).floor()


def turn_hue(image: Tensor, sixths: Tensor) -> Tensor:
    """Turns the hue of [B, 3, S, S] by `sixths` of the circle; HSV's saturation and value stay.

    With V the largest of the three, C = V - the smallest and H the hue in sixths, a channel is V - C clip(min(k, 4 - k), 0, 1), where
    k = (n + H) mod 6 and n is 5 for red, 3 for green, 1 for blue.
    """
    red, green, blue = image.split(1, dim=1)
    high = image.amax(1, keepdim=True)
    chroma = high - image.amin(1, keepdim=True)
    whole = torch.where(chroma > 0, chroma, 1.0)
    hue = torch.where(high == red, (green - blue) / whole, torch.where(high == green, 2 + (blue - red) / whole, 4 + (red - green) / whole))
    places = [(n + hue + sixths) % 6 for n in (5, 3, 1)]
    return torch.cat([high - chroma * torch.minimum(k, 4 - k).clamp(0, 1) for k in places], 1)


def _read(pixels: Tensor, place: Tensor) -> Tensor:
    """float32 [..., 3] of the pixels at int64 [...]."""
    return pixels.index_select(0, place.flatten()).view(*place.shape, 3).float()


def _to_bytes(image: Tensor) -> Tensor:
    return (image + 0.5).to(torch.uint8)


def _count(num: int, like: Tensor) -> Tensor:
    return torch.arange(num, device=like.device)
