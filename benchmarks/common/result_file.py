"""A result file that grows: everything measured is on disk at once, whatever happens next."""

import json
from pathlib import Path
from typing import Any

from benchmarks.common.machine import describe_machine, hardware_name, result_path
from hw1.errors import UserError
from hw1.runs.environment import git_state
from hw1.utils.files import write_atomic


class ResultFile:
    """`content` is the JSON file's; `save` writes it, whole or not at all."""

    def __init__(
        self, benchmark: str, device: dict[str, Any], settings: dict[str, Any], out: Path | None, results: dict[str, Any] | None = None
    ) -> None:
        """Make the file, with the `results` of an earlier try that goes on."""
        machine = describe_machine(device)
        self.path = out or result_path(benchmark, machine)
        self.content: dict[str, Any] = {
            "benchmark": benchmark,
            "hardware": hardware_name(machine),
            "machine": machine,
            "settings": settings,
            "complete": False,
            **(results or {}),
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.save()  # what cannot be written is known before anything is measured

    def save(self) -> None:
        write_atomic(self.path, (json.dumps(self.content, indent=1) + "\n").encode())

    def finish(self) -> None:
        self.content["complete"] = True
        self.save()


def read_result(path: Path) -> dict[str, Any]:
    """Raises UserError for what is no JSON file."""
    try:
        result: dict[str, Any] = json.loads(path.read_bytes())
        return result
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except ValueError:
        raise UserError(f"{path}: no JSON") from None


def earlier_results(out: Path | None, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what an earlier try with the same code and settings left in its result file, to go on with; empty where it did not."""
    earlier = read_result(out) if out and out.is_file() else {}
    is_same = earlier.get("settings") == json.loads(json.dumps(settings)) and earlier["machine"]["git"] == git_state()
    return earlier if is_same else {}
