"""For the tests of augmentation: single steps of the policy, what they drew, and noise to apply them to."""

import numpy as np
import torch
import torchvision.transforms.functional as functional
from PIL import Image

from hw1.config.recipe import AugConfig
from hw1.data.augment.params import AugmentParams, draw_params
from hw1.data.augment.plain_transforms import FusedTransform

BILINEAR = functional.InterpolationMode.BILINEAR
NOTHING = {"scale": (1.0, 1.0), "hflip": 0.0, "rotation": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
JITTER = ("brightness", "contrast", "saturation", "hue")


def only(size: int, **amounts) -> AugConfig:
    return AugConfig(size=size, **{**NOTHING, **amounts})


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def soft_image(height: int, width: int, seed: int) -> np.ndarray:
    """Colourful, without sharp edges."""
    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def difference(ours: np.ndarray, theirs) -> np.ndarray:
    return np.abs(ours.astype(int) - np.asarray(theirs).astype(int))


def drawn(transform, image: np.ndarray, seed_words: tuple[int, ...]) -> AugmentParams:
    """What the policy drew at the last call, which was with these arguments, by either implementation."""
    if isinstance(transform, FusedTransform):
        return draw_params(seed_words, *image.shape[:2], transform.aug)
    applied = {type(step).__name__: step.get_applied_params() for step in transform.pipeline.transforms}
    left, top, right, bottom = applied["RandomResizedCrop"]["crop_coords"]
    matrix = applied["Rotate"]["matrix"] if "Rotate" in applied else np.eye(3)
    jitter = applied.get("ColorJitter", {"order": ()})
    factors = tuple((JITTER[n], jitter[JITTER[n]]) for n in jitter["order"] if jitter[JITTER[n]] != (JITTER[n] != "hue"))
    angle = float(np.degrees(np.arctan2(matrix[0, 1], matrix[0, 0])))
    return AugmentParams((left, top, right - left, bottom - top), bool(applied.get("HorizontalFlip")), angle, factors)


def in_torchvision(array: np.ndarray, params: AugmentParams, size: int) -> Image.Image:
    """The whole policy by torchvision on Pillow; rotation interpolated."""
    left, top, width, height = params.box
    image = functional.resized_crop(Image.fromarray(array), top, left, height, width, [size, size], BILINEAR)
    image = functional.hflip(image) if params.flip else image
    image = functional.rotate(image, params.angle, BILINEAR)
    for name, factor in params.jitter:
        image = getattr(functional, f"adjust_{name}")(image, factor)
    return image


def in_torchvision_float64(array: np.ndarray, params: AugmentParams, size: int) -> np.ndarray:
    """The whole policy by torchvision on a float64 tensor, which rounds nowhere: float64 [size, size, 3], 0 to 255."""
    left, top, width, height = params.box
    image = torch.from_numpy(array.transpose(2, 0, 1) / 255)
    image = functional.resized_crop(image, top, left, height, width, [size, size], BILINEAR, antialias=True)
    image = functional.hflip(image) if params.flip else image
    image = functional.rotate(image, params.angle, BILINEAR)
    for name, factor in params.jitter:
        image = getattr(functional, f"adjust_{name}")(image, factor)
    assert image.dtype == torch.float64
    return image.numpy().transpose(1, 2, 0) * 255
