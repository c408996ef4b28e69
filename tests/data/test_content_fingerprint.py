"""The fingerprint of the data sees what the files hold, and remembers it for as long as it is certain."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from helpers.folder_trees import config

from hw1.data import content_digests
from hw1.data.image_folder import open_training_data
from hw1.data.image_set import TrainingData

NUM = 20


def write(root: Path) -> Path:
    """Files of one size, as BMP and PPM are; all of one date, as unpacked archives are."""
    for split in ("train", "val"):
        for number in range(NUM):
            path = root / split / "ab"[number % 2] / f"{number}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{split} {number:09}".ljust(500).encode())
            os.utime(path, (10**9, 10**9))
    return root


def opened(root: Path) -> TrainingData:
    return open_training_data(config(root), 0, None)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was digested."""
    contents: list[bytes] = []
    real = content_digests._digest
    monkeypatch.setattr(content_digests, "_digest", lambda content: (contents.append(content), real(content))[1])
    return contents


def test_digests_are_those_of_the_contents(tmp_path: Path) -> None:
    data = opened(write(tmp_path / "data"))
    for images, digests in zip((data.train, data.val), data.digests, strict=True):
        wanted = [hashlib.blake2b(images.path(i).read_bytes(), digest_size=16).hexdigest() for i in range(len(images))]
        assert digests == wanted


def test_another_content_of_the_same_size_and_date_is_seen(tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    before = opened(root)
    first = before.fingerprint
    path = root / "train/a/2.bmp"
    path.write_bytes(path.read_bytes().replace(b"2", b"3"))
    os.utime(path, (10**9, 10**9))
    assert opened(root).fingerprint != first
    assert opened(root).fingerprint_without_content == before.fingerprint_without_content


def test_files_that_change_places_are_seen(tmp_path: Path) -> None:
    """By renaming, which keeps size and date of each; also twice in a row, and back again."""
    root = write(tmp_path / "data")
    first = opened(root).fingerprint

    def swap() -> None:
        a, b = root / "train/a/2.bmp", root / "val/b/3.bmp"
        a.rename(root / "c")
        b.rename(a)
        (root / "c").rename(b)

    swap()
    assert opened(root).fingerprint != first
    swap()
    assert opened(root).fingerprint == first


def test_a_copy_elsewhere_is_the_same(tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    first = opened(root).fingerprint
    shutil.copytree(root, tmp_path / "copy", copy_function=shutil.copyfile)
    assert opened(tmp_path / "copy").fingerprint == first


def test_files_are_read_once_while_they_stay_as_they_are(tmp_path: Path, read: list[bytes]) -> None:
    root = write(tmp_path / "data")
    first = opened(root).fingerprint
    assert len(read) == 2 * NUM
    read.clear()
    assert opened(root).fingerprint == first
    assert read == []
    (root / "train/a/0.bmp").write_bytes(b"new")
    assert opened(root).fingerprint != first
    assert read == [b"new"]


RECORDS = [b"", b"{", b"[]", b'{"files": {}}', b'{"checked_by": "BLAKE2b, 16 bytes", "files": 3}']


@pytest.mark.parametrize("damage", [*RECORDS, None, "entries"])
def test_a_record_that_is_damaged_or_cannot_be_written_changes_nothing(
    tmp_path: Path, damage: bytes | str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write(tmp_path / "data")
    first = opened(root).fingerprint
    record = Path(os.environ["XDG_CACHE_HOME"], "hw1", content_digests.RECORD)
    if damage is None:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    elif damage == "entries":
        content = json.loads(record.read_bytes())
        content["files"] = {path: [None, [], [1, 2], {}, [None, "x"]][i % 5] for i, path in enumerate(content["files"])}
        record.write_text(json.dumps(content))
    else:
        assert isinstance(damage, bytes)
        record.write_bytes(damage)
    assert opened(root).fingerprint == first


def test_a_file_that_cannot_be_read_has_no_digest_and_is_not_remembered(tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    path = root / "train/a/0.bmp"
    content = path.read_bytes()
    path.unlink()
    path.symlink_to("nowhere")
    data = opened(root)
    assert data.digests[0][data.train.files.index("train/a/0.bmp")] == ""
    path.unlink()
    path.write_bytes(content)
    data = opened(root)
    assert data.digests[0][data.train.files.index("train/a/0.bmp")] == hashlib.blake2b(content, digest_size=16).hexdigest()


def test_the_fingerprint_of_runs_begun_before_contents_counted(tmp_path: Path) -> None:
    """As that version computed it: names, sizes and labels."""
    data = opened(write(tmp_path / "data"))
    digest = hashlib.sha256(b"a\0b\0")
    for split in ("train", "val"):
        digest.update(b"\0%d\0" % NUM)
        for label, name in enumerate("ab"):
            for number in range(label, NUM, 2):
                digest.update(f"{split}/{name}/{number}.bmp\0{500}\0{label}\0".encode())
    assert data.fingerprint_without_content == digest.hexdigest()
    assert data.has_fingerprint(digest.hexdigest())
    assert data.has_fingerprint(data.fingerprint)
    assert not data.has_fingerprint("")
