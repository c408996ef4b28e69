"""The workflows and the hooks name commands that are there; what runs them is not at hand."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.paths import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_the_project_has(path: Path) -> None:
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for job in read(path)["jobs"].values():
        [command] = [step["run"] for step in job["steps"] if "run" in step]
        assert command in {"bash .ci/run", *(f"make {target}" for target in targets)}
        assert all(re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]) for step in job["steps"] if "uses" in step)


def test_the_tests_run_with_the_pythons_that_the_readme_names() -> None:
    tests = read(ROOT / ".github/workflows/test.yml")
    pythons = tests["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert f"Python {' or '.join(pythons)}" in (ROOT / "README.md").read_text()
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"] == f">={pythons[0]}"
    assert True in tests  # YAML 1.1 reads the key `on` so


def test_the_torture_runs_every_night() -> None:
    torture = read(ROOT / ".github/workflows/torture.yml")
    [when] = torture[True]["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* \*", when["cron"])
    assert [step["run"] for step in torture["jobs"]["torture"]["steps"] if "run" in step] == ["make torture"]


def test_the_hooks_are_the_checks_of_make_test() -> None:
    hooks = [hook for repo in read(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    lint = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "ruff check ." in line and "mypy" in line)
    of_make = {shlex.split(part)[0].replace("$(BIN)", ".venv/bin") for part in lint.split("&&")}
    assert of_make <= {shlex.split(hook["entry"])[0] for hook in hooks}
    assert all(hook["language"] == "system" for hook in hooks)
