"""What a run gives its trackers, in words and bytes: the line that says what leaves the machine."""

from hw1.config.recipe import LogConfig

EPOCH_BYTES, STEP_BYTES, CONSOLE_BYTES = 1_000, 200, 200
"""Of a row of an epoch, of a step, and of a line on the console."""
FIGURE_BYTES = 400_000
"""Of the confusion matrix, the calibration and the tables of one set."""
SAMPLES_BYTES = 2_000_000
"""Of the training images at the start."""
PHOTOGRAPH_BYTES = 1_200_000
"""Of the predictions' thumbnails and the CBAM maps of one set."""


def describe_content(log: LogConfig, *, epochs: int, steps_per_epoch: int, weight_bytes: int) -> str:
    """Say what the whole run gives its trackers.

    Args:
        log: The recipe's section.
        epochs: Epochs of the run.
        steps_per_epoch: Batches in an epoch.
        weight_bytes: Size of the weights.
    """
    rows = epochs * (EPOCH_BYTES + CONSOLE_BYTES + STEP_BYTES * (steps_per_epoch // log.every_steps + 1))
    sets = epochs // log.media_every + 1
    parts = [f"recipe, versions, metrics, figures and console lines ({_size(rows + sets * FIGURE_BYTES)})"]
    if "images" in log.upload:
        parts.append(f"photographs of the data ({_size(SAMPLES_BYTES + sets * PHOTOGRAPH_BYTES)})")
    if "model" in log.upload:
        parts.append(f"the best weights ({_size(weight_bytes)}) and the names and digests of the data's files")
    return ", ".join(parts)


def _size(num_bytes: int) -> str:
    return f"about {max(num_bytes / 1e6, 0.1):.2g} MB" if num_bytes < 100e6 else f"about {num_bytes / 1e6:.0f} MB"
