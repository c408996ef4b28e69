"""Mistakes of the command: one line each, exit code 2, nothing written."""

import fnmatch
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from helpers.report_runs import ROOT, write_run

from hw1.errors import run_command
from hw1.report.__main__ import main


def test_mistakes_are_answered_before_anything_is_written(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    run = write_run(tmp_path / "runs", "plain", 0, finished=False)
    write_run(tmp_path / "unbegun", "plain", 0, epochs=1)
    for name in ("summary.json", "metrics.jsonl"):
        (tmp_path / "unbegun/plain/seed0" / name).unlink()
    (tmp_path / "file").write_text("")
    out = tmp_path / "out"
    for runs, target, message in [
        (tmp_path / "none", out, "none: no such folder"),
        (tmp_path / "empty", out, "empty: no run in it"),
        (tmp_path / "unbegun", out, "unbegun: no run with an epoch that can be read"),
        (tmp_path / "file", out, "file: not a folder"),
        (tmp_path / "runs", tmp_path / "runs/report", "which is only read; choose a folder elsewhere"),
        (tmp_path / "runs", tmp_path / "runs", "which is only read; choose a folder elsewhere"),
        (run, run / "report", "which is only read; choose a folder elsewhere"),
    ]:
        assert run_command(main, [str(runs), "--out", str(target)]) == 2
        captured = capsys.readouterr()
        assert message in captured.err.splitlines()[-1]
        assert captured.out == ""
        assert not out.exists()
    assert not (tmp_path / "runs/report").exists()


def test_wandb_without_a_finished_run_is_refused_before_anything_is_written(tmp_path, capsys):
    write_run(tmp_path / "runs", "plain", 0, finished=False)
    assert run_command(main, [str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--wandb", "offline"]) == 2
    assert capsys.readouterr().err == "--wandb: no run is finished, so that there is no recipe to log by\n"
    assert not (tmp_path / "out").exists()


def test_an_unfinished_run_alone_is_named_and_drawn(tmp_path, capsys):
    write_run(tmp_path / "runs", "plain", 0, finished=False)
    assert run_command(main, [str(tmp_path / "runs"), "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert "plain/seed0: unfinished: 3 of 4 epochs; interrupted or still running" in captured.err
    assert "0 finished runs, 1 left out, 1 variant; " in captured.out
    assert (tmp_path / "out/curves_val_loss.png").is_file()


def test_the_report_is_written_to_the_working_folder_unless_that_is_a_run(folder, capsys):
    write_run(folder / "runs", "mine", 0)
    for argument in ("runs/mine/seed0", "."):
        assert run_command(main, [argument]) == 0
        (folder / "report/report.html").unlink()
    assert not list(folder.glob("runs/**/report"))


def test_a_baseline_that_is_not_there_is_answered_with_the_nearest(tmp_path, capsys):
    for name in ("first", "second"):
        write_run(tmp_path / "runs", name, 0)
    write_run(tmp_path / "runs", "third", 0, finished=False)
    for name, message in [
        ("frist", "--baseline frist: no such variant; nearest: first"),
        ("xyz", "--baseline xyz: no such variant; there are first, second, third"),
        ("third", "--baseline third: no run of it is finished"),
    ]:
        assert run_command(main, [str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--baseline", name]) == 2
        assert capsys.readouterr().err.splitlines()[-1] == message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [[], ["runs", "--out", "o", "--wandb", "maybe"]])
def test_wrong_arguments_exit_with_2_and_the_usage(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "hw1.report", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert "usage: python -m hw1.report" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_report_that_cannot_be_written_is_named(tmp_path: Path, capsys):
    write_run(tmp_path / "runs", "mine", 0)
    (tmp_path / "file").write_text("kept")
    assert run_command(main, [str(tmp_path / "runs"), "--out", str(tmp_path / "file")]) == 2
    assert "file: cannot be made" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("package", ["html", "report", "audit", "evaluation.report"])
def test_what_a_page_is_made_of_is_installed_with_the_package(package):
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][f"hw1.{package}"]
    others = [path.name for path in (ROOT / "hw1" / package.replace(".", "/")).iterdir() if path.is_file() and path.suffix != ".py"]
    assert others
    assert all(any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns) for name in others)
