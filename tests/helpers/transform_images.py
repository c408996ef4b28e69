"""For the tests of augmentation: single steps of the policy, what they drew, and noise to apply them to."""

import numpy as np
from PIL import Image

from hw1.config.recipe import AugConfig
from hw1.data.augment.params import AugmentParams

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


def drawn(transform) -> AugmentParams:
    """What the policy drew at the last call."""
    return transform.pipeline.transforms[0].get_applied_params()["augment_params"]
