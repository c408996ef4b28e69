"""Render the evaluation of one run on one split as one HTML file."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hw1.evaluation.calibration import BINNING, Calibration
from hw1.evaluation.report.analysis import Analysis, calibration_table, class_table, pair_table
from hw1.evaluation.report.examples import ExampleImages, describe_prediction
from hw1.evaluation.temperature import why_doubtful
from hw1.html.page import data_link, render_page
from hw1.html.table import Table
from hw1.runs.folder import RunFolder

SECTIONS = {"result": "Result", "mistakes": "Mistakes", "confidence": "Confidence", "classes": "Classes", "run": "Run"}
MAX_SHOWN_PAIRS = 300
"""Rows of the page's table of pairs; `confused.csv` has all."""


def render_evaluation(run: RunFolder, split: str, analysis: Analysis, examples: ExampleImages, figures: Mapping[str, bytes]) -> str:
    """Render the page.

    Args:
        run: The evaluated run; its training curves are shown too, if they are there.
        split: Name of the split.
        analysis: The evaluation.
        examples: The images to show.
        figures: PNG files by name: `confusion`, `calibration` and, if there is one, `attention`.
    """
    recipe, calibration = run.read_recipe(), analysis.calibration
    if run.curves.is_file():
        figures = {**figures, "curves": run.curves.read_bytes()}
    name = f"{recipe.run.name}, seed {recipe.seed}"
    values = {
        "title": f"{name}: {split}",
        "sections": SECTIONS.items(),
        "figures": {name: data_link(png, "image/png") for name, png in figures.items()},
        "sentence": accuracy_sentence(analysis),
        "tiles": _tiles(analysis),
        "facts": _facts(run, split, analysis),
        "mistakes": mistakes_sentence(analysis),
        "pairs": [
            {
                "title": f"{analysis.names[pair.label]} taken for {analysis.names[pair.predicted]}",
                "count": f"{pair.num_images} of {pair.support}, {pair.num_images / pair.support:.0%}",
                "sides": [
                    (f"{analysis.names[pair.label]}, mistaken", [_example(analysis, examples, i) for i in mistaken]),
                    (f"{analysis.names[pair.predicted]}, for comparison", [_example(analysis, examples, i) for i in compared]),
                ],
            }
            for pair, mistaken, compared in examples.pairs
        ],
        "worst": [_example(analysis, examples, i) for i in examples.worst],
        "pair_table": _truncate(pair_table(analysis)),
        "calibration_sentences": calibration_sentences(calibration, len(analysis.files)),
        "offers_temperature": not why_not_offered(analysis.calibration, len(analysis.files)),
        "binning": binning_note(),
        "calibration_table": calibration_table(analysis),
        "class_table": class_table(analysis),
        "config": run.config.read_text(),
        "environment": run.env.read_text() if run.env.is_file() else "",
    }
    return render_page("hw1.evaluation.report", values)


def _tiles(analysis: Analysis) -> list[tuple[str, str, str]]:
    """Return name, value and subtitle of the headline numbers."""
    metrics, chance = analysis.metrics, analysis.calibration.chance[1]
    intervals = [f"{low:.4f} to {high:.4f}" for low, high in (metrics["top1_interval"], metrics["top5_interval"])]
    return [
        ("top-1", f"{metrics['top1']:.4f}", intervals[0]),
        ("top-5", f"{metrics['top5']:.4f}", intervals[1]),
        ("macro F1", f"{metrics['macro_f1']:.4f}", "mean over classes"),
        ("balanced accuracy", f"{metrics['balanced_accuracy']:.4f}", "mean recall over classes"),
        ("loss", f"{metrics['loss']:.4f}", "cross-entropy, nats"),
        ("ECE", f"{metrics['ece']:.4f}", f"chance: up to {chance:.4f}"),
    ]


def _facts(run: RunFolder, split: str, analysis: Analysis) -> list[tuple[str, str]]:
    recipe, metrics = run.read_recipe(), analysis.metrics
    step = f", step {metrics['step']} of the next" if metrics.get("step") else ""
    facts = [
        ("Model", f"{recipe.model.name}, {recipe.aug.size} px, {metrics['checkpoint']} checkpoint (epoch {metrics['epoch']}{step})"),
        ("Images", f"{len(analysis.files):,} of split {split}, {len(analysis.names)} classes"),
        ("Intervals", "Wilson's, 95%: which images were drawn, for this one trained model"),
    ]
    if "runs" in metrics:
        views = {"flip": ", each image and its mirror image", "crops": ", five crops of each image"}.get(metrics["tta"], "")
        facts.append(("Averaged", f"probabilities of {', '.join(metrics['runs'])}{views}"))
    if metrics["temperature"] != 1:
        facts.append(("Temperature", f"{metrics['temperature']:.4f}, in loss, ECE and all confidences but those under Confidence"))
    return facts


