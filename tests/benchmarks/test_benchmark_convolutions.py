"""The benchmark behind the rules of hw1/models/conv_matmul.py, on two small shapes."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks import convolutions
from hw1.errors import run_command
from hw1.models import conv_matmul as products


def test_all_ways_are_timed_and_what_the_rules_choose_is_bold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    real = products._ConvMatmul.apply
    monkeypatch.setattr(products._ConvMatmul, "apply", lambda *args: used.append((args[0].shape, args[3].output)) or real(*args))
    monkeypatch.setattr(convolutions, "SHAPES", ((3, 8, 6, 2, 1, 4), (1, 8, 6, 9, 2, 4)))
    out = tmp_path / "convolutions.json"
    threads = torch.get_num_threads()
    try:
        assert run_command(convolutions.main, ["--calls", "1", "--threads", "1", "--out", str(out)]) == 0, capsys.readouterr().err
    finally:
        torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["complete"]
    assert set(used) == {((4, 8, 2, 2), "taps"), ((4, 8, 2, 2), "patches")}  # torch's own does not go this way; 1 x 1 are one call
    assert [(row["precision"], list(row["chosen"].values())) for row in result["results"]] == [
        ("float32", ["conv", "conv", "patches"]),
        ("float32", ["conv", "conv", "patches"]),
        ("bfloat16", ["conv", "conv", "patches"]),
        ("bfloat16", ["conv", "conv", "conv"]),
    ]
    for row in result["results"]:
        assert set(row["milliseconds"]) == {"conv", "taps", "patches"}
        assert all(set(parts) == {"output", "dx", "dw"} for parts in row["milliseconds"].values())
        assert all(value >= 0 for parts in row["milliseconds"].values() for value in parts.values())
    assert [line.count("**") for line in printed.splitlines() if line.startswith("| 1")] == [6, 6, 6, 6]
    assert run_command(convolutions.main, ["--markdown", str(out)]) == 0
    assert capsys.readouterr().out.strip() == printed.rpartition("\n\n")[0]
