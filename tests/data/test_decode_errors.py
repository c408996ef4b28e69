"""Files that are no complete image: which are refused, for what reason, and that nothing else comes of them."""

import struct
import warnings
import zlib

import cv2
import numpy as np
import pytest
from helpers.image_files import KINDS, PNG_START, assert_close, chunk, image, image_of, reason_of, samples, save
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from hw1.data.decode import BadImage, decode_image

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest undoes the filter that hw1.data.decode sets


def test_thirty_two_bit_values_are_refused() -> None:
    assert reason_of(save(Image.fromarray(np.ones((4, 5), np.float32)), "PPM")) == "32-bit values, whose range is unknown"


@pytest.mark.parametrize("kind", KINDS)
def test_truncation_is_noticed_at_any_offset(kind: str) -> None:
    """A cut file is bad, or every pixel is still there (it lost a checksum, the end mark, a later frame); of JPEG each is bad."""
    data = samples()[kind]
    whole = decode_image(data)
    offsets = np.unique(np.concatenate([np.linspace(1, len(data) - 1, 40).astype(int), np.arange(len(data) - 16, len(data))]))
    for offset in offsets.tolist():
        try:
            assert_close(decode_image(data[:offset]), whole)
        except BadImage:
            continue
        assert not kind.startswith("jpeg"), offset


