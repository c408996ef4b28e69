"""A tiny recipe and the real commands, for the tests of whole runs."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

import train
import validate
from helpers.paths import ROOT
from hw1.errors import run_command
from hw1.runs.folder import RunFolder

# Everything that must survive an interruption at once: Mixup, EMA, plateau, accumulation over an odd number of batches.
TINY = """
base: {base}
seed: 5
run: {{dir: {runs}}}
data: {{root: {data}, batch_size: 30, num_workers: 0}}
aug: {{size: 32}}
mixup: {{alpha: 0.5, prob: 0.5}}
model: {{name: resnet18_half_cbam, pretrained: false}}
freeze: {{stages: [layer1], bn: eval}}
optim: {{lr: 1e-3, clip_grad: 5.0}}
sched: {{patience: 0}}
train: {{epochs: 2, grad_accum: 2, ema_decay: 0.9, device: cpu, deterministic: true}}
log: {{every_steps: 1}}
"""

TIMES = ("epoch_seconds", "wait_seconds", "seconds")


def write_recipe(folder: Path, data: Path) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(TINY.format(base=ROOT / "recipes" / "base.yaml", runs=folder / "runs", data=data))
    return path


def command(script: str, *arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / script), *map(str, arguments)]


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """What the command does, in this process: torch takes seconds to import. Where processes matter, `command` starts one."""
    main = {"train.py": train.main, "validate.py": validate.main}[script]
    argv = [str(argument) for argument in arguments]
    with contextlib.redirect_stdout(io.StringIO()) as stdout, contextlib.redirect_stderr(io.StringIO()) as stderr:
        code = run_command(main, argv)
    torch.use_deterministic_algorithms(False)
    return subprocess.CompletedProcess(argv, code, stdout.getvalue(), stderr.getvalue())


def newest_state(folder: Path) -> Path:
    """The newest state in a run folder."""
    return RunFolder(folder).state_files()[0]


def rows_without_times(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second", "data_wait")} for row in rows]


def assert_equal(a: object, b: object, *, but: Sequence[str], path: str = "state") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            if key not in but:
                assert_equal(a[key], b[key], but=but, path=f"{path}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), path
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, but=but, path=f"{path}[{i}]")
    else:
        assert a == b, path
