"""The benchmark of what hw1 replaces of torch on a CPU: every way runs, and the table is that of the file."""

import json
from pathlib import Path

import pytest

from benchmarks import cpu_kernels
from hw1.errors import run_command


def test_every_way_is_timed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("DEPTHWISE", ("convnext_atto",)),
        ("EVALUATED", ("resnet18_cbam",)),
        ("EVAL_BATCHES", (1,)),
        ("DROPOUT_BATCHES", (2,)),
    ):
        monkeypatch.setattr(cpu_kernels, name, value)
    for name, value in (("STEP_SIZE", 32), ("STEP_BATCH", 2), ("EVAL_SIZE", 32)):
        monkeypatch.setattr(cpu_kernels, name, value)
    out = tmp_path / "kernels.json"
    assert run_command(cpu_kernels.main, ["--tries", "1", "--out", str(out)]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["complete"]
    assert [row["what"].partition(",")[0] for row in result["results"]] == ["training step", "evaluation", "evaluation", "AdamW", "dropout"]
    assert all(row["torch"] > 0 and row["hw1"] > 0 for row in result["results"])
    assert run_command(cpu_kernels.main, ["--markdown", str(out)]) == 0
    assert capsys.readouterr().out.strip() == printed.rpartition("\n\n")[0]