@pytest.mark.parametrize("kind", ["jpeg", "jpeg-progressive", "jpeg-grey", "jpeg-cmyk-adobe", "jpeg-thumbnail"])
def test_jpeg_that_lost_its_end(kind: str) -> None:
    """Also where something else took its place: OpenCV returns an image for these."""
    data = samples()[kind]
    for tail in (b"", bytes(len(data)), b"\xff" * 100, bytes(range(200)) * 9):
        assert reason_of(data[: len(data) * 3 // 4] + tail) == "truncated"


def test_what_follows_the_end_of_a_jpeg_does_not_matter() -> None:
    data = samples()["jpeg"]
    for tail in (b"\0", bytes(5000), b"\r\n", b"ftypmp4 motion", data[:300]):
        assert_close(decode_image(data + tail), image_of(data))


def test_large_truncated_files() -> None:
    """Size of an image: several strips, chunks, scans, tiles."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    image = Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 1.5))
    options: dict[str, dict] = {kind: {} for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")}
    options["JPEG"] = {"progressive": True}
    options["TIFF"] = {"compression": "tiff_lzw"}
    for kind in options:
        data = save(image.quantize() if kind == "GIF" else image, kind, **options[kind])
        decode_image(data)
        for fraction in (0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
            assert "truncated" in reason_of(data[: max(int(fraction * len(data)), 12)]), (kind, fraction)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"\n<!DOCTYPE html><html></html>", "not an image (HTML)"),
        (b"\xef\xbb\xbf<HTML>404", "not an image (HTML)"),
        (b'<?xml version="1.0"?><svg/>', "not an image (XML)"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "not an image (Git LFS pointer)"),
        (b'{"error": "not found"}', "not an image (JSON)"),
        (b"%PDF-1.7", "not an image (PDF)"),
        (bytes(4096), "not an image (only zeros)"),
        (b"hello, world", "not an image"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "not supported: heic (convert it to JPEG)"),
        (b"\xff\xd8\xff", "truncated"),
        (PNG_START, "truncated or damaged"),
        (b"GIF89a", "truncated or damaged"),
        (b"8BPS\0\1" + bytes(30), "not supported: PSD (convert it to JPEG)"),
        (save(Image.fromarray(image()), "ICO"), "not supported: ICO (convert it to JPEG)"),
        (save(Image.fromarray(image()), "TGA"), "not supported: TGA (convert it to JPEG)"),
        (b"\xff\x0a" + bytes(9), "not supported: JPEG XL (convert it to JPEG)"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(9), "not supported: JPEG XL (convert it to JPEG)"),
        (bytes(128) + b"DICM" + bytes(9), "not supported: DICOM (convert it to JPEG)"),
        (b"RIFF\0\0\0\0WAVEfmt ", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),  # would start another program in Pillow
    ],
)
def test_reasons(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


@pytest.mark.parametrize(
    ("marker", "precision", "kind"),
    [
        (0xC1, 12, "12-bit JPEG"),
        (0xC3, 8, "lossless JPEG"),
        (0xC3, 16, "lossless JPEG"),
        (0xC5, 8, "hierarchical JPEG"),
        (0xF7, 8, "JPEG-LS"),
    ],
)
def test_other_codings_of_jpeg_are_named(marker: int, precision: int, kind: str) -> None:
    """A whole file whose frame says so; the thumbnail before it is an ordinary JPEG."""
    data = bytearray(samples()["jpeg-thumbnail"])
    frame = data.rindex(b"\xff\xc0")
    data[frame + 1], data[frame + 4] = marker, precision
    assert reason_of(bytes(data)) == f"not supported: {kind} (convert it to JPEG)"


@pytest.mark.skipif("avif" not in samples(), reason="this Pillow has no AVIF")
def test_a_cut_avif_is_no_unsupported_kind() -> None:
    data = samples()["avif"]
    for fraction in (0.1, 0.3, 0.5, 0.7, 0.9):
        assert reason_of(data[: int(fraction * len(data))]).startswith("truncated")


def test_png_with_damaged_text_is_read() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("a", "of a camera")
    text.add_itxt("b", "of a camera")
    text.add_text("c", "of a camera" * 9, zip=True)
    data = save(Image.fromarray(image()), "PNG", pnginfo=text)
    for kinds in ([b"tEXt"], [b"iTXt"], [b"zTXt"], [b"tEXt", b"iTXt", b"zTXt"]):
        damaged = bytearray(data)
        for kind in kinds:
            damaged[damaged.index(kind) + 6] ^= 1
        assert_close(decode_image(bytes(damaged)), image())
        damaged[damaged.index(b"IDAT") + 20] ^= 1
        assert reason_of(bytes(damaged)) == "damaged: wrong checksum"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("png")])
def test_png_whose_rest_is_zeros(kind: str) -> None:
    """Pillow passes over the checksum of the last chunk, and leaves the rows black."""
    data = samples()[kind]
    at = data.rindex(b"IDAT")
    for kept in (at + 8, at + 4 + int.from_bytes(data[at - 4 : at], "big") // 2):
        assert reason_of(data[:kept] + bytes(len(data) - kept))


def huge(kind: str) -> bytes:
    """A small file that claims 20,000 x 9,000 pixels."""
    if kind == "jpeg":
        data = bytearray(samples()["jpeg"])
        struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, 9000, 20000)
        return bytes(data)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20000, 9000, 8, 2, 0, 0, 0))
    comment = chunk(b"tEXt", b"a\0b") if kind == "png-comment" else b""
    return PNG_START + header + comment + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_too_large_is_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    assert reason_of(huge("jpeg")) == reason_of(huge("png")) == "too large: 20000 x 9000 pixels"
    assert reason_of(huge("png-comment")).startswith("too large")
    gif = samples()["gif"]
    assert reason_of(gif[:6] + struct.pack("<HH", 30000, 30000) + gif[10:]).startswith("too large")


def test_no_noise(capfd: pytest.CaptureFixture[str]) -> None:
    """Neither library writes to stderr, nor warns, of whole and of cut files, and of wrong checksums: the reason is in the error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for kind, data in samples().items():
            decode_image(data)
            wrong = [data[:-20] + b"?" + data[-19:]] if kind.startswith("png") else []
            for part in (data[: len(data) // 2], data[:-20], *wrong):
                try:
                    decode_image(part)
                except BadImage:
                    continue
    assert capfd.readouterr() == ("", "")


def assert_image_or_bad(data: bytes) -> None:
    try:
        image = decode_image(data)
    except BadImage:
        return
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3
    assert image.size > 0


STARTS = [b"", b"\xff\xd8\xff", PNG_START, b"GIF89a", b"BM", b"RIFF\x10\0\0\0WEBP", b"II*\0", b"MM\0*", b"P6 ", b"\0\0\0\x0cjP  \r\n\x87\n"]


@settings(max_examples=150)
@given(st.sampled_from(STARTS), st.binary(max_size=400))
def test_any_bytes_are_an_image_or_bad(start: bytes, rest: bytes) -> None:
    assert_image_or_bad(start + rest)


@settings(max_examples=250)
@given(st.sampled_from(KINDS), st.data())
def test_any_damage_leaves_an_image_or_bad(kind: str, draw: st.DataObject) -> None:
    data = bytearray(samples()[kind])
    for _ in range(draw.draw(st.integers(1, 6))):
        start = draw.draw(st.integers(0, len(data) - 1))
        data[start : start + draw.draw(st.integers(0, 4))] = draw.draw(st.binary(max_size=4))
        if not data:
            break
    assert_image_or_bad(bytes(data))
