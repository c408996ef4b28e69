"""The input pipelines that are measured side by side: ours and the peers'."""

import importlib
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch

from benchmarks.input import peers
from hw1.config.recipe import AugConfig, DataConfig
from hw1.data.augment.plain_transforms import Transform
from hw1.data.augment.transforms import build_eval_transform, build_train_transform
from hw1.data.image_set import ImageSet
from hw1.data.image_source import FileSource, ImageSource
from hw1.data.loader.dataset import ImageDataset

Read = Callable[[int, int], torch.Tensor]
"""(epoch, index) -> image `index` transformed: uint8 [S, S, 3], or [3, S, S] from torchvision and timm; float32 from `report`."""

From = Literal["JPEG", "decoded", "disk"]
SEED = 118
HAS_DISK_CACHE = importlib.util.find_spec("hw1.data.cache.disk") is not None


class MemorySource:
    """Images decoded once, held as arrays: at the size that a file is decoded to for this transform."""

    def __init__(self, images: ImageSet, smallest_side: int | None) -> None:
        files = FileSource(images, smallest_side)
        self.images = [files.read(index) for index in range(len(images))]

    def read(self, index: int) -> np.ndarray:
        return self.images[index]


class Variant(NamedTuple):
    label: str
    source: From
    build: Callable[[ImageSet, AugConfig, Path], Read]
    """From the images, the policy and a folder for what is kept on disk."""
    base: str = "torchvision"
    """The variant that this one is compared with."""
    ours: bool = False


def open_disk_source(images: ImageSet, aug: AugConfig, transform: Transform, training: bool, folder: Path) -> ImageSource:
    """`data.cache=disk`, with the cache in `folder`."""
    diskcache = importlib.import_module("hw1.data.cache.disk")
    data = DataConfig(root=str(images.root), cache="disk", cache_dir=str(folder))
    return diskcache.open_disk_source(images, data, aug, transform, training=training)  # type: ignore[no-any-return]


def open_source(source: From, images: ImageSet, aug: AugConfig, transform: Transform, training: bool, folder: Path) -> ImageSource:
    if source == "disk":
        return open_disk_source(images, aug, transform, training, folder)
    return FileSource(images, transform.smallest_side) if source == "JPEG" else MemorySource(images, transform.smallest_side)


def _train(source: From, impl: Literal["fused", "albumentations"], *more: dict[str, Any]) -> Variant:
    def build(images: ImageSet, aug: AugConfig, folder: Path) -> Read:
        aug = aug.model_copy(update={"impl": impl, "transforms": ("policy", *more)})
        return _read_ours(images, aug, build_train_transform(aug), source, True, folder)

    return Variant(f"hw1, {impl}{', two more steps' if more else ''}", source, build, ours=True)


def _eval(source: From) -> Variant:
    def build(images: ImageSet, aug: AugConfig, folder: Path) -> Read:
        return _read_ours(images, aug, build_eval_transform(aug), source, False, folder)

    return Variant("hw1, validation", source, build, base="torchvision_eval", ours=True)


def _read_ours(images: ImageSet, aug: AugConfig, transform: Transform, source: From, training: bool, folder: Path) -> Read:
    dataset = ImageDataset(images, transform, SEED, open_source(source, images, aug, transform, training, folder))
    return lambda epoch, index: dataset[epoch, index][0]


def _peer(label: str, source: From, build: Callable[[ImageSet, AugConfig], peers.Peer], base: str = "torchvision") -> Variant:
    def build_read(images: ImageSet, aug: AugConfig, folder: Path) -> Read:
        dataset = build(images, aug)
        return lambda epoch, index: dataset[index][0]

    return Variant(label, source, build_read, base)


def _kept(build: Callable[[ImageSet, AugConfig, bool], peers.Peer]) -> Callable[[ImageSet, AugConfig], peers.Peer]:
    return lambda images, aug: build(images, aug, True)


def _build_timm(images: ImageSet, aug: AugConfig, folder: Path) -> Read:
    dataset = peers.timm_loader(images, aug).dataset
    return lambda epoch, index: dataset[index][0]


VARIANTS: dict[str, Variant] = {
    "fused": _train("JPEG", "fused"),
    "fused_decoded": _train("decoded", "fused"),
    "fused_disk": _train("disk", "fused"),
    "own_albumentations": _train("JPEG", "albumentations"),
    "own_albumentations_decoded": _train("decoded", "albumentations"),
    "two_more": _train("JPEG", "fused", *peers.TWO_MORE),
    "two_more_albumentations": _peer("albumentations, two more steps", "JPEG", peers.on_albumentations_with_two_more),
    "albumentations": _peer("albumentations", "JPEG", peers.on_albumentations),
    "albumentations_decoded": _peer("albumentations", "decoded", _kept(peers.on_albumentations)),
    "timm": Variant("timm create_loader, no rotation", "JPEG", _build_timm),
    "torchvision_v2": _peer("torchvision v2 on tensors", "JPEG", peers.on_tensors),
    "torchvision_v2_decoded": _peer("torchvision v2 on tensors", "decoded", _kept(peers.on_tensors)),
    "torchvision": _peer("torchvision on Pillow", "JPEG", peers.on_pillow),
    "torchvision_decoded": _peer("torchvision on Pillow", "decoded", _kept(peers.on_pillow)),
    "report": _peer("torchvision on Pillow, to float", "JPEG", peers.float_on_pillow),
    "eval": _eval("JPEG"),
    "eval_disk": _eval("disk"),
    "torchvision_eval": _peer("torchvision on Pillow, validation", "JPEG", peers.eval_on_pillow, "torchvision_eval"),
}
if not HAS_DISK_CACHE:
    VARIANTS = {key: variant for key, variant in VARIANTS.items() if variant.source != "disk"}
