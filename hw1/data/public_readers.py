"""Read the splits of public data sets with the library that each belongs to: torchvision, Hugging Face datasets, WebDataset.

`timm.data` finds the data sets and, if asked, downloads them; torchvision itself does so for those that timm has no name for. Their images
are taken undecoded and by index, and are then treated as a folder's are. What needs the internet is untested.
"""

import contextlib
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

from hw1.config.recipe import DataConfig
from hw1.data.encoded_images import ArrowImages, MemoryImages, encode_png
from hw1.data.image_set import ImageSet
from hw1.data.list_files import require_folder
from hw1.data.webdataset import IMAGE_FIELDS, open_shards
from hw1.errors import UserError
from hw1.utils.file_lock import hold_lock
from hw1.utils.progress_bar import ProgressBar
from hw1.utils.text import printable

TIMM_TORCH_NAMES = ("cifar10", "cifar100", "fashion_mnist", "imagenet", "inaturalist", "kmnist", "mnist", "places365", "qmnist")
"""The names below `torch/` that timm knows."""
VALIDATION_NAMES = ("validation", "val", "valid")
"""Names of the validation split, of which timm accepts any for its own data sets."""
DOWNLOAD_HINT = "; data.download=true lets it be fetched"
Names = tuple[str, ...] | None
"""The data set's own names of its labels 0, 1, ...; None if it has none."""


def read_split(config: DataConfig, split: str, key: str) -> tuple[ImageSet, Names]:
    """Read one of the data set's own splits.

    Args:
        config: The recipe's section `data`.
        split: The data set's name of the split.
        key: The key or option that names the split, for messages.

    Returns:
        The images, with the data set's own labels, and the names of those.

    Raises:
        UserError: The data set, the split, a package or a column is missing or cannot be read.
    """
    name = str(config.dataset)
    readers = {"torch": _read_torch, "hfds": _read_hfds, "wds": _read_wds}
    try:
        images, names = readers[name.partition("/")[0]](config, split, key)
    except UserError:
        raise
    except Exception as error:  # torchvision, datasets and timm have many errors, without a common base
        is_split = isinstance(error, ValueError) or _is_wds(config)  # for an unknown split each has ValueError, but timm's reader of shards
        hint = "" if config.download or is_split else DOWNLOAD_HINT
        message = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{key if is_split else 'data.dataset'}: {name}: {message}{hint}") from None
    if not len(images):
        raise UserError(f"{key}: {name}: the split {split} has no images")
    return replace(images.labelled(), dataset=name), names


def _require_root(config: DataConfig) -> Path:
    if config.root is None:
        raise UserError(f"data.root: not set; add data.root=FOLDER, where {config.dataset} lies")
    root = Path(config.root).expanduser()
    if config.download:
        return root
    if _is_wds(config) and root.is_file():
        raise UserError(f"data.root: {printable(root)}: not a folder; data.root={printable(root.parent)} holds it as a shard")
    try:
        require_folder(root, "data.root: ")
    except UserError as error:
        raise UserError(f"{error}{'' if _is_wds(config) else DOWNLOAD_HINT}") from None
    return root


def _is_wds(config: DataConfig) -> bool:
    return str(config.dataset).startswith("wds/")


