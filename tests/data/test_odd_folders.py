"""What is not used of a folder is said, folders of two readings are refused, and names that only look the same are told apart."""

import os
import unicodedata
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from helpers.folder_trees import config, make, problems
from PIL import Image

from hw1.data.alike_names import describe_alike
from hw1.data.first_bytes import is_image, may_be_image
from hw1.data.image_folder import find_split, open_training_data
from hw1.data.image_set import ClassMap
from hw1.data.passed_over import describe_passed_over
from hw1.errors import UserError

NFC, NFD = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def encoded(kind: str) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(buffer, kind)
    return buffer.getvalue()


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def said(root: Path) -> str:
    data = open_training_data(config(root), 0, None)
    return describe_passed_over(data.train, data.val)


def split_of(root: Path, name: str = "test") -> tuple[tuple[str, ...], bool]:
    images, _ = find_split(name, config(root), ClassMap(("a", "b")), 0)
    return images.files, images.labels is not None


# ------------------------------------------------------------------------------------------------ labelled or unlabelled


def test_images_in_class_folders_and_beside_them_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "test/a/1.jpg", "test/b/deep/2.jpg", "test/stray.jpg")
    for name in ("test", str(tmp_path / "test"), f"{tmp_path}/test/../test"):
        with pytest.raises(UserError) as caught:
            split_of(tmp_path, name)
        [line] = caught.value.problems
        assert line.startswith(f"{tmp_path / 'test'}: has images both in class folders (a, b) and beside them (stray.jpg)")
        assert line.endswith("move one or the other elsewhere")


@pytest.mark.parametrize("beside", ["README.txt", ".hidden.jpg", "._1.jpg", "Thumbs.db", "__MACOSX/1.jpg", "@eaDir/1.jpg", "notes"])
def test_what_is_no_image_makes_no_split_unclear(tmp_path: Path, beside: str) -> None:
    make(tmp_path, "test/a/1.jpg", "test/b/2.jpg", f"test/{beside}")
    assert split_of(tmp_path) == (("test/a/1.jpg", "test/b/2.jpg"), True)


def test_an_image_without_a_suffix_makes_a_split_unclear_too(tmp_path: Path) -> None:
    make(tmp_path, "test/a/1.jpg")
    write(tmp_path / "test/IMG_1", encoded("JPEG"))
    with pytest.raises(UserError, match=r"beside them \(IMG_1\)"):
        split_of(tmp_path)


@pytest.mark.parametrize("beside", ["empty/", "docs/license.txt", "docs/more/", ".thumbs/1.jpg", "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg"])
def test_folders_without_images_leave_a_split_unlabelled(tmp_path: Path, beside: str) -> None:
    make(tmp_path, "test/1.jpg", "test/2.jpg", f"test/{beside}")
    assert split_of(tmp_path) == (("1.jpg", "2.jpg"), False)


def test_a_root_in_the_home_folder_has_class_folders_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make(tmp_path, "d/test/a/1.jpg")
    images, name = find_split("test", config(Path("~/d")), ClassMap(("a",)), 0)
    assert (images.files, images.labels is not None, name) == (("test/a/1.jpg",), True, "test")


@pytest.mark.parametrize("split", ["train", "val"])
def test_training_has_one_reading_and_names_the_image_beside(tmp_path: Path, split: str) -> None:
    make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", f"{split}/alone.jpg")
    assert said(tmp_path) == f"passed over in {tmp_path}: 1 .jpg beside the class folders ({split}/alone.jpg)"
    assert split_of(tmp_path, split)[1]


# ------------------------------------------------------------------------------------------------ what is passed over


def test_what_is_passed_over_is_one_line(tmp_path: Path) -> None:
    """How many, of which suffix, where; the most first."""
    make(tmp_path, *(f"train/a/{i}.{suffix}" for i, suffix in enumerate(("HEIC", "heic", "heic", "jxl", "txt"))))
    make(tmp_path, "train/a/x.jpg", "train/b/x.jpg", "val/a/x.jpg", "val/b/IMG_2", "val/@eaDir/x.jpg/SYNO.jpg", "val/b/@eaDir/1.jpg")
    os.mkfifo(tmp_path / "train/b/pipe.jpg")
    assert said(tmp_path) == (
        f"passed over in {tmp_path}: 3 .heic (train/a/0.HEIC, train/a/1.heic, ...), 2 @eaDir (val/@eaDir, val/b/@eaDir), "
        "1 .jxl (train/a/3.jxl), 1 .txt (train/a/4.txt), 1 .jpg that is no file (train/b/pipe.jpg) and 1 more"
    )


