"""Does an ONNX file say what torch says, and how fast: both on the same images."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hw1.data.decode import BadImage
from hw1.data.image_folder import find_split
from hw1.data.image_set import ImageSet
from hw1.data.synthetic import CLASS_NAMES, draw_image
from hw1.errors import RunError
from hw1.evaluation.predictor import Predictor
from hw1.predict.image_batches import read_images

MAX_IMAGES = 1000
NUM_GENERATED = 64
NUM_CALIBRATION = 256
BATCH_SIZE = 32
MAX_DIFFERENCE = 1e-3
"""Of FP32 logits, as a share of the largest: rounding differs from engine to engine, nothing else may."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images of the model's size, uint8 [N, S, S, 3]; `labels` int64 [N], None where nobody knows them."""

    source: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None


def load_split(predictor: Predictor, split: str, most: int) -> Images:
    """At most so many images of "train" or "val" of the run's data, spread evenly. Raises UserError for data that is not there."""
    recipe = predictor.recipe
    images, _ = find_split(split, recipe.data, predictor.classes, recipe.seed)
    chosen = images.subset(np.unique(np.linspace(0, len(images) - 1, min(most, len(images))).round().astype(int)))
    assert chosen.labels is not None
    positions, pixels = _read(chosen, recipe.aug.size)
    what = f"{len(positions)} of {len(images)}" if len(positions) < len(images) else f"{len(positions)}"
    return Images(f"{what} images of the {'validation' if split == 'val' else 'training'} split", pixels, chosen.labels[positions])


def _read(images: ImageSet, size: int) -> tuple[list[int], NDArray[np.uint8]]:
    bad: list[BadImage] = []
    batches = list(read_images([images.image_file(i) for i in range(len(images))], size, BATCH_SIZE, bad.append))
    if not batches:
        raise RunError(f"no image can be read, the first: {bad[0]}")
    return [position for batch in batches for position in batch.positions], np.concatenate([batch.pixels for batch in batches])


def generated(size: int) -> Images:
    """Where there are no images: drawn shapes."""
    rng = np.random.default_rng(0)
    drawn = [draw_image(label % len(CLASS_NAMES), size, rng)[:, :, ::-1] for label in range(NUM_GENERATED)]
    return Images(f"{NUM_GENERATED} generated images", np.stack(drawn), None)


Engine = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


def compare(engines: dict[str, Engine], images: Images) -> dict[str, dict[str, Any]]:
    """What each engine does on the images beside the first one: `max_abs_diff` of logits, share with the `same_top1`, `top1` accuracy
    where there are labels, `images_per_second` (the median over batches of 32, in which the engines take turns).
    """
    parts = np.array_split(images.pixels, max(len(images.pixels) // BATCH_SIZE, 1))
    logits: dict[str, list[NDArray[np.float32]]] = {name: [] for name in engines}
    rates: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine(parts[0])  # the first call of an engine prepares it
    for part in parts:
        for name, engine in engines.items():
            start = time.perf_counter()
            logits[name].append(engine(part))
            rates[name].append(len(part) / (time.perf_counter() - start))
    joined = {name: np.concatenate(found) for name, found in logits.items()}
    reference = next(iter(joined.values()))
    return {
        name: _row(found, reference, images.labels) | {"images_per_second": float(np.median(rates[name]))} for name, found in joined.items()
    }


def _row(logits: NDArray[np.float32], reference: NDArray[np.float32], labels: NDArray[np.int64] | None) -> dict[str, Any]:
    guesses = logits.argmax(axis=1)
    row: dict[str, Any] = {
        "max_abs_diff": float(np.abs(logits - reference).max()),
        "max_abs_logit": float(np.abs(reference).max()),
        "same_top1": float((guesses == reference.argmax(axis=1)).mean()),
    }
    return row if labels is None else {**row, "top1": float((guesses == labels).mean())}


def onnx_engine(path: Path) -> Engine:
    """The file's logits by onnxruntime on the CPU, with as many threads as torch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(["logits"], {"image": pixels})[0]


def require_equal(name: str, row: dict[str, Any]) -> None:
    """Raises RunError where an FP32 file says something else than torch."""
    if not row["max_abs_diff"] <= MAX_DIFFERENCE * max(row["max_abs_logit"], 1.0):
        raise RunError(f"{name}: its logits differ from torch's by up to {row['max_abs_diff']:.3g}; nothing was exported")


def report_lines(images: Images, rows: dict[str, dict[str, Any]], sizes: dict[str, int]) -> Sequence[str]:
    """The comparison as lines of a Markdown table, for the console and the model card."""
    lines = ["| file | MB | largest difference of logits | same top-1 | top-1 | images/s |", "|---|---|---|---|---|---|"]
    for name, row in rows.items():
        size = f"{sizes[name] / 1e6:.1f}" if name in sizes else ""
        top1 = f"{row['top1']:.4f}" if "top1" in row else "unknown"
        lines.append(f"| {name} | {size} | {row['max_abs_diff']:.2g} | {row['same_top1']:.4f} | {top1} | {row['images_per_second']:.0f} |")
    return [*lines, "", f"On {images.source}; images/s in batches of {BATCH_SIZE} on {torch.get_num_threads()} CPU threads."]
