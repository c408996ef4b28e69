"""The documentation as a site: built strictly, with the references that are made from the code."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

from hw1.cli import COMMANDS
from hw1.config.load import all_keys

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not importlib.util.find_spec("mkdocs"), reason="no MkDocs: requirements-docs.txt")]


def build(project: Path, site: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_has_a_place_in_the_navigation(site: Path) -> None:
    start = (site / "index.html").read_text()
    for page in (ROOT / "docs").rglob("*.md"):
        path = page.relative_to(ROOT / "docs").with_suffix(".html")
        place = path.with_name("index.html") if path.stem == "README" else path
        assert (site / place).is_file()
        assert f'href="{place}"' in start or place.name == "index.html"


def test_every_key_of_a_recipe_and_every_command_is_described(site: Path) -> None:
    keys = (site / "reference/recipe.html").read_text()
    assert {key for key in all_keys() if f"<code>{key}</code>" not in keys} == set()
    assert "Batches whose gradients are averaged" in keys
    commands = (site / "reference/commands.html").read_text()
    assert all(f"usage: hw1 {name}" in commands for name in COMMANDS)
    assert "Build the model on the CPU" in (site / "reference/api/models.html").read_text()


def test_links_to_files_of_the_project_lead_to_copies_of_them(site: Path) -> None:
    page = (site / "guide/training.html").read_text()
    [link] = set(re.findall(r'href="([^"]*recipes/base\.yaml)"', page))
    assert (site / "guide" / link).resolve().read_bytes() == (ROOT / "recipes/base.yaml").read_bytes()


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="(https?:[^"]*)"', page.read_text())
        assert loaded == [], page


@pytest.mark.parametrize(("page", "broken"), [("guide/data.md", "[x](nowhere.md)"), ("reference/metrics.md", "[x](../index.md#nothing)")])
def test_a_broken_link_fails_the_build(page: str, broken: str, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "docs", project / "docs", ignore=shutil.ignore_patterns("__pycache__", "api"))
    for name in ("hw1", "recipes", "benchmarks", "CONTRIBUTING.md"):
        (project / name).symlink_to(ROOT / name)
    config = (ROOT / "mkdocs.yml").read_text()
    (project / "mkdocs.yml").write_text(re.sub(r"(?ms)^plugins:.*?(?=^markdown_extensions)|^nav:.*", "", config))
    (project / "docs/index.md").write_text("# Start\n")
    with open(project / "docs" / page, "a") as file:
        file.write(f"\n{broken}\n")
    done = build(project, tmp_path / "site")
    assert done.returncode != 0
    assert page in done.stdout + done.stderr
