"""The report's policy in other libraries, written from their documentation; amounts from the same `AugConfig` as ours.

Each ends in a uint8 tensor, as ours does: what is to be normalised on the device. `float_on_pillow` is what the report did.
"""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

import albumentations as A
import cv2
import numpy as np
import torch
from PIL import Image
from timm.data import FastCollateMixup, ImageDataset, create_loader
from torch.utils.data import Dataset
from torchvision import transforms
from torchvision.transforms import functional, v2

from hw1.config.recipe import AugConfig
from hw1.data.image_set import ImageSet

META = torch.device("meta")


class Peer(Dataset[tuple[torch.Tensor, int]]):
    """Image `index` as `load` gives it, transformed; with `keep` all are loaded once, at the start."""

    def __init__(self, images: ImageSet, load: Callable[[str], Any], transform: Callable[[Any], torch.Tensor], keep: bool) -> None:
        self.paths = [str(images.path(index)) for index in range(len(images))]
        self.load = load
        self.transform = transform
        self.kept = [load(path) for path in self.paths] if keep else None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.load(self.paths[index]) if self.kept is None else self.kept[index]), 0


def on_pillow(images: ImageSet, aug: AugConfig, keep: bool = False) -> Peer:
    """torchvision's transforms on Pillow's images, as in the report, but to uint8: cheaper than its ToTensor and Normalize."""
    return Peer(images, load_pillow, transforms.Compose([*_pillow_policy(aug), transforms.PILToTensor()]), keep)


def float_on_pillow(images: ImageSet, aug: AugConfig) -> Peer:
    """The report's pipeline to its end: float32, normalised."""
    end = [transforms.ToTensor(), transforms.Normalize(aug.mean, aug.std)]
    return Peer(images, load_pillow, transforms.Compose([*_pillow_policy(aug), *end]), keep=False)


def eval_on_pillow(images: ImageSet, aug: AugConfig) -> Peer:
    """The report's validation."""
    return Peer(images, load_pillow, transforms.Compose([transforms.Resize((aug.size, aug.size)), transforms.PILToTensor()]), keep=False)


def on_tensors(images: ImageSet, aug: AugConfig, keep: bool = False) -> Peer:
    """torchvision's transforms v2 on uint8 tensors, decoded by Pillow: torchvision deprecated its own decoder in 0.29."""
    policy = v2.Compose([
        v2.RandomResizedCrop(aug.size, aug.scale, aug.ratio, antialias=True),
        v2.RandomHorizontalFlip(aug.hflip),
        v2.RandomRotation(aug.rotation),  # type: ignore[arg-type]
        v2.ColorJitter(aug.brightness, aug.contrast, aug.saturation, aug.hue),
    ])  # fmt: skip
    return Peer(images, load_tensor, policy, keep)


def on_albumentations(images: ImageSet, aug: AugConfig, keep: bool = False) -> Peer:
    """albumentations' own transforms, on arrays that OpenCV decoded."""
    return Peer(images, load_array, Albumentations(aug), keep)


def on_albumentations_with_two_more(images: ImageSet, aug: AugConfig, keep: bool = False) -> Peer:
    return Peer(images, load_array, Albumentations(aug, A.CoarseDropout(p=0.3), A.GaussNoise(p=0.2)), keep)


TWO_MORE: tuple[dict[str, Any], ...] = ({"CoarseDropout": {"p": 0.3}}, {"GaussNoise": {"p": 0.2}})
"""The same as a recipe's steps."""


class Albumentations:
    def __init__(self, aug: AugConfig, *more: A.BasicTransform) -> None:
        around_one = [(1 - amount, 1 + amount) for amount in (aug.brightness, aug.contrast, aug.saturation)]
        self.pipeline = A.Compose([
            A.RandomResizedCrop((aug.size, aug.size), aug.scale, aug.ratio),
            A.HorizontalFlip(aug.hflip),
            A.Rotate((-aug.rotation, aug.rotation), p=1.0),
            A.ColorJitter(*around_one, (-aug.hue, aug.hue), p=1.0),
            *more,
        ])  # fmt: skip

    def __call__(self, image: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(self.pipeline(image=image)["image"])


def timm_loader(
    images: ImageSet,
    aug: AugConfig,
    *,
    num_workers: int = 0,
    batch_size: int = 32,
    repeats: int = 1,
    device: torch.device = META,
    mixup: FastCollateMixup | None = None,
) -> Any:
    """timm's `create_loader` with the nearest policy that it has: all but the rotation, which it offers as a part of AutoAugment only.

    Its loader hands uint8 batches to the device; torch's `meta` computes nothing. `mixup` mixes in the loader's processes.
    """
    dataset = ImageDataset(str(images.root))
    dataset.reader.samples = dataset.reader.samples * repeats
    return create_loader(
        dataset,
        (3, aug.size, aug.size),
        batch_size,
        is_training=True,
        scale=aug.scale,
        ratio=aug.ratio,
        hflip=aug.hflip,
        color_jitter=(aug.brightness, aug.contrast, aug.saturation, aug.hue),  # type: ignore[arg-type]
        interpolation="bilinear",
        mean=aug.mean,
        std=aug.std,
        num_workers=num_workers,
        device=device,
        collate_fn=mixup,
        pin_memory=device.type == "cuda",
    )


def load_pillow(path: str) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")


def load_tensor(path: str) -> torch.Tensor:
    return functional.pil_to_tensor(load_pillow(path))  # type: ignore[no-any-return]


def load_array(path: str) -> np.ndarray:
    image = cv2.imread(path, cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image


def _pillow_policy(aug: AugConfig) -> list[Any]:
    return [
        transforms.RandomResizedCrop(aug.size, aug.scale, aug.ratio),
        transforms.RandomHorizontalFlip(aug.hflip),
        transforms.RandomRotation(aug.rotation),
        transforms.ColorJitter(aug.brightness, aug.contrast, aug.saturation, aug.hue),
    ]
