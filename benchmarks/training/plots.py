"""The plots of the benchmarks of training, from their result files."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.training.curves import smooth
from benchmarks.training.tables import case_name, number, precision_case_name
from hw1.plots.style import BLUE, GREEN, ORANGE, house_style, new_figure

GREY, LIGHT, SKY, PURPLE, YELLOW = "#6B7075", "#9AA0A6", "#56B4E9", "#CC79A7", "#E69F00"
GROUPS = {"faithful/": BLUE, "fast/": GREEN, "timm-fast/": YELLOW, "timm/": PURPLE, "report": GREY, "plain": GREY, "hw1": BLUE}
"""Colour by the beginning of a loop's key; the first that fits."""
LINES = {
    "nchw": (":", "s"),
    "nhwc": ("-", "o"),
    "compiled": ("--", "D"),
    "compiled-nchw": ("-.", "v"),
    "graph": ("-", "*"),
    "graphs": ("-", "*"),
    "frozen": ("-", "^"),
    "anew": ("--", "x"),
}
TITLE: dict[str, Any] = {"x": 0.02, "ha": "left", "fontsize": 12.0, "fontweight": "bold"}


def plot_steps(result: Mapping[str, Any]) -> Figure:
    """A panel a case: images/s of every loop, fastest on top, with the quartiles and the ratio to timm's best."""
    blocks = [block for block in result["cases"] if block["results"]]
    heights = [1.2 + 0.3 * len(block["results"]) for block in blocks] or [2.0]
    with house_style():
        figure = new_figure(10.0, sum(heights) + 0.6)
        axes = figure.subplots(max(len(blocks), 1), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
        for place, block in zip(axes, blocks, strict=False):
            draw_bars(place, block)
        figure.suptitle(f"A training step, {result['hardware']}, {result['machine']['started'][:10]}", **TITLE)
    return figure


def draw_bars(axes: Axes, block: Mapping[str, Any], limits: Mapping[str, float] | None = None) -> None:
    """`limits`: images/s of the roofline by freezing, drawn as lines."""
    rows = block["results"]
    keys = sorted(rows, key=lambda key: -rows[key]["median"])
    medians = [rows[key]["median"] for key in keys]
    lows, highs = zip(*(rows[key]["quartiles"] for key in keys), strict=True)
    errors = [np.subtract(medians, lows), np.subtract(highs, medians)]
    axes.barh(range(len(keys)), medians, color=[color_of(key) for key in keys], height=0.72, xerr=errors, error_kw={"elinewidth": 1.0})
    for place, key in enumerate(keys):
        ratio = rows[key]["ratios"].get("timm")
        text = number(medians[place]) + (f"   ×{ratio['ratio']:.2f}" if ratio else "")
        axes.annotate(text, (rows[key]["quartiles"][1], place), (6, 0), textcoords="offset points", va="center", fontsize=9.0)
    for freezing, limit in (limits or {}).items():
        axes.axvline(limit, color=color_of(f"{freezing}/"), linestyle="--", linewidth=1.2)
    axes.set_yticks(range(len(keys)), [block["labels"][key] for key in keys], fontsize=9.0)
    axes.set_ylim(len(keys) - 0.4, -0.6)
    axes.set_xlim(0, max([*medians, *(limits or {}).values()]) * 1.2)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    dashed = "; dashed: roofline, fused" if limits else ""
    title = f"{case_name(block['case'])}: images/s\n×: times timm's best; black line: quartiles{dashed}"
    axes.set_title(title, fontsize=9.5, fontweight="normal", linespacing=1.4)


def plot_inference(result: Mapping[str, Any]) -> Figure:
    """A panel a precision: images/s of every way by batch size."""
    blocks = [block for block in result["sizes"] if block["results"]]
    names = dict.fromkeys(precision_case_name(block["case"]) for block in blocks)
    with house_style():
        figure = new_figure(5.0 * max(len(names), 1), 6.4)
        panels = figure.subplots(1, max(len(names), 1), squeeze=False, sharey=True)[0]
        for axes, name in zip(panels, names, strict=False):
            draw_growth(axes, [block for block in blocks if precision_case_name(block["case"]) == name], "batch", name)
            axes.set_xlabel("batch size")
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower left")
        figure.suptitle(f"Evaluation, {result['hardware']}, {result['machine']['started'][:10]}", **TITLE)
    return figure


def plot_growth(result: Mapping[str, Any]) -> Figure:
    """Images/s by batch, image size and model; seconds until the first batch by the size of the data set."""
    growth = result["growth"]
    with house_style():
        figure = new_figure(10.0, 8.0)
        axes = figure.subplots(2, 2)
        draw_growth(axes[0, 0], growth.get("batch", []), "batch", "Batch size")
        draw_growth(axes[0, 1], growth.get("size", []), "size", "Image size, pixels a side")
        draw_growth(axes[1, 0], growth.get("model", []), "model", "Model")
        _data_sets(axes[1, 1], growth.get("data_set", []))
        fullest = max(axes.flat[:3], key=lambda place: len(place.lines))
        handles, labels = fullest.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=2)
        title = f"How the cost of training grows, {result['hardware']}, {result['machine']['started'][:10]}"
        figure.suptitle(title, **TITLE)
    return figure


