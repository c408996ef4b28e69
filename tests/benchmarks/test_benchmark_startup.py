"""The benchmark of how soon commands answer: every command once, and one that does not answer as it should."""

import json
from pathlib import Path

import pytest

from benchmarks import startup
from hw1.errors import RunError, run_command


def test_every_command_is_measured_and_gives_the_answer_it_is_measured_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "startup.json"
    assert run_command(startup.main, ["--tries", "1", "--out", str(out)]) == 0, capsys.readouterr().err
    result = json.loads(out.read_text())
    assert result["complete"]
    assert {name: len(row["seconds"]) for name, row in result["results"].items()} == dict.fromkeys(startup.COMMANDS, 1)
    assert all(row["least"] > 0 for row in result["results"].values())
    printed = capsys.readouterr().out
    assert run_command(startup.main, ["--markdown", str(out)]) == 0
    assert capsys.readouterr().out.strip() in printed


def test_another_exit_code_is_no_measurement() -> None:
    with pytest.raises(RunError, match=r"exit code 2, not 0: .*trian"):
        startup.measure(["-m", "hw1", "trian"], 0)


def test_processor_and_wall_time_are_measured() -> None:
    asleep = startup.measure(["-c", "import time; time.sleep(1)"], 0)
    busy = startup.measure(["-c", "import time\nwhile time.process_time() < 1: pass"], 0)
    assert asleep.processor < 0.9 < busy.processor  # the system counts in ticks
    assert min(asleep.wall, busy.wall) >= 1
