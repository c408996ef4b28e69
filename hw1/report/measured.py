"""Several seeds of one variant to means and spreads."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hw1.report.collect import RunRecord

Measures = Mapping[str, Callable[[RunRecord], float]]


def measured(runs: Sequence[RunRecord], measures: Measures) -> dict[str, Any]:
    """`num_seeds`, and of each measure mean and standard deviation (`<name>_std`, n - 1; None for one run)."""
    cells: dict[str, Any] = {"num_seeds": len(runs)}
    for name, measure in measures.items():
        values = np.array([measure(run) for run in runs], dtype=np.float64)
        with np.errstate(invalid="ignore"):  # a loss may be infinite
            std = float(values.std(ddof=1)) if len(values) > 1 else None
        cells |= {name: float(values.mean()) if len(values) else None, f"{name}_std": std}
    return cells
