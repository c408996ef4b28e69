"""Image files -> upright RGB arrays, and the check that every file of a set can be read. No torch.

OpenCV decodes ordinary JPEG and PNG. Pillow decodes the rest, and whatever the two read differently: CMYK, animations, files with
metadata that may turn the image, and all other formats, whose support differs from one OpenCV build to the next.
"""

import functools
import io
import itertools
import os
import sys
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import cv2
import numpy as np
import PIL
from PIL import Image, ImageOps
from tqdm import tqdm

from hw1.data.image_headers import JPEG_START, PNG_START, describe_bytes, read_jpeg_header, read_plain_png_size
from hw1.data.image_set import ImageFile, ImageSet
from hw1.data.verified_files import Stamp, load_verified, save_verified
from hw1.errors import UserError
from hw1.runtime.cpu import usable_cores
from hw1.utils.text import printable

MAX_PIXELS = 178_956_970  # Pillow's limit against decompression bombs
RGB = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
PILLOW_FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF")
CHUNK = 64  # files that a thread checks between two looks at the progress bar
VERIFIED_BY = f"1 OpenCV {cv2.__version__} Pillow {PIL.__version__}"  # raise the number when `decode_image` becomes stricter

# What Pillow warns of (large images, odd metadata) would come from any thread, at any time; errors are raised all the same.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class BadImage(Exception):
    """A file that cannot be decoded; `reason` is one short phrase, `str()` says path and reason."""

    def __init__(self, reason: str, path: ImageFile | None = None) -> None:
        super().__init__(reason, path)
        self.reason = reason
        self.path = path

    def __str__(self) -> str:
        return self.reason if self.path is None else f"{printable(self.path)}: {self.reason}"


def read_image(path: ImageFile, smallest_side: int | None = None) -> np.ndarray:
    """`decode_image` of a file, or of a member of an archive. Raises BadImage, which names path and reason."""
    try:
        return decode_image(path.read_bytes(), smallest_side)
    except BadImage as error:
        raise BadImage(error.reason, path) from error
    except FileNotFoundError as error:
        raise BadImage("dangling link" if os.path.islink(str(path)) else "no such file", path) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadImage(f"cannot be read: {reason.lower()}", path) from error


def decode_image(data: bytes, smallest_side: int | None = None) -> np.ndarray:
    """uint8 [H, W, 3], RGB, upright, of an encoded image: equal to Pillow's `exif_transpose` and `convert("RGB")` within JPEG tolerance,
    but of 16-bit values the high byte.

    With `smallest_side` a JPEG may come at 1/2, 1/4 or 1/8 of its width and height, rounded up: the smallest that leaves its shorter side
    that many pixels. libjpeg does that in the cosine transform, in a fraction of the time; the result is antialiased.

    The content decides on the format; of an animation the first frame is taken, alpha is dropped, colour profiles are not applied.
    Raises BadImage for anything that is no whole image of at most `MAX_PIXELS`.
    """
    if not data:
        raise BadImage("empty file")
    image = None
    if data.startswith(JPEG_START):
        image = _decode_jpeg(data, smallest_side)
    elif data.startswith(PNG_START):
        image = _decode_png(data)
    return _decode_with_pillow(data) if image is None else image


def read_size(path: ImageFile) -> tuple[int, int]:
    """(height, width) as the file stores them, before it is turned upright; all of it is read only where its head does not tell Pillow.

    Raises BadImage, which names path and reason.
    """
    try:
        with path.open("rb") as file, Image.open(file, formats=_pillow_formats()) as image:
            return image.height, image.width
    except Exception:  # whatever it is: decoding decides
        height, width, _ = read_image(path).shape
        return height, width


def find_bad_images(images: ImageSet) -> dict[int, str]:
    """Index -> reason, of every file that cannot be decoded. Decodes each file once, on all cores.

    Files that were good before are not read again while path, size and date of change stay the same (`ImageSet.stamp`), and they may be
    read.
    """
    remembered = load_verified(VERIFIED_BY)
    bad: dict[int, str] = {}
    good: dict[str, Stamp] = {}
    todo: list[tuple[int, str, Stamp]] = []
    for index, file in enumerate(images.files):
        place = images.place(file)
        stamp = images.stamp(file)  # before the file is read: if it changes meanwhile, the next stamp differs
        if stamp is None:
            bad[index] = _reason(images.image_file(index)) or "no such file"
        elif remembered.get(place) != stamp or not (images.archive or _may_read(place)):
            todo.append((index, place, stamp))
    pool = ThreadPoolExecutor(usable_cores())
    try:
        parts = [todo[i : i + CHUNK] for i in range(0, len(todo), CHUNK)]
        done = itertools.chain.from_iterable(pool.map(lambda part: [_reason(images.image_file(index)) for index, _, _ in part], parts))
        bar = tqdm(done, desc="checking images", total=len(todo), unit=" images", delay=1.0, disable=None)
        for (index, place, stamp), reason in zip(todo, bar, strict=True):
            if reason is None:
                good[place] = stamp
            else:
                bad[index] = reason
    finally:
        pool.shutdown(cancel_futures=True)
        if good:
            save_verified(VERIFIED_BY, good)
    return dict(sorted(bad.items()))


