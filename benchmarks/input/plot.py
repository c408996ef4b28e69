"""The plot of `benchmarks.input_pipeline`, from its result file."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.input.table import SOURCES
from hw1.plots.style import BLUE, GREEN, ORANGE, house_style, new_figure

GREY, LIGHT = "#6B7075", "#9AA0A6"
SKY, PURPLE, YELLOW = "#56B4E9", "#CC79A7", "#E69F00"
STYLES: dict[str, tuple[str, str, str]] = {  # colour, line, marker
    "fused": (BLUE, "-", "o"),
    "fused_decoded": (SKY, "--", "o"),
    "fused_disk": (GREEN, "-.", "D"),
    "albumentations": (ORANGE, "-", "s"),
    "timm": (PURPLE, "-", "^"),
    "torchvision_v2": (YELLOW, "-", "v"),
    "torchvision": (GREY, "-", "x"),
}


def plot_input_pipeline(result: dict[str, Any]) -> Figure:
    """Above, images/s of one core by pipeline with the ratios; below, their growth with cores, file size and output size."""
    with house_style():
        figure = new_figure(10.0, 9.4)
        halves: Any = figure.subfigures(2, 1, height_ratios=(1.25, 1.0))
        upper, lower = halves
        _bars(upper.subplots(), result)
        axes = lower.subplots(1, 3)
        _loaders(axes[0], result)
        _files(axes[1], result)
        _sizes(axes[2], result)
        handles, labels = axes[2].get_legend_handles_labels()
        lower.legend(handles, labels, loc="outside lower left", ncols=4, handlelength=2.6, columnspacing=1.4)
        started = result["machine"]["started"][:10]
        figure.suptitle(
            f"Images/s of the report's policy, {result['hardware']}, {started}", x=0.02, ha="left", fontsize=12.0, fontweight="bold"
        )
    return figure


def _bars(axes: Axes, result: dict[str, Any]) -> None:
    variants = {key: variant for key, variant in result["variants"].items() if variant["base"] == "torchvision"}
    rows = result["one_core"]["results"]
    keys = sorted(variants, key=lambda key: rows[key]["median"], reverse=True)
    medians = [rows[key]["median"] for key in keys]
    errors = [
        [rows[key]["median"] - rows[key]["quartiles"][0] for key in keys],
        [rows[key]["quartiles"][1] - rows[key]["median"] for key in keys],
    ]
    colors = [BLUE if variants[key]["ours"] else GREY if key == "torchvision" else LIGHT for key in keys]
    axes.barh(range(len(keys)), medians, color=colors, height=0.72, xerr=errors, error_kw={"ecolor": "#202124", "elinewidth": 1.0})
    for place, key in enumerate(keys):
        text = f"{medians[place]:,.0f}   ×{rows[key]['ratio']:.2f}"
        axes.annotate(text, (rows[key]["quartiles"][1], place), (6, 0), textcoords="offset points", va="center", fontsize=9.0)
    axes.set_yticks(range(len(keys)), [f"{variants[key]['label']} ({SOURCES[variants[key]['source']]})" for key in keys], fontsize=9.5)
    axes.set_ylim(len(keys) - 0.4, -0.6)
    axes.set_xlim(0, max(medians) * 1.18)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    images = result["one_core"]["pictures"]
    where = f"One core, {result['one_core']['size']} px, {images['count']} {images['origin']}"
    title = f"{where}\n×: times torchvision on Pillow from JPEG files; black line: quartiles"
    axes.set_title(title, fontsize=9.5, fontweight="normal", linespacing=1.4)


def _loaders(axes: Axes, result: dict[str, Any]) -> None:
    blocks = result["loaders"]
    _lines(axes, [block["workers"] for block in blocks], [block["results"] for block in blocks], result)
    axes.set_ylabel("images/s")
    _finish(axes, "Cores", "loader processes", [block["workers"] for block in blocks])


def _files(axes: Axes, result: dict[str, Any]) -> None:
    blocks = sorted([result["one_core"], *result["larger_files"]], key=_megapixels)
    _lines(axes, list(map(_megapixels, blocks)), [block["results"] for block in blocks], result)
    axes.set_xscale("log")
    axes.minorticks_off()
    _finish(axes, "Size of the files", "megapixels, median", [_megapixels(block) for block in blocks])


def _sizes(axes: Axes, result: dict[str, Any]) -> None:
    blocks = result["output_size"]
    _lines(axes, [block["size"] for block in blocks], [block["results"] for block in blocks], result)
    _finish(axes, "Size of the output", "pixels a side", [block["size"] for block in blocks])


def _lines(axes: Axes, x: list[Any], results: list[dict[str, Any]], result: dict[str, Any]) -> None:
    for key in STYLES:
        if all(key in rows for rows in results):
            color, line, marker = STYLES[key]
            variant = result["variants"][key]
            label = variant["label"] if variant["source"] == "JPEG" else f"{variant['label']}, {SOURCES[variant['source']]}"
            y = [rows[key]["median"] for rows in results]
            axes.plot(x, y, color=color, linestyle=line, marker=marker, markersize=4.5, label=label)


def _finish(axes: Axes, title: str, label: str, ticks: list[Any]) -> None:
    axes.set_yscale("log")
    axes.set_title(title)
    axes.set_xlabel(label)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    low, high = axes.get_ylim()
    ticks = [value for value in (20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000) if low <= value <= high]
    axes.set_yticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()


def _megapixels(block: dict[str, Any]) -> float:
    return round(float(block["pictures"]["width"] * block["pictures"]["height"]) / 1e6, 2)
