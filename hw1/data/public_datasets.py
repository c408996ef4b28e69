"""Open public data sets by timm's names: `torch/...` (torchvision), `hfds/...` (Hugging Face datasets), `wds/...` (WebDataset shards).

`hw1.data.public_readers` reads the splits; here they become training and validation data with the classes of the run.
"""

from dataclasses import replace

import numpy as np

from hw1.config.recipe import DataConfig
from hw1.data.image_set import ClassMap, ImageSet, TrainingData, draw_held_out, number_classes
from hw1.data.public_readers import VALIDATION_NAMES, Names, read_split
from hw1.errors import UserError


def open_named_data(config: DataConfig, seed: int, num_classes: int | None) -> TrainingData:
    """Open the training and validation images of `config.dataset`.

    Labels are the data set's integers, and classes have the data set's names. Without names they are numbered as class folders named by
    integers are (`number_classes`).

    Args:
        config: The recipe's section `data`.
        seed: The run's seed, on which the split by `config.val_fraction` depends.
        num_classes: Number of classes that the recipe states, None if it states none.

    Raises:
        UserError: The data set or a split does not exist or cannot be read, a package is missing, samples have no labels, training lacks
            a class of validation, or `num_classes` does not fit.
    """
    train, val, names = _open_train_and_val(config, seed)
    problems: list[str] = []
    assert train.labels is not None
    assert val.labels is not None
    if names is None:
        classes = number_classes([str(label) for label in np.unique(train.labels).tolist()], num_classes, problems)
    else:
        classes = ClassMap(names)
        if num_classes is not None and num_classes != len(names):
            problems.append(f"model.num_classes: {config.dataset} has {len(names)} classes, got {num_classes}")
    unknown = np.setdiff1d(val.labels, train.labels).tolist()
    problems += [f"data.val_split: class {names[label] if names else label}: unknown to training" for label in unknown]
    if problems:
        raise UserError(*problems)
    return TrainingData(_relabel(train, names, classes), _relabel(val, names, classes), classes)


def open_named_split(config: DataConfig, split: str, classes: ClassMap, seed: int) -> ImageSet:
    """Open the images of a split with the class map of a checkpoint.

    Args:
        config: The run's section `data`.
        split: "train" and "val" are those of `open_named_data`; another name is one of the data set's own splits, which is unlabelled
            if none of its samples has a label.
        classes: The class map of the checkpoint.
        seed: The run's seed.

    Raises:
        UserError: As `open_named_data` does, and for classes that the map lacks.
    """
    if split in ("train", "val"):
        train, val, names = _open_train_and_val(config, seed)
        images = train if split == "train" else val
    else:
        images, names = read_split(config, split, "--split")
    return _relabel(images, names, classes)


def _open_train_and_val(config: DataConfig, seed: int) -> tuple[ImageSet, ImageSet, Names]:
    """Return the training and validation images, with the data set's own labels, and the names of those."""
    train, names = read_split(config, config.train_split or "train", "data.train_split")
    if config.val_fraction is not None:
        _require_labels(train, "data.train_split")
        train, val = _hold_out(train, names, config.val_fraction, seed)
    else:
        val, val_names = read_split(config, config.val_split or VALIDATION_NAMES[0], "data.val_split")
        if val_names != names:
            raise UserError(f"data.val_split: {config.dataset}: its classes are not those of the training split")
    for images, key in ((train, "data.train_split"), (val, "data.val_split")):
        _require_labels(images, key)
    return train, val, names


def _require_labels(images: ImageSet, key: str) -> None:
    if images.labels is None:
        raise UserError(f"{key}: {images.dataset}: its samples have no labels; is data.target_key right?")


def _hold_out(images: ImageSet, names: Names, fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Hold out `fraction` of each class for validation: the same images as of class folders with these names."""
    assert images.labels is not None
    held_out = np.zeros(len(images), bool)
    for label in np.unique(images.labels).tolist():
        members = np.flatnonzero(images.labels == label)
        held_out[members[list(draw_held_out(len(members), fraction, seed, names[label] if names else str(label)))]] = True
    return images.subset(np.flatnonzero(~held_out)), replace(images.subset(np.flatnonzero(held_out)), num_stray=0)


def _relabel(images: ImageSet, names: Names, classes: ClassMap) -> ImageSet:
    """Replace the data set's own labels by those of the class map."""
    if images.labels is None:
        return images
    if names is not None:
        if names != classes.names:
            raise UserError(f"data.dataset: {images.dataset}: its classes are not those of the checkpoint")
        return images
    original = np.unique(images.labels).tolist()
    unknown = [label for label in original if str(label) not in classes.labels]
    if unknown:
        raise UserError(*(f"data.dataset: {images.dataset}: class {label}: unknown to the checkpoint" for label in unknown))
    labels = np.array([classes.labels[str(label)] for label in original], np.int64)
    return replace(images, labels=labels[np.searchsorted(original, images.labels)])
