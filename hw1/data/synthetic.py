"""A generated image set: 10 shapes x 10 textures = 100 classes, so that `quickstart` needs no data and no internet.

What tells the classes apart survives the report's augmentation: shapes and textures look the same in a mirror, none becomes another by
a small rotation or a change of aspect, and colours are drawn anew for every image. The background and the two tones of a texture keep
to three separate levels of luminance, so that every edge stays visible whatever the hues.
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
from tqdm import tqdm

from hw1.errors import RunError, UserError
from hw1.runtime.cpu import usable_cores

MARKER = "generated.json"
DRAWING = 1  # raise it when the same parameters come to give other images
SPLITS = ("train", "val", "test")
MIN_SIZE, MAX_SIZE = 32, 512
OVERSAMPLING = 2  # masks are drawn this much larger and averaged down, for smooth edges
JPEG_QUALITY = 92
HANDFUL = 20  # images
LUMA_LEVELS = (45.0, 125.0, 210.0)  # dark, medium, bright


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
    "crescent": (np.concatenate([_arc(1.05, -30, 210, centre_y=-0.1), _arc(0.914, 174.4, 5.6, centre_y=-0.714)]),),
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
    """A random BGR colour, float32 [3], of about this luminance (0-255)."""
    chroma = rng.uniform(-70, 70, 3)
    return (luma + rng.uniform(-14, 14) + chroma - chroma @ (0.114, 0.587, 0.299)).astype(np.float32)


def _background(colour: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """The colour with soft uneven light, float32 [size, size, 3]."""
    light = cv2.resize(rng.uniform(-22, 22, (3, 3)).astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
    return colour + light[..., None]


def draw_image(label: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """One image of class `label` (0-99, see CLASS_NAMES), uint8 [size, size, 3] BGR."""
    shape, texture = CLASS_NAMES[label].split("-")
    radius = rng.uniform(0.33, 0.44) * size
    stretch = np.exp(rng.uniform(-0.08, 0.08))
    centre = size / 2 + rng.uniform(-1, 1, 2) * (0.48 * size - radius)
    turn = np.radians(rng.uniform(-6, 6))
    frame = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * (stretch, 1 / stretch)  # object -> image

    fine = OVERSAMPLING * size
    mask = np.zeros((fine, fine), np.uint8)
    outlines = [((outline * radius @ frame.T + centre) * OVERSAMPLING * 16).round().astype(np.int32) for outline in SHAPES[shape]]
    cv2.fillPoly(mask, outlines, 255, lineType=cv2.LINE_AA, shift=4)

    pixels = ((np.arange(fine, dtype=np.float32) + 0.5) / OVERSAMPLING)[None, :]
    period = rng.uniform(0.15, 0.19) * size
    (a, b), (c, d) = (np.linalg.inv(frame) / period).astype(np.float32)
    dx, dy = pixels - np.float32(centre[0]), pixels.T - np.float32(centre[1])
    second = _texture(texture, a * dx + b * dy, c * dx + d * dy, rng).astype(np.uint8) * 255

    inside, tone = (cv2.resize(m, (size, size), interpolation=cv2.INTER_AREA)[..., None] / np.float32(255) for m in (mask, second))
    levels = LUMA_LEVELS[:: rng.choice((1, -1))]  # the background is never the medium one: the shape stands out as a whole
    first, other = (_colour(luma, rng) for luma in rng.permutation(levels[1:]))
    back = _background(_colour(levels[0], rng), size, rng)
    image = (1 - inside) * back + inside * (first + tone * (other - first))
    image += rng.uniform(2, 9) * rng.standard_normal(image.shape, np.float32)
    return image.clip(0, 255).round().astype(np.uint8)


def draw_shapes(root: Path, train_per_class: int, *, seed: int = 0, size: int = 64, num_threads: int | None = None) -> None:
    """Draws the image set into `root`, unless it is there already: 100 classes in the report's layout.

    `train/<0-99>/*.jpg` holds `train_per_class` (at least 1) images of each class, `val/<0-99>/*.jpg` an eighth of that (at least 1),
    `test/*.jpg` as many as `val`, unlabelled; `class_names.json` names the integers. Each is `size` x `size` pixels (32-512). The files
    are a function of these arguments alone, whatever `num_threads` (None = the cores that this process may use).

    All is drawn into a hidden folder beside `root`, renamed at the end: a killed process leaves no half of a set, and what it leaves
    the next one removes. Processes that draw at once wait for each other.

    Raises UserError if `root` holds anything else (it is left alone) or cannot be created, RunError if drawing fails half-way.
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
                _remove_remains(root)
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
    """What MARKER records: all that decides the files, and how many images each split has."""
    num_val = 100 * max(1, train_per_class // 8)
    return {"drawing": DRAWING, "seed": seed, "size": size, "train": 100 * train_per_class, "val": num_val, "test": num_val}


def _is_drawn(root: Path, marker: dict[str, int]) -> bool:
    """Whether `root` holds this very set; False if there is nothing. Raises UserError if there is anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / MARKER).read_text())
    except (OSError, ValueError):
        raise UserError(f"data.root: {root}: holds something else than generated images; set data.generate=0 to train on it") from None
    if found != marker:
        raise UserError(f"data.root: {root}: holds images generated as {found}, not {marker}; name another folder or delete it")
    for split in SPLITS:
        num_files = sum(1 for _ in (root / split).rglob("*.jpg"))
        if num_files != marker[split]:
            raise UserError(f"data.root: {root}: {split} holds {num_files} of {marker[split]} generated images; delete the folder")
    return True


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Waits until no other process draws in `folder`. Gives False where the file system has no such locks."""
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


def _remove_remains(root: Path) -> None:
    """Deletes what killed processes left; only under the lock, when no one draws."""
    for path in root.parent.iterdir():
        if path.name.startswith(_temporary_prefix(root)):
            shutil.rmtree(path, ignore_errors=True)


def _rename(temporary: Path, root: Path, marker: dict[str, int]) -> None:
    try:
        temporary.rename(root)
    except OSError:
        if not _is_drawn(root, marker):  # another process was faster, where nothing could be locked
            raise


def _draw_set(root: Path, marker: dict[str, int], num_threads: int) -> None:
    started = time.perf_counter()
    names = {str(label): name for label, name in enumerate(CLASS_NAMES)}
    (root / "class_names.json").write_text(json.dumps(names, indent=1) + "\n")
    num_images = sum(marker[split] for split in SPLITS)
    jobs = [job for split in SPLITS for label in range(len(CLASS_NAMES)) for job in _jobs(split, label, marker)]
    pool = ThreadPoolExecutor(num_threads)
    with tqdm(total=num_images, desc="drawing images", unit="img", leave=False, disable=None) as bar:
        try:
            for num_drawn in pool.map(lambda job: _draw_job(root, marker, *job), jobs):
                bar.update(num_drawn)
        finally:
            pool.shutdown(cancel_futures=True)
    (root / MARKER).write_text(json.dumps(marker) + "\n")
    print(f"drew {num_images} images of {len(CLASS_NAMES)} classes in {time.perf_counter() - started:.1f} s")


def _jobs(split: str, label: int, marker: dict[str, int]) -> Iterator[tuple[str, int, range]]:
    """The images of a class in handfuls: an interruption waits for no more than one a thread."""
    num_images = marker[split] // len(CLASS_NAMES)
    for start in range(0, num_images, HANDFUL):
        yield split, label, range(start, min(start + HANDFUL, num_images))


def _draw_job(root: Path, marker: dict[str, int], split: str, label: int, numbers: range) -> int:
    """Draws these images of a class, or as many test images, each of a random class; returns how many."""
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
