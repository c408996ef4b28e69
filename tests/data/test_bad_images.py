"""The check of whole sets: which images it reports as bad, which it remembers as good, and what follows."""

import json
import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from faults import powers

from hw1.data import bad_images
from hw1.data.bad_images import check_images, find_bad_images
from hw1.data.image_folder import ImageSet
from hw1.errors import UserError

JPEG, PNG = (cv2.imencode(suffix, np.arange(40 * 30 * 3, dtype=np.uint8).reshape(40, 30, 3))[1].tobytes() for suffix in (".jpg", ".png"))


def image_set(root: Path, **files: bytes) -> ImageSet:
    """One file a name, the underscore standing for the dot."""
    names = [name.replace("_", ".") for name in files]
    for name, data in zip(names, files.values(), strict=True):
        (root / name).write_bytes(data)
    return ImageSet(root, tuple(names), np.arange(len(names)), 0)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were decoded."""
    names: list[str] = []
    real = bad_images.read_image

    def spy(path: Path) -> np.ndarray:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(bad_images, "read_image", spy)
    return names


def test_bad_images_are_found_and_good_ones_remembered(tmp_path: Path, decoded: list[str]) -> None:
    good, cut = JPEG, JPEG[:-200]
    images = image_set(tmp_path, a_jpg=good, b_jpg=cut, c_png=PNG, d_jpg=b"<html>")
    assert find_bad_images(images) == {1: "truncated", 3: "not an image (HTML)"}
    assert sorted(decoded) == ["a.jpg", "b.jpg", "c.png", "d.jpg"]
    decoded.clear()
    assert find_bad_images(images) == {1: "truncated", 3: "not an image (HTML)"}
    assert sorted(decoded) == ["b.jpg", "d.jpg"]  # bad ones are looked at again: they may have been mended, or be readable now

    decoded.clear()
    before = images.path(0).stat()
    (tmp_path / "b.jpg").write_bytes(good)
    (tmp_path / "a.jpg").write_bytes(cut)
    os.utime(images.path(0), ns=(before.st_atime_ns, before.st_mtime_ns))  # the size alone tells
    os.utime(images.path(2), ns=(before.st_atime_ns, before.st_mtime_ns + 1))  # the date alone tells
    assert find_bad_images(images) == {0: "truncated", 3: "not an image (HTML)"}
    assert sorted(decoded) == ["a.jpg", "b.jpg", "c.png", "d.jpg"]


def test_a_file_that_may_not_be_read_any_more_is_found(tmp_path: Path) -> None:
    """Its size and date are what they were."""
    images = image_set(tmp_path, a_jpg=JPEG, b_jpg=JPEG)
    assert find_bad_images(images) == {}
    images.path(1).chmod(0)
    with powers.dropped():
        assert find_bad_images(images) == {1: "cannot be read: permission denied"}


def test_nearly_black_images_are_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """12-bit values in 16-bit files."""
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    dark, scaled = (cv2.imencode(".png", grey)[1].tobytes() for grey in (values, values * 16))
    black = cv2.imencode(".png", np.zeros((9, 9), np.uint8))[1].tobytes()
    images = image_set(tmp_path, a_jpg=JPEG, b_png=dark, c_png=scaled, d_png=dark, e_png=black)
    assert find_bad_images(images) == {}
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"2 of 5 images are nearly black, as {tmp_path / 'b.png'}: they use 12 of 16 bits")
    assert find_bad_images(images) == {}
    assert capsys.readouterr().err == ""


def test_the_record_is_by_absolute_path(tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    find_bad_images(image_set(tmp_path / "one", a_jpg=JPEG))
    find_bad_images(image_set(tmp_path / "two", a_jpg=JPEG))
    assert len(decoded) == 2
    monkeypatch.chdir(tmp_path)
    assert find_bad_images(ImageSet(Path("one"), ("a.jpg",), None, 0)) == {}
    assert len(decoded) == 2


def record_path() -> Path:
    return Path(os.environ["XDG_CACHE_HOME"], "hw1", "checked_images.json")


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\x00", b"[]", b"null", b'{"files": {}}', b'{"checked_by": "?", "files": 3}'])
def test_a_damaged_record_is_ignored(tmp_path: Path, decoded: list[str], damage: bytes) -> None:
    images = image_set(tmp_path, a_jpg=JPEG)
    find_bad_images(images)
    assert [file.name for file in record_path().parent.iterdir()] == ["checked_images.json"]
    record_path().write_bytes(damage)
    assert find_bad_images(images) == {}
    assert len(decoded) == 2
    assert find_bad_images(images) == {}
    assert len(decoded) == 2


def test_a_record_of_another_decoder_is_ignored(tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    images = image_set(tmp_path, a_jpg=JPEG)
    find_bad_images(images)
    monkeypatch.setattr(bad_images, "VERIFIED_BY", "2")
    find_bad_images(images)
    assert len(decoded) == 2


def test_the_record_drops_folders_that_no_longer_exist(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    find_bad_images(image_set(tmp_path / "old", a_jpg=JPEG))
    (tmp_path / "old" / "a.jpg").unlink()
    (tmp_path / "old").rmdir()
    find_bad_images(image_set(tmp_path / "new", a_jpg=JPEG))
    assert list(json.loads(record_path().read_bytes())["files"]) == [str(tmp_path / "new" / "a.jpg")]


def test_a_record_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert find_bad_images(image_set(tmp_path, a_jpg=JPEG, b_jpg=b"")) == {1: "empty file"}


def test_second_check_is_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    names = image_set(folder, **{f"{i}_jpg": b"x" for i in range(100)}).files
    for i in range(52):  # 5,200 paths without the time that writing 5,200 files takes
        (tmp_path / f"{i}").symlink_to(folder)
    images = ImageSet(tmp_path, tuple(f"{i}/{name}" for i in range(52) for name in names), None, 0)
    monkeypatch.setattr(bad_images, "read_image", lambda path: np.full((1, 1, 3), 255, np.uint8))
    assert find_bad_images(images) == {}
    monkeypatch.setattr(bad_images, "read_image", lambda path: pytest.fail("was read"))
    start = time.process_time()  # this process's own: other processes do not count
    assert find_bad_images(images) == {}
    assert time.process_time() - start < 1


def test_check_stops_with_every_path(tmp_path: Path) -> None:
    good = JPEG
    train = image_set(tmp_path, a_jpg=good, b_jpg=good[:-200])
    val = image_set(tmp_path, c_jpg=good, d_jpg=b"", e_jpg=good)
    with pytest.raises(UserError) as caught:
        check_images([train, val], "stop")
    *paths, advice = caught.value.problems
    assert paths == [f"{tmp_path / 'b.jpg'}: truncated", f"{tmp_path / 'd.jpg'}: empty file"]
    assert advice == "2 of 5 images cannot be decoded; mend or remove them, or leave them out with data.bad_images=skip"
    with pytest.raises(UserError, match=r"leave them out with --this$"):
        check_images([train], "stop", "--this")


def test_check_skips_and_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = JPEG
    train = image_set(tmp_path, a_jpg=good, b_jpg=good[:-200], c_jpg=good)
    val = image_set(tmp_path, d_jpg=good)
    good_train, good_val = check_images([train, val], "skip")
    assert good_train.files == ("a.jpg", "c.jpg")
    assert good_train.labels is not None
    assert good_train.labels.tolist() == [0, 2]
    assert good_val.files == val.files
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"skipped: 1 of 4 images cannot be decoded: {tmp_path / 'b.jpg'}: truncated\n"
    assert check_images([good_train, good_val], "stop") == [good_train, good_val]
    with pytest.raises(UserError, match="none of 1 images"):
        check_images([train, image_set(tmp_path, e_jpg=b"")], "skip")


def test_skipping_more_than_max_bad_is_an_error(tmp_path: Path) -> None:
    train = image_set(tmp_path, a_jpg=JPEG, b_jpg=JPEG[:-200], c_jpg=JPEG)
    val = image_set(tmp_path, d_jpg=JPEG)
    assert len(check_images([train, val], "skip", max_bad=0.25)[0]) == 2
    with pytest.raises(UserError) as caught:
        check_images([train, val], "skip", max_bad=0.24)
    bad, summary = caught.value.problems
    assert bad == f"{tmp_path / 'b.jpg'}: truncated"
    assert summary.startswith("data.max_bad: 1 of 4 images cannot be decoded, more than the share of 0.24")


def test_a_name_with_a_newline_stays_on_its_line(tmp_path: Path) -> None:
    (tmp_path / "a\nb.jpg").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        check_images([ImageSet(tmp_path, ("a\nb.jpg",), None, 0)], "stop")
    assert all("\n" not in line for line in caught.value.problems)
