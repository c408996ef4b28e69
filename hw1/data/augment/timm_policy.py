"""timm's augmentation policies as a transform of albumentations: RandAugment, AutoAugment, AugMix and 3-Augment by timm's strings."""

import random
from typing import Any

import albumentations as A
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hw1.config.recipe import AugConfig
from hw1.errors import UserError

STARTS = ("rand", "augmix", "original", "v0", "3a")


def is_timm_policy(name: str) -> bool:
    """Return whether timm would read this text as a policy: `rand-m9-mstd0.5-inc1`, `augmix-m3-w3`, `original`, `v0`, `3a`."""
    return name.partition("-")[0] in (*STARTS, "originalr", "v0r")


class TimmPolicy(A.ImageOnlyTransform):  # type: ignore[misc]  # albumentations has no types
    """Apply a policy of timm.

    timm draws from the generators of Python and numpy that all code shares: they are seeded for the call, and given back as they were.
    """

    def __init__(self, policy: str, aug: AugConfig) -> None:
        """Build the policy as timm's own training does, for images of `aug.size`, with the mean colour where pixels are missing.

        Raises:
            UserError: timm cannot read it.
        """
        from timm.data import auto_augment  # only where it is asked for: timm takes seconds to import

        super().__init__(p=1.0)
        kind = policy.partition("-")[0]
        build = {"rand": auto_augment.rand_augment_transform, "augmix": auto_augment.augment_and_mix_transform}
        hparams = {"translate_const": int(aug.size * 0.45), "img_mean": tuple(round(255 * value) for value in aug.mean)}
        try:
            self.policy = build.get(kind, auto_augment.auto_augment_transform)(policy, hparams)
        except Exception as error:  # timm asserts, and converts numbers
            raise UserError(f"{policy}: timm cannot read this policy{f': {error}' if str(error) else ''}") from None

    def get_params(self) -> dict[str, Any]:
        """Draw the seed of the call."""
        return {"policy_seed": self.py_random.getrandbits(32)}

    def apply(self, img: NDArray[np.uint8], policy_seed: int, **params: Any) -> NDArray[np.uint8]:
        """Augment uint8 [H, W, 3]."""
        states = random.getstate(), np.random.get_state()
        try:
            random.seed(policy_seed)
            np.random.seed(policy_seed)
            return np.asarray(self.policy(Image.fromarray(img)))
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
