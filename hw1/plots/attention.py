"""Plot Grad-CAM and CBAM gates over the images that they belong to."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from hw1.plots.style import BLUE, CellLayout, house_style, new_grid
from hw1.utils.text import showable

CELL = CellLayout(1.65, above=0.28, below=0.22, left=0.3, right=0.08)


class AttentionRow(NamedTuple):
    """One row of the figure.

    Attributes:
        image: uint8 [S, S, 3], RGB, as the model gets it.
        title: The class and its probability.
        cam: Grad-CAM, float [S, S] in 0-1; None leaves it out.
        gates: For each CBAM the stage that it follows, its channel gate [C] and its spatial gate [h, w].
    """

    image: NDArray[np.uint8]
    title: str
    cam: NDArray[np.floating[Any]] | None
    gates: Sequence[tuple[str, NDArray[np.floating[Any]], NDArray[np.floating[Any]]]]


def plot_attention(rows: Sequence[AttentionRow]) -> Figure:
    """Plot one row per image: the image, Grad-CAM over it, and for each CBAM its spatial gate over the image and its sorted channel gate.

    The colours of a spatial gate run from its smallest to its largest factor, which its title names.

    Raises:
        ValueError: There are no rows, or the rows belong to models with different CBAMs.
    """
    if not rows or len({tuple(gate[0] for gate in row.gates) for row in rows}) != 1:
        raise ValueError("expected rows, all of one model")
    first = 1 + (rows[0].cam is not None)  # column of the first gate
    columns = first + 2 * len(rows[0].gates)
    with house_style():
        figure, cells = new_grid(len(rows), columns, CELL)
        for line, row in zip(cells, rows, strict=True):
            _show(line[0], row.image, row.title)
            if row.cam is not None:
                _show(line[1], row.image, "Grad-CAM", row.cam, 0.0, 1.0)
            for i, (stage, channel, spatial) in enumerate(row.gates):
                low, high = float(spatial.min()), float(spatial.max())
                _show(line[first + 2 * i], row.image, f"CBAM, {stage}: {low:.2f} to {high:.2f}", spatial, low, high)
                _plot_channel_gate(line[first + 1 + 2 * i], channel)
    return figure


def _show(cell: Any, image: NDArray[np.uint8], title: str, heat: NDArray[Any] | None = None, low: float = 0.0, high: float = 1.0) -> None:
    size = image.shape[0]
    cell.set_axis_off()
    cell.imshow(image if heat is None else image.mean(2), cmap="gray", extent=(0, size, size, 0))
    if heat is not None:
        cell.imshow(
            heat, cmap="inferno", alpha=0.6, vmin=low, vmax=max(high, low + 1e-6), interpolation="bilinear", extent=(0, size, size, 0)
        )
    text = cell.set_title(showable(title), fontsize=8.0, fontweight="normal", loc="center", pad=4.0, wrap=True)
    text.set_parse_math(False)  # in a class name, `$` is a letter


def _plot_channel_gate(cell: Any, channel: NDArray[Any]) -> None:
    cell.plot(np.sort(channel)[::-1], color=BLUE)
    cell.set_title(f"{len(channel)} channels by factor", fontsize=8.0, fontweight="normal", loc="center", pad=4.0)
    cell.tick_params(labelsize=7.0)
    cell.set_ylim(0.0, max(1.0, float(channel.max())) * 1.05)
