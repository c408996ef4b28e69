"""What importing a module loads. The order of the packages is `import-linter`'s to check (pyproject.toml)."""

import ast
import subprocess
import sys

import pytest
from helpers.paths import ROOT

HEAVY = {"torch", "torchvision", "timm", "cv2", "albumentations", "safetensors"}
WITHOUT_HEAVY = [
    "hw1", "hw1.__main__", "train", "validate", "hw1.ablate.__main__", "hw1.attention.__main__", "hw1.commands.schema",
    "hw1.evaluation.calibration", "hw1.evaluation.confusion", "hw1.evaluation.metrics", "hw1.evaluation.significance",
    "hw1.export.__main__", "hw1.html.page", "hw1.plots", "hw1.predict.__main__", "hw1.report.__main__", "hw1.runs.environment",
    "hw1.runs.folder", "hw1.sweep.__main__", "hw1.tracking.wandb_tracker",
]  # fmt: skip
WITHOUT_TORCH = ["hw1.audit.__main__", "hw1.data.decode", "hw1.data.image_folder", "hw1.data.leak_check"]


def loaded_by(module: str, *, in_command: bool = False) -> set[str]:
    """Top-level packages that a new process has loaded after importing the module, in a command of ours or in a user's program."""
    start = "from hw1.errors import run_command; run_command(lambda argv: 0, []); " * in_command
    code = f"{start}import importlib, sys; importlib.import_module({module!r}); print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    return set(result.stdout.split())


@pytest.mark.parametrize("module", WITHOUT_HEAVY)
def test_what_answers_at_once_loads_nothing_heavy(module):
    """A mistake in a recipe is reported, and figures are drawn, without waiting for torch: not even by way of another module."""
    assert loaded_by(module) & HEAVY == set()


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_reading_folders_and_images_needs_no_torch(module):
    assert loaded_by(module) & {"torch", "timm"} == set()


@pytest.mark.parametrize("module", ["hw1.training.trainer", "hw1.predict.torch_model"])
def test_a_first_step_and_a_first_prediction_wait_for_no_figures_trackers_and_pipelines(module):
    assert loaded_by(module, in_command=True) & {"matplotlib", "statsmodels", "sklearn", "albumentations", "wandb"} == set()


def test_wandb_is_imported_only_when_it_is_asked_for():
    assert "wandb" not in loaded_by("hw1.tracking.wandb_tracker")


def test_the_training_step_is_four_files_from_the_command():
    """train.py, the command, the loop, the step: each imports the next, and the last one steps the optimizer."""
    path = ["train.py", "hw1/commands/train.py", "hw1/training/trainer.py", "hw1/training/train_step.py"]
    texts = [(ROOT / file).read_text() for file in path]
    for text, following in zip(texts, path[1:], strict=False):
        assert f"from {following.removesuffix('.py').replace('/', '.')} import" in text
    assert ".step(state.optimizer)" in texts[-1]


def test_no_package_exports_the_name_of_one_of_its_modules():
    """Importing the module would put it in the place of what has its name."""
    clashes = []
    for init in (ROOT / "hw1").rglob("__init__.py"):
        exported = {
            alias.asname or alias.name
            for node in ast.walk(ast.parse(init.read_text()))
            if isinstance(node, ast.ImportFrom) and node.module != ".".join(init.relative_to(ROOT).parts[:-1])  # a module itself
            for alias in node.names
        }
        modules = {path.stem for path in init.parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
        clashes += [f"{init.parent.relative_to(ROOT)}: {name}" for name in exported & modules]
    assert clashes == []
