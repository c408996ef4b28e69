"""What `benchmarks.gpu` found, in short: the summary in its file, the table at its end, the plot."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.training.epoch_measure import REPORT_EPOCHS, REPORT_IMAGES
from benchmarks.training.measure import freezing_of, targets_of
from benchmarks.training.ours import FREEZING, OURS
from benchmarks.training.plots import TITLE, draw_bars, draw_curves, draw_growth
from benchmarks.training.tables import case_name, check_table, epoch_table, inference_tables, legend, loop_table, number, remarks, table
from benchmarks.training.tables import target_lines as lines_of
from benchmarks.training.turns import fastest
from hw1.plots.style import BLUE, ORANGE, house_style, new_figure

ROOFLINE_SHARE, END_TO_END_SHARE, REPORT_MINUTES = 0.60, 0.95, 10.0


def summarise_gpu(content: Mapping[str, Any]) -> dict[str, Any]:
    """Of each recipe the fastest variant at the first batch size; and what was promised beside what was measured."""
    steps = content.get("steps", {})
    rates = {key: row["images_per_second"] for key, row in steps.get("results", {}).items()}
    limits = fused_limits(content)
    best: dict[str, Any] = {}
    for freezing in FREEZING:
        key = fastest(rates, [key for key in rates if key in OURS and freezing_of(key) == freezing])
        if key:
            row = steps["results"][key]
            best[freezing] = {"loop": key, "images_per_second": row["median"], "ratios": row["ratios"]}
            if freezing in limits:
                best[freezing]["of_fused_roofline"] = round(row["median"] / limits[freezing], 4)
    is_cuda = "compute_capability" in content["machine"]
    wanted = targets_of(steps, is_cuda) if steps else []
    wanted += [
        _target(f"{OURS[row['loop']]}, share of the fused roofline", ROOFLINE_SHARE, row["of_fused_roofline"])
        for row in best.values()
        if "of_fused_roofline" in row
    ]
    for key, row in content.get("epoch", {}).get("results", {}).items():
        if "of_step" in row:
            wanted.append(_target(f"{OURS[key]}, end to end, share of the step's own rate", END_TO_END_SHARE, row["of_step"]))
            epochs_in_time = REPORT_EPOCHS * REPORT_IMAGES / 60 / REPORT_MINUTES
            claim = f"{OURS[key]}, end to end, images/s (the report's 50 epochs in {REPORT_MINUTES:g} minutes)"
            wanted.append(_target(claim, round(epochs_in_time), row["median"]))
    return {"best": best, "targets": wanted}


def _target(claim: str, needed: float, measured: float) -> dict[str, Any]:
    return {"claim": claim, "needed": needed, "measured": measured, "met": measured >= needed}


def fused_limits(content: Mapping[str, Any]) -> dict[str, float]:
    """Images/s of the fused roofline by recipe."""
    return {freezing: found["images_per_second"]["fused"] for freezing, found in content.get("roofline", {}).items()}


def gpu_table(content: Mapping[str, Any]) -> str:
    """All of it, as far as it was measured."""
    parts = [legend(content)]
    parts += [f"- {line}" for line in content.get("failed_parts", [])]
    parts += _card(content)
    if checks := content.get("checks"):
        parts += ["Gradients and loss curves against plain FP32:", check_table({"checks": checks})]
    if steps := content.get("steps"):
        parts += [f"**{case_name(steps['case'])}**", loop_table(steps, fused_limits(content)), *remarks(steps)]
    for block in content.get("batches", []):
        parts += [f"**{case_name(block['case'])}**", loop_table(block), *remarks(block)]
    if content.get("epoch", {}).get("results"):
        parts.append(epoch_table(content).partition("\n\n")[2])
    if any(block["results"] for block in content.get("sizes", [])):
        parts.append(inference_tables({**content, "settings": {"images": content["settings"]["evaluated"]}}).partition("\n\n")[2])
    parts += [*_layouts(content), *_kernels(content)]
    parts += ["\n".join(lines_of(content.get("summary", {}).get("targets", [])))]
    return "\n\n".join(part for part in parts if part)


def _card(content: Mapping[str, Any]) -> list[str]:
    if "card" not in content:
        return []
    card = content["card"]
    heads = ["recipe", "GMAC forward", "GFLOP a step", *(f"limit, {name}" for name in ("eager", "fused", "folded"))]
    rows = [
        [
            freezing,
            f"{found['forward_gmac']:.2f}",
            f"{found['gflop']:.1f}",
            *(number(value) for value in found["images_per_second"].values()),
        ]
        for freezing, found in content["roofline"].items()
    ]
    measured = f"{card['copy_gigabytes_per_second']:,.0f} GB/s copied, {card['matrix_teraflops']:,.2f} TFLOP/s in {card['precision']}"
    return [f"Measured: {measured}. Roofline of one step, an image, and images/s that follow:", table(heads, rows)]


def _layouts(content: Mapping[str, Any]) -> list[str]:
    sums = content.get("layouts", {}).get("microseconds", {})
    if not sums:
        return []
    rows = []
    for stage, kinds in sums.items():
        for kind, layouts in kinds.items():
            cells = [f"{layouts['nchw'][name]:,.0f} / {layouts['nhwc'][name]:,.0f}" for name in ("forward", "dgrad", "wgrad")]
            better = min(layouts, key=lambda layout: sum(layouts[layout].values()))
            rows.append([stage, kind, *cells, better.upper()])
    return [table(["microseconds, NCHW / NHWC", "convolutions", "forward", "dgrad", "wgrad", "faster"], rows)]


def _kernels(content: Mapping[str, Any]) -> list[str]:
    parts = []
    for key, rows in content.get("kernels", {}).items():
        cells = [[f"`{row['kernel'][:90]}`", f"{row['calls']:g}", f"{row['microseconds']:,.0f}", f"{row['share']:.1%}"] for row in rows]
        parts.append(table([f"most expensive kernels of `{key}`", "calls a step", "microseconds", "share"], cells))
    return parts


def plot_gpu(content: Mapping[str, Any]) -> Figure:
    """Every loop beside the roofline; growth with the batch; loss curves; layouts by stage."""
    steps = content.get("steps", {"results": {}, "labels": {}, "case": {}})
    with house_style():
        figure = new_figure(11.0, 9.0 + 0.28 * len(steps["results"]))
        halves: Any = figure.subfigures(2, 1, height_ratios=(2.0 + 0.28 * len(steps["results"]), 7.0))
        if steps["results"]:
            draw_bars(halves[0].subplots(), steps, fused_limits(content))
        axes = halves[1].subplots(2, 2)
        _batches(axes[0, 0], content)
        _stages(axes[0, 1], content.get("layouts", {}).get("microseconds", {}))
        curves: dict[str, Any] = {}
        for block in content.get("checks", []):
            curves |= block["curves"].get("losses", {})
        for place, freezing in zip(axes[1], FREEZING, strict=True):
            draw_curves(place, curves, freezing)
            place.set_title(f"Loss, {freezing}")
        figure.suptitle(f"Training on {content['hardware']}, {content['machine']['started'][:10]}", **TITLE)
    return figure


def _batches(axes: Axes, content: Mapping[str, Any]) -> None:
    """The eager loops by batch size: the blocks of one size joined."""
    joined: dict[int, dict[str, Any]] = {}
    for block in [content.get("steps", {}), *content.get("batches", [])]:
        if block.get("results"):
            known = joined.setdefault(block["case"]["batch"], {"case": block["case"], "labels": {}, "results": {}})
            known["labels"] |= block["labels"]
            known["results"] |= block["results"]
    blocks = [joined[batch] for batch in sorted(joined)]
    often = [key for key in (blocks[-1]["results"] if blocks else {}) if sum(key in block["results"] for block in blocks) > 1]
    draw_growth(
        axes, [block | {"labels": {key: block["labels"].get(key, key) for key in often}} for block in blocks], "batch", "Batch size"
    )
    if often:
        axes.legend()


def _stages(axes: Axes, sums: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]) -> None:
    axes.set_title("Convolutions by stage, both memory orders")
    axes.set_ylabel("microseconds a step")
    places: Sequence[int] = range(len(sums))
    for offset, layout, color in ((-0.2, "nchw", ORANGE), (0.2, "nhwc", BLUE)):
        totals = [sum(sum(found[layout].values()) for found in kinds.values()) for kinds in sums.values()]
        axes.bar([place + offset for place in places], totals, width=0.38, color=color, label=layout.upper())
    axes.set_xticks(places, list(sums))
    axes.legend()
