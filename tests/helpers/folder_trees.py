"""Folders of empty files, for the tests of what is read from folders: making them, opening them, the problems they raise."""

from pathlib import Path

import pytest

from hw1.config.recipe import DataConfig
from hw1.data.image_folder import ImageSet, open_training_data
from hw1.errors import UserError


def make(root: Path, *files: str) -> Path:
    """Empty files; a name that ends in / is an empty folder."""
    for file in files:
        path = root / file
        if file.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def config(root: Path, val_fraction: float | None = None) -> DataConfig:
    return DataConfig(root=str(root), val_fraction=val_fraction)


def problems(*args: object) -> tuple[str, ...]:
    """The lines of the error that opening with these arguments raises."""
    with pytest.raises(UserError) as caught:
        open_training_data(*args)
    assert caught.value.problems
    assert all("\n" not in line for line in caught.value.problems)
    return caught.value.problems


def by_class(images: ImageSet) -> dict[int, list[str]]:
    assert images.labels is not None
    return {
        label: [f for f, x in zip(images.files, images.labels, strict=True) if x == label] for label in sorted(set(images.labels.tolist()))
    }