def check_images(
    sets: Sequence[ImageSet], on_bad: Literal["stop", "skip"], skip_option: str = "data.bad_images=skip", *, max_bad: float = 1.0
) -> list[ImageSet]:
    """The sets without the images that cannot be decoded.

    "stop" raises UserError if there are any, with a line for each and the advice `skip_option`; "skip" prints one line with their count
    to stderr, and raises UserError if no image of a set is left, or more than the share `max_bad` (0-1) of all would be left out.
    """
    found = [find_bad_images(images) for images in sets]
    lines = [f"{printable(images.image_file(i))}: {reason}" for images, bad in zip(sets, found, strict=True) for i, reason in bad.items()]
    if not lines:
        return list(sets)
    count = f"{len(lines)} of {sum(map(len, sets))} images cannot be decoded"
    if on_bad == "stop":
        raise UserError(*lines, f"{count}; mend or remove them, or leave them out with {skip_option}")
    if len(lines) > max_bad * sum(map(len, sets)):
        raise UserError(*lines, f"data.max_bad: {count}, more than the share of {max_bad:g} that may be left out; mend or remove them")
    for images, bad in zip(sets, found, strict=True):
        if len(bad) == len(images):
            raise UserError(*lines, f"{printable(images.root)}: none of {len(images)} images can be decoded")
    print(f"skipped: {count}: {'; '.join(lines[:3])}{'; ...' * (len(lines) > 3)}", file=sys.stderr)
    return [images.subset([i for i in range(len(images)) if i not in bad]) for images, bad in zip(sets, found, strict=True)]


def _decode_jpeg(data: bytes, smallest_side: int | None) -> np.ndarray | None:
    """The image, or None where Pillow has to decide. Raises BadImage for a truncated file, of which OpenCV may return a part."""
    header = read_jpeg_header(data)
    if header is None:
        return None
    _check_size(header.width, header.height)
    if not header.is_whole:
        raise BadImage("truncated")
    flags = RGB if smallest_side is None else RGB | _reduction(min(header.width, header.height), smallest_side)
    image = _decode_with_opencv(data, flags) if header.components in (1, 3) else None  # OpenCV makes CMYK darker by one
    return _turn(image, _read_orientation(data)) if image is not None and header.may_turn else image


def _reduction(side: int, smallest_side: int) -> int:
    """OpenCV's flag that has `side` decoded to the smallest length of at least `smallest_side`."""
    for divisor, flag in ((8, cv2.IMREAD_REDUCED_GRAYSCALE_8), (4, cv2.IMREAD_REDUCED_GRAYSCALE_4), (2, cv2.IMREAD_REDUCED_GRAYSCALE_2)):
        if side >= divisor * smallest_side:
            return flag  # despite its name: `RGB` decides on the colours
    return 0


def _decode_png(data: bytes) -> np.ndarray | None:
    """The image, or None where Pillow has to decide."""
    size = read_plain_png_size(data)
    if size is None:
        return None
    _check_size(*size)
    return _decode_with_opencv(data)


def _read_orientation(data: bytes) -> int:
    """EXIF orientation 1-8 as Pillow finds it, in EXIF or XMP."""
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            return image.getexif().get(0x0112, 1)
    except Exception:  # Pillow's readers raise whatever broken metadata leads them into; the image itself is sound
        return 1


def _turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """Applies the EXIF orientation to [H, W, 3]; an unknown one changes nothing."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _decode_with_opencv(data: bytes, flags: int = RGB) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None


@functools.cache
def _pillow_formats() -> list[str]:
    Image.init()
    return [name for name in PILLOW_FORMATS if name in Image.OPEN]


def _decode_with_pillow(data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data), formats=_pillow_formats()) as image:
            _check_size(*image.size)
            image.load()
            return _to_rgb(_transpose(image), image.format or "")
    except BadImage:
        raise
    except Image.DecompressionBombError as error:
        raise BadImage(f"too large: more than {MAX_PIXELS:,} pixels") from error
    except MemoryError as error:
        raise BadImage("too large for the memory") from error
    except PIL.UnidentifiedImageError as error:
        raise BadImage(describe_bytes(data)) from error
    except Exception as error:  # Pillow's readers raise whatever a damaged file leads them into
        raise BadImage("truncated" if "truncated" in str(error).lower() else "truncated or damaged") from error


def _transpose(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken metadata, as in _read_orientation
        return image


def _to_rgb(image: Image.Image, kind: str) -> np.ndarray:
    if image.mode.startswith("I;16") or (image.mode == "I" and kind == "PPM"):  # Pillow would clip these at 255
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise BadImage("32-bit values, whose range is unknown")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours, without a warning
    return np.array(image.convert("RGB"))


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImage(f"too large: {width} x {height} pixels")


def _may_read(path: str) -> bool:
    """A permission that was taken away changes neither size nor date."""
    return os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)


def _reason(file: ImageFile) -> str | None:
    try:
        read_image(file)
    except BadImage as error:
        return error.reason
    return None
