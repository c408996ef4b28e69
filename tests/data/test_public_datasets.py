"""Public data sets by timm's names, opened: labels, names, images and splits against the library that each belongs to; what is wrong."""

import fcntl
import importlib.util
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers.public_sets import (
    encoded,
    jpeg,
    labels,
    opened,
    write_eurosat,
    write_flowers102,
    write_folder,
    write_food101,
    write_mnist,
    write_parquet,
    write_pets,
    write_shards,
)
from PIL import Image

from hw1.config.library_names import TORCH_SETS
from hw1.config.recipe import DataConfig
from hw1.data.bad_images import find_bad_images
from hw1.data.decode import decode_image, read_image
from hw1.data.encoded_images import encode_png
from hw1.data.image_folder import find_split
from hw1.data.image_set import ClassMap, ImageSet
from hw1.data.public_readers import TIMM_TORCH_NAMES
from hw1.errors import UserError

for package in ("datasets", "webdataset"):
    pytest.importorskip(package, reason="requirements-datasets.txt is not installed")


@pytest.fixture
def folder_of_classes(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "classes")


def problems(root: Path | str | None, dataset: str, num_classes: int | None = None, **keys: object) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        opened(root, dataset, num_classes, **keys)
    assert all("\n" not in line for line in caught.value.problems)
    return caught.value.problems


def pixels(images: ImageSet) -> list[np.ndarray]:
    return [read_image(images.image_file(index)) for index in range(len(images))]


# --- torchvision's ---


def test_every_name_has_its_class_and_timms_are_known_to_timm(tmp_path):
    """The error of an empty folder is the set's own, not that there is no such set."""
    for name in TORCH_SETS:
        [line] = problems(tmp_path, f"torch/{name}")
        assert "no splits of its own" not in line
        assert line.startswith((f"data.dataset: torch/{name}: ", f"data.train_split: torch/{name}: ")), line
        assert "Unknown torchvision dataset" not in line
    assert set(TIMM_TORCH_NAMES) <= set(TORCH_SETS)


@pytest.mark.parametrize("val_split", [None, "val", "validation", "test"])
def test_flowers102(tmp_path, monkeypatch, val_split):
    from torchvision.datasets import Flowers102

    monkeypatch.setattr(Flowers102, "_file_dict", write_flowers102(tmp_path))
    data = opened(tmp_path, "torch/flowers102", val_split=val_split)
    assert data.classes.names == tuple(Flowers102.classes)
    for images, split in ((data.train, "train"), (data.val, "test" if val_split == "test" else "val")):
        theirs = Flowers102(tmp_path, split)
        assert labels(images) == [label for _, label in theirs]
        assert encoded(images) == [Path(path).read_bytes() for path in theirs._image_files]
        assert all(file.startswith("flowers-102/jpg/image_") for file in images.files)
        assert images.path(0).is_file()


def test_food101_has_a_test_split_and_says_so(tmp_path):
    from torchvision.datasets import Food101

    write_food101(tmp_path)
    data = opened(tmp_path, "torch/food101", val_split="test")
    assert data.classes.names == ("apple_pie", "baklava")
    assert labels(data.train) == [label for _, label in Food101(tmp_path, "train")] == [1, 1, 1, 0, 0, 0]
    assert data.val.files == ("food-101/images/baklava/3.jpg", "food-101/images/apple_pie/3.jpg")
    [line] = problems(tmp_path, "torch/food101")
    assert line.startswith("data.val_split: torch/food101: Unknown value 'valid' for argument split. Valid values are")
    assert "'test'" in line
    [line] = problems(tmp_path, "torch/food101", train_split="trian")
    assert line.startswith("data.train_split: torch/food101: Unknown value 'trian'")


def test_sets_of_numbers_become_images_without_loss(tmp_path):
    """MNIST, by timm's own factory."""
    arrays = write_mnist(tmp_path)
    data = opened(tmp_path, "torch/mnist")
    for images, split in ((data.train, "train"), (data.val, "t10k")):
        assert np.array_equal(pixels(images), np.repeat(arrays[split][..., None], 3, axis=3))
        assert labels(images) == [index % 10 for index in range(20)]
    assert data.classes.names[3] == "3 - three"
    assert (data.train.files[0], data.val.files[19]) == ("train/000000", "validation/000019")
    assert data.fingerprint == opened(tmp_path, "torch/mnist").fingerprint


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA"])
def test_an_image_in_memory_is_encoded_without_loss(mode):
    coloured = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    image = Image.fromarray(coloured).convert(mode)
    assert np.array_equal(decode_image(encode_png(image)), np.asarray(image.convert("RGB")))


