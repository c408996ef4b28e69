"""Evaluation: each sample once, in order, with the model left as it was; predictions survive the disk."""

import io
import sys
from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from hw1.errors import Interrupted, RunError, UserError
from hw1.evaluation.evaluate import evaluate
from hw1.evaluation.predictions import Predictions, load_predictions


class Batch(NamedTuple):
    image: torch.Tensor
    label: torch.Tensor
    index: torch.Tensor


class Loader:
    """Samples in a shuffled order, in batches of 4, the last one smaller."""

    def __init__(self, num: int = 11, order: list[int] | None = None) -> None:
        rng = torch.Generator().manual_seed(0)
        self.images = torch.randn(num, 3, 6, 6, generator=rng)
        self.labels = torch.randint(0, 5, (num,), generator=rng)
        self.order = torch.tensor(order if order is not None else torch.randperm(num, generator=rng).tolist(), dtype=torch.int64)
        self.num_batches = -(-len(self.order) // 4)
        self.epochs: list[int] = []

    def epoch(self, epoch: int):
        self.epochs.append(epoch)
        for index in self.order.split(4) if len(self.order) else ():
            yield Batch(self.images[index], self.labels[index], index)


def make_model() -> nn.Module:
    """BatchNorm and dropout, in modes that differ from module to module, as freezing leaves them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Dropout(0.5), nn.Flatten(), nn.Linear(128, 5), nn.Dropout(0.5))
    model[1].running_mean.normal_()
    model.train()
    model[1].eval()
    return model


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


def test_each_sample_once_in_order_with_the_logits_of_eval_mode():
    model, loader = make_model(), Loader()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    found = evaluate(model, loader)
    assert (found.index.dtype, found.logits.dtype, found.labels.dtype) == (np.int64, np.float32, np.int64)
    np.testing.assert_array_equal(found.index, np.arange(11))
    np.testing.assert_array_equal(found.labels, loader.labels.numpy())
    model.eval()
    with torch.no_grad():
        one_by_one = torch.cat([model(image[None]) for image in loader.images])
    np.testing.assert_allclose(found.logits, one_by_one.numpy(), atol=1e-5)
    assert loader.epochs == [0]
    assert all(torch.equal(buffers[name], value) for name, value in model.named_buffers())


def test_modes_stay_as_they_were():
    model = make_model()
    before = modes(model)
    assert len(set(before)) == 2
    evaluate(model, Loader())
    assert modes(model) == before


def test_modes_stay_as_they_were_after_a_failure():
    model = make_model()
    before = modes(model)

    class Broken(Loader):
        def epoch(self, epoch):
            yield next(super().epoch(epoch))
            raise RuntimeError("disk gone")

    with pytest.raises(RuntimeError, match="disk gone"):
        evaluate(model, Broken())
    assert modes(model) == before


def test_stops_on_a_signal_before_the_next_batch():
    model, seen = make_model(), []
    before = modes(model)
    model[0].register_forward_hook(lambda module, *_: seen.append(module.training))
    answers = iter([None, None, 15])
    with pytest.raises(Interrupted) as caught:
        evaluate(model, Loader(), should_stop=lambda: next(answers))
    assert caught.value.exit_code == 143
    assert seen == [False, False]
    assert modes(model) == before


def test_no_autograd_inside_and_a_trainable_model_after():
    model, inside = make_model(), []
    model[4].register_forward_hook(lambda _m, _i, output: inside.append((torch.is_inference_mode_enabled(), output.requires_grad)))
    evaluate(model, Loader())
    assert set(inside) == {(True, False)}
    assert not torch.is_inference_mode_enabled()
    model(Loader().images).sum().backward()
    assert model[0].weight.grad is not None


def test_autocast_reaches_the_model_and_logits_are_float32():
    model, dtypes = make_model(), []
    model[4].register_forward_hook(lambda _m, _i, output: dtypes.append(output.dtype))
    half = evaluate(model, Loader(), autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    assert set(dtypes) == {torch.bfloat16}
    assert half.logits.dtype == np.float32
    full = evaluate(model, Loader(), autocast=nullcontext)
    assert dtypes[-1] == torch.float32
    np.testing.assert_allclose(half.logits, full.logits, atol=0.1)
    assert not np.array_equal(half.logits, full.logits)


def test_a_model_that_reuses_its_output_is_read_in_time():
    class Reusing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = torch.zeros(4, 2)

        def forward(self, x):
            self.out[: len(x)] = x.flatten(1)[:, :2]
            return self.out[: len(x)]

    loader = Loader()
    np.testing.assert_array_equal(evaluate(Reusing(), loader).logits, loader.images.flatten(1)[:, :2].numpy())


def test_a_sample_that_comes_twice_is_an_error():
    with pytest.raises(RunError, match="more than once"):
        evaluate(make_model(), Loader(order=[0, 1, 2, 3, 4, 2]))


def test_no_sample_is_an_error():
    with pytest.raises(RunError, match="no image"):
        evaluate(make_model(), Loader(order=[]))


def test_progress_is_shown_on_a_terminal_only(monkeypatch):
    class Screen(io.StringIO):
        def __init__(self, terminal: bool) -> None:
            super().__init__()
            self.isatty = lambda: terminal  # type: ignore[method-assign]

    shown = {}
    for terminal, desc in [(True, "validating"), (False, "validating"), (True, None)]:
        monkeypatch.setattr(sys, "stderr", screen := Screen(terminal))
        evaluate(make_model(), Loader(), desc=desc)
        shown[terminal, desc] = screen.getvalue()
    assert "validating" in shown[True, "validating"]
    assert "/3" in shown[True, "validating"]
    assert shown[False, "validating"] == shown[True, None] == ""


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), BrokenPipeError(), ValueError("I/O operation on closed file")])
def test_a_terminal_that_is_full_or_gone_ends_nothing(monkeypatch, error):
    class Gone(io.StringIO):
        def isatty(self):
            return True

        def write(self, text):
            raise error

    monkeypatch.setattr(sys, "stderr", Gone())
    assert len(evaluate(make_model(), Loader(), desc="validating")) == 11


def some_predictions() -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(np.array([0, 2, 5]), rng.normal(size=(3, 4)).astype(np.float32), np.array([3, -1, 0]))


FILES, NAMES = ["cat/é 1.jpg", "金魚/2.png", "\udc80raw.jpg"], ["cat", "金魚", "", "ant"]


def test_saved_predictions_come_back(tmp_path):
    path = tmp_path / "val_predictions.npz"
    predictions = some_predictions()
    predictions.save(path, files=FILES, class_names=NAMES)
    with np.load(path, allow_pickle=False) as plain:
        assert sorted(plain.files) == ["class_names", "files", "index", "labels", "logits"]
        assert plain["files"].dtype.kind == "U"
    again, files, class_names = load_predictions(path)
    for name in ("index", "logits", "labels"):
        assert getattr(again, name).dtype == getattr(predictions, name).dtype
        np.testing.assert_array_equal(getattr(again, name), getattr(predictions, name))
    assert (files, class_names) == (FILES, NAMES)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [path.name]


def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "p.npz"
    some_predictions().save(path, files=FILES, class_names=NAMES)
    old = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="No space"):
        some_predictions().save(path, files=FILES, class_names=["w", "x", "y", "z"])
    assert path.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["p.npz"]


def test_counts_must_match(tmp_path):
    with pytest.raises(ValueError, match="2 files and 4 class names"):
        some_predictions().save(tmp_path / "p.npz", files=FILES[:2], class_names=NAMES)
    with pytest.raises(ValueError, match="3 files and 3 class names"):
        some_predictions().save(tmp_path / "p.npz", files=FILES, class_names=NAMES[:3])
    assert not list(tmp_path.glob("*.npz"))


def test_missing_and_damaged_files_are_one_line(tmp_path):
    path = tmp_path / "p.npz"
    with pytest.raises(UserError, match="no such file"):
        load_predictions(path)
    some_predictions().save(path, files=FILES, class_names=NAMES)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(some_predictions().logits.tobytes()) + 3] ^= 1
    other, pickled = io.BytesIO(), io.BytesIO()
    np.savez(other, a=np.zeros(3))
    np.savez(pickled, **{name: np.array([{}], dtype=object) for name in ("index", "logits", "labels", "files", "class_names")})
    arrays = {"index": np.array([1, 1]), "logits": np.zeros((2, 1), np.float32), "labels": np.array([0, 0])}
    np.savez(twice := io.BytesIO(), **arrays, files=np.array(["a", "b"]), class_names=np.array(["x"]))
    arrays["index"] = np.array([1, 2])
    np.savez(short := io.BytesIO(), **arrays, files=np.array(["a"]), class_names=np.array(["x"]))
    np.save(bare := io.BytesIO(), np.zeros(3))
    cuts = [whole[:cut] for cut in (0, 1, 10, 100, len(whole) // 2, len(whole) - 1)]
    for content in [*cuts, bytes(flipped), b"not a zip", *(b.getvalue() for b in (other, pickled, twice, short, bare))]:
        path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            load_predictions(path)
        (problem,) = caught.value.problems
        assert problem.startswith(f"{path}: ")
        assert "\n" not in problem


@pytest.mark.parametrize(
    ("index", "logits", "labels"),
    [
        ([1, 0], np.zeros((2, 3), np.float32), [0, 0]),
        ([0, 0], np.zeros((2, 3), np.float32), [0, 0]),
        ([0, 1], np.zeros((3, 3), np.float32), [0, 0]),
        ([0, 1], np.zeros((2, 3), np.float32), [0]),
        ([0, 1], np.zeros((2, 3), np.float64), [0, 0]),
        ([0, 1], np.zeros(2, np.float32), [0, 0]),
    ],
)
def test_predictions_hold_what_they_promise(index, logits, labels):
    with pytest.raises(ValueError, match=r"index|shapes|float32"):
        Predictions(np.array(index, np.int64), logits, np.array(labels, np.int64))
