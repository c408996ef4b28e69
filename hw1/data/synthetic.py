"""Generate an image set of 10 shapes x 10 textures = 100 classes, so that `quickstart` needs no data and no internet.

What distinguishes the classes survives the report's augmentation: shapes and textures look the same in a mirror, no shape becomes another
by a small rotation or a change of aspect, and colours are drawn anew for every image. The background and the two tones of a texture are at
three separate levels of luminance, so that every edge stays visible whatever the hues.
"""

import fcntl
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
from numpy.typing import NDArray

from hw1.errors import RunError, UserError
from hw1.runtime.cpu import usable_cores
from hw1.utils.progress_bar import ProgressBar

MARKER = "generated.json"
DRAWING = 1  # raise it when the same parameters give other images
SPLITS = ("train", "val", "test")
MIN_SIZE, MAX_SIZE = 32, 512
OVERSAMPLING = 2  # masks are drawn this many times larger and averaged down, for smooth edges
JPEG_QUALITY = 92
IMAGES_PER_JOB = 20  # an interruption waits for no more than one job of each thread
LUMA_LEVELS = (45.0, 125.0, 210.0)  # dark, medium, bright
Points = NDArray[np.float64]
"""Corners of a polygon: [N, 2] as (x, y)."""
Floats = NDArray[np.float32]


def _arc(radius: float, start: float, stop: float, centre_y: float = 0.0, num_points: int = 48) -> Points:
    angles = np.radians(np.linspace(start, stop, num_points))
    return np.stack([radius * np.cos(angles), centre_y + radius * np.sin(angles)], axis=1)


def _cross(half_width: float) -> Points:
    corner = np.array([(half_width, -1.0), (half_width, -half_width), (1.0, -half_width)])
    quarter_turn = np.array([(0.0, 1.0), (-1.0, 0.0)])
    return np.concatenate([corner @ np.linalg.matrix_power(quarter_turn, k) for k in range(4)])


def _star(num_points: int, outer: float, inner: float) -> Points:
    angles = np.radians(np.arange(2 * num_points) * 180.0 / num_points - 90.0)
    radii = np.where(np.arange(2 * num_points) % 2, inner, outer)
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def _heart() -> Points:
    t = np.linspace(0.0, 2 * np.pi, 64, endpoint=False)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y - 2.5], axis=1) / 16