def _require_package(name: str, prefix: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise UserError(f"data.dataset: {prefix}/ needs the package {name}; pip install -r requirements-datasets.txt")


def _create_with_timm(config: DataConfig, **options: Any) -> Any:
    from timm.data.dataset_factory import create_dataset  # takes seconds to import

    return create_dataset(str(config.dataset), **options)


# ------------------------------------------------------------------------------------------------------ torchvision


def _read_torch(config: DataConfig, split: str, key: str) -> tuple[ImageSet, Names]:
    root = _require_root(config)
    with _download_lock(root) if config.download else contextlib.nullcontext():
        dataset = _make_torch(config, root, split, key)
    files: list[str] = []
    encoded: list[bytes] = []
    labels: list[int] = []
    for image, label in ProgressBar(_torch_items(dataset), desc="listing images", total=len(dataset), unit=" images", delay=1.0):
        labels.append(int(label))
        if path := image if isinstance(image, str) else getattr(image, "filename", ""):
            files.append(Path(os.path.relpath(path, root)).as_posix())
        else:
            encoded.append(encode_png(image))
    archive = MemoryImages(root, split, encoded) if encoded else None
    images = ImageSet(root, archive.names if archive else tuple(files), np.array(labels, np.int64), 0, archive)
    return images, _torch_names(dataset)


def _make_torch(config: DataConfig, root: Path, split: str, key: str) -> Any:
    """Make torchvision's data set; if it can, it gives a file's path in place of its image."""
    from torchvision import datasets

    name = str(config.dataset).removeprefix("torch/")
    dataset_class = {each.lower(): getattr(datasets, each) for each in datasets.__all__}[name.replace("_", "")]
    parameters = {parameter for base in dataset_class.__mro__ for parameter in inspect.signature(base.__init__).parameters}
    options: dict[str, Any] = {"root": str(root), "download": config.download} | ({"loader": os.fspath} if "loader" in parameters else {})
    if name in TIMM_TORCH_NAMES:
        return _create_with_timm(config, split=split, **options)
    if "split" not in parameters:
        if split != "train":
            hint = "" if key == "--split" else "; data.val_fraction=0.1 takes a share of it for validation"
            raise UserError(f"{key}: {config.dataset} has no splits of its own{hint}")
        return dataset_class(**options)
    spellings = (split, *VALIDATION_NAMES) if split in VALIDATION_NAMES else (split,)
    for spelling in spellings[:-1]:
        with contextlib.suppress(ValueError):
            return dataset_class(split=spelling, **options)
    return dataset_class(split=spellings[-1], **options)  # its ValueError lists the splits that exist


def _torch_items(dataset: Any) -> Iterator[tuple[Any, Any]]:
    if type(dataset).__name__ == "OxfordIIITPet":  # it takes no loader, and decodes all that it gives
        return zip(map(str, dataset._images), dataset._labels, strict=True)
    return (dataset[index] for index in range(len(dataset)))


def _torch_names(dataset: Any) -> Names:
    """Return the class names in the order of the labels; a name that several classes have (ImageNet's crane) gets its label added."""
    listed = next((getattr(dataset, name) for name in ("classes", "categories", "all_categories") if hasattr(dataset, name)), None)
    if listed is None:
        return None
    names = [name if isinstance(name, str) else ", ".join(name) for name in listed]
    return tuple(f"{name} ({label})" if names.count(name) > 1 else name for label, name in enumerate(names))


@contextlib.contextmanager
def _download_lock(root: Path) -> Iterator[None]:
    """Let one process at a time download: torchvision would take what another has half unpacked for the whole."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold_lock(root / ".download.lock"))
        except OSError as error:
            raise UserError(f"data.root: {printable(root)}: cannot be written to: {error.strerror}") from None
        yield


# ------------------------------------------------------------------------------------------- Hugging Face datasets


def _read_hfds(config: DataConfig, split: str, key: str) -> tuple[ImageSet, Names]:
    _require_package("datasets", "hfds")
    root = None if config.root is None else str(Path(config.root).expanduser())
    with contextlib.nullcontext() if config.download else _offline():
        dataset = _create_with_timm(config, root=root, split=split, input_key=config.input_key, target_key=config.target_key)
    reader = dataset.reader
    archive = ArrowImages(reader.dataset, reader.image_key, split, _hfds_folders(config, root))
    if not archive.has_images:  # by now a column that does not exist is one of empty cells
        others = ", ".join(name for name in reader.dataset.column_names if name != reader.image_key)
        raise UserError(f"data.input_key: {config.dataset} has no images in {reader.image_key}; it has {others}")
    labels = None
    if reader.label_key in reader.dataset.column_names:
        targets = list(reader.iter_targets())
        if wrong := [label for label in targets if not isinstance(label, int | None)]:
            raise UserError(f"data.target_key: {config.dataset}: {reader.label_key} holds no integers, but {wrong[0]!r}")
        labels = np.array([-1 if label is None else label for label in targets], np.int64)
    elif config.target_key is not None:
        raise UserError(f"data.target_key: {config.dataset} has no {reader.label_key}; it has {', '.join(reader.dataset.column_names)}")
    names = tuple(sorted(reader.class_to_idx, key=reader.class_to_idx.get)) or None
    return ImageSet(archive.root, archive.names, labels, 0, archive), names


def _hfds_folders(config: DataConfig, root: str | None) -> list[str]:
    """Return the folders that a data set's files may lie in: its own, if `data.dataset` is a path, and where the libraries download to."""
    import datasets.config
    import huggingface_hub.constants

    own = str(config.dataset).removeprefix("hfds/")
    caches = [root] if root else [str(datasets.config.HF_DATASETS_CACHE), str(datasets.config.DOWNLOADED_DATASETS_PATH)]
    return [*([own] if os.path.isdir(own) else []), *caches, str(huggingface_hub.constants.HF_HUB_CACHE)]


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Keep both libraries offline: they read HF_HUB_OFFLINE when they are imported, and these flags of theirs afterwards."""
    import datasets.config
    import huggingface_hub.constants

    modules: list[Any] = [datasets.config, huggingface_hub.constants]
    before = [module.HF_HUB_OFFLINE for module in modules]
    try:
        for module in modules:
            module.HF_HUB_OFFLINE = True
        yield
    finally:
        for module, flag in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = flag


# ------------------------------------------------------------------------------------------------ WebDataset shards


def _read_wds(config: DataConfig, split: str, key: str) -> tuple[ImageSet, Names]:
    _require_package("webdataset", "wds")
    if _is_remote(str(config.root)):
        raise UserError(f"data.root: {config.root}: shards are read from disk, in any order; download them first")
    root = _require_root(config)
    if not (".tar" in split or ".." in split or any((root / name).is_file() for name in ("_info.json", "info.json"))):
        raise UserError(f"{key}: {printable(root)} has no _info.json that says which shards {split} has; name them: 'x-{{000..009}}.tar'")
    logging.getLogger("timm.data.readers.reader_wds").setLevel(logging.ERROR)  # it warns if there is no info file
    info = _create_with_timm(config, root=str(root), split=split).reader.split_info
    if remote := [shard for shard in info.filenames if _is_remote(shard)]:
        raise UserError(f"{key}: {remote[0]}: shards are read from disk, in any order; download them first")
    fields = config.input_key.split(";") if config.input_key else IMAGE_FIELDS
    images, num = open_shards(root, info.filenames, fields, config.target_key or info.alt_label or None)
    if info.num_samples not in (0, num, len(images.labelled())):
        raise UserError(f"data.root: {printable(root)}: {split} is said to have {info.num_samples} samples, its shards hold {num}")
    return images, None


def _is_remote(path: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]+:", path) is not None