def _example(analysis: Analysis, examples: ExampleImages, index: int) -> dict[str, Any]:
    return {
        "link": data_link(examples.jpeg(index), "image/jpeg"),
        "label": analysis.names[analysis.labels[index]],
        "prediction": describe_prediction(analysis, index),
        "is_correct": bool(analysis.correct[index]),
        "file": analysis.files[index],
        "loss": f"{analysis.losses[index]:.2f}",
    }


def _truncate(table: Table) -> Table:
    if len(table.rows) <= MAX_SHOWN_PAIRS:
        return table
    note = f"The first {MAX_SHOWN_PAIRS} of {len(table.rows):,}; {table.name}.csv beside this page has all."
    return replace(table, name=f"{table.name}_first", rows=table.rows[:MAX_SHOWN_PAIRS], note=note)


def accuracy_sentence(analysis: Analysis) -> str:
    """Say how many images are right, with the interval."""
    metrics = analysis.metrics
    low, high = metrics["top1_interval"]
    correct, total = round(metrics["top1"] * metrics["num_images"]), metrics["num_images"]
    return f"{correct:,} of {total:,} images are right: {_percent(metrics['top1'])}, 95% interval {_percent(low)} to {_percent(high)}."


def mistakes_sentence(analysis: Analysis) -> str:
    """Say how many mistakes there are, and whether few pairs of classes make most of them."""
    num_mistakes = sum(pair.num_images for pair in analysis.pairs)
    if not num_mistakes:
        return "There is no mistake."
    top = analysis.pairs[:10]
    fraction = sum(pair.num_images for pair in top) / num_mistakes
    weakest = min((row for row in analysis.class_metrics if row["support"]), key=lambda row: (row["recall"], -row["support"]))
    return (
        f"{num_mistakes:,} mistakes in {len(analysis.pairs):,} pairs of classes; the {len(top)} most confused make "
        f"{_percent(fraction)} of them. "
        f"The lowest recall is that of class {weakest['class']}: {_percent(weakest['recall'])} of its {weakest['support']} images."
    )


def why_not_offered(calibration: Calibration, num_images: int) -> str:
    """Say why the temperature of a calibration on `num_images` images is not offered; empty where it is."""
    if not calibration.cross_fitted or calibration.after is None:
        return "it was not fitted on these images"
    return why_doubtful(num_images, calibration.before, calibration.after)


def calibration_sentences(calibration: Calibration, num_images: int) -> list[str]:
    """Say whether the confidences of `num_images` images are calibrated, what a temperature changes, and why it is not offered."""
    before, (_, limit) = calibration.before, calibration.chance
    error, gap = before["ece"], before["confidence"] - before["accuracy"]
    if error <= limit:
        first = f"The confidences hold: expected calibration error (ECE) {error:.3f}; chance alone gives up to {limit:.3f}."
    else:
        kind = "off in both directions" if abs(gap) < error / 4 else "too high" if gap > 0 else "too low"
        first = (
            f"The confidences are {kind}: {_percent(before['confidence'])} on average, where {_percent(before['accuracy'])} are right. The "
            f"expected calibration error (ECE) is {error:.3f}; chance alone gives up to {limit:.3f} here."
        )
    if calibration.after is None or calibration.temperature is None:
        return [first]
    after = calibration.after
    source = "fitted on each half of these images and measured on the other" if calibration.cross_fitted else "fitted on validation"
    second = (
        f"A temperature of {calibration.temperature:.2f} brings the ECE from {error:.3f} to {after['ece']:.3f} and the cross-entropy from "
        f"{before['nll']:.3f} to {after['nll']:.3f}, {source}."
    )
    doubt = why_not_offered(calibration, num_images) if calibration.cross_fitted else ""
    return [first, second, *([f"It is not offered: {doubt}."] if doubt else [])]


def binning_note() -> str:
    """Say how the calibration errors are binned, with the sources."""
    return (
        f"Binned: {BINNING}. ECE: Guo et al. 2017; adaptive bins: Nixon et al. 2019; limit by chance: the 95% quantile of redrawn answers "
        "of a perfectly calibrated model (Bröcker & Smith 2007)."
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}%"