def test_what_is_passed_over_in_an_unlabelled_folder(tmp_path: Path) -> None:
    make(tmp_path, "test/1.jpg", "test/2.heic", "test/more/notes.txt", "test/.DS_Store")
    images, _ = find_split("test", config(tmp_path), ClassMap(("a", "b")), 0)
    assert describe_passed_over(images) == f"passed over in {tmp_path / 'test'}: 1 .heic (2.heic), 1 subfolder(s) (more)"


def test_nothing_is_said_of_what_systems_add_to_folders(tmp_path: Path) -> None:
    names = (".DS_Store", "._1.jpg", "Thumbs.db", "desktop.ini", ".gitkeep", ".ipynb_checkpoints/1.jpg", ".thumbs/x")
    make(
        tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", *(f"{folder}/{name}" for folder in ("train", "val/a") for name in names)
    )
    assert said(tmp_path) == ""
    make(tmp_path, "train/a/.photo.jpg")
    assert said(tmp_path) == f"passed over in {tmp_path}: 1 hidden (train/a/.photo.jpg)"


def test_folders_of_the_system_are_no_classes(tmp_path: Path) -> None:
    make(
        tmp_path,
        *(f"{split}/{name}/1.jpg" for split in ("train", "val") for name in ("a", "b", "@eaDir", "__MACOSX", "__macosx", "lost+found")),
    )
    make(tmp_path, "train/.ipynb_checkpoints/1.jpg", "train/a/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg")
    data = open_training_data(config(tmp_path), 0, None)
    assert data.classes.names == ("a", "b")
    assert data.train.files == ("train/a/1.jpg", "train/b/1.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "JPEG2000", "AVIF"])
def test_a_file_without_a_suffix_is_an_image_by_its_content(tmp_path: Path, kind: str) -> None:
    make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg")
    for name in ("a/IMG_2", "a/IMG_3.", "b/LICENSE", "b/4.part"):
        write(tmp_path / "train" / name, b"BMW and others" if name == "b/LICENSE" else encoded(kind))
    data = open_training_data(config(tmp_path), 0, None)
    assert data.train.files == ("train/a/1.jpg", "train/a/IMG_2", "train/a/IMG_3.", "train/b/1.jpg")
    assert data.train.strays == ("train/b/4.part", "train/b/LICENSE")
    assert said(tmp_path).endswith("1 .part (train/b/4.part), 1 without suffix (train/b/LICENSE)")


@pytest.mark.parametrize("data", [b"", b"\xff", b"BM", b"RIFF\0\0\0\0WAVE", b"<html>", HEIC, b"\0" * 16, b"GIF", b"P6\n1 1 255\n"])
def test_other_content_is_no_image(tmp_path: Path, data: bytes) -> None:
    assert not is_image(write(tmp_path / "x", data))
    assert may_be_image(tmp_path / "x") == (data == HEIC)


def test_only_files_without_a_suffix_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(
        tmp_path, *(f"{split}/{c}/{i}.jpg" for split in ("train", "val") for c in "ab" for i in range(20)), "train/a/x.txt", "train/a/none"
    )
    seen: list[str] = []
    monkeypatch.setattr("builtins.open", lambda path, *args, _open=open, **more: (seen.append(str(path)), _open(path, *args, **more))[1])
    open_training_data(config(tmp_path), 0, None)
    assert seen == [str(tmp_path / "train/a/none")]


# ------------------------------------------------------------------------------------------------ names alike


@pytest.mark.parametrize(("first", "second"), [(NFC, NFD), ("Cat", "cat"), ("cat", "cat "), ("a b", "a\xa0b"), ("Straße", "STRASSE")])
def test_classes_that_only_look_the_same(tmp_path: Path, first: str, second: str) -> None:
    make(tmp_path, f"train/{first}/1.jpg", "train/dog/1.jpg", f"val/{second}/1.jpg")
    hint = f"{second!a} differs only in Unicode form, case or spaces from {first!a}: rename one"
    [line] = problems(config(tmp_path), 0, None)
    assert "val" in line
    assert line.endswith(f"class unknown to training, not in {tmp_path / 'train'}; {hint}")
    with pytest.raises(UserError) as caught:
        find_split("val", config(tmp_path), ClassMap(("dog", first)), 0)
    assert str(caught.value).endswith(f"class unknown to the checkpoint; {hint}")
    make(tmp_path, f"train/{second}/1.jpg")
    data = open_training_data(config(tmp_path), 0, None)
    assert data.classes.num_classes == 3
    line = describe_alike(data.classes.names)
    assert line.startswith("warning: class names that differ only in Unicode form, case or spaces: ")
    assert ascii(first) in line
    assert ascii(second) in line
    assert "\n" not in line


def test_nothing_is_said_of_names_that_differ() -> None:
    assert describe_alike(["cat", "cats", "dog", "", "", "1", "01", "café", "cafè", "ab", "a b"]) == ""
