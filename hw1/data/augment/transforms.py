"""Build the transforms from uint8 RGB to uint8 RGB: the recipe's augmentation, and the validation resize."""

from hw1.config.recipe import AugConfig
from hw1.data.augment.plain_transforms import EvalTransform, FusedTransform, Transform, draws_nothing

ONLY_POLICY = AugConfig().transforms


def build_train_transform(aug: AugConfig) -> Transform:
    """Build the recipe's augmentation; if it draws nothing, the validation resize.

    Raises:
        UserError: A step of `aug.transforms` cannot be built.
    """
    if aug.transforms == ONLY_POLICY:
        if draws_nothing(aug):
            return EvalTransform(aug)
        if aug.impl == "fused":
            return FusedTransform(aug)

    from hw1.data.augment.pipelines import build_pipeline  # albumentations takes long to import

    return build_pipeline(aug)


def build_eval_transform(aug: AugConfig) -> Transform:
    """Build the resize for validation and prediction (`EvalRule`)."""
    return EvalTransform(aug)


def check_transforms(aug: AugConfig) -> None:
    """Build the steps of `aug.transforms`, and try them on noise: one image larger than `aug.size`, and one smaller.

    Raises:
        UserError: A step cannot be built, fails, or changes more than values and size; or images do not come out at `aug.size`.
    """
    if aug.transforms != ONLY_POLICY:
        from hw1.data.augment.pipelines import try_pipeline  # albumentations takes long to import

        try_pipeline(aug)
