"""The command `hw1`: which commands there are, and where each is told. Imports none of them before it is asked for."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from hw1 import __version__
from hw1.errors import UserError, run_command


class Command(NamedTuple):
    """A command: its module, whose `main(argv, prog)` carries it out, and what it does in one line."""

    module: str
    summary: str


COMMANDS = {
    "train": Command("hw1.commands.train", "train the model that a recipe describes, or continue an interrupted run"),
    "validate": Command("hw1.commands.validate", "evaluate a run on labelled images, or predict unlabelled ones"),
    "predict": Command("hw1.predict.__main__", "class names and probabilities of any images"),
    "ablate": Command("hw1.ablate.__main__", "train several recipes over several seeds, here or on a Ray cluster"),
    "sweep": Command("hw1.sweep.__main__", "search values of a recipe's keys, and test the winner on new seeds"),
    "folds": Command("hw1.folds.__main__", "cross-validate a recipe: k runs that predict each image once, unseen"),
    "report": Command("hw1.report.__main__", "compare any runs: curves, tests and tables in one HTML page"),
    "audit": Command("hw1.audit.__main__", "find what is wrong with a folder of images before training on it"),
    "export": Command("hw1.export.__main__", "write a run as timm's folder, model card and ONNX"),
    "attention": Command("hw1.attention.__main__", "draw what a run looks at in images"),
    "demo": Command("hw1.commands.demo", "a page in the browser that classifies the images dropped on it"),
    "show-augmentation": Command("hw1.commands.show_augmentation", "draw what each step of a recipe's augmentation does"),
    "schema": Command("hw1.commands.schema", "print the JSON Schema of recipes, for editors"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out `hw1 COMMAND ...`, or say what commands there are.

    Args:
        argv: The command line after `hw1`; None takes the process' own.

    Returns:
        The exit code.
    """
    return run_command(dispatch, sys.argv[1:] if argv is None else argv)


def dispatch(argv: Sequence[str]) -> int | None:
    """Import the command that is asked for, and carry it out.

    Raises:
        UserError: There is no such command.
    """
    name, *arguments = argv or [""]
    if name in ("-h", "--help"):
        print(usage())
    elif name == "--version":
        print(f"hw1 {__version__}")
    elif name in COMMANDS:
        code: int | None = import_module(COMMANDS[name].module).main(arguments, prog=f"hw1 {name}")
        return code
    else:
        raise UserError(unknown_command(name))
    return None


def usage() -> str:
    """Return the help: every command in one line."""
    lines = [f"  {name:<{max(map(len, COMMANDS))}}  {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: hw1 COMMAND ...",
            "       hw1 COMMAND --help | --help | --version",
            "",
            "Train, evaluate and compare image classifiers; one YAML recipe is one experiment.",
            "",
            "commands:",
            *lines,
        ]
    )


def unknown_command(name: str) -> str:
    """Return what is said of a word that is no command."""
    from difflib import get_close_matches

    if not name:
        return "hw1: which command? hw1 --help lists them"
    [nearest] = get_close_matches(name, COMMANDS, n=1, cutoff=0.0)
    return f"hw1: no command {name!r}; nearest: {nearest}; hw1 --help lists them"