def draw_growth(axes: Axes, blocks: Sequence[Mapping[str, Any]], name: str, title: str) -> None:
    """Images/s of each loop by `name` of the case."""
    axes.set_title(title)
    axes.set_ylabel("images/s")
    if not blocks:
        return
    ticks = [block["case"][name] for block in blocks]
    x = list(range(len(ticks))) if isinstance(ticks[0], str) else ticks
    for key, label in blocks[0]["labels"].items():
        points = [(place, block["results"][key]["median"]) for place, block in zip(x, blocks, strict=True) if key in block["results"]]
        if points:
            line, marker = LINES.get(key.partition("/")[2], ("-", "x"))
            axes.plot(*zip(*points, strict=True), color=color_of(key), linestyle=line, marker=marker, markersize=4.5, label=label)
    if not isinstance(ticks[0], str):
        axes.set_xscale("log")
    scale_log(axes)
    axes.set_xticks(x, [str(tick).replace("_cbam", "").replace("_", "\n") for tick in ticks])


def _data_sets(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    axes.set_title("Images in the data set")
    axes.set_ylabel("seconds before the first step")
    if not rows:
        return
    x = [row["images"] for row in rows]
    names = {"open": ("every image read once", "-", "o"), "again": ("known as good", "--", "s"), "first_batch": ("first batch", ":", "D")}
    for key, (label, line, marker) in names.items():
        axes.plot(x, [row["seconds"][key] for row in rows], color=ORANGE, linestyle=line, marker=marker, markersize=4.5, label=label)
    axes.set_xscale("log")
    scale_log(axes)
    axes.set_xticks(x, [f"{value:,}" for value in x])
    axes.legend()


def scale_log(axes: Axes) -> None:
    """A logarithmic y-axis with plain numbers."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    ticks = [digit * 10.0**power for power in range(-3, 6) for digit in (1, 2, 5) if low <= digit * 10.0**power <= high]
    axes.set_yticks(ticks, [f"{tick:,g}" for tick in ticks])
    axes.minorticks_off()


def plot_check(result: Mapping[str, Any]) -> Figure:
    """Loss curves of every case: plain FP32 in grey below, the variants above it."""
    blocks = [block for block in result["checks"] if block["curves"].get("losses")]
    with house_style():
        figure = new_figure(10.0, max(3.6 * len(blocks), 2.0) + 0.6)
        axes = figure.subplots(max(len(blocks), 1), 2, squeeze=False)
        for row, block in zip(axes, blocks, strict=False):
            for place, freezing in zip(row, ("faithful", "fast"), strict=True):
                draw_curves(place, block["curves"]["losses"], freezing)
                place.set_title(f"{block['case']['model']}, {freezing}", fontsize=10.0)
        figure.suptitle(f"Loss of our variants on plain FP32's, {result['hardware']}", **TITLE)
    return figure


def draw_curves(axes: Axes, losses: Mapping[str, Sequence[float]], freezing: str) -> None:
    plain = f"plain, {freezing}"
    for key in [plain, *(key for key in losses if key.startswith(f"{freezing}/"))]:
        if key in losses:
            values = smooth(losses[key])
            style: dict[str, Any] = {"linewidth": 5.0, "color": LIGHT} if key == plain else {"linewidth": 1.2}
            axes.plot(range(len(values)), values, label=key, **style)
    axes.set_xlabel("step")
    axes.set_ylabel("loss, mean of 10 steps")
    if axes.lines:
        axes.legend()


def color_of(key: str) -> str:
    return next((color for start, color in GROUPS.items() if key.startswith(start)), SKY)
