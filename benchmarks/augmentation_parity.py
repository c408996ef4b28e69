"""The augmentation beside torchvision's, from the same draws: python -m benchmarks.augmentation_parity OUT.png

For each image: the original, torchvision's on Pillow, ours, their difference. `HW1_PHOTOS` names images (`train/` and `val/`); without
it scenes with edges, stripes, rings and lettering are drawn, which show aliasing and blur better than any image.
"""

import argparse
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torchvision.transforms.functional as functional
from PIL import Image

from hw1.config.recipe import AugConfig, DataConfig
from hw1.data.augment.fused import augment_fused
from hw1.data.augment.params import AugmentParams, draw_params
from hw1.data.decode import read_image
from hw1.data.image_folder import open_training_data
from hw1.errors import UserError, run_command
from hw1.plots import plot_samples, save_figure

MAGNIFIED = 4


def draw_scene(height: int, width: int, seed: int) -> np.ndarray:
    """uint8 [height, width, 3]: a sky, rings that get finer outwards, stripes, a chessboard and lettering, in colours of `seed`."""
    draw = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width]
    top, bottom, ink, paper = draw.integers(40, 230, (4, 3))
    scene = (top + (bottom - top) * (rows / height)[..., None]).astype(np.uint8)
    half = height // 2
    distance = (rows[:half, :half] - half / 2) ** 2 + (columns[:half, :half] - half / 2) ** 2
    scene[half:, :half] = np.where((np.cos(distance / half) > 0)[..., None], ink, paper)
    stripes = columns[half:, half : 2 * half] // np.maximum((rows[half:, :half] - half) // 16, 1) % 2
    scene[half:, half : 2 * half] = np.where(stripes[..., None], paper, ink)
    scene[:half, width - half :] = np.where(((rows[:half, :half] // 12 + columns[:half, :half] // 12) % 2)[..., None], ink, paper)
    cv2.putText(scene, "hw1", (8, half - 12), cv2.FONT_HERSHEY_SIMPLEX, height / 120, paper.tolist(), 3, cv2.LINE_AA)
    cv2.circle(scene, (width - half // 2, height - half // 2), half // 3, paper.tolist(), -1, cv2.LINE_AA)
    return scene  # type: ignore[no-any-return]


def read_images(num: int) -> list[np.ndarray]:
    root = os.environ.get("HW1_PHOTOS")
    if root is None:
        sizes = [(300, 400), (480, 640), (150, 220), (600, 900)]
        return [draw_scene(*sizes[n % len(sizes)], seed=n) for n in range(num)]
    images = open_training_data(DataConfig(root=root), 0, None).val
    return [read_image(images.path(n)) for n in random.Random(0).sample(range(len(images)), min(num, len(images)))]


def augment_in_torchvision(image: np.ndarray, params: AugmentParams, size: int) -> np.ndarray:
    (left, top, width, height), bilinear = params.box, functional.InterpolationMode.BILINEAR
    result = functional.resized_crop(Image.fromarray(image), top, left, height, width, [size, size], bilinear)
    result = functional.rotate(functional.hflip(result) if params.flip else result, params.angle, bilinear)
    for name, factor in params.jitter:
        result = getattr(functional, f"adjust_{name}")(result, factor)
    return np.asarray(result)


def compare(images: Sequence[np.ndarray], aug: AugConfig) -> tuple[list[np.ndarray], list[str]]:
    """Four images uint8 [S, S, 3] and their titles for each image."""
    cells, titles = [], []
    for n, image in enumerate(images):
        params = draw_params((0, 0, n), image.shape[0], image.shape[1], aug)
        expected, fused = augment_in_torchvision(image, params, aug.size), augment_fused(image, params, aug.size)
        difference = cv2.absdiff(expected, fused)
        cells += [image, expected, fused, cv2.convertScaleAbs(difference, alpha=MAGNIFIED)]
        titles += [
            f"{image.shape[1]} x {image.shape[0]}",
            "torchvision",
            "fused",
            f"difference x {MAGNIFIED} (mean {difference.mean():.1f})",
        ]
    return cells, titles


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augmentation_parity", description=__doc__)
    parser.add_argument("out", type=Path, metavar="OUT.png")
    parser.add_argument("--num", type=int, default=8, help="images (8)")
    arguments = parser.parse_args(argv)
    if arguments.num < 1:
        raise UserError(f"--num: at least 1, got {arguments.num}")
    cells, titles = compare(read_images(arguments.num), AugConfig())
    save_figure(plot_samples(cells, titles), arguments.out)
    print(arguments.out)


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
