"""A generated picture set: 10 shapes x 10 textures = 100 classes, so that `quickstart` needs no data and no internet.

What tells the classes apart survives the report's augmentation: shapes and textures look the same in a mirror, none becomes another by
a small rotation or a change of aspect, and colours are drawn anew for every picture. Background and the two tones of a texture keep
three separate levels of luminance, in random order, so that every edge stays visible whatever the hues.
"""

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from hw1.errors import RunError, UserError

try:
    import fcntl
except ImportError:  # no POSIX: without the lock two processes may draw at once, and the later one then finds the set in place
    fcntl = None  # type: ignore[assignment]

MARKER = "generated.json"
DRAWING = 1  # raise it when the same parameters come to give other pictures
SPLITS = ("train", "val", "test")
MIN_SIZE, MAX_SIZE = 32, 512
OVERSAMPLING = 2  # masks are drawn this much larger and averaged down, for smooth edges
JPEG_QUALITY = 92
LUMA_LEVELS = (55.0, 130.0, 205.0)  # dark, medium, bright


def _arc(radius: float, start: float, stop: float, centre_y: float = 0.0, num_points: int = 48) -> np.ndarray:
    angles = np.radians(np.linspace(start, stop, num_points))
    return np.stack([radius * np.cos(angles), centre_y + radius * np.sin(angles)], axis=1)


def _cross(half_width: float) -> np.ndarray:
    corner = np.array([(half_width, -1.0), (half_width, -half_width), (1.0, -half_width)])
    quarter_turn = np.array([(0.0, 1.0), (-1.0, 0.0)])
    return np.concatenate([corner @ np.linalg.matrix_power(quarter_turn, k) for k in range(4)])


def _star(num_points: int, outer: float, inner: float) -> np.ndarray:
    angles = np.radians(np.arange(2 * num_points) * 180.0 / num_points - 90.0)
    return np.where(np.arange(2 * num_points) % 2, inner, outer)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0.0, 2 * np.pi, 64, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y - 2.5], axis=1) / 16


# Closed polygons [N, 2] as (x, y), y down, filling about the unit circle; a second polygon is a hole.
SHAPES: dict[str, tuple[np.ndarray, ...]] = {
    "circle": (_arc(0.95, 0, 360),),
    "triangle": (np.array([(0, -1), (1, 0.8), (-1, 0.8)]),),
    "square": (np.array([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]),),
    "cross": (_cross(0.36),),
    "star": (_star(5, outer=1.1, inner=0.5),),
    "heart": (_heart(),),
    "ring": (_arc(1.0, 0, 360), _arc(0.42, 0, 360)),
    "crescent": (np.concatenate([_arc(1.05, -30, 210, centre_y=-0.1), _arc(0.914, 184, -4, centre_y=-0.561)]),),
    "hourglass": (np.array([(-0.9, -0.95), (0.9, -0.95), (0.16, 0), (0.9, 0.95), (-0.9, 0.95), (-0.16, 0)]),),
    "arrow": (np.array([(0, -1), (1, 0), (0.42, 0), (0.42, 1), (-0.42, 1), (-0.42, 0), (-1, 0)]),),
}
TEXTURES = ("plain", "rows", "columns", "checks", "dots", "grid", "rings", "rays", "zigzag", "blotches")
CLASS_NAMES = tuple(f"{shape}-{texture}" for shape in SHAPES for texture in TEXTURES)


def _fraction(values: np.ndarray) -> np.ndarray:
    return values - np.floor(values)  # several times faster than `% 1`


def _texture(name: str, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Where the second tone goes, bool [H, W]; `x`, `y` float32 [H, W] in periods from the shape's centre."""
    shift_x, shift_y = rng.uniform(0, 1, 2).astype(np.float32)
    if name == "plain":
        return np.zeros(x.shape, bool)
    if name == "rings":
        return _fraction(np.hypot(x, y) + shift_x) < 0.5
    if name == "rays":
        return _fraction(np.arctan2(y, x) * np.float32(rng.integers(7, 10) / (2 * np.pi)) + shift_x) < 0.5
    if name == "blotches":
        cells = max(4, round(1.6 * float(x.max() - x.min())))
        return cv2.resize(rng.standard_normal((cells, cells), np.float32), x.shape[::-1], interpolation=cv2.INTER_CUBIC) > 0
    x, y = _fraction(x + shift_x), y + shift_y
    if name == "zigzag":
        y = y + np.float32(1.2) * np.abs(x - np.float32(0.5))
    y = _fraction(y)
    if name in ("rows", "zigzag"):
        return y < 0.5
    if name == "columns":
        return x < 0.5
    if name == "checks":
        return (x < 0.5) ^ (y < 0.5)
    if name == "dots":
        return np.hypot(x - np.float32(0.5), y - np.float32(0.5)) < 0.33
    return (x < 0.28) | (y < 0.28)  # grid


def _colour(luma: float, rng: np.random.Generator) -> np.ndarray:
    """A random BGR colour, float [3], of about this luminance (0-255)."""
    chroma = rng.uniform(-70, 70, 3)
    return luma + rng.uniform(-14, 14) + chroma - chroma @ (0.114, 0.587, 0.299)


def _background(colour: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The colour with soft uneven light, float [size, size, 3]."""
    light = cv2.resize(rng.uniform(-22, 22, (3, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return colour + light[..., None]


def draw_picture(label: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """One picture of class `label` (0-99, see CLASS_NAMES), uint8 [size, size, 3] BGR."""
    shape, texture = CLASS_NAMES[label].split("-")
    radius = rng.uniform(0.28, 0.42) * size
    stretch = np.exp(rng.uniform(-0.08, 0.08))
    centre = size / 2 + rng.uniform(-1, 1, 2) * (0.48 * size - radius)
    turn = np.radians(rng.uniform(-6, 6))
    frame = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * (stretch, 1 / stretch)  # object -> picture

    fine = OVERSAMPLING * size
    mask = np.zeros((fine, fine), np.uint8)
    outlines = [((outline * radius @ frame.T + centre) * OVERSAMPLING * 16).round().astype(np.int32) for outline in SHAPES[shape]]
    cv2.fillPoly(mask, outlines, 255, lineType=cv2.LINE_AA, shift=4)

    pixels = ((np.arange(fine, dtype=np.float32) + 0.5) / OVERSAMPLING)[None, :]
    period = rng.uniform(0.12, 0.16) * size
    (a, b), (c, d) = (np.linalg.inv(frame) / period).astype(np.float32)
    dx, dy = pixels - np.float32(centre[0]), pixels.T - np.float32(centre[1])
    second = _texture(texture, a * dx + b * dy, c * dx + d * dy, rng).astype(np.uint8) * 255

    inside, tone = (cv2.resize(m, (size, size), interpolation=cv2.INTER_AREA)[..., None] / np.float32(255) for m in (mask, second))
    back, first, other = (_colour(luma, rng) for luma in rng.permutation(LUMA_LEVELS))
    picture = (1 - inside) * _background(back, size, rng) + inside * (first + tone * (other - first))
    picture += rng.uniform(2, 9) * rng.standard_normal(picture.shape, np.float32)
    return picture.clip(0, 255).round().astype(np.uint8)
