"""What was found, in plain words."""

from hw1.calibration import BINNING, Calibration
from hw1.review.findings import Findings


def accuracy_sentence(found: Findings) -> str:
    """The headline."""
    metrics = found.metrics
    low, high = metrics["top1_interval"]
    right, total = round(metrics["top1"] * metrics["num_images"]), metrics["num_images"]
    return f"{right:,} of {total:,} images are right: {_percent(metrics['top1'])}, 95% interval {_percent(low)} to {_percent(high)}."


def mistakes_sentence(found: Findings) -> str:
    """How many mistakes there are, and whether few pairs make most of them."""
    mistakes = sum(pair.images for pair in found.pairs)
    if not mistakes:
        return "There is no mistake."
    top = found.pairs[:10]
    share = sum(pair.images for pair in top) / mistakes
    weakest = min((row for row in found.class_rows if row["support"]), key=lambda row: (row["recall"], -row["support"]))
    return (
        f"{mistakes:,} mistakes in {len(found.pairs):,} pairs of classes; the {len(top)} most confused make {_percent(share)} of them. "
        f"Least often found is class {weakest['class']}: {_percent(weakest['recall'])} of its {weakest['support']} images."
    )


def calibration_sentences(calibration: Calibration) -> list[str]:
    """Whether confidences can be taken at their word, and what a temperature does about it."""
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
    origin = "fitted on each half of these images and measured on the other" if calibration.cross_fitted else "fitted on validation"
    second = (
        f"A temperature of {calibration.temperature:.2f} brings the ECE from {error:.3f} to {after['ece']:.3f} and the cross-entropy from "
        f"{before['nll']:.3f} to {after['nll']:.3f}, {origin}."
    )
    return [first, second]


def binning_note() -> str:
    return (
        f"Binned: {BINNING}. ECE: Guo et al. 2017; adaptive bins: Nixon et al. 2019; limit by chance: the 95% quantile of redrawn answers "
        "of a perfectly calibrated model (Bröcker & Smith 2007)."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"
