"""Python's collector of circular garbage: rare while a command starts, as usual once it works."""

import json
import subprocess
import sys

import pytest
from helpers.paths import ROOT

CODE = """
import gc, json, sys
usual = gc.get_threshold()
found = {}
from hw1.errors import collect_as_usual, run_command
def main(argv):
    found["start"] = gc.get_threshold()[0] / usual[0]
    collect_as_usual()
    found["work"] = gc.get_threshold() == usual
    found["passed over"] = gc.get_freeze_count() > 1000
    gc.unfreeze()
    collect_as_usual()
    found["again"] = gc.get_freeze_count()
    sys.modules.update(dict.fromkeys(argv))
run_command(main, sys.argv[1:])
class Kept:
    def __del__(self):
        print("collected", flush=True)
kept = Kept()
kept.itself = kept
del kept
print(json.dumps(found), flush=True)
"""


@pytest.mark.parametrize(("loaded", "collects"), [([], False), (["triton"], True)])
def test_a_command_collects_rarely_until_it_works_and_not_at_the_exit_unless_a_library_would_complain(loaded, collects):
    done = subprocess.run([sys.executable, "-c", CODE, *loaded], capture_output=True, text=True, cwd=ROOT, check=False)
    found, *rest = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    found = json.loads(found)
    assert found["work"]
    assert found["passed over"]
    assert found["again"] == 0  # in a notebook, each training would keep the garbage of the one before
    assert found["start"] > 10
    assert rest == ["collected"] * collects
