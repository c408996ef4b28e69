"""How the user starts this program again, for the commands that it prints: they must work as typed, where the user stands."""

import os
import shlex
import shutil
import site
import sys
import sysconfig
from pathlib import Path

PACKAGE_PARENT = os.path.realpath(Path(__file__).parents[2])


def hw1_command() -> str:
    """Return what a printed command begins with, quoted for a shell.

    `hw1` if that is on the PATH and belongs to the running Python; else this Python, by the shortest name that starts it here, with
    `-m hw1`. In a checkout whose environment is not activated that is `.venv/bin/python -m hw1`.
    """
    python = os.path.abspath(sys.executable or "python")
    folder = os.path.dirname(python)
    if _is_on_path("hw1", folder):
        return "hw1"
    relative = os.path.relpath(python)
    named = [name for name in ("python", "python3") if _is_on_path(name, folder)]
    shown = named[0] if named else python if relative.startswith(os.pardir) else relative
    prefix = "" if _is_importable(folder) else f"PYTHONPATH={shlex.quote(PACKAGE_PARENT)} "
    return f"{prefix}{shlex.quote(shown)} -m hw1"


def _is_on_path(name: str, folder: str) -> bool:
    """Return whether a shell finds this name in `folder`. Links to the folder count, those to the program do not: a venv's are such."""
    found = shutil.which(name)
    return found is not None and os.path.realpath(os.path.dirname(os.path.abspath(found))) == os.path.realpath(folder)


def _is_importable(folder: str) -> bool:
    """Return whether another process in the working folder finds this package.

    It is in that folder, in PYTHONPATH or among the installed packages; or its command is beside the interpreter, as after `pip install
    --editable`.
    """
    variable = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    places = [os.getcwd(), *filter(None, variable), sysconfig.get_path("purelib"), site.getusersitepackages()]
    return PACKAGE_PARENT in map(os.path.realpath, places) or os.path.exists(os.path.join(folder, "hw1"))
