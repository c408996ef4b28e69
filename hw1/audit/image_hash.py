"""Decide whether two images are copies: a hash finds candidates, fine structure in 28 x 28 rejects most, the pixels decide on the rest.

All three tolerate what copying does to an image: encoding again, another size or aspect, a mirror, a little brightness or contrast. They
compare the detail, an image minus its own blur: images of one subject on one background have the coarse layout in common, but edges fall on
the same pixels only in copies. An image without detail (blank, a gradient) is a copy of no other, however similar they are.
"""

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from hw1.data.decode import read_image

HASH_SIDE, FREQUENCIES = 32, 8  # pixels; cosine frequencies along each axis that the hash uses
DETAIL_SIZE = 28  # HASH_SIDE minus its margin, where the blur reaches beyond the edge
MIN_DETAIL = 1.0  # standard deviation, in grey levels; images have 4 and more, compression leaves 0.5 where there is nothing
MAX_DISTANCE = 8  # bits of 63; copies differ in 5, other images in 32 on average
MIN_SIMILARITY = 0.93  # correlation of the detail in 28 x 28: worth opening both files
MIN_CORRELATION = 0.97  # of the detail in 128 x 128; copies have 0.976 and more, two frames of one animation 0.963
SIDE = 128  # pixels
MAX_GAIN = 1.4  # ratio of the contrasts
MAX_COLOUR = 30.0  # levels of chroma that 5% of the image may exceed; of luma, where one of the two is grey
GREY = 3.0  # levels of chroma


class Signature(NamedTuple):
    """Hashes and detail of an image, by which candidates for its copies are found."""

    hashes: tuple[int, int]
    """63 bits each, of the image and of its mirror image."""
    detail: NDArray[np.int8]
    """[DETAIL_SIZE, DETAIL_SIZE], in 1/24 of its standard deviation."""
    has_detail: bool
    """False for an image that is a copy of no other."""


class Match(NamedTuple):
    """Why two files count as copies."""

    how: str
    """Same file, same pixels or near copy."""
    mirrored: bool
    resized: bool
    correlation: float
    """Of their detail, at most 1."""


def compute_signature(image: NDArray[np.uint8]) -> Signature:
    """Compute the hashes and the detail of an image.

    The hash has a bit for the sign of each low cosine frequency but the constant (after Zauner, pHash, 2010, who compares with the median).
    Mirroring an image changes the sign of every odd horizontal frequency, so that one transform gives both hashes.

    Args:
        image: uint8 [H, W, 3], RGB.
    """
    grey = _shrink(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), HASH_SIDE).astype(np.float32)
    low = cv2.dct(grey)[:FREQUENCIES, :FREQUENCIES]
    mirrored = low * np.where(np.arange(FREQUENCIES) % 2, -1.0, 1.0)
    hashes = tuple(int.from_bytes(np.packbits(values.ravel()[1:] > 0).tobytes(), "big") for values in (low, mirrored))
    margin = (HASH_SIDE - DETAIL_SIZE) // 2
    detail = (grey - cv2.GaussianBlur(grey, (0, 0), 1.5))[margin:-margin, margin:-margin]
    detail = detail - detail.mean()
    spread = float(detail.std())
    scaled = (detail * (24 / max(spread, 1e-6))).round().clip(-127, 127).astype(np.int8)
    return Signature((hashes[0], hashes[1]), scaled, spread >= MIN_DETAIL)


def similarity(detail: NDArray[np.int8], first: NDArray[np.int64], second: NDArray[np.int64], *, mirrored: bool) -> NDArray[np.float32]:
    """Correlate the detail of pairs of images.

    Args:
        detail: int8 [N, DETAIL_SIZE, DETAIL_SIZE].
        first: int64 [K], positions in `detail`.
        second: Likewise.
        mirrored: Mirror the first image of each pair.

    Returns:
        float32 [K], -1 to 1.
    """
    a = detail[first][:, :, ::-1] if mirrored else detail[first]
    x, y = (part.reshape(len(part), -1).astype(np.float32) for part in (a, detail[second]))
    norms = np.sqrt(np.einsum("kp,kp->k", x, x) * np.einsum("kp,kp->k", y, y))
    return np.asarray(np.einsum("kp,kp->k", x, y) / np.maximum(norms, 1e-6), np.float32)


def compare(path_a: Path, path_b: Path, *, mirrored: bool) -> Match | None:
    """Decode both files at whole size and compare their pixels.

    Args:
        path_a: An image file.
        path_b: Another image file.
        mirrored: Mirror the first image.

    Returns:
        How they match, None if they are not copies.

    Raises:
        BadImage: A file cannot be decoded.
    """
    a, b = read_image(path_a), read_image(path_b)
    if mirrored:
        a = np.ascontiguousarray(a[:, ::-1])
    resized = a.shape != b.shape
    if not resized and np.array_equal(a, b):
        return Match("same pixels", mirrored, False, 1.0)
    side = min(SIDE, *a.shape[:2], *b.shape[:2])
    x, y = _detail(a, side), _detail(b, side)
    spreads = sorted((float(x.std()), float(y.std())))
    if spreads[0] < MIN_DETAIL or spreads[1] > MAX_GAIN * spreads[0] or not _same_colours(a, b):
        return None
    correlation = float((x * y).mean() / (spreads[0] * spreads[1]))
    return Match("near copy", mirrored, resized, min(correlation, 1.0)) if correlation >= MIN_CORRELATION else None


def _detail(image: NDArray[np.uint8], side: int) -> NDArray[np.float32]:
    """Return a slightly smoothed image minus a much smoothed one, without the margin, with mean 0."""
    grey = _shrink(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), side).astype(np.float32)
    unit = side / SIDE
    band = cv2.GaussianBlur(grey, (0, 0), max(unit, 0.3)) - cv2.GaussianBlur(grey, (0, 0), max(6 * unit, 1.0))
    margin = max(side // 16, 1)
    band = band[margin:-margin, margin:-margin] if side > 4 else band
    return np.asarray(band - band.mean(), np.float32)


def _same_colours(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    x, y = (cv2.cvtColor(_shrink(image, 16), cv2.COLOR_RGB2YCrCb).astype(np.float32) for image in (a, b))
    has_grey = min(np.abs(x[:, :, 1:] - 128).max(), np.abs(y[:, :, 1:] - 128).max()) <= GREY
    difference = np.abs(x - y)[:, :, 0] if has_grey else np.abs(x - y)[:, :, 1:].max(axis=2)
    return float(np.quantile(difference, 0.95)) <= MAX_COLOUR


def _shrink(image: NDArray[Any], side: int) -> NDArray[Any]:
    """Resize to `side` x `side` pixels, whatever the aspect."""
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