# Closed polygons, y down, that fill about the unit circle; a second polygon is a hole.
SHAPES: dict[str, tuple[Points, ...]] = {
    "circle": (_arc(0.95, 0, 360),),
    "triangle": (np.array([(0, -1), (1, 0.8), (-1, 0.8)]),),
    "square": (np.array([(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]),),
    "cross": (_cross(0.36),),
    "star": (_star(5, outer=1.1, inner=0.5),),
    "heart": (_heart(),),
    "ring": (_arc(1.0, 0, 360), _arc(0.42, 0, 360)),
    "crescent": (np.concatenate([_arc(1.05, -30, 210, centre_y=-0.1), _arc(0.914, 174.4, 5.6, centre_y=-0.714)]),),
    "hourglass": (np.array([(-0.9, -0.95), (0.9, -0.95), (0.16, 0), (0.9, 0.95), (-0.9, 0.95), (-0.16, 0)]),),
    "arrow": (np.array([(0, -1), (1, 0), (0.42, 0), (0.42, 1), (-0.42, 1), (-0.42, 0), (-1, 0)]),),
}
TEXTURES = ("plain", "rows", "columns", "checks", "dots", "grid", "rings", "rays", "zigzag", "blotches")
CLASS_NAMES = tuple(f"{shape}-{texture}" for shape in SHAPES for texture in TEXTURES)


def _fraction(values: Floats) -> Floats:
    fraction: Floats = values - np.floor(values)  # several times faster than `% 1`
    return fraction


def _texture(name: str, x: Floats, y: Floats, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return where the second tone goes, bool [H, W].

    Args:
        name: One of `TEXTURES`.
        x: float32 [H, W], in periods of the texture from the shape's centre.
        y: Likewise.
        rng: Draws where the texture begins.
    """
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
        return np.asarray(np.hypot(x - np.float32(0.5), y - np.float32(0.5)) < 0.33)
    return (x < 0.28) | (y < 0.28)  # grid


def _colour(luma: float, rng: np.random.Generator) -> Floats:
    """Draw a BGR colour, float32 [3], of about this luminance (0-255)."""
    chroma = rng.uniform(-70, 70, 3)
    colour: Floats = (luma + rng.uniform(-14, 14) + chroma - chroma @ (0.114, 0.587, 0.299)).astype(np.float32)
    return colour


def _background(colour: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Return the colour under soft uneven light, float32 [size, size, 3]."""
    light = cv2.resize(rng.uniform(-22, 22, (3, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray(colour + light[..., None], np.float32)


def draw_image(label: int, size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw an image of class `label` (0-99, see CLASS_NAMES): uint8 [size, size, 3], BGR."""
    shape, texture = CLASS_NAMES[label].split("-")
    radius = rng.uniform(0.33, 0.44) * size
    stretch = np.exp(rng.uniform(-0.08, 0.08))
    centre = size / 2 + rng.uniform(-1, 1, 2) * (0.48 * size - radius)
    angle = np.radians(rng.uniform(-6, 6))
    frame = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * (stretch, 1 / stretch)  # object -> image

    fine = OVERSAMPLING * size
    mask = np.zeros((fine, fine), np.uint8)
    outlines = [((outline * radius @ frame.T + centre) * OVERSAMPLING * 16).round().astype(np.int32) for outline in SHAPES[shape]]
    cv2.fillPoly(mask, outlines, 255, lineType=cv2.LINE_AA, shift=4)

    pixels = ((np.arange(fine, dtype=np.float32) + 0.5) / OVERSAMPLING)[None, :]
    period = rng.uniform(0.15, 0.19) * size
    (a, b), (c, d) = (np.linalg.inv(frame) / period).astype(np.float32)
    dx, dy = pixels - np.float32(centre[0]), pixels.T - np.float32(centre[1])
    second_tone = _texture(texture, a * dx + b * dy, c * dx + d * dy, rng).astype(np.uint8) * 255

    inside, tone = (cv2.resize(m, (size, size), interpolation=cv2.INTER_AREA)[..., None] / np.float32(255) for m in (mask, second_tone))
    levels = LUMA_LEVELS[:: rng.choice((1, -1))]  # the background is never the medium one: the shape stands out as a whole
    first, other = (_colour(luma, rng) for luma in rng.permutation(levels[1:]))
    background = _background(_colour(levels[0], rng), size, rng)
    image: Floats = (1 - inside) * background + inside * (first + tone * (other - first))
    image += rng.uniform(2, 9) * rng.standard_normal(image.shape, np.float32)
    return image.clip(0, 255).round().astype(np.uint8)


def draw_shapes(root: Path, train_per_class: int, *, seed: int = 0, size: int = 64, num_threads: int | None = None) -> None:
    """Draw the image set into `root`, unless it is there already: 100 classes in the report's layout.

    `train/<0-99>/*.jpg` holds `train_per_class` images of each class, `val/<0-99>/*.jpg` an eighth of that (at least 1), and `test/*.jpg`
    as many as `val`, unlabelled; `class_names.json` names the integers. The files depend on these arguments only, except `num_threads`.

    The files are drawn into a hidden folder beside `root`, which is renamed at the end: a killed process leaves no incomplete set, and the
    next process removes what it left. Processes that draw at the same time wait for each other.

    Args:
        root: The data root.
        train_per_class: Training images of each class, at least 1.
        seed: Seed of the drawing.
        size: Width and height of the images in pixels, 32-512.
        num_threads: None takes the cores that this process may use.

    Raises:
        UserError: `root` holds anything else, which is left alone, or cannot be created.
        RunError: Drawing failed half-way.
        ValueError: `train_per_class` or `size` is out of range.
    """
    if train_per_class < 1 or not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"cannot draw {train_per_class} images per class of {size} x {size} pixels")
    root = root.resolve()
    marker = _marker(train_per_class, seed, size)
    try:
        if _is_drawn(root, marker):
            return
        root.parent.mkdir(parents=True, exist_ok=True)
        with _lock(root.parent) as locked:
            if _is_drawn(root, marker):  # by the process that held the lock
                return
            if locked:
                _remove_leftovers(root)
            temporary = root.with_name(f"{_temporary_prefix(root)}{secrets.token_hex(4)}")
            temporary.mkdir()
            try:
                _draw_set(temporary, marker, num_threads or usable_cores())
                _rename(temporary, root, marker)
            except OSError as error:
                raise RunError(f"{root}: drawing images failed: {error.strerror or error}") from error
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise UserError(f"data.root: {root}: cannot draw images there: {error.strerror or error}") from error


def _marker(train_per_class: int, seed: int, size: int) -> dict[str, int]:
    """Return what the file MARKER records: everything that the files depend on, and the number of images of each split."""
    num_val = 100 * max(1, train_per_class // 8)
    return {"drawing": DRAWING, "seed": seed, "size": size, "train": 100 * train_per_class, "val": num_val, "test": num_val}


def _is_drawn(root: Path, marker: dict[str, int]) -> bool:
    """Return whether `root` holds this very set; False if it is empty or missing. Raise UserError if it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        present = json.loads((root / MARKER).read_text())
    except (OSError, ValueError):
        raise UserError(f"data.root: {root}: holds something else than generated images; set data.generate=0 to train on it") from None
    if present != marker:
        raise UserError(f"data.root: {root}: holds images generated as {present}, not {marker}; name another folder or delete it")
    for split in SPLITS:
        num_files = sum(1 for _ in (root / split).rglob("*.jpg"))
        if num_files != marker[split]:
            raise UserError(f"data.root: {root}: {split} holds {num_files} of {marker[split]} generated images; delete the folder")
    return True


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Wait until no other process draws in `folder`, and lock it during the block.

    The folder itself is locked (not a file as in `hw1.utils.file_lock`), so that nothing stays beside the user's data.

    Yields:
        Whether it is locked: False if the file system has no such locks.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # released by the system however the process ends
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def _temporary_prefix(root: Path) -> str:
    return f".{root.name}.drawing-"


def _remove_leftovers(root: Path) -> None:
    """Delete what killed processes left; call only under the lock, when no other process draws."""
    for path in root.parent.iterdir():
        if path.name.startswith(_temporary_prefix(root)):
            shutil.rmtree(path, ignore_errors=True)


def _rename(temporary: Path, root: Path, marker: dict[str, int]) -> None:
    try:
        temporary.rename(root)
    except OSError:
        if not _is_drawn(root, marker):  # without locks another process may have been faster
            raise


def _draw_set(root: Path, marker: dict[str, int], num_threads: int) -> None:
    started = time.perf_counter()
    names = {str(label): name for label, name in enumerate(CLASS_NAMES)}
    (root / "class_names.json").write_text(json.dumps(names, indent=1) + "\n")
    num_images = sum(marker[split] for split in SPLITS)
    jobs = [job for split in SPLITS for label in range(len(CLASS_NAMES)) for job in _jobs(split, label, marker)]
    pool = ThreadPoolExecutor(num_threads)
    with ProgressBar(total=num_images, desc="drawing images", unit="img", leave=False) as bar:
        try:
            for num_drawn in pool.map(lambda job: _draw_job(root, marker, *job), jobs):
                bar.update(num_drawn)
        finally:
            pool.shutdown(cancel_futures=True)
    (root / MARKER).write_text(json.dumps(marker) + "\n")
    print(f"drew {num_images} images of {len(CLASS_NAMES)} classes in {time.perf_counter() - started:.1f} s")


def _jobs(split: str, label: int, marker: dict[str, int]) -> Iterator[tuple[str, int, range]]:
    """Yield the jobs of a class: the split, the label and the numbers of the images to draw."""
    num_images = marker[split] // len(CLASS_NAMES)
    for start in range(0, num_images, IMAGES_PER_JOB):
        yield split, label, range(start, min(start + IMAGES_PER_JOB, num_images))


def _draw_job(root: Path, marker: dict[str, int], split: str, label: int, numbers: range) -> int:
    """Draw these images of a class, or as many test images, each of a random class; return their number."""
    labelled = split != "test"
    folder = root / split / str(label) if labelled else root / split
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        rng = np.random.default_rng((marker["seed"], SPLITS.index(split), label, number))
        name = f"{number:04d}.jpg" if labelled else f"{number * len(CLASS_NAMES) + label:05d}.jpg"
        image = draw_image(label if labelled else int(rng.integers(len(CLASS_NAMES))), marker["size"], rng)
        _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        (folder / name).write_bytes(data.tobytes())
    return len(numbers)
