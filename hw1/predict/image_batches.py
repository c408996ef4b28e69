"""Files -> batches of images of the model's size, read by threads ahead of the model. No torch."""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw1.config.recipe import AugConfig
from hw1.data.augment.transforms import build_eval_transform
from hw1.data.decode import BadImage, read_image
from hw1.data.image_set import ImageFile
from hw1.runtime.cpu import usable_cores

BATCHES_AHEAD = 3  # so many batches are read or being read while the model is at work: what bounds the memory


class ImageBatch(NamedTuple):
    positions: list[int]
    """Positions in the list of files, rising."""
    pixels: NDArray[np.uint8]
    """[B, S, S, 3] RGB, resized as in validation."""


def read_images(paths: Sequence[ImageFile], size: int, batch_size: int, on_bad: Callable[[BadImage], None]) -> Iterator[ImageBatch]:
    """Every image once, in order; one that cannot be read goes to `on_bad(error)` instead, which may raise."""
    transforms = threading.local()  # a transform serves one call at a time

    def read(path: ImageFile) -> NDArray[np.uint8] | BadImage:
        if not hasattr(transforms, "own"):
            transforms.own = build_eval_transform(AugConfig(size=size))
        try:
            return transforms.own(read_image(path), (0, 0, 0))
        except BadImage as error:
            return error

    pool = ThreadPoolExecutor(usable_cores())
    try:
        waiting = deque(pool.submit(read, path) for path in paths[: BATCHES_AHEAD * batch_size])
        positions: list[int] = []
        pixels: list[NDArray[np.uint8]] = []
        for position in range(len(paths)):
            image = waiting.popleft().result()
            if position + BATCHES_AHEAD * batch_size < len(paths):
                waiting.append(pool.submit(read, paths[position + BATCHES_AHEAD * batch_size]))
            if isinstance(image, BadImage):
                on_bad(image)
            else:
                positions.append(position)
                pixels.append(image)
            if len(positions) == batch_size or (positions and position == len(paths) - 1):
                yield ImageBatch(positions, np.stack(pixels))
                positions, pixels = [], []
    finally:
        pool.shutdown(cancel_futures=True)
