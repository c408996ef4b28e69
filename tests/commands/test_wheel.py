"""hw1 as it is installed: a wheel in a folder of its own, and commands far from any checkout."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.paths import ROOT

from hw1.config.shipped import find_recipe, shipped_recipes

pytestmark = pytest.mark.slow
Command = Callable[..., "subprocess.CompletedProcess[str]"]
NEEDED = ("hw1", "recipes", "pyproject.toml", "setup.py", "README.md", "LICENSE", *(path.name for path in ROOT.glob("requirements*.txt")))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed, without its dependencies, from a copy of the checkout that is gone by then."""
    copy, site = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("site")
    for name in NEEDED:
        path = ROOT / name
        shutil.copytree(path, copy / name, ignore=shutil.ignore_patterns("__pycache__")) if path.is_dir() else shutil.copy(path, copy)
    options = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation", "--target", str(site)]
    done = subprocess.run([sys.executable, "-m", "pip", "install", *options, str(copy)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.rmtree(copy)
    return site


@pytest.fixture
def hw1(site: Path, folder: Path) -> Command:
    """The installed command, in an empty folder."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
        return subprocess.run([site / "bin" / "hw1", *arguments], cwd=folder, env=env, capture_output=True, text=True, timeout=500)

    return run


def test_the_wheel_holds_all_files_of_the_package_and_the_recipes(site: Path) -> None:
    def files(folder: Path) -> set[str]:
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}

    assert files(site / "hw1") == files(ROOT / "hw1") | {f"recipes/{file}" for file in files(ROOT / "recipes")}
    assert {path.name.partition("-")[0] for path in site.iterdir()} == {"hw1", "bin"}


@pytest.mark.parametrize("recipe", ["debug", "recipes/debug.yaml", "plain", "recipes/ablations/plain.yaml"])
def test_a_shipped_recipe_is_found_by_name_and_by_path(hw1: Command, site: Path, recipe: str) -> None:
    done = hw1("train", recipe, "--print-config")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"name: {Path(recipe).stem}\n" in done.stdout


def test_a_message_names_the_installed_file(hw1: Command, site: Path) -> None:
    done = hw1("train", "resnet50")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{site}/hw1/recipes/base.yaml: data.root: not set; ")


def test_a_file_of_the_users_comes_first_and_one_that_is_missed_is_not_replaced(hw1: Command, folder: Path) -> None:
    (folder / "recipes").mkdir()
    (folder / "recipes" / "debug.yaml").write_text("seed: 7\n")
    assert hw1("train", "recipes/debug.yaml", "--print-config").stdout.startswith("seed: 7\n")
    for recipe, message in (
        ("debug.yaml", "debug.yaml: no such recipe"),
        ("debgu", "debgu: no such recipe; nearest: debug"),
        ("recipes/debgu.yaml", "recipes/debgu.yaml: no such recipe; nearest: recipes/debug.yaml"),
        ("elsewhere/debug.yaml", "elsewhere/debug.yaml: no such recipe"),
    ):
        done = hw1("train", recipe)
        assert (done.returncode, done.stderr) == (2, f"{message}\n")


def test_an_ablation_trains_evaluates_and_reports_without_a_checkout(hw1: Command, folder: Path) -> None:
    small = ["model.name=resnet18_half_cbam", "train.device=cpu"]
    for arguments in (
        ["ablate", "debug", *small, "--seeds", "0"],
        ["validate", "runs/debug/seed0"],
        ["report", "runs", "--out", "report"],
        ["audit", "data/debug"],
    ):
        done = hw1(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    for page in ("runs/debug/seed0/eval/val/index.html", "report/report.html", "audit/audit.html"):
        assert "<style>" in (folder / page).read_text()


def test_the_rule_in_the_checkout(folder: Path) -> None:
    assert {path.relative_to(ROOT / "recipes").as_posix() for path in shipped_recipes().values()} == {
        path.relative_to(ROOT / "recipes").as_posix() for path in (ROOT / "recipes").rglob("*.yaml")
    }
    assert find_recipe("debug") == find_recipe("recipes/debug.yaml") == ROOT / "recipes" / "debug.yaml"
    (folder / "debug").write_text("{}")
    assert find_recipe("debug") == Path("debug")
