"""Shrink images and adjust their colours for the fused augmentation, compiled by Numba to the processor's vector instructions.

Pixels are packed: uint32, red in the lowest byte, then green, blue and a byte that means nothing. A row at a time is unpacked into float32
planes that stay in the first-level cache, goes through all adjustments, and is packed again: values are rounded once, not after each step.
The first call compiles (seconds); the compiled code stays in the user's cache folder.
"""

import os
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from hw1.utils.files import cache_folder

BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
"""Kinds of adjustment."""

with suppress(OSError):
    (cache_folder() / "numba").mkdir(parents=True, exist_ok=True)
CAN_CACHE = "NUMBA_CACHE_DIR" in os.environ or os.access(cache_folder() / "numba", os.W_OK)
if CAN_CACHE:
    os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder() / "numba"))

from numba import njit  # noqa: E402  it reads the variable above on import

f4, i4, u2, u4 = np.float32, np.int32, np.uint16, np.uint32
Plane = NDArray[np.float32]  # Numba itself infers types and reads no annotations
Factors = NDArray[np.float32]
Kinds = NDArray[np.int64]
Matrix = NDArray[np.float64]
Packed = NDArray[np.uint32]
Rows = NDArray[np.uint8]
Weights = NDArray[np.uint16]
compiled = njit(cache=CAN_CACHE, fastmath=True, nogil=True, error_model="numpy")


@compiled
def adjust_colours(source: Packed, target: Packed, matrix: Matrix, width: int, height: int, kinds: Kinds, factors: Factors) -> None:
    """Blacken what lies outside the crop, then apply the adjustments in their order.

    Args:
        source: uint32 [S, S], packed.
        target: uint32 [S, S], packed; may be `source`.
        matrix: float64 [2, 3], pixel of `source` (column, row, 1) -> position in the crop, where (0, 0) is the centre of the first pixel.
        width: Of the crop, pixels.
        height: Of the crop, pixels.
        kinds: int64 [N], each one of BRIGHTNESS, CONTRAST, SATURATION and HUE.
        factors: float32 [N], hue's in sixths of the colour circle.
    """
    rows, columns = source.shape
    red, green, blue = np.empty(columns, f4), np.empty(columns, f4), np.empty(columns, f4)
    mean = f4(0)
    for n in range(kinds.size):
        if kinds[n] == CONTRAST:  # its grey is the mean of the image after the adjustments before it
            total = 0.0
            for row in range(rows):
                _load(source, row, matrix, width, height, red, green, blue)
                total += float(_sum_grey(*_adjust(red, green, blue, kinds, factors, n, f4(0))))
            mean = f4(np.floor(total / (rows * columns) + 0.5))
    for row in range(rows):
        _load(source, row, matrix, width, height, red, green, blue)
        r, g, b = _adjust(red, green, blue, kinds, factors, kinds.size, mean)
        for i in range(columns):
            target[row, i] = i4(r[i] + f4(0.5)) | (i4(g[i] + f4(0.5)) << i4(8)) | (i4(b[i] + f4(0.5)) << i4(16))


@compiled
def shrink_rows(source: Rows, target: Rows) -> None:
    """Make each row of the target a mean of the source's, weighted by a triangle twice as wide as a target row: Pillow's bilinear filter.

    Weights are multiples of 1/256, so that sums fit into 16 bits, of which a vector instruction takes twice as many as of 32.

    Args:
        source: uint8 [H, N].
        target: uint8 [S, N] with S < H, written to.
    """
    scale = source.shape[0] / target.shape[0]
    weights = np.empty(2 * int(scale) + 4, u2)
    for row in range(target.shape[0]):
        centre = (row + 0.5) * scale
        first, last = max(int(centre - scale + 0.5), 0), min(int(centre + scale + 0.5), source.shape[0])
        _fill_triangle(weights, first, last, centre, scale)
        if last - first > 4:
            _mean_of_rows(source[first:last], weights, target[row])
            continue
        # The usual case, in one pass over the pixels; rows beyond the triangle weigh nothing.
        a, b, c, d = source[first], source[min(first + 1, last - 1)], source[min(first + 2, last - 1)], source[last - 1]
        for i in range(target.shape[1]):
            total = u2(u2(u2(128) + u2(weights[0] * u2(a[i]))) + u2(weights[1] * u2(b[i])))  # Numba itself would add in 64 bits
            total = u2(u2(total + u2(weights[2] * u2(c[i]))) + u2(weights[3] * u2(d[i])))
            target[row, i] = np.uint8(total >> u2(8))


@compiled
def _fill_triangle(weights: Weights, first: int, last: int, centre: float, scale: float) -> None:
    """Fill in the weights of the rows first ... last - 1: whole numbers that sum to 256; 0 behind them."""
    total, share, given = 0.0, 0.0, 0
    for near in range(first, last):
        total += 1 - abs(near + 0.5 - centre) / scale
    weights[:] = u2(0)
    for near in range(first, last):
        share += (1 - abs(near + 0.5 - centre) / scale) / total
        upto = int(256 * share + 0.5)
        weights[near - first] = u2(upto - given)
        given = upto


@compiled
def _mean_of_rows(source: Rows, weights: Weights, target: NDArray[np.uint8]) -> None:
    sums = np.full(target.size, 128, u2)  # rounds
    for near in range(source.shape[0]):
        for i in range(sums.size):
            sums[i] = u2(sums[i] + u2(weights[near] * u2(source[near, i])))
    for i in range(sums.size):
        target[i] = np.uint8(sums[i] >> u2(8))


