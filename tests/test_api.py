"""`import hw1`: what the commands do, from Python: the same files to the bit, and errors in place of exits."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.model_runs import call
from helpers.paths import ROOT
from helpers.train_commands import rows_without_times, write_recipe
from PIL import Image

import hw1
import hw1.predict.__main__ as predict_command
import hw1.training.trainer
from hw1.api import as_overrides
from hw1.config.load import load_recipe
from hw1.data.synthetic import draw_shapes
from hw1.errors import Interrupted, UserError
from hw1.utils.signals import STOP_SIGNALS


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, with its data: 100 classes of 2 + 1 images."""
    folder = tmp_path_factory.mktemp("api")
    draw_shapes(folder / "data", 1)
    return write_recipe(folder, folder / "data")


@pytest.fixture(scope="module", autouse=True)
def one_core() -> Iterator[None]:
    """Training takes one thread, here and in other processes, so that it adds up in one order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HW1_CORES", "1")
        yield


@pytest.fixture(scope="module")
def settings() -> list[object]:
    """What training sets for the whole process, before and after `run`."""
    return []


@pytest.fixture(scope="module")
def run(recipe: Path, settings: list[object], one_core: None) -> hw1.Run:
    """A finished run, trained in a process with more threads than cores, which training limits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    torch.manual_seed(7)
    settings.append(process_settings())
    run = hw1.train(recipe, {"run.name": "whole"})
    settings.append(process_settings())
    torch.set_num_threads(threads)
    return run


def process_settings() -> object:
    handlers = [signal.getsignal(signum) for signum in STOP_SIGNALS]
    flags = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    return torch.get_num_threads(), flags, torch.get_rng_state().tolist(), handlers, threading.active_count()


def files_of(run: hw1.Run) -> tuple[list[dict[str, float]], bytes]:
    """The metrics and the best weights."""
    return rows_without_times(run.path), (run.path / "checkpoints" / "best.safetensors").read_bytes()


@pytest.mark.slow
def test_the_run_is_that_of_the_command_in_a_process_of_its_own(recipe: Path, run: hw1.Run) -> None:
    command = [sys.executable, str(ROOT / "train.py"), str(recipe), "run.name=command"]
    subprocess.run(command, check=True, capture_output=True)
    other = hw1.load(run.path.parents[1] / "command" / "seed5")
    assert [row | {"seconds": 0, "images_per_second": 0, "data_wait": 0} for row in run.metrics] == [
        row | {"seconds": 0, "images_per_second": 0, "data_wait": 0} for row in other.metrics
    ]
    weights = [torch.load(path, weights_only=True)["model"] for path in (newest_state(run), newest_state(other))]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert [row["epoch"] for row in run.metrics] == [1, 2]
    assert run.path == recipe.parent / "runs" / "whole" / "seed5"


def newest_state(run: hw1.Run) -> Path:
    return max((run.path / "checkpoints").glob("epoch*.pt"))


def test_the_settings_of_the_process_are_put_back(run: hw1.Run, settings: list[object]) -> None:
    before, after = settings
    assert before == after


