"""Public data sets by timm's names: `torch/...` (torchvision), `hfds/...` (Hugging Face datasets), `wds/...` (WebDataset shards).

`timm.data.create_dataset` finds them and, where asked, downloads; torchvision itself does so for the sets that timm has no name for. Their
images are taken undecoded and by index, and then go the way of a folder's. What needs the internet is untested.
"""

import contextlib
import fcntl
import importlib.util
import inspect
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from hw1.config.recipe import DataConfig
from hw1.data.encoded_images import Encoded, Rows, encode
from hw1.data.image_set import ClassMap, ImageSet, TrainingData, held_out, number_classes
from hw1.data.list_files import require_folder
from hw1.data.webdataset import IMAGE_FIELDS, open_shards
from hw1.errors import UserError
from hw1.utils.text import printable

OF_TIMM = ("cifar10", "cifar100", "fashion_mnist", "imagenet", "inaturalist", "kmnist", "mnist", "places365", "qmnist")
"""The names below `torch/` that timm knows."""
VALIDATION = ("validation", "val", "valid")
"""What it may be called: timm takes any for its own sets."""
FETCH = "; data.download=true lets it be fetched"
Names = tuple[str, ...] | None
"""The set's own names of its labels 0, 1, ...; None where it has none."""


def open_named_data(config: DataConfig, seed: int, num_classes: int | None) -> TrainingData:
    """The training and validation images of `config.dataset`.

    Labels are the set's integers, and classes have the set's names. Where it has none they are numbered as integer class folders are.

    Raises UserError for a set or split that is not there or cannot be read, a package that is missing, samples without labels, a
    validation class that training lacks, a `num_classes` that does not fit.
    """
    train, val, names = _open_both(config, seed)
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
    """The images of a split, with the class map of a checkpoint. "train" and "val" are those of `open_named_data`; any other name is one
    of the set's own splits, unlabelled where none of its samples has a label.

    Raises UserError as `open_named_data`, and for classes that the map lacks.
    """
    if split in ("train", "val"):
        train, val, names = _open_both(config, seed)
        images = train if split == "train" else val
    else:
        images, names = _open(config, split, "--split")
    return _relabel(images, names, classes)


def _open_both(config: DataConfig, seed: int) -> tuple[ImageSet, ImageSet, Names]:
    """Training and validation images, with the set's own labels."""
    train, names = _open(config, config.train_split or "train", "data.train_split")
    if config.val_fraction is not None:
        _require_labels(train, "data.train_split")
        train, val = _hold_out(train, names, config.val_fraction, seed)
    else:
        val, val_names = _open(config, config.val_split or VALIDATION[0], "data.val_split")
        if val_names != names:
            raise UserError(f"data.val_split: {config.dataset}: its classes are not those of the training split")
    for images, key in ((train, "data.train_split"), (val, "data.val_split")):
        _require_labels(images, key)
    return train, val, names


def _require_labels(images: ImageSet, key: str) -> None:
    if images.labels is None:
        raise UserError(f"{key}: {images.dataset}: its samples have no labels; is data.target_key right?")


