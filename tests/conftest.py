"""Settings that every test shares."""

import os
import signal
from pathlib import Path

import pytest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# A shell starts what it runs in the background (`make test &`) with SIGINT ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]

# What the tests share, so that its assertions too show their values.
pytest.register_assert_rewrite(
    "folder_trees",
    "image_files",
    "loader_pictures",
    "model_runs",
    "recipe_texts",
    "report_runs",
    "run_folders",
    "train_commands",
    "transform_pictures",
)


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered between runs (checked images) stays inside the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, so that messages name files without it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def photos() -> Path:
    """Root of real photographs in the report's layout, from HW1_PHOTOS."""
    root = os.environ.get("HW1_PHOTOS")
    if not root:
        pytest.skip("HW1_PHOTOS names no folder of photographs")
    return Path(root)
