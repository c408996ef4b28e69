"""The study of a sweep: its proposals, what it records, and that a kill at any moment loses nothing and repeats nothing."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("optuna", reason="Optuna is not installed: pip install -r requirements-sweep.txt")

from hw1.errors import UserError
from hw1.sweep.space import Choice, Range, Space
from hw1.sweep.study import NUM_UNPRUNED, Study

SPACE = {
    "optim.lr": Range(1e-5, 1e-1, True, None, False),
    "model.drop_rate": Choice((0.0, 0.2)),
    "data.batch_size": Range(8, 16, False, 8, True),
}
SMALL = {"model.drop_rate": Choice((0.0, 0.2, 0.5)), "model.cbam_stages": Choice(([4], [3, 4]))}


def open_study(path: Path, space: Space = SPACE, **options: object) -> Study:
    study = Study(path, space, **{"minimize": False, "seed": 0, "prune_after": 1, **options})
    study.complete_proposals()
    return study


def carry_on(study: Study, num_trials: int) -> None:
    """Train trials until there are so many: three epochs each, whose scores depend on the values alone."""
    while True:
        trials = study.trials()
        running = [trial for trial in trials if trial.state == "running"]
        if not running and len(trials) == num_trials:
            return
        trial = running[0] if running else study.propose()
        for epoch in (1, 2, 3):
            study.report(trial.number, epoch, 1 / (1 + abs(np.log10(trial.values["optim.lr"]) + 3)) * epoch)
        study.end(trial.number, "finished")


def test_a_study_that_is_opened_again_proposes_what_it_would_have_proposed(tmp_path):
    carry_on(whole := open_study(tmp_path / "whole"), 16)
    for num_trials in range(1, 17):
        carry_on(open_study(tmp_path / "parts"), num_trials)
    parts = open_study(tmp_path / "parts").trials()
    assert parts == whole.trials()
    lrs = [trial.values["optim.lr"] for trial in parts]
    assert all(1e-5 <= lr <= 1e-1 for lr in lrs)
    assert len(set(lrs)) == 16


def test_a_kill_after_any_byte_of_the_journal_loses_nothing_and_repeats_nothing(tmp_path):
    carry_on(whole := open_study(tmp_path / "whole"), 3)
    content = (tmp_path / "whole").read_bytes()
    step = max(1, len(content) // 60)
    for size in range(0, len(content), step):
        path = tmp_path / "cut"
        path.write_bytes(content[:size])
        carry_on(open_study(path), 3)
        trials = open_study(path).trials()
        assert [trial.number for trial in trials] == [1, 2, 3]
        assert all(trial.state == "finished" and list(trial.scores) == [1, 2, 3] for trial in trials)
        finished = sum(line.endswith(b"\n") and b'"state":1,' in line for line in content[:size].splitlines(keepends=True))
        assert trials[:finished] == whole.trials()[:finished]
        assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_no_combination_is_tried_twice_and_all_of_a_small_space_are(tmp_path):
    study = open_study(tmp_path / "study", SMALL)
    for _ in range(6):
        study.end(study.propose().number, "failed")
    values = [json.dumps(trial.values) for trial in study.trials()]
    assert len(set(values)) == len(values) == 6
    assert [trial.number for trial in study.trials()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("minimize", [False, True])
def test_a_trial_below_the_median_of_the_finished_ones_is_to_be_stopped(tmp_path, minimize):
    study = open_study(tmp_path / "study", minimize=minimize, prune_after=2)
    sign = -1 if minimize else 1

    def report(scores: list[float]) -> int:
        number = study.propose().number
        for epoch, score in enumerate(scores, start=1):
            study.report(number, epoch, sign * score)
        return number

    for score in range(NUM_UNPRUNED):
        number = report([0, score, score, score])
        assert not study.should_prune(number)  # too few have finished
        study.end(number, "finished")
    median = np.median(range(NUM_UNPRUNED))
    assert not study.should_prune(report([-9.0]))  # epoch 2 is the first that counts
    assert study.should_prune(report([0.0, median - 0.1]))
    assert study.should_prune(report([0.0, 0.0, median - 0.1]))
    assert not study.should_prune(report([0.0, 0.0, median + 0.1]))
    pruned = study.end(len(study.trials()) - 1, "pruned")
    assert (pruned.state, pruned.best_epoch) == ("pruned", 3)


def test_a_score_that_is_no_number_is_a_failure(tmp_path):
    study = open_study(tmp_path / "study")
    number = study.propose().number
    study.report(number, 1, float("nan"))
    assert study.end(number, "finished").state == "failed"


def test_a_journal_that_is_damaged_in_the_middle_is_said(tmp_path):
    carry_on(open_study(tmp_path / "study"), 2)
    lines = (tmp_path / "study").read_bytes().splitlines(keepends=True)
    (tmp_path / "study").write_bytes(b"".join([*lines[:3], b"{\n", *lines[4:]]))
    with pytest.raises(UserError, match="study: damaged"):
        open_study(tmp_path / "study")


def test_a_journal_that_cannot_be_opened_is_said(tmp_path):
    (tmp_path / "study").mkdir()
    with pytest.raises(UserError, match="study: cannot be read and written: Is a directory"):
        open_study(tmp_path / "study")
