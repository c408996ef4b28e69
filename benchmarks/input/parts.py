"""What an image's time is spent on, and what the ways not taken would cost: python -m benchmarks.input.parts

Microseconds of processor time an image at 224 px, on the images in `$HW1_PHOTOS/train` or drawn images. The table is for
`benchmarks/NOTES.md`.
"""

import io
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import albumentations as A
import cv2
import numpy as np
import torch
from PIL import Image

from benchmarks.common.timing import time_rounds, use_one_thread
from benchmarks.input.images import copy_photos, draw_images
from hw1.config.recipe import AugConfig
from hw1.data.augment.fused import FLAGS, KINDS, augment_fused, output_to_crop, shrink_height
from hw1.data.augment.kernels import adjust_colours
from hw1.data.augment.params import AugmentParams, draw_params, smallest_side, stream_key
from hw1.data.augment.pipelines import FusedPolicy, SeededPipeline, albumentations_policy
from hw1.data.decode import decode_image
from hw1.errors import run_command

AUG = AugConfig()
NUM, ROUNDS, CHUNK = 64, 7, 16
Work = Callable[[int, int], object]


def decoding(files: list[bytes], kind: str) -> dict[str, Work]:
    side = smallest_side(AUG)
    return {
        f"decode {kind}: as much as the crop needs": lambda _, i: decode_image(files[i], side),
        f"decode {kind}: whole": lambda _, i: decode_image(files[i]),
        f"decode {kind}: OpenCV to BGR, turned to RGB": lambda _, i: cv2.cvtColor(_imdecode(files[i]), cv2.COLOR_BGR2RGB),
        f"decode {kind}: Pillow": lambda _, i: _pillow(files[i]),
    }


def resize_in_torch(image: np.ndarray) -> np.ndarray:
    pixels = torch.from_numpy(image)[None].permute(0, 3, 1, 2)
    resized = torch.nn.functional.interpolate(pixels, (AUG.size, AUG.size), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()  # type: ignore[no-any-return]


def shrink_both(image: np.ndarray) -> np.ndarray:
    if len(image) > AUG.size:
        image = shrink_height(image, AUG.size)
    turned = np.asarray(cv2.transpose(image), np.uint8)
    return shrink_height(turned, AUG.size) if len(turned) > AUG.size else turned


def shrinking(images: list[np.ndarray]) -> dict[str, Work]:
    fours = [np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), np.uint8) for image in images]
    size = (AUG.size, AUG.size)
    return {
        "shrink: torch, antialiased": lambda _, i: resize_in_torch(images[i]),
        "shrink: torch, antialiased, 4 channels": lambda _, i: resize_in_torch(fours[i]),
        "shrink: compiled, antialiased, 4 channels, both sides": lambda _, i: shrink_both(fours[i]),
        "shrink: OpenCV INTER_AREA": lambda _, i: cv2.resize(images[i], size, interpolation=cv2.INTER_AREA),
        "shrink: OpenCV pyrDown, half only": lambda _, i: cv2.pyrDown(images[i]),
    }


def augmenting(images: list[np.ndarray]) -> dict[str, Work]:
    params = [_draw(0, i, image) for i, image in enumerate(images)]
    crops = [image[f.box[1] : f.box[1] + f.box[3], f.box[0] : f.box[0] + f.box[2]] for image, f in zip(images, params, strict=True)]
    matrices = [output_to_crop(*f.box[2:], f.flip, f.angle, AUG.size) for f in params]
    kinds = [np.array([KINDS[name] for name, _ in f.jitter], np.int64) for f in params]
    factors = [np.array([factor * 6 if name == "hue" else factor for name, factor in f.jitter], np.float32) for f in params]

    def warp(crop: np.ndarray, i: int) -> np.ndarray:
        return cv2.warpAffine(crop, matrices[i], (AUG.size, AUG.size), flags=FLAGS, borderMode=cv2.BORDER_REPLICATE)

    def warp_four(i: int) -> np.ndarray:
        return cv2.cvtColor(warp(cv2.cvtColor(crops[i], cv2.COLOR_RGB2RGBA), i), cv2.COLOR_RGBA2RGB)

    colours = [warp_four(i) for i in range(len(images))]
    packed = [cv2.cvtColor(array, cv2.COLOR_RGB2RGBA).view(np.uint32)[..., 0] for array in colours]
    target = np.empty((AUG.size, AUG.size), np.uint32)

    pipeline = A.Compose(albumentations_policy(AUG))
    jitter = A.Compose([step for step in albumentations_policy(AUG) if isinstance(step, A.ColorJitter)])
    return {
        "augment: fused, in all": lambda _, i: augment_fused(images[i], params[i], AUG.size),
        "augment: albumentations, in all": lambda _, i: pipeline(image=images[i]),
        "warp: 3 channels": lambda _, i: warp(crops[i], i),
        "warp: 4 channels, there and back included": lambda _, i: warp_four(i),
        "colours: compiled loop": lambda _, i: adjust_colours(packed[i], target, matrices[i], *params[i].box[2:], kinds[i], factors[i]),
        "colours: albumentations": lambda _, i: jitter(image=colours[i]),
    }


def drawing(images: list[np.ndarray]) -> dict[str, Work]:
    of_tiny = AUG.model_copy(update={"size": 16})
    tiny, pipeline, generator = images[0][:16, :16], SeededPipeline([FusedPolicy(of_tiny)], 16), random.Random()
    return {
        "draw: the factors": lambda n, i: _draw(n, i, images[i]),
        "draw: a new Random and numpy Generator": lambda n, i: (random.Random(stream_key((1, n, i))), np.random.default_rng((1, n, i))),
        "draw: a Random seeded again": lambda n, i: generator.seed(stream_key((1, n, i))),
        "albumentations: a 16 px image through the pipeline": lambda n, i: pipeline(tiny, (1, n, i)),
        "albumentations: the same without it": lambda n, i: augment_fused(tiny, draw_params((1, n, i), 16, 16, of_tiny), 16),
    }


def _draw(number: int, index: int, image: np.ndarray) -> AugmentParams:
    return draw_params((1, number, index), image.shape[0], image.shape[1], AUG)


def _imdecode(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image


def _pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def main(argv: Sequence[str]) -> None:
    use_one_thread()
    with tempfile.TemporaryDirectory(prefix="hw1-benchmark-") as name:
        photos, folder = os.environ.get("HW1_PHOTOS"), Path(name)
        arrays = copy_photos(Path(photos) / "train", NUM, folder / "a") if photos else draw_images(300, 220, NUM, folder / "a")
        large = draw_images(1200, 900, 8, folder / "b")
        described = arrays.describe()
        files = [[p.images.path(i).read_bytes() for i in range(len(p.images))] for p in (arrays, large)]
    images, wide = [decode_image(data) for data in files[0]], [decode_image(data, smallest_side(AUG)) for data in files[1]]
    groups = [
        (decoding(files[0], "a photo"), NUM),
        (decoding(files[1], "1200 x 900"), len(wide)),
        (shrinking(wide), len(wide)),
        (augmenting(images), NUM),
        (drawing(images), NUM),
    ]
    print(f"{described}; shrink: from {wide[0].shape[1]} x {wide[0].shape[0]}\n\n| part | microseconds an image |\n|---|---|")
    for work, num in groups:
        for key, rates in time_rounds(work, num, rounds=ROUNDS, chunk=CHUNK, clock=time.thread_time).items():
            print(f"| {key} | {1e6 / float(np.median(rates)):.0f} |")


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
