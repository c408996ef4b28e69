"""The benchmark of several processes: real trainings in a tiny form, and its arithmetic."""

import json
from pathlib import Path

import pytest

from benchmarks import scaling
from hw1.errors import run_command


def test_ratios_are_of_medians() -> None:
    one, two = scaling.compare({1: [10.0, 30.0, 20.0], 2: [50.0, 30.0]})
    assert (one["median"], one["ratio"]) == (20.0, 1.0)
    assert (two["median"], two["ratio"]) == (40.0, 2.0)


def test_processes_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / "scaling.json"
    tiny = {"model": "resnet18_half_cbam", "size": 32, "batch": 25, "per-class": 1, "epochs": 2, "rounds": 1, "processes": 2, "out": out}
    words = [word for name, value in tiny.items() for word in (f"--{name}", str(value))]
    assert run_command(scaling.main, words) == 0, capsys.readouterr().err
    result = json.loads(out.read_text())
    assert result["complete"]
    assert [row["processes"] for row in result["results"]] == [2]
    assert all(len(row["images_per_second"]) == 1 and row["median"] > 0 for row in result["results"])
    printed = capsys.readouterr().out
    assert run_command(scaling.main, ["--markdown", str(out)]) == 0
    assert capsys.readouterr().out.strip() in printed


def test_a_training_that_fails_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(scaling.main, ["--processes", "1", "--model", "resnet18_cbm", "--out", str(tmp_path / "s.json")]) == 3
    assert "timm has no model 'resnet18_cbm'" in capsys.readouterr().err
