"""WebDataset shards, against webdataset's own reader and timm's: the same samples in the same order, read by offset."""

import gzip
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.public_sets import jpeg, labels

from hw1.data import webdataset as shards
from hw1.data.decode import read_image
from hw1.data.image_set import ImageSet
from hw1.data.webdataset import IMAGE_FIELDS, open_shards
from hw1.errors import UserError

wds = pytest.importorskip("webdataset", reason="requirements-datasets.txt is not installed")


def write_tar(path: Path, *members: tuple[str, bytes], **options: Any) -> Path:
    with tarfile.open(path, "w", **options) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def by_ours(root: Path, *names: str, field: str | None = None) -> ImageSet:
    return open_shards(root, names or sorted(path.name for path in root.glob("*.tar")), IMAGE_FIELDS, field)[0].labelled()


def by_webdataset(root: Path) -> list[dict[str, Any]]:
    return list(wds.WebDataset(sorted(map(str, root.glob("*.tar"))), shardshuffle=False))


def problems(root: Path, *names: str, field: str | None = None) -> tuple[str, ...]:
    with pytest.raises(UserError) as caught:
        by_ours(root, *names, field=field)
    assert all("\n" not in line for line in caught.value.problems)
    return caught.value.problems


# --- the same as by other readers ---


def test_samples_are_webdatasets_own_in_its_order(tmp_path):
    rng = np.random.default_rng(0)
    with wds.ShardWriter(f"{tmp_path}/x-%02d.tar", maxcount=5, verbose=0) as writer:
        for number in range(17):
            sample = {"__key__": f"some/folder.d/{number}", "cls": int(rng.integers(4)), "seg.png": b"no image", "txt": "words"}
            writer.write(sample | {"jpg" if number % 3 else "png": jpeg(number, ".jpg" if number % 3 else ".png")})
    ours, theirs = by_ours(tmp_path), by_webdataset(tmp_path)
    assert len(ours) == len(theirs) == 17
    assert labels(ours) == [int(sample["cls"]) for sample in theirs]
    for index, sample in enumerate(theirs):
        field = "jpg" if "jpg" in sample else "png"
        assert ours.image_file(index).read_bytes() == sample[field]
        shard = os.path.basename(sample["__url__"])
        assert ours.files[index] == f"{shard}/{sample['__key__']}.{field}"
        assert str(ours.image_file(index)) == f"{tmp_path}/{ours.files[index]}"
        assert ours.stamp(ours.files[index])[0] == len(sample[field])


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_odd_members_are_taken_as_webdataset_takes_them(tmp_path, kind):
    long = "d/" * 45 + "n" * 60 if kind != tarfile.USTAR_FORMAT else "d/" * 20 + "n" * 60
    members = [
        ("__meta__", b"{}"), ("__index__/a.jpg", jpeg(0)), ("noext", b"x"), ("a.JPG", jpeg(1)), ("a.cls", b"3\n"),
        ("a.b/c.jpg", jpeg(2)), ("a.b/c.cls", b"1"), (".hidden", b""), (f"{long}.png", jpeg(3, ".png")), (f"{long}.cls", b"07"),
        ("é.jpeg", jpeg(4)), ("é.cls", b"2"), ("a.jpg", jpeg(5)), ("a.cls", b"0"),
    ]  # fmt: skip
    write_tar(tmp_path / "x.tar", *members, format=kind)
    with tarfile.open(tmp_path / "x.tar", "a", format=kind) as tar:
        folder = tarfile.TarInfo("z.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    ours, theirs = by_ours(tmp_path), by_webdataset(tmp_path)
    images = [next((sample[field] for field in ("jpg", "png", "jpeg") if field in sample), None) for sample in theirs]
    assert [ours.image_file(i).read_bytes() for i in range(len(ours))] == [image for image in images if image]
    assert labels(ours) == [int(sample["cls"]) for sample in theirs]
    assert labels(ours) == [3, 1, 7, 2, 0]


def test_images_and_labels_are_those_of_timms_reader(tmp_path):
    """`.json` with the field that the info file names, nested, and a negative label, which timm leaves out."""
    import timm.data

    with wds.ShardWriter(f"{tmp_path}/x-%d.tar", maxcount=4, verbose=0) as writer:
        for number in range(10):
            meta = {"label": number, "label_12k": number % 3 - 1, "deep": {"er": 9 - number}}
            writer.write({"__key__": f"{number}", "png": jpeg(number, ".png"), "json": meta})
    files = sorted(path.name for path in tmp_path.glob("*.tar"))
    split = {"name": "train", "num_samples": 10, "filenames": files, "shard_lengths": [4, 4, 2], "alt_label": "label_12k"}
    (tmp_path / "_info.json").write_text(json.dumps({"splits": {"train": split}}))
    for field in ("label_12k", "deep/er"):
        theirs = list(timm.data.create_dataset("wds/x", root=str(tmp_path), split="train", target_key=field))
        ours, num = open_shards(tmp_path, files, IMAGE_FIELDS, field)
        assert num == len(ours) == 10
        ours = ours.labelled()
        assert labels(ours) == [target for _, target in theirs]
        for index, (image, _) in enumerate(theirs):
            assert np.array_equal(read_image(ours.image_file(index)), np.asarray(image))
    assert by_ours(tmp_path, field="label_12k").num_stray == 4


# --- samples that lack something ---


def test_what_has_no_image_or_label_is_passed_over(tmp_path):
    write_tar(
        tmp_path / "x.tar", ("a.jpg", jpeg(0)), ("a.cls", b"1"), ("b.txt", b"x"), ("c.jpg", jpeg(1)), ("d.jpg", jpeg(2)), ("d.cls", b"-1")
    )
    images = by_ours(tmp_path)
    assert images.files == ("x.tar/a.jpg",)
    assert (labels(images), images.num_stray) == ([1], 3)


def test_a_split_without_any_label_is_unlabelled(tmp_path):
    write_tar(tmp_path / "x.tar", ("a.jpg", jpeg(0)), ("b.txt", b"x"), ("c.jpg", jpeg(1)), ("c.cls", b"-1"))
    images = by_ours(tmp_path)
    assert images.labels is None
    assert (images.files, images.num_stray) == (("x.tar/a.jpg", "x.tar/c.jpg"), 1)


def test_the_first_of_the_wanted_fields_is_the_image(tmp_path):
    write_tar(tmp_path / "x.tar", ("a.small.jpg", jpeg(0)), ("a.png", jpeg(1, ".png")), ("a.jpg", jpeg(2)), ("a.cls", b"0"))
    assert by_ours(tmp_path).files == ("x.tar/a.jpg",)
    assert open_shards(tmp_path, ["x.tar"], ["small.jpg", "png"], None)[0].files == ("x.tar/a.small.jpg",)


# --- what is wrong with them ---


def test_shards_that_are_not_there(tmp_path):
    assert problems(tmp_path, "x.tar") == (f"data.root: {tmp_path}/x.tar: no such shard",)
    assert problems(tmp_path, *(f"{i}.tar" for i in range(5)))[-1] == "data.root: 5 of 5 shards are missing"


def test_shards_that_cannot_be_read_in_any_order(tmp_path):
    tar = write_tar(tmp_path / "x.tar", *((f"{n}.{field}", data) for n in range(9) for field, data in (("jpg", jpeg(n)), ("cls", b"1"))))
    whole = tar.read_bytes()
    assert len(by_ours(tmp_path)) == 9
    tar.write_bytes(gzip.compress(whole))
    assert problems(tmp_path) == (f"data.root: {tar}: compressed; unpack it, so that its samples can be read in any order",)
    for damaged in (whole[:3000], whole[:5000], whole[: len(whole) // 2], b"<html>" * 200, b""):
        tar.write_bytes(damaged)
        [line] = problems(tmp_path)
        assert line.startswith(f"data.root: {tar}: no whole tar file"), line


def test_a_damaged_header_in_the_middle_does_not_end_a_shard(tmp_path):
    """tarfile itself takes it for the end."""
    tar = write_tar(tmp_path / "x.tar", *((f"{n}.jpg", jpeg(n)) for n in range(9)))
    with tarfile.open(tar) as opened:
        offset = opened.getmembers()[4].offset
    data = bytearray(tar.read_bytes())
    data[offset + 10] ^= 1
    tar.write_bytes(data)
    assert problems(tmp_path) == (f"data.root: {tar}: no whole tar file: cut off or damaged at byte {offset:,}",)


@pytest.mark.parametrize(
    ("members", "field", "message"),
    [
        ([("a.jpg", b""), ("a.jpg", b"")], None, "x.tar/a.jpg: comes twice"),
        ([("a.jpg", b""), ("b.jpg", b""), ("a.jpg", b"")], None, "x.tar/a.jpg: comes twice"),
        ([("a.jpg", b""), ("a.cls", b"cat")], None, "x.tar/a.cls: is no integer: b'cat'"),
        ([("a.jpg", b""), ("a.cls", b"1.5")], None, "x.tar/a.cls: is no integer: b'1.5'"),
        ([("a.jpg", b""), ("a.cls", b"1")], "label", "x.tar/a.jpg: has no .json beside it that holds 'label'"),
        ([("a.jpg", b""), ("a.json", b'{"x": 1}')], "label", """x.tar/a.json: has no integer 'label': b'{"x": 1}'"""),
        ([("a.jpg", b""), ("a.json", b'{"x": [1, 2]}')], "x", """x.tar/a.json: has no integer 'x': b'{"x": [1, 2]}'"""),
        ([("a.jpg", b""), ("a.json", b'{"x": 1.5}')], "x", """x.tar/a.json: has no integer 'x': b'{"x": 1.5}'"""),
        ([("a.jpg", b""), ("a.json", b"[3]")], "x", "x.tar/a.json: has no integer 'x': b'[3]'"),
        ([("a.jpg", b""), ("a.json", b"{")], "x", "x.tar/a.json: has no integer 'x': b'{'"),
    ],
)
def test_wrong_samples_are_named(tmp_path, members, field, message):
    write_tar(tmp_path / "x.tar", *members)
    assert problems(tmp_path, field=field) == (f"data.root: {tmp_path}/{message}",)


# --- the index ---


@pytest.fixture
def indexed(monkeypatch) -> list[str]:
    """Names of the shards that were gone through."""
    names: list[str] = []
    real = shards._index
    monkeypatch.setattr(shards, "_index", lambda path, *rest: (names.append(path.name), real(path, *rest))[1])
    return names


def test_a_shard_is_indexed_once_and_anew_when_it_has_changed(tmp_path, indexed):
    root = tmp_path / "shards"
    root.mkdir()
    for name in "ab":
        write_tar(root / f"{name}.tar", ("a.jpg", jpeg(0)), ("a.cls", b"1"), ("a.json", b'{"x": 2}'))
    first = by_ours(root)
    assert sorted(indexed) == ["a.tar", "b.tar"]
    indexed.clear()
    again = by_ours(root)
    assert indexed == []
    assert (again.files, labels(again)) == (first.files, labels(first))
    assert [again.image_file(i).read_bytes() for i in range(2)] == [jpeg(0), jpeg(0)]
    assert labels(by_ours(root, field="x")) == [2, 2]
    assert sorted(indexed) == ["a.tar", "b.tar"]
    indexed.clear()
    write_tar(root / "b.tar", ("longer.jpg", jpeg(1)), ("longer.cls", b"5"))
    changed = by_ours(root)
    assert indexed == ["b.tar"]
    assert (changed.files, labels(changed)) == (("a.tar/a.jpg", "b.tar/longer.jpg"), [1, 5])
    assert changed.image_file(1).read_bytes() == jpeg(1)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"made_from": 1}'])
def test_a_damaged_or_unwritable_index_only_costs_time(tmp_path, indexed, monkeypatch, damage):
    write_tar(tmp_path / "x.tar", ("a.jpg", jpeg(0)), ("a.cls", b"1"))
    by_ours(tmp_path)
    [memory] = Path(os.environ["XDG_CACHE_HOME"], "hw1", "shards").iterdir()
    memory.write_bytes(damage)
    assert labels(by_ours(tmp_path)) == [1]
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert labels(by_ours(tmp_path)) == [1]
    assert len(indexed) == 3
