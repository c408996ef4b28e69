"""`data.cache: device`: the pictures of a set, decoded and shrunk, one after the other in one tensor in the device's memory."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from hw1.config import AugConfig
from hw1.data.cores import map_on_cores
from hw1.data.dataset import FileSource
from hw1.data.decode import BadImage, read_size
from hw1.data.fused import MAX_SHRINK
from hw1.data.images import ImageSet
from hw1.data.listing import printable
from hw1.data.memory import require_room
from hw1.data.policy import smallest_side
from hw1.data.shrink import shrink, shrunk_size
from hw1.data.steps import resize_crop
from hw1.data.transforms import PillowResize
from hw1.errors import RunError


@dataclass(frozen=True)
class Store:
    """Pictures of any size. `heights` and `widths`: pixels; `starts`: where each begins, in pixels; lists of N."""

    pixels: torch.Tensor
    """uint8 [P, 3] RGB on the device."""
    starts: list[int]
    heights: list[int]
    widths: list[int]


def load_resized(images: ImageSet, size: int, device: torch.device) -> Store:
    """Every picture resized to [size, size] as for validation. UserError where memory lacks, RunError where a file cannot be read."""
    source, resize = FileSource(images), PillowResize(size)
    return _load(images, lambda index: resize.apply(source.read(index)), [size * size] * len(images), device)


def load_for_crops(images: ImageSet, aug: AugConfig, device: torch.device) -> Store:
    """Every picture just large enough for all crops of `aug`. Raises as `load_resized`."""
    side = smallest_side(aug)
    source = FileSource(images, side)

    def is_one_large_crop(height: int, width: int) -> bool:
        return aug.scale == (1.0, 1.0) and max(height, width) > MAX_SHRINK * aug.size

    def read(index: int) -> np.ndarray:
        picture = shrink(source.read(index), side)
        height, width, _ = picture.shape
        # A crop is of limited aspect, the whole picture is not. Augmentation would begin by the same resize.
        return resize_crop(picture, (0, 0, width, height), aug.size) if is_one_large_crop(height, width) else picture

    def room(index: int) -> int:
        """Pixels that picture `index` takes at most: decoded at a reduced size, it may come out longer by one."""
        try:
            height, width = shrunk_size(*read_size(images.image_file(index)), side)
        except BadImage as error:
            raise RunError(str(error)) from error
        longer = max(height, width) + 1
        pixels = min(height, width) * longer
        return max(pixels, aug.size**2) if is_one_large_crop(longer, longer) else pixels

    return _load(images, read, map_on_cores(room, len(images), "reading image sizes"), device)


def _load(images: ImageSet, read: Callable[[int], np.ndarray], rooms: list[int], device: torch.device) -> Store:
    """`rooms`: pixels that each picture takes at most. Each thread puts what it has read straight into its place on the device."""
    require_room(3 * sum(rooms), f"the decoded pictures of {len(images)} files", device)
    pixels = torch.empty(sum(rooms), 3, dtype=torch.uint8, device=device)
    starts = [0, *itertools.accumulate(rooms)][:-1]

    def put(index: int) -> tuple[int, int]:
        picture = read(index)
        height, width, _ = picture.shape
        if height * width > rooms[index]:
            raise RunError(f"{printable(images.image_file(index))}: changed while it was being read")
        pixels[starts[index] : starts[index] + height * width] = torch.from_numpy(picture).reshape(-1, 3)
        return height, width

    sizes = map_on_cores(put, len(images), "loading images")
    return Store(pixels, starts, [height for height, _ in sizes], [width for _, width in sizes])
