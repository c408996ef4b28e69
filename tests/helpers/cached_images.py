"""For the tests of the disk cache: opening one, and what a folder of them holds."""

import os
from pathlib import Path

from helpers.loader_images import AUG
from hw1.config.recipe import AugConfig, DataConfig
from hw1.data.augment.transforms import build_eval_transform, build_train_transform
from hw1.data.cache.disk import open_disk_source
from hw1.data.cache.image_file import CacheFile
from hw1.data.image_folder import ImageSet

LOCK = ".pictures.lock"


def open_cache(images: ImageSet, folder: Path, aug: AugConfig = AUG, *, training: bool = True) -> CacheFile:
    transform = build_train_transform(aug) if training else build_eval_transform(aug)
    return open_disk_source(images, DataConfig(cache="disk", cache_dir=str(folder)), aug, transform, training=training)


def names(folder: Path) -> list[str]:
    """Files in the folder, but for the lock."""
    return sorted(name for name in os.listdir(folder) if name != LOCK)
