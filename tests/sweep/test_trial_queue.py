"""The trials of a sweep as a queue of runs: what is stopped early, what is continued, and what a kill leaves to be recorded."""

from pathlib import Path

import pytest
from helpers.sweep_runs import make_sweep_project

pytest.importorskip("optuna", reason="Optuna is not installed: pip install -r requirements-sweep.txt")

from hw1.ablate.plan import PlannedRun
from hw1.config.load import dump_recipe
from hw1.runs.status import NUMBERS
from hw1.sweep.plan import SweepPlan
from hw1.sweep.study import Study
from hw1.sweep.trial_queue import TrialQueue


class Sweep:
    """A sweep of eight trials; the tests write what training would."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.plan = SweepPlan.read("tiny.yaml", "space.yaml", [])
        self.plan.trials.mkdir(parents=True, exist_ok=True)
        self.study = Study(self.plan.journal, self.plan.space, minimize=False, seed=0, prune_after=1)
        self.study.complete_proposals()
        self.queue = TrialQueue(self.plan, self.study, 8, self.lines.append)

    def states(self) -> list[str]:
        return [trial.state for trial in self.study.trials()]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    make_sweep_project(tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return Sweep()


def write(run: PlannedRun, *scores: float, finished: bool = False) -> None:
    """Write a run folder as after epochs with these scores."""
    folder = run.folder
    folder.checkpoints.mkdir(parents=True, exist_ok=True)
    folder.config.write_text(dump_recipe(run.recipe))
    rows = [dict.fromkeys(NUMBERS, 0.5) | {"epoch": epoch, "val_top1": score} for epoch, score in enumerate(scores, start=1)]
    folder.metrics_jsonl.unlink(missing_ok=True)  # so that its time differs
    folder.write_metrics(rows)
    folder.state_file(len(scores), 0).touch()
    if finished:
        folder.write_json(folder.summary, {"epochs": len(scores), "stopped_early": False})


def finish(sweep: Sweep, *scores: float) -> None:
    run = sweep.queue.take()
    write(run, *scores, finished=True)
    sweep.queue.end(run, None)


def test_a_trial_below_the_median_is_stopped_and_counts_as_pruned(sweep):
    for step in range(5):
        finish(sweep, *(0.1 * step + 0.01 * epoch for epoch in range(4)))
    bad, good = sweep.queue.take(), sweep.queue.take()  # two at once, as on Ray
    assert not sweep.queue.is_unpromising(bad)  # nothing there yet
    write(bad, 0.19)
    write(good, 0.21)
    assert sweep.queue.is_unpromising(bad)
    assert not sweep.queue.is_unpromising(good)
    sweep.queue.end(bad, "runs/...: exit code 143")
    write(good, 0.21, 0.22, 0.23, 0.24, finished=True)
    sweep.queue.end(good, None)
    assert sweep.states() == ["finished"] * 5 + ["pruned", "finished"]
    assert sweep.lines[5].startswith("trial006 of 8: 0.1900 in epoch 1, pruned after epoch 1  optim.lr=")
    assert sweep.lines[6].startswith("trial007 of 8: 0.2400 in epoch 4  optim.lr=")


def test_a_trial_that_finished_before_it_could_be_stopped_has_finished(sweep):
    for _ in range(5):
        finish(sweep, 0.5, 0.5, 0.5, 0.5)
    run = sweep.queue.take()
    write(run, 0.1)
    assert sweep.queue.is_unpromising(run)
    write(run, 0.1, 0.1, 0.1, 0.9, finished=True)
    sweep.queue.end(run, None)
    assert sweep.states()[-1] == "finished"


def test_after_a_kill_what_is_finished_is_recorded_and_what_is_not_is_continued(sweep):
    done, begun = sweep.queue.take(), sweep.queue.take()
    write(done, 0.1, 0.2, 0.3, 0.4, finished=True)
    write(begun, 0.1)
    again = Sweep()
    run = again.queue.take()
    assert (run.folder, run.status, run.command) == (begun.folder, "interrupted", begun.command)
    assert again.states() == ["finished", "running"]
    assert again.queue.take().folder not in (done.folder, begun.folder)


def test_after_a_kill_a_trial_that_was_to_be_stopped_is_stopped_without_training(sweep):
    for _ in range(5):
        finish(sweep, 0.5, 0.5, 0.5, 0.5)
    run = sweep.queue.take()
    write(run, 0.1)
    again = Sweep()
    assert again.queue.take().folder != run.folder
    assert again.states()[5] == "pruned"


def test_values_that_do_not_go_together_are_a_failed_trial(sweep):
    Path("space.yaml").write_text("sched.min_lr: [1e-6, 1e-5]\noptim.lr: [5e-6, 2e-5]\n")
    plan = SweepPlan("tiny.yaml", ("sched.name=cosine",), sweep.plan.recipe, Sweep().plan.space)
    study = Study(Path("other"), plan.space, minimize=False, seed=0, prune_after=1)
    lines: list[str] = []
    queue = TrialQueue(plan, study, 4, lines.append)
    while queue.take() is not None:
        pass
    assert [trial.state for trial in study.trials()].count("failed") == 1
    [line] = lines
    assert "failed: command line: sched.min_lr: must not exceed optim.lr (5e-06), got 1e-05" in line
