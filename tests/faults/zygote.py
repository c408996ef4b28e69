"""A process that has imported everything and forks a training whenever it is told to: torch's import costs seconds, a fork none.

It reads orders from stdin, one JSON object a line, and answers each with one number: `{"script": ..., "argv": ..., "out": ..., "env": ...,
"hooks": ...}` with the new process's id, `{"poll": pid}` with its exit code, minus the signal that killed it, or null while it runs. With
`"call": "module.function"` it calls that function of the tests with `argv` in place of the script.
"""

import ctypes
import importlib
import json
import os
import signal
import sys
from typing import Any

from faults import hooks
from hw1.ablate.child_process import PR_SET_PDEATHSIG


def main() -> int:
    import cv2  # noqa: F401 - so that the children have it
    import timm  # noqa: F401

    import hw1.training.trainer  # noqa: F401

    for name in sys.argv[1:]:
        importlib.import_module(name)
    while line := sys.stdin.readline():
        order = json.loads(line)
        if "poll" in order:
            pid, status = os.waitpid(order["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif not (answer := os.fork()):
            return _run(order)
        print(json.dumps(answer), flush=True)
    return 0


def _run(order: dict[str, Any]) -> int:
    """What `python SCRIPT.py ARGUMENTS` does, in a process group of its own."""
    os.setsid()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nothing stays when the tests are ended
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null, out = os.open(os.devnull, os.O_RDONLY), os.open(order["out"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for target, source in ((0, null), (1, out), (2, out)):
        os.dup2(source, target)
    os.environ.update(order["env"])
    from hw1.errors import run_command

    for name, arguments in order["hooks"].items():
        getattr(hooks, name)(*arguments)
    if call := order.get("call"):
        module, _, function = call.rpartition(".")
        getattr(importlib.import_module(module), function)(*order["argv"])
        return 0
    return run_command(importlib.import_module(order["script"]).main, order["argv"])


if __name__ == "__main__":
    sys.exit(main())
