"""`benchmarks.predict`: what it says of programs, and what it measures of them."""

import os
import sys
from pathlib import Path

import pytest

from benchmarks.common.process import run_measured
from benchmarks.predict import agree, fastest_of_each, find_photos, table, targets
from benchmarks.prediction.programs import Program
from hw1.errors import RunError, UserError


def block(images: int, **seconds: float) -> dict[str, object]:
    rows = {name: {"wall_seconds": [value, value + 1], "processor_seconds": [value], "peak_mib": [10.0]} for name, value in seconds.items()}
    return {"images": images, "results": rows, "agreement": dict.fromkeys(rows, 1.0)}


def test_the_faster_of_ours_is_held_against_the_fastest_of_the_others() -> None:
    found = targets([block(1, **{"hw1 a": 2.0, "hw1 b": 1.0, "timm, x": 3.0, "loop": 0.5})])
    assert [(each["measured"], each["met"]) for each in found] == [(0.5, False)]
    assert found[0]["claim"] == "1 images: hw1 b, times as fast as loop"


def test_of_the_others_the_fastest_options_are_kept_for_many_images() -> None:
    names = {"hw1 a": 9.0, "hw1 b": 1.0, "timm, x": 3.0, "timm, y": 2.0, "loop, one": 4.0, "loop, many": 5.0}
    programs = {name: Program(lambda images, out: [], lambda out: {}) for name in names}
    assert list(fastest_of_each(programs, block(100, **names))) == ["hw1 a", "hw1 b", "timm, y", "loop, one"]


def test_agreement_is_of_the_same_files() -> None:
    assert agree({"a": "1", "b": "2"}, {"b": "2", "a": "3"}) == 0.5
    with pytest.raises(RunError, match="1 files were predicted"):
        agree({"a": "1", "b": "2"}, {"a": "1"})


def test_the_table_leaves_out_what_was_not_measured() -> None:
    settings = {"tries": {"1": 3, "100": 2}, "model": "resnet18", "size": 96, "is_trained": True}
    machine = {"started": "2026-11-29T00:00:00+00:00", "load_before": 0.1}
    blocks = [block(1, **{"hw1 a": 1.0, "timm, x": 2.0}), block(100, **{"hw1 a": 3.0})]
    lines = table({"sizes": blocks, "settings": settings, "machine": machine, "hardware": "a processor"}).splitlines()
    assert lines[2:4] == ["| hw1 a | 1.00, 1.00, 10 | 3.00, 3.00, 10 | 100.00% |", "| timm, x | 2.00, 2.00, 10 |  | 100.00% |"]


def test_time_and_memory_of_a_process_with_its_children(tmp_path: Path) -> None:
    child = "import time; data = bytearray(64 * 2**20); time.sleep(0.5)"
    usage = run_measured(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"], tmp_path, os.environ
    )
    assert 64 < usage.peak_mib < 128
    assert usage.wall_seconds >= 0.5
    assert 0 < usage.processor_seconds < usage.wall_seconds
    with pytest.raises(RunError, match="exit code 3: sorry"):
        run_measured([sys.executable, "-c", "import sys; sys.stderr.write('sorry'); sys.exit(3)"], tmp_path, os.environ)


def test_without_photographs_it_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HW1_PHOTOS", str(tmp_path))
    with pytest.raises(UserError, match="must name a folder"):
        find_photos()
