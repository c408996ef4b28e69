"""The light style of all figures, and how they are saved. matplotlib's objects only, never pyplot and its global state."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import matplotlib
from matplotlib import figure as matplotlib_figure
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.font_manager import FontProperties, findfont
from PIL import ImageFont

from hw1.utils.files import write_atomic

# Okabe & Ito's palette, which colour-blind readers can distinguish.
BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"
PURPLE, GREY = "#AA3377", "#6B7075"
TEXT = "#202124"
FONT_UNITS = 100  # size at which text is measured

# What a colour means in every figure of a report.
TRAIN, VALIDATION = ORANGE, BLUE
WITHOUT, WITH, PUBLISHED = TEXT, PURPLE, GREY

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 10.0,
    "text.color": TEXT,
    "text.usetex": False,
    "axes.edgecolor": "#9AA0A6",
    "axes.labelcolor": TEXT,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E3E5E8",
    "grid.linewidth": 0.8,
    "xtick.color": "#5F6368",
    "ytick.color": "#5F6368",
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 9.0,
}


class Figure(matplotlib_figure.Figure):
    """A figure of matplotlib that a notebook shows as a picture, without pyplot and its global state."""

    def _repr_png_(self) -> bytes:
        return render_figure(self, "png")


@contextmanager
def house_style() -> Iterator[None]:
    """Use matplotlib's defaults and this project's style within the block, whatever the user's matplotlibrc says."""
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a class name in a script that the font lacks
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` x `height` inches, laid out so that nothing overlaps."""
    figure = blank_figure(width, height)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12, wspace=0.02)
    return figure


def blank_figure(width: float, height: float) -> Figure:
    """Return an empty figure of `width` x `height` inches without a layout engine, for axes whose positions are known."""
    figure = Figure(figsize=(width, height), dpi=120, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def text_width(text: str, size: float, *, weight: str = "normal") -> float:
    """Return the width of a line of text in inches, in the house style's font at `size` points."""
    return _load_font(weight).getlength(text) * size / FONT_UNITS / 72


@cache
def _load_font(weight: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont(FontProperties(family=_STYLE["font.sans-serif"], weight=weight)), FONT_UNITS)


class CellLayout(NamedTuple):
    """A cell of a grid, in inches: the side of its square image, and the margins around it."""

    side: float
    above: float
    below: float
    left: float
    right: float


def new_grid(num_rows: int, num_columns: int, cell: CellLayout, **options: Any) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with a grid of axes, and the axes in rows.

    All positions are known in advance, so no layout engine runs; it would take half of the drawing time.

    Args:
        num_rows: Number of rows.
        num_columns: Number of columns.
        cell: Size of a cell.
        options: Further arguments of `Figure.add_axes`.
    """
    width, height = cell.left + cell.side + cell.right, cell.above + cell.side + cell.below
    figure = blank_figure(num_columns * width, num_rows * height)
    rows = []
    for row in range(num_rows):
        bottom = 1 - (row * height + cell.above + cell.side) / (num_rows * height)
        size = (cell.side / (num_columns * width), cell.side / (num_rows * height))
        rectangles = [((column * width + cell.left) / (num_columns * width), bottom, *size) for column in range(num_columns)]
        rows.append([figure.add_axes(rectangle, **options) for rectangle in rectangles])
    return figure, rows


def save_figure(figure: matplotlib_figure.Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all; the same data gives the same bytes, without date or version."""
    write_atomic(path, render_figure(figure, "png"))


def render_figure(figure: matplotlib_figure.Figure, kind: Literal["png", "svg"]) -> bytes:
    """Return a figure as PNG or SVG; the same data gives the same bytes. Text in an SVG is outlines, as a reader may lack the font."""
    buffer = io.BytesIO()
    metadata = {"Software": None} if kind == "png" else {"Date": None, "Creator": None}
    with house_style():
        matplotlib.rcParams["svg.hashsalt"] = "hw1"  # else its ids are drawn at random
        options: Any = {"pil_kwargs": {"compress_level": 4}} if kind == "png" else {}  # a third faster than 6, and 4% larger
        figure.savefig(buffer, format=kind, dpi=figure.dpi, metadata=metadata, **options)
    return buffer.getvalue()
