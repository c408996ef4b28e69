"""Decoding, against Pillow and against the pixels that were written."""

import functools
import io
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.image_files import (
    HEIGHT,
    KINDS,
    WIDTH,
    assert_close,
    chunk,
    deep,
    exif,
    image,
    image_of,
    png,
    reason_of,
    samples,
    save,
    with_app1,
)
from PIL import Image, ImageOps

from hw1.data.bad_images import find_bad_images
from hw1.data.decode import BadImage, decode_image, read_image
from hw1.data.image_folder import ImageSet

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # pytest undoes the filter that hw1.data.decode sets
LOSSLESS = (
    "png", "png-interlaced", "png-rgba", "png-transparent-colour", "png-gamma-background", "png-profile", "png-animated",
    "png-animated-default", "bmp", "webp-lossless", "webp-rgba", "webp-animated", "tiff", "tiff-lzw", "tiff-rgba", "ppm", "jpeg2000",
)  # fmt: skip


def with_pillow(data: bytes) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


@pytest.mark.parametrize("kind", KINDS)
def test_equals_pillow(kind: str) -> None:
    tolerance = 2 if kind.startswith("jpeg") and "adobe" not in kind else 0  # OpenCV makes every CMYK image darker by one
    assert_close(decode_image(samples()[kind]), with_pillow(samples()[kind]), tolerance)


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_files_give_back_the_image(kind: str) -> None:
    assert_close(decode_image(samples()[kind]), image())


@pytest.mark.parametrize("kind", ["jpeg-cmyk-adobe", "jpeg-cmyk-plain"])
def test_cmyk_is_no_negative(kind: str) -> None:
    """Photoshop's inverted values, which Pillow assumes with and without Adobe's mark."""
    assert np.abs(decode_image(samples()[kind]).astype(int) - image()).mean() < 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation(kind: str, orientation: int) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    data = save(Image.fromarray(image()), kind, exif=exif(orientation), **options)
    decoded = decode_image(data)
    assert decoded.shape[:2] == ((HEIGHT, WIDTH) if orientation < 5 else (WIDTH, HEIGHT))
    assert_close(decoded, with_pillow(data), tolerance=2 if kind == "JPEG" else 0)


def test_orientation_is_where_the_camera_says() -> None:
    """Orientation 6: the file's left bottom corner is the image's left top (EXIF 2.32, tag 0x0112)."""
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[8:, :8] = 255
    decoded = decode_image(save(Image.fromarray(stored), "JPEG", quality=100, subsampling=0, exif=exif(6)))
    assert decoded.shape == (32, 16, 3)
    assert decoded[2:6, 2:6].min() > 240
    assert decoded[12:].max() < 15


def test_orientation_in_xmp_and_in_broken_exif(monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg = samples()["jpeg"]
    xmp = b'http://ns.adobe.com/xap/1.0/\0<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    turned = with_app1(jpeg, xmp)  # early versions of Pillow 11 do not look there
    assert_close(decode_image(turned), with_pillow(turned), tolerance=2)
    for broken in (b"", b"MM", b"II*\0", b"MM\0*\0\0\0\x08\xff\xff" + bytes(20), bytes(30)):
        assert_close(decode_image(with_app1(jpeg, b"Exif\0\0" + broken)), image_of(jpeg))
        assert_close(decode_image(png(2, 8, image(), chunk(b"eXIf", broken))), image())

    def fail(_: Image.Image) -> Image.Exif:
        raise SyntaxError("broken beyond what Pillow expects")

    monkeypatch.setattr(Image.Image, "getexif", fail)
    assert_close(decode_image(turned), image_of(jpeg))


def test_fill_bytes_between_the_segments_of_a_jpeg() -> None:
    """Any number of 0xFF may stand before a marker (ITU T.81, B.1.1.2)."""
    jpeg = samples()["jpeg"]
    assert_close(decode_image(jpeg[:2] + b"\xff" * 7 + jpeg[2:]), image_of(jpeg))


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
    wanted = image() if "rgb" in kind else image()[:, :, [0, 0, 0]]
    wanted = np.rot90(wanted, -1) if "turned" in kind else wanted
    assert_close(decode_image(deep_files()[kind]), wanted)


def test_long_thin_images_are_fine() -> None:
    thin = np.tile(image()[:2], (1, 300, 1))
    assert thin.shape[1] > 20_000
    assert_close(decode_image(save(Image.fromarray(thin), "PNG")), thin)
    assert decode_image(save(Image.fromarray(thin), "JPEG")).shape == thin.shape


def test_read_image_names_path_and_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong_suffix = tmp_path / "image.jpg"
    wrong_suffix.write_bytes(samples()["png"])
    assert_close(read_image(wrong_suffix), image())
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
    with pytest.raises(BadImage, match=r"image\.jpg: cannot be read: permission denied$"):
        read_image(wrong_suffix)


def test_threads_decode_alike() -> None:
    files = list(samples().values()) * 3
    with ThreadPoolExecutor(8) as pool:
        for data, decoded in zip(files, pool.map(decode_image, files), strict=True):
            assert np.array_equal(decoded, decode_image(data))


def test_real_photographs(photos: Path) -> None:
    """No false alarm among real images, and the pixels that Pillow reads."""
    files = tuple(sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.jpg")))
    assert len(files) > 1000
    files = files[::3]
    assert find_bad_images(ImageSet(photos, files, None, 0)) == {}
    for file in files[:: len(files) // 150]:
        data = (photos / file).read_bytes()
        assert_close(decode_image(data), with_pillow(data), tolerance=2)
        for fraction in (0.3, 0.9, 0.999):
            assert reason_of(data[: int(fraction * len(data))]) == "truncated"
