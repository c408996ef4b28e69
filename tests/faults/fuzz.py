"""hypothesis looks for a recipe, image or checkpoint that ends in anything but a result or the user's error; cases that did are kept.

What a failing case shrinks to is written to `tests/faults/cases/<kind>/`, to be committed with what mends it; the files there are tried
first, each time, in `make test` too. Cases of sampler and resume, which are a few numbers, are shown and become an `@example` here.
"""

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.image_files import KINDS, samples
from helpers.paths import ROOT
from helpers.tiny_training import loader_of, make, make_batches
from helpers.train_commands import TIMES, assert_equal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults.tally import Tally, expect
from hw1.config.load import load_recipe
from hw1.data.decode import BadImage, decode_image
from hw1.data.loader.sampler import EpochBatches
from hw1.errors import UserError
from hw1.runs.checkpoint import load_state, load_weights, save_state, save_weights
from hw1.training.trainer import train_step

SIZES = (6, 6, 6, 2)
BASE = (ROOT / "recipes" / "base.yaml").read_bytes()
EDITS = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "insert", "repeat"]), st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=5
)


def edited(data: bytes, edits: list[tuple[str, float, int]]) -> bytes:
    """Changed at places given as shares of the length."""
    for kind, share, value in edits:
        at = int(share * len(data))
        match kind:
            case "flip":
                data = data[:at] + bytes(byte ^ (value or 1) for byte in data[at : at + 1]) + data[at + 1 :]
            case "cut":
                data = data[:at]
            case "insert":
                data = data[:at] + bytes([value]) * (value % 7 + 1) + data[at:]
            case "repeat":
                data = data[:at] + data[at : at + value] + data[at:]
    return data


CASES = Path(__file__).parent / "cases"


def run_on_bytes(tally: Tally, n: int, kind: str, check: Callable[[bytes], None], **strategies: Any) -> None:
    """`_run` for checks of one argument, `data`, after the cases that are kept of this kind; the one found is kept, too."""
    for path in sorted((CASES / kind).glob("*")):
        with tally.attempt(f"kept case {path.name}"):
            check(path.read_bytes())
            tally.seen["kept cases"] += 1
    failing = b""

    def noted(data: bytes) -> None:
        nonlocal failing
        try:
            check(data)
        except Exception:
            failing = data  # of those that hypothesis tries, the last to fail is what they shrink to
            raise

    lost = len(tally.losses)
    run_property(tally, n, noted, **strategies)
    if len(tally.losses) > lost:
        path = CASES / kind / hashlib.sha256(failing).hexdigest()[:12]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(failing)
        tally.losses[-1] += f"; kept as {path.relative_to(ROOT)}"


