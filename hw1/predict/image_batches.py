"""Read files as batches of images of the model's size, by threads ahead of the model. No torch."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw1.data.augment.eval_resize import EvalRule
from hw1.data.decode import BadImage, read_image
from hw1.data.image_set import ImageFile
from hw1.runtime.cpu import usable_cores

BATCHES_AHEAD = 3  # batches that are read or being read while the model computes: bounds the memory


class ImageBatch(NamedTuple):
    """A batch of images.

    Attributes:
        positions: Positions in the list of files, increasing, B.
        pixels: uint8 [B, S, S, 3], RGB, resized as in validation.
    """

    positions: list[int]
    pixels: NDArray[np.uint8]


def read_images(
    images: Sequence[ImageFile | NDArray[np.uint8]], rule: EvalRule, batch_size: int, on_bad: Callable[[BadImage], None]
) -> Iterator[ImageBatch]:
    """Read every image once, in order.

    Args:
        images: Files, or images that are decoded already, uint8 [H, W, 3], RGB.
        rule: How an image becomes a square.
        batch_size: Images of a batch; the last one may be smaller.
        on_bad: Called with the error of an image that cannot be read, which is in no batch; it may raise.
    """

    def read(image: ImageFile | NDArray[np.uint8]) -> NDArray[np.uint8] | BadImage:
        try:
            return rule(image if isinstance(image, np.ndarray) else read_image(image))
        except BadImage as error:
            return error

    pool = ThreadPoolExecutor(usable_cores())
    try:
        pending = deque(pool.submit(read, image) for image in images[: BATCHES_AHEAD * batch_size])
        positions: list[int] = []
        pixels: list[NDArray[np.uint8]] = []
        for position in range(len(images)):
            image = pending.popleft().result()
            if position + BATCHES_AHEAD * batch_size < len(images):
                pending.append(pool.submit(read, images[position + BATCHES_AHEAD * batch_size]))
            if isinstance(image, BadImage):
                on_bad(image)
            else:
                positions.append(position)
                pixels.append(image)
            if len(positions) == batch_size or (positions and position == len(images) - 1):
                yield ImageBatch(positions, np.stack(pixels))
                positions, pixels = [], []
    finally:
        pool.shutdown(cancel_futures=True)
