"""`benchmarks.many_files` on a few files, and the growth that it says."""

import json
from pathlib import Path

import pytest

from benchmarks.many_files import growth, main
from hw1.errors import run_command


@pytest.mark.slow
def test_sizes_are_measured_once_and_further_ones_are_added(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HW1_PHOTOS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("benchmarks.many_files.NUM_CLASSES", 4)
    out = tmp_path / "files.json"
    assert run_command(main, ["--sizes", "40", "--audit", "40", "--out", str(out)]) == 0, capsys.readouterr().err
    [first] = json.loads(out.read_text())["results"]
    assert run_command(main, ["--sizes", "40", "60", "--audit", "40", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    rows = json.loads(out.read_text())["results"]
    assert rows[0] == first
    assert [row["files"] for row in rows] == [40, 60]
    assert ["audit" in row for row in rows] == [True, False]
    for row in rows:
        assert set(row["first"]["seconds"]) == {"list", "check", "digests"}
        assert row["held_bytes"] > 0
    assert printed.count("| growth |") == 1  # of one size there is none
    assert run_command(main, ["--markdown", str(out)]) == 0
    assert capsys.readouterr().out.strip() == printed.rpartition("\n\n")[0].rpartition("files.json\n")[2].strip()


def test_growth_is_the_time_of_a_file_at_the_largest_size_over_that_at_ten_thousand() -> None:
    rows = [{"files": 1000, "seconds": 9.0}, {"files": 10_000, "seconds": 10.0}, {"files": 40_000, "seconds": 60.0}]
    assert growth(rows, lambda row: row["seconds"]) == pytest.approx(1.5)
    assert growth(rows[:1], lambda row: row["seconds"]) == 1
