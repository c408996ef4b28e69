"""Image files of every kind, many written by hand, for the tests of decoding; and what is asserted of them."""

import functools
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from hw1.data.decode import BadImage, decode_image

HEIGHT, WIDTH = 61, 83  # odd, and not square
PNG_START = b"\x89PNG\r\n\x1a\n"


def image() -> np.ndarray:
    """uint8 [61, 83, 3]: gradients with a block, no symmetry."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    rgb = np.stack([x * 3, y * 4, (x + y) * 1.7], -1).clip(0, 255).astype(np.uint8)
    rgb[20:40, 50:80] = (200, 30, 90)
    return rgb


def deep() -> np.ndarray:
    """uint16 [61, 83, 3] whose low bytes would round the high ones up."""
    return image().astype(np.uint16) * 256 + 255


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
    """EXIF with a whole JPEG in it, which ends long before the image does."""
    thumbnail = save(Image.fromarray(image()).resize((16, 12)), "JPEG")
    ifd0 = struct.pack("<H", 1) + struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<I", 26)
    ifd1 = struct.pack("<H", 2) + struct.pack("<HHII", 0x0201, 4, 1, 56) + struct.pack("<HHII", 0x0202, 4, 1, len(thumbnail)) + bytes(4)
    block = b"Exif\0\0" + b"II*\0" + struct.pack("<I", 8) + ifd0 + ifd1 + thumbnail
    return with_app1(save(Image.fromarray(image()), "JPEG"), block)


def with_app1(jpeg: bytes, block: bytes) -> bytes:
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + jpeg[2:]


@functools.cache
def samples() -> dict[str, bytes]:
    """A file of every kind that has to be decoded."""
    rgb = Image.fromarray(image())
    grey, palette = rgb.convert("L"), rgb.quantize(64)
    alpha = Image.fromarray(np.tile(np.arange(WIDTH, dtype=np.uint8) * 3, (HEIGHT, 1)))
    rgba, la = rgb.copy(), grey.copy()
    rgba.putalpha(alpha)
    la.putalpha(alpha)
    cmyk = save(rgb.convert("CMYK"), "JPEG", quality=95)
    adobe = cmyk.index(b"\xff\xee")
    files = {
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
        "png-grey-4bit": png(0, 4, image()[:, :, 0]),
        "png-interlaced": png(2, 8, image(), interlaced=True),
        "png-1bit": save(grey.convert("1"), "PNG"),
        "png-rgba": save(rgba, "PNG"),
        "png-la": save(la, "PNG"),
        "png-palette": save(palette, "PNG"),
        "png-palette-4bit": save(rgb.quantize(11), "PNG", bits=4),
        "png-palette-transparency": save(palette, "PNG", transparency=bytes(range(0, 256, 4))),
        "png-palette-transparency-profile": save(palette, "PNG", transparency=bytes(range(0, 256, 4)), icc_profile=b"not a profile"),
        "png-transparent-colour": save(rgb, "PNG", transparency=(200, 30, 90)),
        "png-gamma-background": png(2, 8, image(), chunk(b"gAMA", struct.pack(">I", 100000)), chunk(b"bKGD", bytes(6))),
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
    return files | ({"avif": save(rgb, "AVIF")} if "AVIF" in Image.SAVE else {})  # Pillow >= 11.3


KINDS = sorted(samples())


def assert_close(decoded: np.ndarray, expected: np.ndarray, tolerance: int = 0) -> None:
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    assert decoded.flags.writeable
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).max() <= tolerance


def reason_of(data: bytes) -> str:
    with pytest.raises(BadImage) as caught:
        decode_image(data)
    assert "\n" not in caught.value.reason
    assert 0 < len(caught.value.reason) < 80
    return caught.value.reason


def image_of(data: bytes) -> np.ndarray:
    return decode_image(data).astype(int)