def test_a_set_that_decodes_by_itself_is_read_from_its_files(tmp_path):
    from torchvision.datasets import OxfordIIITPet

    data = opened(write_pets(tmp_path), "torch/oxford_iiit_pet", train_split="trainval", val_split="test")
    assert data.classes.names == tuple(OxfordIIITPet(tmp_path).classes) == ("Abyssinian", "Great Pyrenees")
    assert data.train.files == tuple(
        f"oxford-iiit-pet/images/{name}_{n}.jpg" for name in ("Abyssinian", "great_pyrenees") for n in range(3)
    )
    assert labels(data.val) == [label for _, label in OxfordIIITPet(tmp_path, "test")]


def test_a_set_without_splits_is_divided(tmp_path, folder_of_classes):
    write_eurosat(tmp_path / "root", folder_of_classes / "train")
    line = "data.val_split: torch/eurosat has no splits of its own; data.val_fraction=0.1 takes a share of it for validation"
    assert problems(tmp_path / "root", "torch/eurosat") == (line,)
    data = opened(tmp_path / "root", "torch/eurosat", val_fraction=0.25)
    assert (len(data.train), len(data.val)) == (9, 3)
    assert not set(data.train.files) & set(data.val.files)


def test_nothing_is_fetched_unless_asked_for_and_then_by_one_process_at_a_time(tmp_path, monkeypatch):
    from torchvision.datasets import flowers102

    fetched = []

    def fetch(url: str, *rest: object, **more: object) -> None:
        fetched.append(url)
        with open(tmp_path / "new/.download.lock") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    monkeypatch.setattr(flowers102, "download_and_extract_archive", fetch)
    monkeypatch.setattr(flowers102, "download_url", fetch)
    line = f"data.root: {tmp_path}/no: no such folder; data.download=true lets it be fetched"
    assert problems(tmp_path / "no", "torch/flowers102") == (line,)
    [line] = problems(tmp_path, "torch/flowers102")
    assert line.endswith("You can use download=True to download it; data.download=true lets it be fetched")
    assert fetched == []
    [line] = problems(tmp_path / "new", "torch/flowers102", download=True)
    assert line.startswith("data.dataset: torch/flowers102: Dataset not found or corrupted.")
    assert [url.rpartition("/")[2] for url in fetched] == ["102flowers.tgz", "imagelabels.mat", "setid.mat"]
    assert problems(None, "torch/flowers102") == ("data.root: not set; add data.root=FOLDER, where torch/flowers102 lies",)


# --- Hugging Face's ---


@pytest.mark.parametrize("names", [True, False])
def test_rows_of_a_table(tmp_path, folder_of_classes, names):
    import datasets

    data = opened(folder_of_classes)
    folder = write_parquet(tmp_path / "set", data, [jpeg(7)], image="img", label="fine_label", names=names)
    ours = opened(tmp_path / "cache", f"hfds/{folder}", input_key="img", target_key="fine_label")
    assert ours.classes.names == ("0", "1", "2")
    for images, split in ((ours.train, "train"), (ours.val, "validation")):
        theirs = datasets.load_dataset(str(folder), split=split, cache_dir=str(tmp_path / "cache"))
        theirs = theirs.cast_column("img", datasets.Image(decode=False))
        assert encoded(images) == [row["img"]["bytes"] for row in theirs]
        assert labels(images) == theirs["fine_label"][:]
        assert images.files[1] == f"{split}/000001"
        assert [images.stamp(file)[0] for file in images.files] == [len(image) for image in encoded(images)]
        assert images.stamp("other/000000") is images.stamp(f"{split}/000999") is None
    assert ours.fingerprint == opened(tmp_path / "other cache", f"hfds/{folder}", input_key="img", target_key="fine_label").fingerprint
    config = DataConfig(root=str(tmp_path / "cache"), dataset=f"hfds/{folder}", input_key="img", target_key="fine_label")
    test, name = find_split("test", config, ours.classes, 5)
    assert (test.labels, encoded(test), name) == (None, [jpeg(7)], "test")
    part, name = find_split("train[:50%]", config, ours.classes, 5)
    assert (labels(part), name) == (labels(ours.train)[:6], "train__50__")


