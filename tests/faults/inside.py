"""What no process shows from outside: that files are synced before they are renamed, that no step waits for the device, and the like."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from helpers.paths import ROOT

from faults.tally import Tally, expect

MODULES = (
    "utils/test_files", "training/test_numbered_states", "training/test_save_background", "training/test_save_after_error",
    "training/test_nonfinite", "data/loader/test_sampler", "data/loader/test_shared_buffer", "utils/test_safe_load",
)  # fmt: skip


def looked_into(tally: Tally, folder: Path, n: int) -> None:
    """The tests of these modules, once for all `n`; each counts as an attempt."""
    report = folder / "report.xml"
    tests = [str(ROOT / "tests" / f"{name}.py") for name in MODULES[:n]]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={folder}/tmp", f"--junitxml={report}", *tests]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    expect(report.is_file(), result.stdout + result.stderr)
    for case in ElementTree.parse(report).iter("testcase"):
        if (skipped := case.find("skipped")) is not None:
            tally.skipped.append(str(skipped.get("message")))
            continue
        with tally.attempt(f"{case.get('classname')}.{case.get('name')}"):
            failures = [element.get("message") or "" for element in case if element.tag in ("failure", "error")]
            expect(not failures, "; ".join(failures))
