"""Accuracy for minutes beside other programs: what is asked, and that a run of hours can be continued."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.accuracy import peers
from hw1.errors import RunError, UserError


def run(program: str, seed: int, top1: float, minutes: float) -> dict[str, Any]:
    return {"program": program, "seed": seed, "top1": top1, "minutes": minutes, "processor_minutes": 2 * minutes}


def test_ours_is_compared_with_the_better_peer() -> None:
    runs = [run("fastai", 0, 0.80, 8), run("timm", 0, 0.85, 10), run("ours, half", 0, 0.86, 5), run("ours, equal", 0, 0.86, 10.5)]
    found = [(item["what"], round(item["value"], 6), item["met"]) for item in peers.checks(runs)]
    assert found == [
        ("ours, half: top-1 minus timm's", 0.01, True),
        ("ours, half: minutes over timm's", 0.5, True),
        ("ours, half: processor minutes over timm's", 0.5, True),
        ("ours, equal: top-1 minus timm's", 0.01, False),
        ("ours, equal: minutes over timm's", 1.05, False),
        ("ours, equal: processor minutes over timm's", 1.05, False),
    ]
    assert peers.checks(runs[2:]) == []


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for name in ("ant", "bee"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            (tmp_path / "photos" / split / name / "1.jpg").touch()
    (tmp_path / "w.safetensors").touch()
    return tmp_path / "photos"


def test_a_stopped_benchmark_goes_on(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    calls: list[tuple[int, int]] = []

    def ours(args: Any, seed: int, folder: Path, epochs: int) -> dict[str, Any]:
        calls.append((seed, epochs))
        if len(calls) in (3, 4):  # twice in a row: nothing new was finished in between
            raise RunError("power cut")
        return {"top1": 0.5}

    monkeypatch.setattr(peers, "ours", ours)
    monkeypatch.setattr(peers, "find_spec", lambda name: None)
    argv = [str(photos), "--weights", str(tmp_path / "w.safetensors"), "--seeds", "0", "1", "--out", str(tmp_path / "r.json")]
    for _ in range(2):
        with pytest.raises(RunError):
            peers.main(argv)
        assert len(json.loads((tmp_path / "r.json").read_text())["runs"]) == 2
    peers.main(argv)
    assert calls == [(0, 3), (0, 7), (1, 3), (1, 3), (1, 3), (1, 7)]
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["complete"]
    assert result["settings"]["num_val"] == 2
    interval = "0.095-0.905"  # Wilson's, of 1 of 2
    assert f"| ours, half | 3 | 0.0 | 0.0 | 0.5000, 0.5000 | 0.5000 | {interval} |" in capsys.readouterr().out
    with pytest.raises(UserError, match="--weights are needed"):
        peers.main([str(photos)])
