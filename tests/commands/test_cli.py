"""The command `hw1`: what it lists, hands on and refuses."""

import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from helpers.paths import ROOT

from hw1 import __version__
from hw1.cli import COMMANDS, Command, main


def test_the_help_lists_every_command_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == main(["-h"]) == 0
    text = capsys.readouterr().out
    assert re.findall(r"^  ([\w-]+)  +\S", text, re.MULTILINE) == [*COMMANDS] * 2
    commands = "train validate predict ablate sweep folds report audit export attention demo show-augmentation schema"
    assert set(COMMANDS) == set(commands.split())
    assert all(len(line) <= 100 for line in text.splitlines())


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"hw1 {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_help_is_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: hw1 {name} [-h]")


@pytest.mark.parametrize("name", [name for name in COMMANDS if (ROOT / "hw1" / name).is_dir()])
def test_the_package_of_a_command_is_called_by_its_own_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        import_module(f"hw1.{name}.__main__").main(["--help"])
    assert capsys.readouterr().out.startswith(f"usage: python -m hw1.{name} [-h]")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "hw1: which command? hw1 --help lists them\n"),
        (["trian", "debug"], "hw1: no command 'trian'; nearest: train; hw1 --help lists them\n"),
        (["exprot"], "hw1: no command 'exprot'; nearest: export; hw1 --help lists them\n"),
        (["recipes/debug.yaml"], None),
        (["--verbose"], None),
        (["\n\udcff"], None),
    ],
)
def test_what_is_no_command_is_one_line_with_the_nearest(
    arguments: list[str], message: str | None, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err == message if message else re.fullmatch(r"hw1: no command .*; nearest: \w+; hw1 --help lists them\n", err)


def test_a_command_gets_its_arguments_and_its_exit_code_is_the_commands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "odd_command.py").write_text("def main(argv, prog):\n    print(argv, prog)\n    return len(argv)\n")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setitem(COMMANDS, "odd", Command("odd_command", ""))
    assert [main(["odd", *arguments]) for arguments in ([], ["--help"], ["odd", "-x"])] == [0, 1, 2]
    assert capsys.readouterr().out.splitlines() == ["[] hw1 odd", "['--help'] hw1 odd", "['odd', '-x'] hw1 odd"]


def test_the_module_and_the_script_of_the_checkout_are_the_same_command() -> None:
    def run(*command: str) -> tuple[int, str, str]:
        done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120)
        return done.returncode, done.stdout, done.stderr

    wrong = run("-m", "hw1", "train", "recipes/debug.yaml", "trian.epochs=2")
    assert wrong == (2, "", "command line: trian.epochs: unknown key; nearest: train.epochs\n")
    assert run("train.py", "recipes/debug.yaml", "trian.epochs=2") == wrong
    config = run("-m", "hw1", "train", "debug", "--print-config")
    assert config == run("train.py", "recipes/debug.yaml", "--print-config")
    assert (config[0], config[2]) == (0, "")
