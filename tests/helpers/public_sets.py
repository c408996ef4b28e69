"""Public data sets on disk, each by the library that its format belongs to, for the tests of `data.dataset`."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from hw1.config.recipe import DataConfig
from hw1.data.image_folder import open_training_data
from hw1.data.image_set import ImageSet, TrainingData

SHARD_SIZE = 7


def opened(root: Path | str | None, dataset: str | None = None, num_classes: int | None = None, **keys: object) -> TrainingData:
    config = DataConfig.model_validate({"root": None if root is None else str(root), "dataset": dataset, **keys})
    return open_training_data(config, 5, num_classes)


def encoded(images: ImageSet) -> list[bytes]:
    return [images.image_file(index).read_bytes() for index in range(len(images))]


def labels(images: ImageSet) -> list[int]:
    assert images.labels is not None
    return images.labels.tolist()


def splits(data: TrainingData) -> Iterator[tuple[str, list[bytes], list[int]]]:
    """The name of each split, its images and its labels."""
    for name, images in (("train", data.train), ("validation", data.val)):
        yield name, encoded(images), labels(images)


def jpeg(number: int, suffix: str = ".jpg") -> bytes:
    """A small image of its own, as a file."""
    coarse = np.random.default_rng(number).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    done, data = cv2.imencode(suffix, cv2.resize(coarse, (40 + number % 9, 30 + number % 7), interpolation=cv2.INTER_CUBIC))
    assert done
    return data.tobytes()


def write_folder(root: Path, *, train: int = 4, val: int = 2, classes: int = 3) -> Path:
    """Class folders named by integers, `train` and `val` images in each."""
    for split, count in (("train", train), ("val", val)):
        for label in range(classes):
            for number in range(count):
                path = root / split / str(label) / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(jpeg(1000 * label + 10 * number + (split == "val")))
    return root


def write_shards(root: Path, data: TrainingData, test: Sequence[bytes] = ()) -> Path:
    """WebDataset shards by the library's own writer, with timm's `_info.json`; an unlabelled split `test` if there are images for it."""
    from webdataset import ShardWriter

    root.mkdir(parents=True)
    info = {}
    for split, images, numbers in (*splits(data), ("test", test, [])):
        with ShardWriter(f"{root}/{split}-%03d.tar", maxcount=SHARD_SIZE, verbose=0) as writer:
            for index, image in enumerate(images):
                writer.write({"__key__": f"{split}/{index:05d}", "jpg": image} | ({"cls": numbers[index]} if numbers else {}))
        files = sorted(path.name for path in root.glob(f"{split}-*.tar"))
        lengths = [min(SHARD_SIZE, len(images) - SHARD_SIZE * number) for number in range(len(files))]
        info[split] = {"name": split, "num_samples": len(images), "filenames": files, "shard_lengths": lengths}
    (root / "_info.json").write_text(json.dumps({"splits": info}))
    return root


def write_parquet(
    folder: Path, data: TrainingData, test: Sequence[bytes] = (), *, image: str = "image", label: str = "label", names: bool = True
) -> Path:
    """A Hugging Face data set as the hub keeps it, to be opened by its path."""
    import datasets

    folder.mkdir(parents=True)
    feature = datasets.ClassLabel(names=list(data.classes.names)) if names else datasets.Value("int64")
    for split, images, numbers in (*splits(data), ("test", test, [-1] * len(test))):
        if images:
            rows = {image: [{"bytes": array, "path": None} for array in images], label: numbers}
            table = datasets.Dataset.from_dict(rows, datasets.Features({image: datasets.Image(), label: feature}))
            table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def write_food101(root: Path, names: Sequence[str] = ("baklava", "apple_pie")) -> Path:
    """torchvision's layout of Food-101: four images a class, three of them for training."""
    base = root / "food-101"
    lists: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for label, name in enumerate(names):
        (base / "images" / name).mkdir(parents=True)
        for number in range(4):
            (base / "images" / name / f"{number}.jpg").write_bytes(jpeg(10 * label + number))
        lists["train"][name] = [f"{name}/{number}" for number in range(3)]
        lists["test"][name] = [f"{name}/3"]
    (base / "meta").mkdir()
    for split, content in lists.items():
        (base / "meta" / f"{split}.json").write_text(json.dumps(content))
    return root


def write_flowers102(root: Path, num: int = 12) -> dict[str, tuple[str, str]]:
    """torchvision's layout of the Oxford flowers, of three classes; returns what torchvision knows of its lists: names and MD5 sums."""
    from scipy.io import savemat
    from torchvision.datasets.utils import calculate_md5

    base = root / "flowers-102"
    (base / "jpg").mkdir(parents=True)
    for number in range(1, num + 1):
        (base / "jpg" / f"image_{number:05d}.jpg").write_bytes(jpeg(number))
    savemat(base / "imagelabels.mat", {"labels": np.arange(num) % 3 + 1})
    order = np.random.default_rng(0).permutation(num) + 1
    savemat(base / "setid.mat", {"trnid": order[: num // 2], "valid": order[num // 2 : -3], "tstid": order[-3:]})
    sums = {key: (name, calculate_md5(base / name)) for key, name in (("label", "imagelabels.mat"), ("setid", "setid.mat"))}
    return {"image": ("102flowers.tgz", ""), **sums}


def write_mnist(root: Path, num: int = 20) -> dict[str, np.ndarray]:
    """MNIST's own files, of fewer images; returns the images, uint8 [N, 28, 28], by split."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    images_by_split = {}
    for split, start in (("train", 0), ("t10k", 1)):
        images = np.random.default_rng(start).integers(0, 256, (num, 28, 28), dtype=np.uint8)
        header = np.array([0x803, num, 28, 28], ">i4").tobytes()
        (raw / f"{split}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(np.array([0x801, num], ">i4").tobytes() + bytes(i % 10 for i in range(num)))
        images_by_split[split] = images
    return images_by_split


def write_pets(root: Path) -> Path:
    """torchvision's layout of the Oxford pets: two breeds, four images each."""
    base = root / "oxford-iiit-pet"
    (base / "images").mkdir(parents=True)
    (base / "annotations").mkdir()
    lines: dict[str, list[str]] = {"trainval": [], "test": []}
    for label, name in enumerate(("Abyssinian", "great_pyrenees"), start=1):
        for number in range(4):
            (base / "images" / f"{name}_{number}.jpg").write_bytes(jpeg(10 * label + number))
            lines["trainval" if number < 3 else "test"].append(f"{name}_{number} {label} 1 1")
    for split, content in lines.items():
        (base / "annotations" / f"{split}.txt").write_text("\n".join(content) + "\n")
    return root


def write_eurosat(root: Path, source: Path) -> Path:
    """torchvision's layout of EuroSAT, from class folders."""
    shutil.copytree(source, root / "eurosat" / "2750")
    return root
