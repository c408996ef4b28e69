"""hw1 sweep on a Ray cluster of this machine: trials side by side, each epoch trained once."""

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from helpers.sweep_runs import accuracy, epochs_trained, make_sweep_project

pytest.importorskip("optuna", reason="Optuna is not installed: pip install -r requirements-sweep.txt")
pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")


@pytest.mark.slow
def test_trials_run_side_by_side_and_every_one_is_recorded(tmp_path, monkeypatch):
    make_sweep_project(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    Path("slow").write_text("0.3")
    Path("space.yaml").write_text("optim.lr: [1e-3, 9e-4, 1.1e-3, 8e-4, 1.2e-3, 1e-5, 2e-5, 3e-5]\n")
    folder = tempfile.mkdtemp(prefix="ray-")  # with a short name: sockets are in it
    settings = {"RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0", "HW1_CORES": "2"}
    env = os.environ | settings | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "project"), *sys.path])}
    command = [
        sys.executable,
        "-m",
        "hw1.sweep",
        "tiny.yaml",
        "space.yaml",
        "--trials",
        "8",
        "--seeds",
        "0",
        "--ray",
        "--cpus-per-run",
        "1",
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr
    assert "2 at once, each with 1 core" in done.stderr
    rows = list(csv.DictReader(Path("runs/tiny-sweep/trials.csv").read_text().splitlines()))
    assert len(rows) == 8
    assert {row["state"] for row in rows} <= {"finished", "pruned"}
    for row in rows:
        scores = [accuracy(float(row["optim.lr"]), epoch / 4, seed=0) for epoch in range(1, int(row["epochs"]) + 1)]
        assert float(row["val_top1"]) == pytest.approx(max(scores), abs=0.0026)
    epochs = [tuple(each) for each in epochs_trained()]
    assert len(set(epochs)) == len(epochs) == sum(int(row["epochs"]) for row in rows)