def test_a_folder_of_files_as_the_library_reads_it(tmp_path, folder_of_classes):
    """Its classes are in the order of their text; a label keeps its name all the same. The rows are paths."""
    root = write_folder(tmp_path / "many", classes=12)
    ours = opened(tmp_path / "cache", f"hfds/{root}")
    assert ours.classes.names == ("0", "1", "10", "11", "2", "3", "4", "5", "6", "7", "8", "9")
    theirs = opened(root)
    by_name = {image: theirs.classes.names[label] for image, label in zip(encoded(theirs.train), labels(theirs.train), strict=True)}
    assert {image: ours.classes.names[label] for image, label in zip(encoded(ours.train), labels(ours.train), strict=True)} == by_name
    assert str(ours.train.image_file(0)) == str(root / "train/0/0.jpg")
    (root / "train/0/0.jpg").unlink()
    assert ours.train.stamp("train/000000") is None


def write_paths(folder: Path, *paths: object) -> str:
    """A table whose cells are paths of files rather than their bytes."""
    import datasets

    rows = {"image": [{"bytes": None, "path": str(path)} for path in paths], "label": [index % 2 for index in range(len(paths))]}
    features = {"image": {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}, "label": datasets.Value("int64")}
    folder.mkdir(exist_ok=True)
    datasets.Dataset.from_dict(rows, datasets.Features(features)).to_parquet(folder / "train.parquet")
    return f"hfds/{folder}"


