"""Decoding, against Pillow and against the pixels that were written, and what is refused."""

import functools
import io
import pickle
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from hw1.data.decode import BadImage, decode_image, find_bad_images, read_image
from hw1.data.folders import ImageSet

HEIGHT, WIDTH = 61, 83  # odd, and not square
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest undoes the filter that hw1.data.decode sets
PNG_START = b"\x89PNG\r\n\x1a\n"


def picture() -> np.ndarray:
    """uint8 [61, 83, 3]: gradients with a block, no symmetry."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    rgb = np.stack([x * 3, y * 4, (x + y) * 1.7], -1).clip(0, 255).astype(np.uint8)
    rgb[20:40, 50:80] = (200, 30, 90)
    return rgb


def deep() -> np.ndarray:
    """uint16 [61, 83, 3] whose low bytes would round the high ones up."""
    return picture().astype(np.uint16) * 256 + 255


def save(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(color_type: int, depth: int, rows: np.ndarray, *extra: bytes, interlaced: bool = False) -> bytes:
    """A PNG written by hand, in two IDAT chunks; `rows` hold its samples, big-endian, two in a byte where `depth` is 4."""
    steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]  # Adam7
    passes = [rows[y::dy, x::dx] for y, x, dy, dx in steps] if interlaced else [rows]
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for part in passes for row in part))
    width = rows.shape[1] * 2 if depth == 4 else rows.shape[1]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, rows.shape[0], depth, color_type, 0, 0, interlaced))
    return b"".join((PNG_START, header, *extra, chunk(b"IDAT", data[:99]), chunk(b"IDAT", data[99:]), chunk(b"IEND", b"")))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def jpeg_with_thumbnail() -> bytes:
    """EXIF with a whole JPEG in it, which ends long before the picture does."""
    thumbnail = save(Image.fromarray(picture()).resize((16, 12)), "JPEG")
    ifd0 = struct.pack("<H", 1) + struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<I", 26)
    ifd1 = struct.pack("<H", 2) + struct.pack("<HHII", 0x0201, 4, 1, 56) + struct.pack("<HHII", 0x0202, 4, 1, len(thumbnail)) + bytes(4)
    block = b"Exif\0\0" + b"II*\0" + struct.pack("<I", 8) + ifd0 + ifd1 + thumbnail
    return with_app1(save(Image.fromarray(picture()), "JPEG"), block)


def with_app1(jpeg: bytes, block: bytes) -> bytes:
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


@functools.cache
def samples() -> dict[str, bytes]:
    """A file of every kind that has to be decoded."""
    rgb = Image.fromarray(picture())
    grey, palette = rgb.convert("L"), rgb.quantize(64)
    alpha = Image.fromarray(np.tile(np.arange(WIDTH, dtype=np.uint8) * 3, (HEIGHT, 1)))
    rgba, la = rgb.copy(), grey.copy()
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    cmyk = save(rgb.convert("CMYK"), "JPEG", quality=95)
    adobe = cmyk.index(b"\xff\xee")
    found = {
        "jpeg": save(rgb, "JPEG", quality=92),
        "jpeg-4:2:0": save(rgb, "JPEG", subsampling=2),
        "jpeg-progressive": save(rgb, "JPEG", progressive=True),
        "jpeg-grey": save(grey, "JPEG"),
        "jpeg-rgb": save(rgb, "JPEG", keep_rgb=True),
        "jpeg-thumbnail": jpeg_with_thumbnail(),
        "jpeg-cmyk-adobe": cmyk,
        "jpeg-ycck-adobe": cmyk[: adobe + 15] + b"\2" + cmyk[adobe + 16 :],
        "jpeg-cmyk-plain": cmyk[:adobe] + cmyk[adobe + 2 + int.from_bytes(cmyk[adobe + 2 : adobe + 4], "big") :],
        "png": save(rgb, "PNG"),
        "png-grey": save(grey, "PNG"),
        "png-grey-4bit": png(0, 4, picture()[:, :, 0]),
        "png-interlaced": png(2, 8, picture(), interlaced=True),
        "png-1bit": save(grey.convert("1"), "PNG"),
        "png-rgba": save(rgba, "PNG"),
        "png-la": save(la, "PNG"),
        "png-palette": save(palette, "PNG"),
        "png-palette-4bit": save(rgb.quantize(11), "PNG", bits=4),
        "png-palette-transparency": save(palette, "PNG", transparency=bytes(range(0, 256, 4))),
        "png-palette-transparency-profile": save(palette, "PNG", transparency=bytes(range(0, 256, 4)), icc_profile=b"not a profile"),
        "png-transparent-colour": save(rgb, "PNG", transparency=(200, 30, 90)),
        "png-gamma-background": png(2, 8, picture(), chunk(b"gAMA", struct.pack(">I", 100000)), chunk(b"bKGD", bytes(6))),
        "png-profile": save(rgb, "PNG", icc_profile=b"not a profile"),
        "png-animated": save(rgb, "PNG", save_all=True, append_images=[rgb.rotate(180)]),
        "png-animated-default": save(rgb, "PNG", save_all=True, default_image=True, append_images=[rgb.rotate(180), rgb.rotate(9)]),
        "gif": save(palette, "GIF"),
        "gif-transparency": save(palette, "GIF", transparency=5),
        "gif-animated": save(palette, "GIF", save_all=True, append_images=[palette.rotate(180)]),
        "bmp": save(rgb, "BMP"),
        "bmp-grey": save(grey, "BMP"),
        "bmp-1bit": save(grey.convert("1"), "BMP"),
        "bmp-palette": save(palette, "BMP"),
        "bmp-rgba": save(rgba, "BMP"),
        "webp": save(rgb, "WEBP"),
        "webp-lossless": save(rgb, "WEBP", lossless=True),
        "webp-rgba": save(rgba, "WEBP", lossless=True, exact=True),
        "webp-animated": save(rgb, "WEBP", lossless=True, save_all=True, append_images=[rgb.rotate(180)]),
        "tiff": save(rgb, "TIFF"),
        "tiff-lzw": save(rgb, "TIFF", compression="tiff_lzw"),
        "tiff-jpeg": save(rgb, "TIFF", compression="jpeg"),
        "tiff-fax": save(grey.convert("1"), "TIFF", compression="group4"),
        "tiff-palette": save(palette, "TIFF"),
        "tiff-la": save(la, "TIFF"),
        "tiff-rgba": save(rgba, "TIFF"),
        "tiff-cmyk": save(rgb.convert("CMYK"), "TIFF"),
        "ppm": save(rgb, "PPM"),
        "jpeg2000": save(rgb, "JPEG2000"),
    }
    Image.init()
    return found | ({"avif": save(rgb, "AVIF")} if "AVIF" in Image.SAVE else {})  # Pillow >= 11.3


KINDS = sorted(samples())
LOSSLESS = (
    "png", "png-interlaced", "png-rgba", "png-transparent-colour", "png-gamma-background", "png-profile", "png-animated",
    "png-animated-default", "bmp", "webp-lossless", "webp-rgba", "webp-animated", "tiff", "tiff-lzw", "tiff-rgba", "ppm", "jpeg2000",
)  # fmt: skip


def with_pillow(data: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def assert_close(found: np.ndarray, wanted: np.ndarray, tolerance: int = 0) -> None:
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert found.flags.writeable
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= tolerance


def reason_of(data: bytes) -> str:
    with pytest.raises(BadImage) as caught:
        decode_image(data)
    assert "\n" not in caught.value.reason
    assert 0 < len(caught.value.reason) < 80
    return caught.value.reason


@pytest.mark.parametrize("kind", KINDS)
def test_equals_pillow(kind: str) -> None:
    tolerance = 2 if kind.startswith("jpeg") and "adobe" not in kind else 0  # OpenCV makes every CMYK picture darker by one
    assert_close(decode_image(samples()[kind]), with_pillow(samples()[kind]), tolerance)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_files_give_back_the_picture(kind: str) -> None:
    assert_close(decode_image(samples()[kind]), picture())


@pytest.mark.parametrize("kind", ["jpeg-cmyk-adobe", "jpeg-cmyk-plain"])
def test_cmyk_is_no_negative(kind: str) -> None:
    """Photoshop's inverted values, which Pillow assumes with and without Adobe's mark."""
    assert np.abs(decode_image(samples()[kind]).astype(int) - picture()).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(kind: str, orientation: int) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    data = save(Image.fromarray(picture()), kind, exif=exif(orientation), **options)
    found = decode_image(data)
    assert found.shape[:2] == ((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))
    assert_close(found, with_pillow(data), tolerance=2 if kind == "JPEG" else 0)


def test_orientation_is_where_the_camera_says() -> None:
    """Orientation 6: the file's left bottom corner is the picture's left top (EXIF 2.32, tag 0x0112)."""
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[8:, :8] = 255
    found = decode_image(save(Image.fromarray(stored), "JPEG", quality=100, subsampling=0, exif=exif(6)))
    assert found.shape == (32, 16, 3)
    assert found[2:6, 2:6].min() > 240
    assert found[12:].max() < 15


def test_orientation_in_xmp_and_in_broken_exif(monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg = samples()["jpeg"]
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    turned = with_app1(jpeg, xmp)  # early versions of Pillow 11 do not look there
    assert_close(decode_image(turned), with_pillow(turned), tolerance=2)
    for broken in (b"", b"MM", b"II*\0", b"MM\0*\0\0\0\x08\xff\xff" + bytes(20), bytes(30)):
        assert_close(decode_image(with_app1(jpeg, b"Exif\0\0" + broken)), picture_of(jpeg))
        assert_close(decode_image(png(2, 8, picture(), chunk(b"eXIf", broken))), picture())

    def fail(_: Image.Image) -> Image.Exif:
        raise SyntaxError("broken beyond what Pillow expects")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    assert_close(decode_image(turned), picture_of(jpeg))


def test_fill_bytes_between_the_segments_of_a_jpeg() -> None:
    """Any number of 0xFF may stand before a marker (ITU T.81, B.1.1.2)."""
    jpeg = samples()["jpeg"]
    assert_close(decode_image(jpeg[:2] + b"\xff" * 7 + jpeg[2:]), picture_of(jpeg))


def picture_of(data: bytes) -> np.ndarray:
    return decode_image(data).astype(int)


def deep_files() -> dict[str, bytes]:
    big = deep().astype(">u2")
    alpha = np.full((HEIGHT, WIDTH, 1), 0x80FF, ">u2")
    tiff = functools.partial(cv2.imencode, ".tiff", deep()[:, :, ::-1])
    return {
        "png-grey": png(0, 16, big[:, :, 0].copy()),
        "png-rgb": png(2, 16, big),
        "png-la": png(4, 16, np.concatenate([big[:, :, :1], alpha], 2).astype(">u2")),
        "png-rgba": png(6, 16, np.concatenate([big, alpha], 2).astype(">u2")),
        "png-rgb-interlaced": png(2, 16, big, interlaced=True),
        "png-rgb-transparent": png(2, 16, big, chunk(b"tRNS", big[25, 60].tobytes())),
        "png-grey-turned": png(0, 16, big[:, :, 0].copy(), chunk(b"eXIf", exif(6).tobytes()[6:])),
        "tiff-grey": save(Image.fromarray(deep()[:, :, 0]), "TIFF"),
        "tiff-grey-big-endian": save(Image.frombytes("I;16B", (WIDTH, HEIGHT), big[:, :, 0].tobytes()), "TIFF"),
        "tiff-rgb-lzw": tiff()[1].tobytes(),
        "tiff-rgb-raw": tiff([cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes(),
        "pgm": b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + big[:, :, 0].tobytes(),
    }


@pytest.mark.parametrize("kind", deep_files())
def test_sixteen_bit_files_give_the_high_byte(kind: str) -> None:
    wanted = picture() if "rgb" in kind else picture()[:, :, [0, 0, 0]]
    wanted = np.rot90(wanted, -1) if "turned" in kind else wanted
    assert_close(decode_image(deep_files()[kind]), wanted)


def test_thirty_two_bit_values_are_refused() -> None:
    for values in (np.ones((4, 5), np.float32), np.ones((4, 5), np.int32)):
        assert reason_of(save(Image.fromarray(values), "TIFF")) == "32-bit values, whose range is unknown"


@pytest.mark.parametrize("kind", KINDS)
def test_truncation_is_found_at_any_offset(kind: str) -> None:
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
    """Also where something else took its place: OpenCV returns a picture for these."""
    data = samples()[kind]
    for tail in (b"", bytes(len(data)), b"\xff" * 100, bytes(range(200)) * 9):
        assert reason_of(data[: len(data) * 3 // 4] + tail) == "truncated"


def test_what_follows_the_end_of_a_jpeg_does_not_matter() -> None:
    data = samples()["jpeg"]
    for tail in (b"\0", bytes(5000), b"\r\n", b"ftypmp4 motion", data[:300]):
        assert_close(decode_image(data + tail), picture_of(data))


def test_large_truncated_files() -> None:
    """Size of a photograph: several strips, chunks, scans, tiles."""
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    image = Image.fromarray(cv2.GaussianBlur(noise, (0, 0), 1.5))
    options: dict[str, dict] = {kind: {} for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP")}
    options["JPEG"] = {"progressive": True}
    options["TIFF"] = {"compression": "tiff_lzw"}
    for kind in options:
        data = save(image.quantize() if kind == "GIF" else image, kind, **options[kind])
        decode_image(data)
        for share in (0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
            assert "truncated" in reason_of(data[: max(int(share * len(data)), 12)]), (kind, share)


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
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"),  # would start another program in Pillow
    ],
)
def test_reasons(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


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


def test_long_thin_pictures_are_fine() -> None:
    thin = np.tile(picture()[:2], (1, 300, 1))
    assert thin.shape[1] > 20_000
    assert_close(decode_image(save(Image.fromarray(thin), "PNG")), thin)
    assert decode_image(save(Image.fromarray(thin), "JPEG")).shape == thin.shape


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


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(STARTS), st.binary(max_size=400))
def test_any_bytes_are_an_image_or_bad(start: bytes, rest: bytes) -> None:
    assert_image_or_bad(start + rest)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(KINDS), st.data())
def test_any_damage_leaves_an_image_or_bad(kind: str, draw: st.DataObject) -> None:
    data = bytearray(samples()[kind])
    for _ in range(draw.draw(st.integers(1, 6))):
        start = draw.draw(st.integers(0, len(data) - 1))
        data[start : start + draw.draw(st.integers(0, 4))] = draw.draw(st.binary(max_size=4))
        if not data:
            break
    assert_image_or_bad(bytes(data))


def test_read_image_names_path_and_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_suffix = tmp_path / "photo.jpg"
    wrong_suffix.write_bytes(samples()["png"])
    assert_close(read_image(wrong_suffix), picture())
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "link.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "folder.jpg").mkdir()
    reasons = {"empty": "empty file", "link": "dangling link", "none": "no such file", "folder": "cannot be read: is a directory"}
    for name, reason in reasons.items():
        with pytest.raises(BadImage) as caught:
            read_image(tmp_path / f"{name}.jpg")
        assert str(caught.value) == f"{tmp_path / name}.jpg: {reason}"
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # as loader processes send it

    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(BadImage, match=r"photo\.jpg: cannot be read: permission denied$"):
        read_image(wrong_suffix)


def test_threads_decode_alike() -> None:
    files = list(samples().values()) * 3
    with ThreadPoolExecutor(8) as pool:
        for data, found in zip(files, pool.map(decode_image, files), strict=True):
            assert np.array_equal(found, decode_image(data))


def test_photographs(photos: Path) -> None:
    """No false alarm among real photographs, and the pixels that Pillow reads."""
    files = tuple(sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg")))
    assert len(files) > 1000
    files = files[::3]
    assert find_bad_images(ImageSet(photos, files, None, 0)) == {}
    for file in files[:: len(files) // 150]:
        data = (photos / file).read_bytes()
        assert_close(decode_image(data), with_pillow(data), tolerance=2)
        for share in (0.3, 0.9, 0.999):
            assert reason_of(data[: int(share * len(data))]) == "truncated"
