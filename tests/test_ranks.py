"""Several real processes: together they compute what one does, and agree on everything."""

from pathlib import Path

from faults.processes import call_ranks


def test_three_processes_compute_what_one_does(tmp_path: Path) -> None:
    call_ranks(3, tmp_path, "rank_checks.main", str(tmp_path))
    said = [(tmp_path / f"rank{rank}.txt").read_text() for rank in range(3)]
    assert said[0].count("hello of rank 0\n") == 1
    assert said[1:] == ["", ""]
