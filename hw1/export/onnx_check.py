"""Compare ONNX files with torch on the same images: logits, accuracy and speed."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hw1.data.augment.eval_resize import EvalRule
from hw1.data.decode import BadImage
from hw1.data.image_folder import find_split
from hw1.data.image_set import ImageSet
from hw1.data.synthetic import CLASS_NAMES, draw_image
from hw1.errors import RunError
from hw1.evaluation.predictor import Predictor
from hw1.predict.classifier import LogitsFunction
from hw1.predict.image_batches import read_images

MAX_IMAGES = 1000
NUM_GENERATED = 64
NUM_CALIBRATION_IMAGES = 256
BATCH_SIZE = 32
MAX_DIFFERENCE = 1e-3
"""Of FP32 logits, relative to the largest: engines may differ by rounding only."""


@dataclass(frozen=True, eq=False)
class CheckImages:
    """The images that engines are compared on.

    Attributes:
        source: What they are, in words.
        pixels: Images of the model's size, uint8 [N, S, S, 3], RGB.
        labels: int64 [N]; None if they are unknown.
    """

    source: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None


def load_split(predictor: Predictor, split: str, max_images: int) -> CheckImages:
    """Read images of the run's data, spread evenly over a split.

    Args:
        predictor: The run's model, which sets the size.
        split: "train" or "val".
        max_images: At most so many.

    Raises:
        UserError: The data is missing.
        RunError: No image can be read.
    """
    recipe = predictor.recipe
    images, _ = find_split(split, recipe.data, predictor.classes, recipe.seed)
    chosen = images.subset(np.unique(np.linspace(0, len(images) - 1, min(max_images, len(images))).round().astype(int)))
    assert chosen.labels is not None
    positions, pixels = _read_pixels(chosen, EvalRule.of(recipe.aug))
    count = f"{len(positions)} of {len(images)}" if len(positions) < len(images) else f"{len(positions)}"
    return CheckImages(f"{count} images of the {'validation' if split == 'val' else 'training'} split", pixels, chosen.labels[positions])


def _read_pixels(images: ImageSet, rule: EvalRule) -> tuple[list[int], NDArray[np.uint8]]:
    bad: list[BadImage] = []
    batches = list(read_images([images.image_file(i) for i in range(len(images))], rule, BATCH_SIZE, bad.append))
    if not batches:
        raise RunError(f"no image can be read, the first: {bad[0]}")
    return [position for batch in batches for position in batch.positions], np.concatenate([batch.pixels for batch in batches])


def generate_images(size: int) -> CheckImages:
    """Draw shapes, for a machine without the data."""
    rng = np.random.default_rng(0)
    drawn = [draw_image(label % len(CLASS_NAMES), size, rng)[:, :, ::-1] for label in range(NUM_GENERATED)]
    return CheckImages(f"{NUM_GENERATED} generated images", np.stack(drawn), None)


def compare(engines: dict[str, LogitsFunction], images: CheckImages) -> dict[str, dict[str, Any]]:
    """Compare engines with the first of them; they take turns, batch by batch.

    Args:
        engines: Name -> engine; the first is the reference.
        images: The images.

    Returns:
        For each engine `max_abs_diff` of its logits, `max_abs_logit` of the reference, `same_top1` (fraction of images with the same
        prediction), `top1` accuracy if there are labels, and `images_per_second` (median over batches of `BATCH_SIZE`).
    """
    batches = np.array_split(images.pixels, max(len(images.pixels) // BATCH_SIZE, 1))
    logits: dict[str, list[NDArray[np.float32]]] = {name: [] for name in engines}
    rates: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine(batches[0])  # the first call compiles and allocates
    for batch in batches:
        for name, engine in engines.items():
            start = time.perf_counter()
            logits[name].append(engine(batch))
            rates[name].append(len(batch) / (time.perf_counter() - start))
    joined = {name: np.concatenate(of_batches) for name, of_batches in logits.items()}
    reference = next(iter(joined.values()))
    return {
        name: _compare_logits(of_engine, reference, images.labels) | {"images_per_second": float(np.median(rates[name]))}
        for name, of_engine in joined.items()
    }


def _compare_logits(logits: NDArray[np.float32], reference: NDArray[np.float32], labels: NDArray[np.int64] | None) -> dict[str, Any]:
    predicted = logits.argmax(axis=1)
    metrics: dict[str, Any] = {
        "max_abs_diff": float(np.abs(logits - reference).max()),
        "max_abs_logit": float(np.abs(reference).max()),
        "same_top1": float((predicted == reference.argmax(axis=1)).mean()),
    }
    return metrics if labels is None else {**metrics, "top1": float((predicted == labels).mean())}


def onnx_engine(path: Path) -> LogitsFunction:
    """Open an ONNX file with onnxruntime on the CPU, with as many threads as torch uses."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(["logits"], {"image": pixels})[0]


def require_equal(name: str, metrics: dict[str, Any]) -> None:
    """Raise `RunError` if the logits of an FP32 file differ from torch's by more than rounding."""
    if not metrics["max_abs_diff"] <= MAX_DIFFERENCE * max(metrics["max_abs_logit"], 1.0):
        raise RunError(f"{name}: its logits differ from torch's by up to {metrics['max_abs_diff']:.3g}; nothing was exported")


def report_lines(images: CheckImages, comparison: dict[str, dict[str, Any]], sizes: dict[str, int]) -> Sequence[str]:
    """Format the comparison as lines of a Markdown table, for the console and the model card.

    Args:
        images: The images.
        comparison: Result of `compare`.
        sizes: Size of each file, bytes.
    """
    lines = ["| file | MB | largest difference of logits | same top-1 | top-1 | images/s |", "|---|---|---|---|---|---|"]
    for name, metrics in comparison.items():
        size = f"{sizes[name] / 1e6:.1f}" if name in sizes else ""
        top1 = f"{metrics['top1']:.4f}" if "top1" in metrics else "unknown"
        agreement = f"{metrics['max_abs_diff']:.2g} | {metrics['same_top1']:.4f}"
        lines.append(f"| {name} | {size} | {agreement} | {top1} | {metrics['images_per_second']:.0f} |")
    return [*lines, "", f"On {images.source}; images/s in batches of {BATCH_SIZE} on {torch.get_num_threads()} CPU threads."]
