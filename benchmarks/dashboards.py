"""The pictures of docs/guide/wandb.md, drawn from what a run recorded: python -m benchmarks.dashboards RUN_DIR --out docs/guide/wandb

Needs a run with log.wandb=offline and log.to=[tensorboard]; `curves.png` and `media.png` are drawn from the file of wandb's client,
`tensorboard.png` is TensorBoard's own page in an installed Chromium (--chromium PATH).
"""

import argparse
import io
import json
import subprocess
import sys
import time
import urllib.request
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.common.wandb_file import records, values
from hw1.errors import UserError, run_command
from hw1.plots.style import BLUE, house_style, new_figure
from hw1.utils.files import write_atomic

PANELS = (
    ("train/loss_step", "lr", "grad_norm"),
    ("train/loss", "train/accuracy", "val/loss"),
    ("val/top1", "val/macro_f1", "perf/images_per_second"),
)
STEP_CURVES = PANELS[0]
NUM_ROWS = 6
PORT = 6016


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dashboards", description=__doc__)
    parser.add_argument("run", metavar="RUN_DIR", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--chromium", default="chromium")
    args = parser.parse_args(argv)
    files = sorted(args.run.glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        raise UserError(f"{args.run}: no offline file of wandb; train with log.wandb=offline")
    args.out.mkdir(parents=True, exist_ok=True)
    found = list(records(files[-1]))
    history = [values(record.history.item) for record in found if record.HasField("history")]
    artifacts = [record.artifact for record in found if record.HasField("artifact") and "predictions" in record.artifact.name]
    save(draw_curves(history), args.out / "curves.png")
    save(draw_media(history, artifacts[-1], files[-1].parent / "files"), args.out / "media.png")
    shoot_tensorboard(args.run / "tensorboard", args.out / "tensorboard.png", args.chromium)


def draw_curves(history: Sequence[dict[str, Any]]) -> Any:
    """A panel for each curve, over its own x-axis."""
    curves: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in history:
        for name in (name for names in PANELS for name in names if name in row):
            curves[name].append((row["train/step" if name in STEP_CURVES else "epoch"], row[name]))
    with house_style():
        figure = new_figure(12.0, 7.2)
        grid: Any = figure.subplots(len(PANELS), len(PANELS[0]))
        for line, names in zip(grid, PANELS, strict=True):
            for axes, name in zip(line, names, strict=True):
                axes.plot(
                    *zip(*curves[name], strict=True), color=BLUE, marker="" if name in STEP_CURVES else "o", markersize=3, linewidth=1.4
                )
                axes.set_title(name, fontsize=10)
                axes.set_xlabel("train/step" if name in STEP_CURVES else "epoch", fontsize=8)
    return figure


def draw_media(history: Sequence[dict[str, Any]], table: Any, files: Path) -> Any:
    """The last confusion matrix beside the first rows of the last table of predictions."""
    path = [row["val/confusion_matrix.path"] for row in history if "val/confusion_matrix.path" in row][-1]
    entries = {entry.path: Path(entry.local_path) for entry in table.manifest.contents}
    (content,) = [json.loads(file.read_bytes()) for name, file in entries.items() if name.endswith("table.json")]
    with house_style():
        figure = new_figure(12.0, 5.6)
        halves: Any = figure.subfigures(1, 2, width_ratios=[1, 1.05])
        left, right = halves
        axes = left.subplots()
        axes.imshow(Image.open(files / path))
        axes.set_title("val/confusion_matrix", fontsize=10)
        axes.set_axis_off()
        grid: Any = right.subplots(NUM_ROWS, len(content["columns"]) - 1)  # the file's name is left out
        shown = [i for i, name in enumerate(content["columns"]) if name != "file"]
        for line, row in zip(grid, content["data"], strict=False):
            for cell, column in zip(line, shown, strict=True):
                cell.set_axis_off()
                if column == 0:
                    cell.imshow(Image.open(entries[row[0]["path"]]))
                else:
                    text = f"{row[column]:.3f}" if isinstance(row[column], float) else row[column].replace("-", "\n")
                    cell.text(0.5, 0.5, text, ha="center", va="center", fontsize=8)
        for cell, column in zip(grid[0], shown, strict=True):
            cell.set_title(content["columns"][column], fontsize=9)
        right.suptitle("val/predictions", fontsize=10, fontweight="bold")
    return figure


def shoot_tensorboard(folder: Path, path: Path, chromium: str) -> None:
    """Start TensorBoard, and take a picture of its page."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder.parent), "--port", str(PORT)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(120):
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/data/runs", timeout=2).read()
                break
            time.sleep(0.5)
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium)
            page = browser.new_page(viewport={"width": 1400, "height": 1050})
            page.goto(f"http://127.0.0.1:{PORT}/#timeseries")
            page.wait_for_timeout(8_000)
            page.get_by_role("button", name="Settings").first.click()  # closes their pane
            page.get_by_role("combobox", name="Filter tags (regex)").fill("^train/|^val/(loss|top1|macro_f1)$")
            page.keyboard.press("Tab")  # closes the list of names
            page.wait_for_timeout(6_000)
            image = Image.open(io.BytesIO(page.screenshot()))
            browser.close()
    finally:
        server.terminate()
        server.wait()
    buffer = io.BytesIO()
    image.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(buffer, "PNG", optimize=True)
    write_atomic(path, buffer.getvalue())


def save(figure: Any, path: Path) -> None:
    """Write the figure as a PNG of few colours, which is small."""
    buffer, small = io.BytesIO(), io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    Image.open(buffer).convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(small, "PNG", optimize=True)
    write_atomic(path, small.getvalue())


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