def test_only_files_within_the_set_are_read(tmp_path):
    """A cell is what whoever made the set has written: /dev/zero would be read until the memory ends, a pipe would wait for ever."""
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    for number in range(4):
        (root / f"images/{number}.jpg").write_bytes(jpeg(number))
    (tmp_path / "secret.jpg").write_bytes(jpeg(9))
    (root / "out.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "zero.jpg").symlink_to("/dev/zero")
    (root / "in.jpg").symlink_to("images/3.jpg")
    os.mkfifo(root / "pipe.jpg")
    good = (root / "images/0.jpg", root / "images/1.jpg", "images/2.jpg", root / "in.jpg")
    bad = ("/dev/zero", root / "zero.jpg", root / "pipe.jpg", root / "out.jpg", tmp_path / "secret.jpg", "../secret.jpg", root / "images")
    data = opened(tmp_path / "cache", write_paths(root, *good, *bad), val_fraction=0.5)
    images = {split.files[i]: split.image_file(i) for split in (data.train, data.val) for i in range(len(split))}
    assert [images[f"train/{row:06d}"].read_bytes() for row in range(4)] == [jpeg(number) for number in range(4)]
    for row in range(4, 4 + len(bad)):
        name = f"train/{row:06d}"
        assert (data.train.archive or data.val.archive).stamp(name) is None
        with pytest.raises(OSError, match="no file within the data set's folder"):
            images[name].read_bytes()
    assert sorted(find_bad_images(data.train).values()) == ["cannot be read: no file within the data set's folder"] * sum(
        int(file[-6:]) > 3 for file in data.train.files
    )


def test_rows_without_a_label_are_passed_over(tmp_path):
    import datasets

    rows = {"image": [{"bytes": jpeg(number), "path": None} for number in range(6)], "label": [0, 1, -1, None, 1, 0]}
    table = datasets.Dataset.from_dict(rows, datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")}))
    (tmp_path / "set").mkdir()
    table.to_parquet(tmp_path / "set/train.parquet")
    data = opened(tmp_path / "cache", f"hfds/{tmp_path}/set", val_fraction=0.5)
    assert sorted(data.train.files + data.val.files) == [f"train/{row:06d}" for row in (0, 1, 4, 5)]
    assert data.train.num_stray == 2
    for images in (data.train, data.val):
        assert all(rows["label"][int(file[-6:])] == label for file, label in zip(images.files, labels(images), strict=True))


def test_what_is_wrong_with_a_table(tmp_path, folder_of_classes):
    import datasets

    name = f"hfds/{write_parquet(tmp_path / 'set', opened(folder_of_classes))}"
    cache = tmp_path / "cache"
    [line] = problems(cache, name, val_split="valid")
    assert line.startswith(f"""data.val_split: {name}: Unknown split "valid". Should be one of ['train', 'validation']""")
    assert problems(cache, name, target_key="class") == (f"data.target_key: {name} has no class; it has image, label",)
    assert problems(cache, name, input_key="img") == (f"data.input_key: {name} has no images in img; it has image, label",)
    assert problems(cache, name, 7) == (f"model.num_classes: {name} has 3 classes, got 7",)
    words = datasets.Dataset.from_dict({"image": [{"bytes": jpeg(0), "path": None}], "label": ["cat"]})
    (tmp_path / "words").mkdir()
    words.cast_column("image", datasets.Image()).to_parquet(tmp_path / "words/train.parquet")
    words.remove_columns("label").to_parquet(tmp_path / "bare.parquet")
    assert problems(cache, f"hfds/{tmp_path}/words")[0].endswith("label holds no integers, but 'cat'")


def test_the_hub_is_not_asked_unless_download_is_set(tmp_path, monkeypatch):
    import datasets.config
    import huggingface_hub.constants

    seen = []
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)

    def load(*args: object, **more: object) -> None:
        seen.append((huggingface_hub.constants.is_offline_mode(), datasets.config.HF_HUB_OFFLINE))
        raise ConnectionError("no network\nhere")

    monkeypatch.setattr(datasets, "load_dataset", load)
    message = "data.dataset: hfds/owner/name: no network here"
    assert problems(tmp_path, "hfds/owner/name") == (f"{message}; data.download=true lets it be fetched",)
    assert problems(tmp_path, "hfds/owner/name", download=True) == (message,)
    assert problems(None, "hfds/owner/name")  # the library's own folder
    assert seen == [(True, True), (False, False), (True, True)]
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


# --- WebDataset's ---


def test_shards_with_and_without_an_info_file(tmp_path, folder_of_classes):
    data = opened(folder_of_classes)
    root = write_shards(tmp_path / "shards", data, [jpeg(7)])
    ours = opened(root, "wds/any name")
    assert (ours.classes, labels(ours.train), labels(ours.val)) == (data.classes, labels(data.train), labels(data.val))
    assert (encoded(ours.train), encoded(ours.val)) == (encoded(data.train), encoded(data.val))
    test, _ = find_split("test", DataConfig(root=str(root), dataset="wds/any"), ours.classes, 5)
    assert (test.labels, test.files) == (None, ("test-000.tar/test/00000.jpg",))
    (root / "_info.json").unlink()
    line = f"data.train_split: {root} has no _info.json that says which shards train has; name them: 'x-{{000..009}}.tar'"
    assert problems(root, "wds/x") == (line,)
    braces = {"train_split": "train-{000..001}.tar", "val_split": "validation-000.tar|6"}
    assert opened(root, "wds/x", **braces).fingerprint == ours.fingerprint
    assert opened(root, "wds/x", train_split="train-{000..001}.tar", val_fraction=0.25).train.labels is not None
    images, name = find_split("train-{000..001}.tar", DataConfig(root=str(root), dataset="wds/x"), ours.classes, 5)
    assert (images.files, name) == (ours.train.files, "train-_000..001_.tar")
    assert opened(root, "wds/x", 5, **braces).classes.names == ("0", "1", "2", "", "")


def test_labels_may_leave_gaps_or_be_sparse(tmp_path, folder_of_classes):
    (folder_of_classes / "train/1").rename(folder_of_classes / "train/4")
    (folder_of_classes / "val/1").rename(folder_of_classes / "val/4")
    data = opened(folder_of_classes)
    gaps = opened(write_shards(tmp_path / "gaps", data), "wds/x")
    assert gaps.classes.names == ("0", "", "2", "", "4") == data.classes.names
    assert labels(gaps.train) == labels(data.train)
    root = tmp_path / "sparse"
    for split in ("train", "val"):
        (folder_of_classes / split / "4").rename(folder_of_classes / split / "9000")
    write_shards(root, opened(folder_of_classes, num_classes=9001))
    sparse = opened(root, "wds/x")
    assert sparse.classes.names == ("0", "2", "9000")
    assert sorted(set(labels(sparse.train))) == [0, 1, 2]
    config = DataConfig(root=str(root), dataset="wds/x")
    again, _ = find_split("val", config, sparse.classes, 5)
    assert labels(again) == labels(sparse.val)
    with pytest.raises(UserError, match="class 9000: unknown to the checkpoint"):
        find_split("val", config, ClassMap(("0", "2")), 5)


def test_what_is_wrong_with_shards(tmp_path, folder_of_classes):
    root = write_shards(tmp_path / "shards", opened(folder_of_classes))
    [line] = problems(root, "wds/x", val_split="valid")
    assert line.startswith("data.val_split: wds/x: split valid not found in info")
    info = json.loads((root / "_info.json").read_text())
    info["splits"]["train"]["num_samples"] = 13
    (root / "_info.json").write_text(json.dumps(info))
    assert problems(root, "wds/x") == (f"data.root: {root}: train is said to have 13 samples, its shards hold 12",)
    for url in ("https://host/x", "pipe:cat x", "s3://x/y"):
        assert problems(url, "wds/x")[0].startswith(f"data.root: {url}: shards are read from disk")
    assert problems(root, "wds/x", train_split="pipe:cat x.tar")[0].startswith(
        "data.train_split: pipe:cat x.tar: shards are read from disk"
    )
    assert problems(tmp_path / "none", "wds/x") == (f"data.root: {tmp_path}/none: no such folder",)


# --- all ---


def test_the_images_held_out_for_validation_are_those_of_class_folders(tmp_path, folder_of_classes):
    """The same images, by the same names and seed; and the same again for an evaluation."""
    shutil.rmtree(folder_of_classes / "val")
    folder = opened(folder_of_classes, val_fraction=0.3)
    (tmp_path / "all").mkdir()
    (tmp_path / "all/train").symlink_to(folder_of_classes / "train")
    (tmp_path / "all/val").symlink_to(folder_of_classes / "train")
    everything = opened(tmp_path / "all")
    shards, table = write_shards(tmp_path / "shards", everything), write_parquet(tmp_path / "set", everything)
    for root, name in ((shards, "wds/x"), (tmp_path / "cache", f"hfds/{table}")):
        ours = opened(root, name, val_fraction=0.3)
        assert (encoded(ours.train), encoded(ours.val)) == (encoded(folder.train), encoded(folder.val))
        for split, images in (("train", ours.train), ("val", ours.val)):
            again, called = find_split(split, DataConfig(root=str(root), dataset=name, val_fraction=0.3), ours.classes, 5)
            assert (again.files, labels(again), called) == (images.files, labels(images), split)


def test_validation_must_know_no_class_that_training_lacks(tmp_path, folder_of_classes):
    root = write_shards(tmp_path / "shards", opened(folder_of_classes))
    line = "data.val_split: class 2: unknown to training"
    assert problems(root, "wds/x", train_split="train-000.tar") == (line,)
    table = write_parquet(tmp_path / "set", opened(folder_of_classes))
    assert problems(tmp_path / "cache", f"hfds/{table}", train_split="train[:8]") == (line,)


def test_unlabelled_samples_cannot_be_trained_on(tmp_path, folder_of_classes):
    root = write_shards(tmp_path / "shards", opened(folder_of_classes), [jpeg(0)])
    line = "data.train_split: wds/x: its samples have no labels; is data.target_key right?"
    assert problems(root, "wds/x", train_split="test") == (line,)
    assert problems(root, "wds/x", val_split="test") == (line.replace("train_split", "val_split"),)


def test_a_checkpoint_of_other_classes_is_refused(tmp_path, folder_of_classes):
    table = write_parquet(tmp_path / "set", opened(folder_of_classes))
    config = DataConfig(root=str(tmp_path / "cache"), dataset=f"hfds/{table}")
    with pytest.raises(UserError, match="its classes are not those of the checkpoint"):
        find_split("validation", config, ClassMap(("0", "1", "3")), 5)
    with pytest.raises(UserError, match=r'^--split: .*Unknown split "nosuch"'):
        find_split("nosuch", config, ClassMap(("0", "1", "2")), 5)


@pytest.mark.parametrize(("name", "package"), [("hfds/x", "datasets"), ("wds/x", "webdataset")])
def test_a_missing_package_is_one_line_with_its_command(tmp_path, monkeypatch, name, package):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda wanted, *rest: None if wanted == package else real(wanted, *rest))
    line = f"data.dataset: {name.partition('/')[0]}/ needs the package {package}; pip install -r requirements-datasets.txt"
    assert problems(tmp_path, name) == (line,)