def test_an_interrupt_saves_and_the_same_call_continues(recipe: Path, run: hw1.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the stop button of a notebook sends it, whose cells run in the kernel's main thread."""
    steps, step = [], hw1.training.trainer.train_step

    def interrupted_step(*arguments: object) -> bool:
        steps.append(len(steps))
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(*arguments)

    monkeypatch.setattr(hw1.training.trainer, "train_step", interrupted_step)
    with pytest.raises(Interrupted, match="saved at epoch 1, step 4"):
        hw1.train(recipe, {"run.name": "stopped"})
    assert len(steps) == 4
    continued = hw1.train(recipe, {"run.name": "stopped"})
    assert files_of(continued)[0] == files_of(run)[0]


def test_in_a_thread_it_trains_alike_and_there_is_one_training_at_a_time(
    recipe: Path, run: hw1.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, results = threading.Event(), threading.Event(), []
    step = hw1.training.trainer.train_step

    def waiting_step(*arguments: object) -> bool:
        begun.set()
        assert go_on.wait(60)
        return step(*arguments)

    monkeypatch.setattr(hw1.training.trainer, "train_step", waiting_step)
    thread = threading.Thread(target=lambda: results.append(hw1.train(recipe, {"run.name": "thread", "data.num_workers": 1})))
    thread.start()
    assert begun.wait(60)
    try:
        with pytest.raises(UserError, match="under way in another thread"):
            hw1.train(recipe, {"run.name": "second"})
    finally:
        go_on.set()
        thread.join(60)
    assert files_of(results[0])[0] == files_of(run)[0]


def test_a_finished_run_is_returned_as_it_is(recipe: Path, run: hw1.Run, capsys: pytest.CaptureFixture[str]) -> None:
    before = files_of(run)
    again = hw1.train(recipe, {"run.name": "whole"})
    assert (again.path, files_of(again)) == (run.path, before)
    assert "finished already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"optim.rate": 1}, "overrides: optim.rate: unknown key; nearest: "),
        ({"data.root": "gone"}, "overrides: data.root: gone: no such folder"),
        ({"run.name": "whole", "seed": 5, "optim.lr": 0.5}, "or overwrite=True"),
        ({"optim.lr": object()}, "overrides: object is no value of a recipe"),
    ],
)
def test_mistakes_are_errors_in_the_words_of_python(recipe: Path, run: hw1.Run, changes: dict, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        hw1.train(recipe, changes)
    assert problem.removeprefix("or ") in str(caught.value)
    assert "--" not in str(caught.value)


def test_overrides_keep_their_values_and_types() -> None:
    changes = {
        "optim.lr": 1e-5, "optim.betas": (0.9, np.float64(0.99)), "seed": np.int64(3), "data.root": Path("a b/ü"), "run.name": "123",
        "freeze.stages": ["stem"], "train.early_stop": None, "train.deterministic": True, "model.kwargs": {"act_layer": "silu"},
    }  # fmt: skip
    recipe = load_recipe("base", as_overrides(changes))
    assert (recipe.optim.lr, recipe.optim.betas, recipe.seed, recipe.data.root) == (1e-5, (0.9, 0.99), 3, "a b/ü")
    assert (recipe.run.name, recipe.freeze.stages, recipe.train.early_stop) == ("123", ("stem",), None)
    assert recipe.train.deterministic is True
    assert recipe.model.kwargs == {"act_layer": "silu"}


def test_curves_are_those_of_the_folder_and_a_notebook_shows_them(run: hw1.Run) -> None:
    assert run.curves()._repr_png_() == (run.path / "curves.png").read_bytes()


def test_evaluate_returns_what_validate_writes(run: hw1.Run, recipe: Path) -> None:
    metrics = run.evaluate("val")
    assert metrics == json.loads((run.path / "eval" / "val" / "metrics.json").read_bytes())
    assert metrics["top1"] == max(row["val_top1"] for row in run.metrics)
    with pytest.raises(UserError, match="nowhere"):
        run.evaluate("nowhere")


def test_predict_takes_files_arrays_pillow_images_and_lists_of_them(run: hw1.Run, recipe: Path, tmp_path: Path) -> None:
    file = next((recipe.parent / "data" / "val").rglob("*.png"), None) or next((recipe.parent / "data" / "val").rglob("*.jpg"))
    pixels = np.asarray(Image.open(file).convert("RGB"))
    Image.fromarray(pixels).save(tmp_path / "same.png")
    out = tmp_path / "p.json"
    assert call(predict_command.main, run.path, tmp_path / "same.png", "--out", out).returncode == 0
    expected = json.loads(out.read_text())[0]["predictions"]
    sources = [
        tmp_path / "same.png",
        str(tmp_path / "same.png"),
        pixels,
        Image.open(tmp_path / "same.png"),
        torch.from_numpy(pixels.copy()),
    ]
    for answer in [*run.predict(sources), *map(run.predict, sources)]:
        assert [each.label for each in answer] == [row["class"] for row in expected]
        assert [each.probability for each in answer] == pytest.approx([row["probability"] for row in expected], abs=1e-6)
    assert run.predict([]) == []
    assert [len(answer) for answer in run.predict(sources[:2], top=1000)] == [100, 100]
    grey = np.asarray(Image.open(file).convert("L"))
    assert run.predict(grey) == run.predict(np.stack([grey] * 3, axis=2))


@pytest.mark.parametrize(
    ("source", "options", "problem"),
    [
        (np.zeros((4, 4, 3)), {}, "got float64 [4, 4, 3]"),
        (np.zeros((2, 4, 4, 3), np.uint8), {}, "image 0: an array must be uint8 [H, W, 3] or [H, W], got uint8 [2, 4, 4, 3]"),
        (["none.jpg"], {}, "none.jpg: no such file"),
        ([3], {}, "image 0: a int is no file, array or Pillow image"),
        ([], {"top": 0}, "top: must be at least 1"),
        ([], {"temperature": -1}, "temperature -1: must be a number above 0"),
    ],
)
def test_what_cannot_be_predicted_is_named(run: hw1.Run, source: object, options: dict, problem: str) -> None:
    with pytest.raises(UserError) as caught:
        run.predict(source, **options)
    assert problem in str(caught.value)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    for name, problem in (("gone", "no such folder"), ("gone.onnx", "no such file")):
        with pytest.raises(UserError, match=problem):
            hw1.load(tmp_path / name)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        hw1.trian  # noqa: B018