@compiled
def _load(source: Packed, row: int, matrix: Matrix, width: int, height: int, red: Plane, green: Plane, blue: Plane) -> None:
    """Unpack a row into planes: black outside the part of it that lies in the crop, which is contiguous."""
    first, last = _clip_to_crop(matrix[0, 0], matrix[0, 1] * row + matrix[0, 2], width, 0, red.size)
    first, last = _clip_to_crop(matrix[1, 0], matrix[1, 1] * row + matrix[1, 2], height, first, last)
    for i in range(red.size):
        pixel = source[row, i]
        red[i], green[i], blue[i] = f4(i4(pixel & u4(255))), f4(i4(pixel >> u4(8) & u4(255))), f4(i4(pixel >> u4(16) & u4(255)))
    red[:first], green[:first], blue[:first] = f4(0), f4(0), f4(0)
    red[last:], green[last:], blue[last:] = f4(0), f4(0), f4(0)


@compiled
def _clip_to_crop(slope: float, offset: float, length: int, first: int, last: int) -> tuple[int, int]:
    """Narrow the range first ... last - 1 to the i with -0.5 <= slope i + offset <= length - 0.5."""
    if abs(slope) < 1e-9:
        return (first, last) if -0.5 <= offset <= length - 0.5 else (first, first)
    low, high = (-0.5 - offset) / slope, (length - 0.5 - offset) / slope
    if slope < 0:
        low, high = high, low
    first = max(first, int(np.ceil(max(low, -1.0) - 1e-6)))  # at the edge itself a pixel is inside, however its position was rounded
    last = min(last, int(np.floor(min(high, 1e9) + 1e-6)) + 1)
    return first, max(first, last)


@compiled
def _adjust(
    red: Plane, green: Plane, blue: Plane, kinds: Kinds, factors: Factors, num: int, mean: np.float32
) -> tuple[Plane, Plane, Plane]:
    """Apply the first `num` adjustments to a row, in place.

    Args:
        red: float32 [S], 0-255.
        green: Likewise.
        blue: Likewise.
        kinds: See `adjust_colours`.
        factors: See `adjust_colours`.
        num: How many adjustments to apply.
        mean: Mean grey of the image, for CONTRAST.

    Returns:
        The planes as (red, green, blue). A rotation of the hue by a third of the circle only exchanges them.
    """
    for n in range(num):
        factor = factors[n]
        if kinds[n] == SATURATION:
            _saturate(red, green, blue, factor)
        elif kinds[n] == HUE:
            thirds = _rotate_hue(red, green, blue, factor)
            if thirds == 1:
                red, green, blue = blue, red, green
            elif thirds == 2:
                red, green, blue = green, blue, red
        else:
            other = (f4(1) - factor) * mean if kinds[n] == CONTRAST else f4(0)
            _blend(red, factor, other)
            _blend(green, factor, other)
            _blend(blue, factor, other)
    return red, green, blue


@compiled
def _blend(plane: Plane, factor: np.float32, other: np.float32) -> None:
    for i in range(plane.size):
        plane[i] = min(max(plane[i] * factor + other, f4(0)), f4(255))


@compiled
def _sum_grey(red: Plane, green: Plane, blue: Plane) -> np.float32:
    total = f4(0)
    for i in range(red.size):
        total += f4(0.299) * red[i] + f4(0.587) * green[i] + f4(0.114) * blue[i]
    return total


@compiled
def _saturate(red: Plane, green: Plane, blue: Plane, factor: np.float32) -> None:
    for i in range(red.size):
        grey = (f4(1) - factor) * (f4(0.299) * red[i] + f4(0.587) * green[i] + f4(0.114) * blue[i])
        red[i] = min(max(red[i] * factor + grey, f4(0)), f4(255))
        green[i] = min(max(green[i] * factor + grey, f4(0)), f4(255))
        blue[i] = min(max(blue[i] * factor + grey, f4(0)), f4(255))


@compiled
def _rotate_hue(red: Plane, green: Plane, blue: Plane, factor: np.float32) -> int:
    """Rotate the hue of HSV by `factor` sixths of the colour circle, in place and without a division.

    With V and m the largest and smallest of the three channels and C = V - m, a channel is m + clip(C (2 - d), 0, C), where d is the
    distance, in sixths, of the hue from that channel's own. For red C (2 - d) = 2 red + V - (red + green + blue): a rotation adds C times
    the factor to C d on the side where green >= blue, and subtracts it on the other; likewise for green (blue >= red) and blue
    (red >= green). That holds for at most half a sixth. Whole sixths are exact. Thirds of the circle only exchange the channels, which is
    left to the caller.

    Returns:
        The number of thirds left to do, 0-2.
    """
    sixths = int(np.floor(factor + f4(0.5)))
    remainder = factor - f4(sixths)
    mirrored = sixths % 2 != 0  # an odd number of sixths is half a circle, which mirrors each channel between m and V, and some thirds
    thirds = ((sixths - 3 if mirrored else sixths) // 2) % 3
    sign, both = (f4(-1), f4(1)) if mirrored else (f4(1), f4(0))
    for i in range(red.size):
        r, g, b = red[i], green[i], blue[i]
        high, low = max(max(r, g), b), min(min(r, g), b)
        chroma, rest = high - low, high - (r + g + b)
        part = chroma * remainder
        new_r = min(max(f4(2) * r + rest - (part if g >= b else -part), f4(0)), chroma)
        new_g = min(max(f4(2) * g + rest - (part if b >= r else -part), f4(0)), chroma)
        new_b = min(max(f4(2) * b + rest - (part if r >= g else -part), f4(0)), chroma)
        start = low + both * chroma
        red[i], green[i], blue[i] = start + sign * new_r, start + sign * new_g, start + sign * new_b
    return thirds
