"""Event files, read back by TensorBoard's own readers."""

from pathlib import Path

import numpy as np
from helpers.tensorboard_files import events, scalars
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hw1.tracking.tensorboard_tracker import TensorboardTracker
from hw1.tracking.tracker import At, Table

START = At(0, 0)


def tell(tracker: TensorboardTracker, *epochs: int) -> None:
    """Of each epoch two steps of five, then the epoch."""
    for epoch in epochs:
        for step in (10 * epoch - 5, 10 * epoch):
            tracker.scalars({"train/loss_step": 1 / step}, At(step))
        tracker.scalars({"val/top1": epoch / 10}, At(10 * epoch, epoch))


def test_curves_of_steps_and_of_epochs_have_their_own_axis(tmp_path: Path) -> None:
    tracker = TensorboardTracker(tmp_path, START, {"recipe": "    seed: 1\n"})
    tell(tracker, 1, 2)
    tracker.finish(failed=False)
    assert scalars(tmp_path) == {
        "train/loss_step": [(step, np.float32(1 / step)) for step in (5, 10, 15, 20)],
        "val/top1": [(1, np.float32(0.1)), (2, np.float32(0.2))],
    }


def test_a_killed_run_that_is_continued_has_every_value_once(tmp_path: Path) -> None:
    """Killed in epoch 4, with its file torn; continued from a state at step 27: in the middle of epoch 3."""
    tracker = TensorboardTracker(tmp_path, START, {"recipe": "text"})
    tell(tracker, 1, 2, 3, 4)  # is never closed
    (former,) = tmp_path.iterdir()
    former.write_bytes(former.read_bytes()[:-7])
    continued = TensorboardTracker(tmp_path, At(27, 2), {"recipe": "text"})
    tell(continued, 1, 2)  # as the trainer does with what the run folder has
    continued.scalars({"train/loss_step": 1 / 25}, At(25))
    continued.scalars({"train/loss_step": 1 / 30}, At(30))
    continued.scalars({"val/top1": 0.3}, At(30, 3))
    continued.finish(failed=False)
    assert len(list(tmp_path.iterdir())) == 1
    assert scalars(tmp_path) == {
        "train/loss_step": [(step, np.float32(1 / step)) for step in range(5, 31, 5)],
        "val/top1": [(epoch, np.float32(epoch / 10)) for epoch in (1, 2, 3)],
    }
    assert [tag for tag, _ in events(tmp_path)].count("recipe/text_summary") == 1


def test_two_files_of_a_process_killed_while_it_took_over_become_one(tmp_path: Path) -> None:
    tracker = TensorboardTracker(tmp_path, START, {})
    tell(tracker, 1, 2)
    tracker.finish(failed=True)
    (file,) = tmp_path.iterdir()
    (tmp_path / f"{file.name}.copy").write_bytes(file.read_bytes())
    TensorboardTracker(tmp_path, At(20, 2), {}).finish(failed=False)
    assert [step for step, _ in scalars(tmp_path)["val/top1"]] == [1, 2]


def test_images_and_tables(tmp_path: Path) -> None:
    red, blue = (np.full((6, 8, 3), colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255)))
    table = Table(["image", "true", "loss"], [[Image.fromarray(red), "a|b", 0.25], [Image.fromarray(blue), "c", 1.5]])
    tracker = TensorboardTracker(tmp_path, START, {})
    tracker.images({"samples": Image.fromarray(red)}, START)
    tracker.tables({"val/predictions": table}, At(10, 1))
    tracker.finish(failed=False)
    read = EventAccumulator(str(tmp_path)).Reload()
    (samples,) = read.Images("samples")
    (grid,) = read.Images("val/predictions_images")
    (text,) = read.Tensors("val/predictions/text_summary")
    assert (samples.step, samples.width, samples.height) == (0, 8, 6)
    assert (grid.step, grid.width, grid.height) == (1, 16, 8)
    assert text.tensor_proto.string_val[0].decode() == "| true | loss |\n| --- | --- |\n| a\\|b | 0.25 |\n| c | 1.5 |"


def test_an_evaluation_replaces_the_one_before(tmp_path: Path) -> None:
    tracker = TensorboardTracker(tmp_path, START, {})
    tell(tracker, 1)
    tracker.finish(failed=False)
    for top1 in (0.25, 0.75):
        tracker = TensorboardTracker(tmp_path, At(2**62, 2**62), {}, replaces="eval/test")
        tracker.scalars({"eval/test/top1": top1}, At(10, 1))
        tracker.finish(failed=False)
    found = scalars(tmp_path)
    assert found["eval/test/top1"] == [(1, 0.75)]
    assert found["val/top1"] == [(1, np.float32(0.1))]