def _hold_out(images: ImageSet, names: Names, fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """Takes `fraction` of each class for validation, the same images as from class folders of these names."""
    assert images.labels is not None
    chosen = np.zeros(len(images), bool)
    for label in np.unique(images.labels).tolist():
        members = np.flatnonzero(images.labels == label)
        chosen[members[list(held_out(len(members), fraction, seed, names[label] if names else str(label)))]] = True
    return images.subset(np.flatnonzero(~chosen)), replace(images.subset(np.flatnonzero(chosen)), num_stray=0)


def _relabel(images: ImageSet, names: Names, classes: ClassMap) -> ImageSet:
    """The set's own labels as those of the class map."""
    if images.labels is None:
        return images
    if names is not None:
        if names != classes.names:
            raise UserError(f"data.dataset: {images.dataset}: its classes are not those of the checkpoint")
        return images
    own = np.unique(images.labels).tolist()
    unknown = [label for label in own if str(label) not in classes.labels]
    if unknown:
        raise UserError(*(f"data.dataset: {images.dataset}: class {label}: unknown to the checkpoint" for label in unknown))
    labels = np.array([classes.labels[str(label)] for label in own], np.int64)
    return replace(images, labels=labels[np.searchsorted(own, images.labels)])


def _open(config: DataConfig, split: str, key: str) -> tuple[ImageSet, Names]:
    """One of the set's own splits, with its own labels; `key` is named where the split is wrong, for which all three have ValueError, but
    timm's reader of shards."""
    name = str(config.dataset)
    openers = {"torch": _open_torch, "hfds": _open_hfds, "wds": _open_wds}
    try:
        images, names = openers[name.partition("/")[0]](config, split, key)
    except UserError:
        raise
    except Exception as error:  # torchvision, datasets and timm have many errors, without a common base
        is_split = isinstance(error, ValueError) or _is_wds(config)
        hint = "" if config.download or is_split else FETCH
        what = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{key if is_split else 'data.dataset'}: {name}: {what}{hint}") from None
    if not len(images):
        raise UserError(f"{key}: {name}: the split {split} has no images")
    return replace(images.labelled(), dataset=name), names


def _require_root(config: DataConfig) -> Path:
    if config.root is None:
        raise UserError(f"data.root: not set; add data.root=FOLDER, where {config.dataset} lies")
    root = Path(config.root).expanduser()
    if config.download:
        return root
    try:
        require_folder(root, "data.root: ")
    except UserError as error:
        raise UserError(f"{error}{'' if _is_wds(config) else FETCH}") from None
    return root


def _is_wds(config: DataConfig) -> bool:
    return str(config.dataset).startswith("wds/")


def _require_package(name: str, prefix: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise UserError(f"data.dataset: {prefix}/ needs the package {name}; pip install -r requirements-datasets.txt")


# ------------------------------------------------------------------------------------------------------ torchvision


def _open_torch(config: DataConfig, split: str, key: str) -> tuple[ImageSet, Names]:
    root = _require_root(config)
    with _alone_in(root) if config.download else contextlib.nullcontext():
        dataset = _make_torch(config, root, split, key)
    files: list[str] = []
    encoded: list[bytes] = []
    labels: list[int] = []
    for image, label in tqdm(_torch_items(dataset), desc="listing images", total=len(dataset), unit=" images", delay=1.0, disable=None):
        labels.append(int(label))
        if path := image if isinstance(image, str) else getattr(image, "filename", ""):
            files.append(Path(os.path.relpath(path, root)).as_posix())
        else:
            encoded.append(encode(image))
    archive = Encoded(root, split, encoded) if encoded else None
    images = ImageSet(root, archive.names if archive else tuple(files), np.array(labels, np.int64), 0, archive)
    return images, _torch_names(dataset)


def _make_torch(config: DataConfig, root: Path, split: str, key: str) -> Any:
    """torchvision's data set; where it can, it gives a file's path in place of its image."""
    import timm.data
    from torchvision import datasets

    name = str(config.dataset).removeprefix("torch/")
    made = {each.lower(): getattr(datasets, each) for each in datasets.__all__}[name.replace("_", "")]
    takes = {parameter for base in made.__mro__ for parameter in inspect.signature(base.__init__).parameters}
    options: dict[str, Any] = {"root": str(root), "download": config.download} | ({"loader": os.fspath} if "loader" in takes else {})
    if name in OF_TIMM:
        return timm.data.create_dataset(str(config.dataset), split=split, **options)
    if "split" not in takes:
        if split != "train":
            hint = "" if key == "--split" else "; data.val_fraction=0.1 takes a share of it for validation"
            raise UserError(f"{key}: {config.dataset} has no splits of its own{hint}")
        return made(**options)
    spellings = (split, *VALIDATION) if split in VALIDATION else (split,)
    for number, spelling in enumerate(spellings, start=1):
        try:
            return made(split=spelling, **options)
        except ValueError:  # an unknown split, with those that there are
            if number == len(spellings):
                raise
    return None


def _torch_items(dataset: Any) -> Iterator[tuple[Any, Any]]:
    if type(dataset).__name__ == "OxfordIIITPet":  # it takes no loader, and decodes all that it gives
        return zip(map(str, dataset._images), dataset._labels, strict=True)
    return (dataset[index] for index in range(len(dataset)))


def _torch_names(dataset: Any) -> Names:
    """Class names, in the order of the labels; a name of several classes (ImageNet's crane) with its label."""
    found = next((getattr(dataset, name) for name in ("classes", "categories", "all_categories") if hasattr(dataset, name)), None)
    if found is None:
        return None
    names = [name if isinstance(name, str) else ", ".join(name) for name in found]
    return tuple(f"{name} ({label})" if names.count(name) > 1 else name for label, name in enumerate(names))


@contextlib.contextmanager
def _alone_in(root: Path) -> Iterator[None]:
    """One process at a time downloads: torchvision would take what another has half unpacked for the whole."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = open(root / ".download.lock", "w")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UserError(f"data.root: {printable(root)}: cannot be written to: {error.strerror}") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# ------------------------------------------------------------------------------------------- Hugging Face datasets


def _open_hfds(config: DataConfig, split: str, key: str) -> tuple[ImageSet, Names]:
    _require_package("datasets", "hfds")
    import timm.data

    root = None if config.root is None else str(Path(config.root).expanduser())
    with contextlib.nullcontext() if config.download else _offline():
        made: Any = timm.data.create_dataset(
            str(config.dataset), root=root, split=split, input_key=config.input_key, target_key=config.target_key
        )
    reader = made.reader
    archive = Rows(reader.dataset, reader.image_key, split)
    if not archive.has_images:  # a column that is not there is one of empty cells by now
        others = ", ".join(name for name in reader.dataset.column_names if name != reader.image_key)
        raise UserError(f"data.input_key: {config.dataset} has no images in {reader.image_key}; it has {others}")
    labels = None
    if reader.label_key in reader.dataset.column_names:
        found = list(reader.iter_targets())
        if wrong := [label for label in found if not isinstance(label, int | None)]:
            raise UserError(f"data.target_key: {config.dataset}: {reader.label_key} holds no integers, but {wrong[0]!r}")
        labels = np.array([-1 if label is None else label for label in found], np.int64)
    elif config.target_key is not None:
        raise UserError(f"data.target_key: {config.dataset} has no {reader.label_key}; it has {', '.join(reader.dataset.column_names)}")
    names = tuple(sorted(reader.class_to_idx, key=reader.class_to_idx.get)) or None
    return ImageSet(archive.root, archive.names, labels, 0, archive), names


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Both libraries read HF_HUB_OFFLINE when they are imported, and this flag of theirs afterwards."""
    import datasets.config
    import huggingface_hub.constants

    places: list[Any] = [datasets.config, huggingface_hub.constants]
    before = [place.HF_HUB_OFFLINE for place in places]
    try:
        for place in places:
            place.HF_HUB_OFFLINE = True
        yield
    finally:
        for place, flag in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = flag


# ------------------------------------------------------------------------------------------------ WebDataset shards


def _open_wds(config: DataConfig, split: str, key: str) -> tuple[ImageSet, Names]:
    _require_package("webdataset", "wds")
    import timm.data

    if _is_remote(str(config.root)):
        raise UserError(f"data.root: {config.root}: shards are read from disk, in any order; download them first")
    root = _require_root(config)
    if not (".tar" in split or ".." in split or any((root / name).is_file() for name in ("_info.json", "info.json"))):
        raise UserError(f"{key}: {printable(root)} has no _info.json that says which shards {split} has; name them: 'x-{{000..009}}.tar'")
    logging.getLogger("timm.data.readers.reader_wds").setLevel(logging.ERROR)  # it warns where there is no info file
    made: Any = timm.data.create_dataset(str(config.dataset), root=str(root), split=split)
    info = made.reader.split_info
    if remote := [shard for shard in info.filenames if _is_remote(shard)]:
        raise UserError(f"{key}: {remote[0]}: shards are read from disk, in any order; download them first")
    fields = config.input_key.split(";") if config.input_key else IMAGE_FIELDS
    images, num = open_shards(root, info.filenames, fields, config.target_key or info.alt_label or None)
    if info.num_samples not in (0, num, len(images.labelled())):
        raise UserError(f"data.root: {printable(root)}: {split} is said to have {info.num_samples} samples, its shards hold {num}")
    return images, None


def _is_remote(path: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]+:", path) is not None
