"""For the tests of augmentation: single steps of the policy, what they drew, and noise to apply them to."""

import numpy as np

from hw1.config import AugConfig

NOTHING = {"scale": (1.0, 1.0), "hflip": 0.0, "rotation": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
JITTER = ("brightness", "contrast", "saturation", "hue")


def only(size: int, **kept) -> AugConfig:
    return AugConfig(size=size, **{**NOTHING, **kept})


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def drawn(transform, step: int) -> dict:
    """What step number `step` drew at the last call."""
    return transform.pipeline.transforms[step].get_applied_params()
