"""Changes to what a run has saved that no run makes: states whose checksum is right, and rows of metrics."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from helpers.train_commands import newest_state
from hw1.runs.checkpoint import load_state, save_state


def change_state(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Changes the newest state of a run folder and saves it with a checksum of its own."""
    path = newest_state(folder)
    state = load_state(path)
    del state["format"]
    change(state)
    save_state(path, state)


MALFORMED: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no progress": lambda state: state.pop("progress"),
    "progress of a later version": lambda state: state["progress"].update(mood=3),
    "an epoch in the far future": lambda state: state["progress"].update(epoch=10**9),
    "an epoch that is no number": lambda state: state["progress"].update(epoch="2"),
    "a weight of another shape": lambda state: state["model"].update({"fc.weight": torch.zeros(7, 7)}),
    "a weight of another type": lambda state: state["model"].update({"fc.weight": state["model"]["fc.weight"].half()}),
    "a weight missing": lambda state: state["model"].pop("fc.bias"),
    "a moment of another shape": lambda state: state["optimizer"]["state"][0].update(exp_avg=torch.zeros(2)),
    "a moment of another type": lambda state: state["optimizer"]["state"][3].update(
        exp_avg_sq=state["optimizer"]["state"][3]["exp_avg_sq"].double()
    ),
    "moments of a parameter too many": lambda state: state["optimizer"]["state"].update({999: {}}),
    "fewer groups": lambda state: state["optimizer"].update(param_groups=[]),
    "a rate that is text": lambda state: state["optimizer"]["param_groups"][0].update(lr="high"),
    "no averages": lambda state: state.update(ema=None),
    "sums of another length": lambda state: state.update(sums=torch.zeros(9, dtype=torch.float64)),
    "another schedule": lambda state: state.update(schedule={}),
}

METRICS: dict[str, Callable[[list[str]], list[str]]] = {
    "a row missing": lambda rows: rows[1:],
    "the last row missing": lambda rows: rows[:1],
    "a row twice": lambda rows: [rows[0], *rows],
    "empty": lambda rows: [],
    "other keys": lambda rows: [re.sub("val_top1", "accuracy", row) for row in rows],
    "text for a number": lambda rows: [re.sub(r'"val_loss": [\d.]+', '"val_loss": "low"', row) for row in rows],
}
