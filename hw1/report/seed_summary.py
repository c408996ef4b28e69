"""Summarize metrics of runs over seeds. No torch."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hw1.report.run_record import RunRecord

RunMetrics = Mapping[str, Callable[[RunRecord], float]]
"""Name of a metric -> function that returns it for a run."""


def summarize_seeds(runs: Sequence[RunRecord], metrics: RunMetrics) -> dict[str, Any]:
    """Return `num_seeds`, and mean and standard deviation of each metric over the runs of one variant.

    Returns:
        `<name>`: the mean, None without runs; `<name>_std`: the standard deviation with n - 1, None for fewer than two runs.
    """
    summary: dict[str, Any] = {"num_seeds": len(runs)}
    for name, metric in metrics.items():
        values = np.array([metric(run) for run in runs], dtype=np.float64)
        with np.errstate(invalid="ignore"):  # a loss may be infinite
            std = float(values.std(ddof=1)) if len(values) > 1 else None
        summary |= {name: float(values.mean()) if len(values) else None, f"{name}_std": std}
    return summary
