"""Damaged JPEG files: what Pillow refuses is refused, and what libjpeg reports; sound ones never are."""

import random
import re
from pathlib import Path

import pytest
from helpers.image_files import assert_close, image_of, reason_of
from helpers.jpeg_damage import FORMS, damaged, jpeg, pillow_refuses

from hw1.data import decode
from hw1.data.bad_images import find_bad_images
from hw1.data.decode import BadImage, decode_image
from hw1.data.image_set import ImageSet
from hw1.data.image_source import FileSource
from hw1.errors import RunError


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_found(form: str, capfd: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(form)
    missed = []
    for seed in range(8):
        for kind, data in damaged(jpeg(form), jpeg("baseline", 2), rng):
            for side in (None, 20):  # whole, and at a reduced size
                try:
                    decode_image(data, side)
                except BadImage:
                    continue
                missed.append((kind, seed))
                assert not pillow_refuses(data), kind
    assert len(missed) <= 4, missed  # zeros and noise may be valid codes by chance
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("form", ["baseline", "optimised", "progressive"])
def test_damage_is_found_by_the_markers_where_no_messages_are_to_be_had(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS; here the messages are printed, where they cannot be collected."""
    monkeypatch.setattr(decode, "COLLECTED", False)
    monkeypatch.setattr(decode, "describe_jpeg_damage", lambda *_: None)
    rng = random.Random(form)
    for _ in range(10):
        for kind, data in damaged(jpeg(form), jpeg("baseline", 2), rng):
            if kind == "joined":
                assert reason_of(data) == "damaged: marker 0xd8 within the image"
            if pillow_refuses(data) and kind != "noise":  # which may look like a segment
                assert reason_of(data).startswith(("damaged: marker 0x", "truncated"))
    assert_close(decode_image(jpeg(form)), decode_image(jpeg(form)))


def test_the_reason_is_libjpegs() -> None:
    data = jpeg("baseline")
    assert reason_of(data[: len(data) // 2] + data) == "damaged: premature end of data segment"
    assert reason_of(data[:-2] + b"extra" + data[-2:]).startswith("damaged: ")


@pytest.mark.parametrize("filling", [b"\0", bytes(700), b"\xff" * 9, b"\0\xff\xff"])
def test_what_fills_the_room_before_the_end_is_no_damage(filling: bytes) -> None:
    data = jpeg("baseline")
    assert_close(decode_image(data[:-2] + filling + data[-2:]), image_of(data))
    assert_close(decode_image(data[:-2] + filling + data[-2:] + b"appended\xff\xd9"), image_of(data))


def test_what_webcams_leave_before_restart_markers_is_no_damage() -> None:
    data = jpeg("restarts")
    scan = data.index(b"\xff\xda")

    def with_rests(rest: bytes) -> bytes:
        return data[:scan] + re.sub(rb"\xff[\xd0-\xd7]", lambda marker: rest + marker[0], data[scan:])

    assert with_rests(b"") == data
    assert_close(decode_image(with_rests(b"\x12\x34\x56")), image_of(data))
    assert reason_of(with_rests(b"\x12\x34" * 40)) == "damaged: 80 extraneous bytes before marker 0xd0"
    assert reason_of(with_rests(b"\x12\x34\x56")[:-2] + b"\xff\x37" + data[-2:]).startswith("damaged: marker 0x37")


def test_check_and_training_refuse_alike(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = jpeg("baseline")
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2] + jpeg("baseline", 2))
    images = ImageSet(tmp_path, ("a.jpg",), None, 0)
    assert find_bad_images(images) == {0: "damaged: premature end of data segment"}
    for side in (None, 20):
        with pytest.raises(RunError, match=r"a\.jpg: damaged: premature end of data segment$"):
            FileSource(images, side).read(0)
    assert capfd.readouterr().err == ""


def test_real_photographs_that_were_damaged(photos: Path) -> None:
    """60 joined and 60 with noise: all are refused."""
    rng = random.Random(0)
    chosen = rng.sample(sorted(photos.rglob("*.jpg")), 120)
    for path, other in zip(chosen[:60], chosen[60:], strict=True):
        data = path.read_bytes()
        at = len(data) // 2
        size = min(1024, len(data) - at - 100)
        for broken in (data[:at] + other.read_bytes(), data[:at] + rng.randbytes(size) + data[at + size :]):
            assert reason_of(broken).startswith(("damaged: ", "truncated"))
