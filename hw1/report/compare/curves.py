"""Curves of all variants over each other: what the page draws from, and the same as figures for papers."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw1.plots.curves import best_epoch
from hw1.plots.style import render_figure
from hw1.plots.variant_curves import COLORS, Overlay, plot_overlay
from hw1.report.compare.variants import Variant
from hw1.report.run_record import Run
from hw1.runs.epoch_metrics import EpochMetrics

MAX_SHOWN = 12
"""Variants that the page draws at first, and all that the figures for papers draw."""
MAX_SEED_LINES = 120
"""Runs up to which each seed has a line of its own beside the mean."""
MAX_POINTS = 20_000
"""Points in one panel, above which only every second (third, ...) epoch is drawn."""


@dataclass(frozen=True)
class Panel:
    """A metric over epochs.

    Attributes:
        name: Name of its files, after `curves_`.
        title: Heading.
        unit: Label of the y-axis.
        value: Its value in one epoch; NaN where it is not known.
    """

    name: str
    title: str
    unit: str
    value: Callable[[Mapping[str, Any]], float]


def _metric(key: str) -> Callable[[Mapping[str, Any]], float]:
    def value(epoch: Mapping[str, Any]) -> float:
        number = epoch.get(key)
        return math.nan if number is None else float(number)

    return value


PANELS = (
    Panel("val_loss", "Validation loss", "cross-entropy (nats)", _metric("val_loss")),
    Panel("val_top1", "Validation top-1", "accuracy", _metric("val_top1")),
    Panel("train_loss", "Training loss", "cross-entropy (nats)", _metric("train_loss")),
    Panel("gap", "Gap: validation minus training loss", "nats", lambda epoch: float(epoch["val_loss"]) - float(epoch["train_loss"])),
    Panel("lr", "Learning rate", "rate at the end of the epoch", _metric("lr")),
    Panel("images_per_second", "Speed", "training images/s", _metric("images_per_second")),
    Panel("data_wait", "Waiting for data", "share of the training time", _metric("data_wait")),
)
PAPER_FIGURES = tuple(f"curves_{panel.name}" for panel in PANELS)
"""Names of the figures of `draw_curves`, without the ending."""


@dataclass(frozen=True, eq=False)
class CurveData:
    """What the page draws.

    Attributes:
        json: Panels and variants with their values, for the page's script.
        notes: What is not drawn, or not at first, a sentence each.
    """

    json: str
    notes: list[str]


def curve_data(variants: Sequence[Variant], baseline: Variant | None) -> CurveData:
    """Return the values of all panels: of each variant the mean over finished runs, and each run if they are few."""
    runs = [run for variant in variants for run in variant.all_runs]
    has_seed_lines = len(runs) <= MAX_SEED_LINES
    longest = max(len(run.epochs) for run in runs)
    step = max(1, math.ceil(longest * (len(runs) if has_seed_lines else len(variants)) / MAX_POINTS))
    shown = {variant.name for variant in first_shown(variants, baseline)}
    content = {
        "colors": COLORS,
        "panels": [{"name": panel.name, "title": panel.title, "unit": panel.unit} for panel in PANELS],
        "variants": [_variant(variant, variant.name in shown, has_seed_lines, step) for variant in variants],
    }
    notes = []
    if len(shown) < len(variants):
        notes.append(f"At first {len(shown)} of {len(variants)} variants are drawn, those with the highest top-1; the legend shows others.")
    if not has_seed_lines:
        notes.append(f"{len(runs)} runs are too many for a line each: only the mean of each variant is drawn.")
    if step > 1:
        notes.append(f"Only every {step}th epoch is drawn, and the last; the figures beside this page have all of them.")
    return CurveData(json.dumps(content, allow_nan=False, separators=(",", ":")), notes)


def first_shown(variants: Sequence[Variant], baseline: Variant | None) -> list[Variant]:
    """Return the variants that are drawn at first: all if they are few, else the baseline and those with the highest top-1."""
    if len(variants) <= MAX_SHOWN:
        return list(variants)
    ranked = sorted(variants, key=lambda variant: (variant is not baseline, -_highest(variant)))
    chosen = {id(variant) for variant in ranked[:MAX_SHOWN]}
    return [variant for variant in variants if id(variant) in chosen]


def draw_curves(variants: Sequence[Variant], baseline: Variant | None) -> dict[str, bytes]:
    """Return PNG and SVG files of all panels by name, drawn of `first_shown`; a panel without any value is left out."""
    shown = first_shown(variants, baseline)
    few = f" ({len(shown)} of {len(variants)} variants: the highest top-1)" if len(shown) < len(variants) else ""
    files: dict[str, bytes] = {}
    for panel, name in zip(PANELS, PAPER_FIGURES, strict=True):
        overlays = [_overlay(variant, panel) for variant in shown]
        if any(np.isfinite(line).any() for overlay in overlays for line in overlay.lines):
            figure = plot_overlay(overlays, panel.title + few, panel.unit)
            files |= {f"{name}.png": render_figure(figure, "png"), f"{name}.svg": render_figure(figure, "svg")}
    return files


def _overlay(variant: Variant, panel: Panel) -> Overlay:
    return Overlay(
        variant.name,
        [_values(run.epochs, panel) for run in variant.runs],
        [_values(run.epochs, panel) for run in variant.unfinished],
    )


def _variant(variant: Variant, is_shown: bool, has_seed_lines: bool, step: int) -> dict[str, Any]:
    finished = [_line(run, step) for run in variant.runs] if has_seed_lines and len(variant.runs) > 1 else []
    common = min((len(run.epochs) for run in variant.runs), default=0)
    return {
        "name": variant.name,
        "shown": is_shown,
        "seeds": len(variant.runs),
        "mean": {**_epochs(common, step), "values": [_rounded(mean_values(variant, panel)[:common], step) for panel in PANELS]},
        "runs": finished,
        "unfinished": [_line(run, step) for run in variant.unfinished],
    }


def mean_values(variant: Variant, panel: Panel) -> NDArray[np.float64]:
    """Return the mean over the finished runs of a variant, [E], up to the end of the shortest."""
    length = min((len(run.epochs) for run in variant.runs), default=0)
    if not length:
        return np.empty(0)
    with np.errstate(invalid="ignore"):  # a loss may be infinite
        return np.asarray(np.mean([_values(run.epochs[:length], panel) for run in variant.runs], axis=0), dtype=np.float64)


def _line(run: Run, step: int) -> dict[str, Any]:
    return {
        "path": run.path,
        "seed": run.seed,
        **_epochs(len(run.epochs), step),
        "values": [_rounded(_values(run.epochs, panel), step) for panel in PANELS],
    }


def _epochs(num: int, step: int) -> dict[str, Any]:
    return {"epochs": [position + 1 for position in _positions(num, step)]}


def _positions(num: int, step: int) -> list[int]:
    """Return every `step`-th position, and the last."""
    positions = list(range(0, num, step))
    return positions if not num or positions[-1] == num - 1 else [*positions, num - 1]


def _values(epochs: Sequence[EpochMetrics], panel: Panel) -> NDArray[np.float64]:
    return np.array([panel.value(epoch) for epoch in epochs], dtype=np.float64)


def _rounded(values: NDArray[np.float64], step: int) -> list[float | None]:
    """Round to 5 digits, which halves the page; what is not finite is a gap."""
    return [float(f"{values[i]:.5g}") if math.isfinite(values[i]) else None for i in _positions(len(values), step)]


def _highest(variant: Variant) -> float:
    """Return the best top-1 of a variant's runs, mean over finished runs; of unfinished ones where none is finished."""
    runs = variant.all_runs[: len(variant.runs) or None]
    best = [(run, best_epoch(run.epochs)) for run in runs]
    tops = [run.epochs[position]["val_top1"] for run, position in best if position is not None]
    return float(np.mean(tops)) if tops else -math.inf