def run_property(tally: Tally, n: int, check: Callable[..., None], **strategies: Any) -> None:
    """Counts the examples that hypothesis tries; of the failures, the one that they shrink to."""

    @settings(max_examples=n, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
    @given(**strategies)
    def tried(**arguments: Any) -> None:
        check(**arguments)
        tally.survived += 1

    try:
        tried()
    except BaseException as error:
        if not isinstance(error, Exception | BaseExceptionGroup):
            raise
        notes = " ".join(getattr(error, "__notes__", []))
        tally.losses.append(f"{type(error).__name__}: {error} {notes}"[:2000])


def recipes(tally: Tally, folder: Path, n: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "fuzz.yaml"
    pieces = st.lists(
        st.sampled_from([*"{}[]:,-?&*!|>'\"%@#~ \n\t", ": ", "\n  ", "seed", "mixup", "alpha", "base", "1e-4", "!!int"]), max_size=40
    )

    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            load_recipe(path)
        except UserError as error:
            expect(all(problem and len(problem.splitlines()) == 1 for problem in error.problems), f"unclear: {error}")

    words = st.text().map(lambda text: text.encode("utf-8", "replace"))
    mended = st.tuples(st.just(BASE), EDITS).map(lambda pair: edited(*pair))
    run_on_bytes(tally, n, "recipe", check, data=st.binary() | words | pieces.map(lambda p: "".join(p).encode()) | mended)


def images(tally: Tally, folder: Path, n: int) -> None:
    """Files of every kind with a few bytes changed: an image, or one line that says why not."""

    def check(data: bytes) -> None:
        try:
            image = decode_image(data)
        except BadImage as error:
            expect("\n" not in error.reason and error.reason, f"unclear: {error.reason!r}")
            return
        expect(image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3, f"{image.dtype} {image.shape}")

    changed = st.tuples(st.sampled_from(KINDS), EDITS).map(lambda pair: edited(samples()[pair[0]], pair[1]))
    run_on_bytes(tally, n, "picture", check, data=changed)


def checkpoints(tally: Tally, folder: Path, n: int) -> None:
    """Any change at all is noticed, by the reader of states and by that of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    last, best = folder / "epoch0001-step000000.pt", folder / "best.safetensors"
    save_state(last, {"step": 3, "model": {"w": torch.arange(600.0)}})
    save_weights(best, {"w": torch.arange(600.0)}, {"classes": ["a"]})
    wholes = last.read_bytes(), best.read_bytes()

    def check(data: bytes) -> None:
        for path, load in ((last, load_state), (best, load_weights)):
            path.write_bytes(data)
            try:
                load(path)
            except UserError as error:
                expect(str(error).startswith(f"{path}: ") and "\n" not in str(error), f"unclear: {error}")
            else:
                expect(data in wholes, "a changed file was loaded")

    changed = st.tuples(st.sampled_from(wholes), EDITS).map(lambda pair: edited(*pair))
    run_on_bytes(tally, n, "checkpoint", check, data=changed | st.binary())


def sampler(tally: Tally, folder: Path, n: int) -> None:
    """An epoch that is left after any number of steps and continued holds each sample once, in the order of the whole epoch."""

    def check(num: int, batch_size: int, seed: int, epoch: int, share: float, shuffle: bool) -> None:
        batches = EpochBatches(num, batch_size, seed, shuffle)
        start = int(share * batches.num_batches)
        whole, parts = EpochBatches(num, batch_size, seed, shuffle), []
        batches.seek(epoch, 0)
        parts += list(batches)[:start]
        batches.seek(epoch, start)
        parts += list(batches)
        whole.seek(epoch, 0)
        expect(parts == list(whole), "another order")
        expect(sorted(index for batch in parts for _, index in batch) == list(range(num)), "a sample is missing or comes twice")

    run_property(
        tally, n, check, num=st.integers(1, 400), batch_size=st.integers(1, 64), seed=st.integers(0, 2**32 - 1),
        epoch=st.integers(0, 2**20), share=st.floats(0, 1), shuffle=st.booleans(),
    )  # fmt: skip


def resume(tally: Tally, folder: Path, n: int) -> None:
    """Optimizer, average, Mixup and schedule, saved after any step and continued by another training: the same bits as without."""
    sections: dict[str, Any] = {
        "mixup": {"alpha": 0.5, "prob": 0.5}, "model": {"name": "resnet18_half_cbam", "pretrained": False, "drop_rate": 0.5},
    }  # fmt: skip

    def check(seed: int, stop: int, accum: int, ema: float | None, name: str) -> None:
        train = {"grad_accum": accum, "ema_decay": ema}
        settings = {**sections, "train": train, "optim": {"name": name, "lr": 1e-3}, "sched": {"name": "cosine"}}
        batches, stop = make_batches(*SIZES), min(stop * accum, len(SIZES))
        torch.manual_seed(seed)
        whole = make(**settings)
        torch.manual_seed(seed)
        for batch in batches:
            train_step(whole, batch, loader_of(*SIZES))
        expected = whole.copy_state()
        first, second = make(**settings), make(**settings)
        torch.manual_seed(seed)
        for batch in batches[:stop]:
            train_step(first, batch, loader_of(*SIZES))
        with tempfile.TemporaryDirectory() as place:
            save_state(Path(place) / "state.pt", first.copy_state())
            torch.manual_seed(seed + 1)
            second.load_state_dict(load_state(Path(place) / "state.pt"))
        for batch in batches[stop:]:
            train_step(second, batch, loader_of(*SIZES))
        assert_equal(second.copy_state(), expected, but=TIMES)

    run_property(
        tally, n, check, seed=st.integers(0, 2**31), stop=st.integers(0, len(SIZES)), accum=st.integers(1, 3),
        ema=st.sampled_from([None, 0.9]), name=st.sampled_from(["adamw", "sgd"]),
    )  # fmt: skip
