"""The benchmark behind the rules of hw1/models/conv_matmul.py, on two small shapes."""

import json
from pathlib import Path

import pytest

from benchmarks import convolutions
from hw1.errors import run_command
from hw1.models import conv_matmul as products


def test_both_ways_are_timed_and_what_the_rules_choose_is_bold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    used = []
    real = products._ConvMatmul.apply
    monkeypatch.setattr(products._ConvMatmul, "apply", lambda *args: used.append(args[0].shape) or real(*args))
    monkeypatch.setattr(convolutions, "SHAPES", ((3, 8, 6, 2, 4), (1, 8, 6, 9, 4)))
    out = tmp_path / "convolutions.json"
    assert run_command(convolutions.main, ["--calls", "1", "--out", str(out)]) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result["complete"]
    assert set(used) == {(4, 8, 2, 2)}  # torch's own does not go this way; 1 x 1 are one call
    assert [(row["precision"], row["chosen"]) for row in result["results"]] == [
        ("float32", []),
        ("float32", ["dw"]),
        ("bfloat16", []),
        ("bfloat16", []),
    ]
    for row in result["results"]:
        assert set(row["milliseconds"]) == {"torch", "products"}
        assert all(set(parts) == {"output", "dx", "dw"} for parts in row["milliseconds"].values())
        assert all(value >= 0 for parts in row["milliseconds"].values() for value in parts.values())
    assert ["**" in line for line in printed.splitlines() if line.startswith(("| f", "| b"))] == [False, True, False, False]
    assert run_command(convolutions.main, ["--markdown", str(out)]) == 0
    assert capsys.readouterr().out.strip() == printed.rpartition("\n\n")[0]
