"""Plot Grad-CAM and CBAM gates over the images that they belong to."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray

from hw1.plots.style import BLUE, CellLayout, Figure, house_style, new_grid
from hw1.utils.text import showable

CELL = CellLayout(1.65, above=0.44, below=0.22, left=0.3, right=0.08)
SCALES = (0.1, 0.25, 0.5, 1.0)
"""How far from 1 the colours of CBAM's maps reach: the least of these that holds all maps of a figure, so that figures compare."""
MAX_NAME_LENGTH = 28


class AttentionRow(NamedTuple):
    """One row of the figure.

    Attributes:
        image: uint8 [S, S, 3], RGB, as the model gets it.
        file: Name of the image's file.
        title: The class and its probability.
        cam: Grad-CAM, float [S, S] in 0-1; None leaves it out.
        cam_size: Height and width of the feature map that Grad-CAM was computed on.
        gates: For each CBAM the stage that it follows, its channel gate [C] and its spatial gate [h, w].
    """

    image: NDArray[np.uint8]
    file: str
    title: str
    cam: NDArray[np.floating[Any]] | None
    cam_size: tuple[int, int]
    gates: Sequence[tuple[str, NDArray[np.floating[Any]], NDArray[np.floating[Any]]]]


def plot_attention(rows: Sequence[AttentionRow]) -> Figure:
    """Plot one row per image: the image, Grad-CAM over it, and for each CBAM its spatial gate over the image and its sorted channel gate.

    All spatial gates have one scale of colours about 1, blue below and red above, which their titles name beside their own range. They are
    drawn as coarse as they are; Grad-CAM is smoothed.

    Raises:
        ValueError: There are no rows, or the rows belong to models with different CBAMs.
    """
    if not rows or len({tuple(gate[0] for gate in row.gates) for row in rows}) != 1:
        raise ValueError("expected rows, all of one model")
    first = 1 + (rows[0].cam is not None)  # column of the first gate
    reach = _gate_reach(rows)
    with house_style():
        figure, cells = new_grid(len(rows), first + 2 * len(rows[0].gates), CELL)
        for line, row in zip(cells, rows, strict=True):
            _show(line[0], row.image, f"{_shorten(row.file)}\n{row.title}")
            if row.cam is not None:
                colors: dict[str, Any] = {"cmap": "inferno", "vmin": 0.0, "vmax": 1.0, "interpolation": "bilinear"}
                _show(line[1], row.image, f"Grad-CAM, {_size(row.cam_size)}\n0 to 1", row.cam, **colors)
            for i, (stage, channel, spatial) in enumerate(row.gates):
                own = f"{spatial.min():.2f} to {spatial.max():.2f} of {1 - reach:g} to {1 + reach:g}"
                colors = {"cmap": "coolwarm", "vmin": 1 - reach, "vmax": 1 + reach, "interpolation": "nearest"}
                _show(line[first + 2 * i], row.image, f"CBAM, {stage}, {_size(spatial.shape)}\n{own}", spatial, **colors)
                _plot_channel_gate(line[first + 1 + 2 * i], channel)
    return figure


def overlay(image: NDArray[np.uint8], cam: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Lay Grad-CAM over an image, in the colours of `plot_attention`.

    Args:
        image: uint8 [S, S, 3], RGB.
        cam: Float [S, S] in 0-1.

    Returns:
        uint8 [S, S, 3], RGB.
    """
    heat = colormaps["inferno"](cam)[:, :, :3] * 255
    return np.asarray(0.4 * image.mean(2, keepdims=True) + 0.6 * heat).round().astype(np.uint8)


def _gate_reach(rows: Sequence[AttentionRow]) -> float:
    """Return the one of `SCALES` for all spatial gates of the figure."""
    farthest = max((float(np.abs(spatial - 1).max()) for row in rows for _, _, spatial in row.gates), default=0.0)
    return next((scale for scale in SCALES if farthest <= scale), SCALES[-1])


def _size(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]}"


def _shorten(name: str) -> str:
    return name if len(name) <= MAX_NAME_LENGTH else f"…{name[1 - MAX_NAME_LENGTH :]}"


def _show(cell: Any, image: NDArray[np.uint8], title: str, heat: NDArray[Any] | None = None, **colors: Any) -> None:
    size = image.shape[0]
    cell.set_axis_off()
    cell.imshow(image if heat is None else image.mean(2), cmap="gray", extent=(0, size, size, 0))
    if heat is not None:
        cell.imshow(heat, alpha=0.6, extent=(0, size, size, 0), **colors)
    text = cell.set_title(showable(title), fontsize=8.0, fontweight="normal", loc="center", pad=4.0, wrap=True)
    text.set_parse_math(False)  # in a class name, `$` is a letter


def _plot_channel_gate(cell: Any, channel: NDArray[Any]) -> None:
    cell.plot(np.sort(channel)[::-1], color=BLUE)
    cell.axhline(1.0, color="#9AA0A6", linewidth=0.8)
    cell.set_title(
        f"factors of {len(channel)} channels\n{channel.min():.2f} to {channel.max():.2f}",
        fontsize=8.0,
        fontweight="normal",
        loc="center",
        pad=4.0,
    )
    cell.tick_params(labelsize=7.0)
    cell.set_ylim(0.0, max(1.0, float(channel.max())) * 1.05)
