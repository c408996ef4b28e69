"""The state of a run folder: new, interrupted or finished; and what is refused."""

import os
from pathlib import Path

import pytest
from helpers.run_folders import changed, started, tree

from hw1.config.recipe import Recipe
from hw1.errors import UserError
from hw1.runs.folder import RunFolder
from hw1.runs.status import numbered, run_status


@pytest.fixture
def recipe(folder: Path) -> Recipe:
    return changed()


def mistake(*arguments, **keywords) -> list[str]:
    with pytest.raises(UserError) as caught:
        run_status(*arguments, **keywords)
    return list(caught.value.problems)


def test_the_folder_is_named_by_run_and_seed(recipe):
    assert RunFolder.of(recipe).path == Path("runs/a/seed118")
    assert RunFolder.of(changed("seed=3", "run.dir=x/y", "run.name=b")).path == Path("x/y/b/seed3")


def test_nothing_there_is_new_and_looking_makes_nothing(recipe, tmp_path):
    run = RunFolder.of(recipe)
    assert run_status(run, recipe) == "new"
    assert run_status(run, recipe, overwrite=True) == "new"
    assert os.listdir(tmp_path) == []
    run.path.mkdir(parents=True)
    assert run_status(run, recipe) == "new"
    (run.path / ".lock").touch()
    assert run_status(run, recipe) == "new"
    (run.path / ".config.yaml.0123abcd.tmp").write_text("half a rec")  # killed in its first write
    assert run_status(run, recipe) == "new"


def test_status_follows_what_is_there(recipe):
    assert run_status(started(recipe), recipe) == "new"  # killed before the first checkpoint
    assert run_status(started(recipe, last=True), recipe) == "interrupted"
    assert run_status(started(recipe, epochs=3), recipe) == "finished"
    assert run_status(started(recipe, epochs=2), recipe) == "interrupted"
    assert run_status(started(recipe, epochs=2, stopped_early=True), recipe) == "interrupted"  # early_stop is off now
    assert run_status(started(changed("train.early_stop=2"), epochs=2, stopped_early=True), changed("train.early_stop=2")) == "finished"
    assert run_status(started(recipe, last=True), recipe, overwrite=True) == "interrupted"
    assert run_status(started(recipe, epochs=3), recipe, overwrite=True) == "new"


def test_more_epochs_continue_a_finished_run_and_fewer_do_not(recipe):
    run = started(recipe, epochs=3)
    assert run_status(run, changed("train.epochs=4")) == "interrupted"
    assert run_status(run, changed("train.epochs=2")) == "finished"


MAY_CHANGE = """train.epochs=9 data.num_workers=3 train.device=cpu train.compile=true log.wandb=offline log.tags=[a] log.every_steps=1
    checkpoint.every_minutes=1 checkpoint.every_steps=2 data.eval_batch_size=7 data.root=elsewhere
    data.labels=moved.csv"""


@pytest.mark.parametrize("override", MAY_CHANGE.split())
def test_keys_that_may_change_may(recipe, override):
    assert run_status(started(recipe, last=True), changed(override)) == "interrupted"


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("optim.lr=1e-3", "optim.lr: 0.0001 -> 0.001"),
        ("model.cbam_stages=[]", "model.cbam_stages: [4] -> []"),
        ("model.weights=w.pth", 'model.weights: null -> "w.pth"'),
        ("data.batch_size=16", "data.batch_size: 32 -> 16"),
        ("train.amp=off", 'train.amp: "auto" -> "off"'),
        ("train.grad_accum=2", "train.grad_accum: 1 -> 2"),
        ("mixup.prob=1", "mixup.prob: 0.5 -> 1.0"),
    ],
)
def test_another_recipes_run_is_refused_with_the_difference(recipe, override, line):
    for run in (started(recipe, last=True), started(recipe, epochs=3)):
        before = tree(run.path)
        assert mistake(run, changed(override, "train.epochs=5")) == [
            f"runs/a/seed118: made with another recipe: {line}",
            "runs/a/seed118: run.name=NAME, or --new, starts another run, --overwrite starts this one over",
        ]
        assert tree(run.path) == before
        assert run_status(run, changed(override), overwrite=True) == "new"


def test_all_differences_are_shown(recipe):
    found = mistake(started(recipe, last=True), changed("optim.lr=1", "aug.size=64", "freeze.stages=[]"))
    assert len(found) == 4
    assert [line.split(": ")[2] for line in found[:3]] == ["aug.size", "freeze.stages", "optim.lr"]


def test_a_folder_that_is_no_run_is_refused_even_to_overwrite(recipe):
    run = RunFolder.of(recipe)
    run.path.mkdir(parents=True)
    (run.path / "thesis.tex").write_text("mine")
    for overwrite in (False, True):
        assert mistake(run, recipe, overwrite=overwrite) == [
            "runs/a/seed118: exists, but is no run folder; choose another with run.name=NAME or run.dir=FOLDER"
        ]


def test_a_file_in_the_place_of_a_folder_is_refused(recipe):
    Path("runs").write_text("")
    assert mistake(RunFolder.of(recipe), recipe) == ["runs/a/seed118: cannot be a run folder: Not a directory"]
    file = changed("run.dir=other")
    Path("other/a").mkdir(parents=True)
    Path("other/a/seed118").write_text("")
    assert mistake(RunFolder.of(file), file) == ["other/a/seed118: cannot be a run folder: Not a directory"]


def test_a_damaged_config_or_summary_is_named(recipe):
    run = started(recipe, epochs=3)
    text = run.config.read_text()
    run.config.write_text(text.replace("lr: 0.0001", "lr: quick") + "extra: 1\n")
    assert mistake(run, recipe) == [
        "runs/a/seed118/config.yaml: extra: unknown key; nearest: train",
        "runs/a/seed118/config.yaml: optim.lr: must be a valid number, got 'quick'",
    ]
    assert run_status(run, recipe, overwrite=True) == "new"
    run.config.write_text(text)
    for damaged in ("", "{", "[]", "{}", "null", '{"epochs": "x", "stopped_early": false}', "\xff"):
        run.summary.write_bytes(damaged.encode("latin-1"))
        assert mistake(run, recipe) == ["runs/a/seed118/summary.json: damaged; delete it to continue the run, or --overwrite starts over"]


def test_results_without_a_state_are_not_silently_overwritten(recipe):
    run = started(recipe, epochs=2)
    run.state_files()[0].unlink()
    assert mistake(run, recipe) == ["runs/a/seed118: has a best checkpoint, but no saved state to continue from; --overwrite starts over"]
    run.write_json(run.summary, {"epochs": 3, "stopped_early": False})
    assert run_status(run, recipe) == "finished"  # a finished run does not need it


def test_a_new_run_takes_the_first_free_number(recipe):
    def name(**options: bool) -> str:
        return str(numbered(recipe, **options).run.name)

    assert name() == name(again=True) == "a"
    started(recipe, last=True)
    started(changed("run.name=a-3"), last=True)
    assert name() == "a-2"
    assert numbered(changed("seed=3")).run.name == "a", "of another seed there is none"
    started(numbered(recipe), last=True)
    assert name() == "a-4"


def test_a_process_that_is_started_again_takes_up_what_it_has_begun(recipe):
    """Else each restart of torchrun would begin another run."""
    started(recipe, epochs=3)
    assert numbered(recipe, again=True).run.name == "a-2", "the former one is finished"
    started(numbered(recipe), last=True)
    assert numbered(recipe, again=True).run.name == "a-2"


def test_a_number_that_makes_a_name_too_long_is_refused(folder):
    recipe = changed(f"run.name={'x' * 99}")
    started(recipe)
    with pytest.raises(UserError, match=r"run.name: x+-2 is too long"):
        numbered(recipe)


def test_the_decision_of_train_hours_says_when_a_run_is_finished(recipe):
    limited = changed("train.hours=8", "train.epochs=50")
    run = started(limited, epochs=10)
    assert run_status(run, limited) == "interrupted"
    plan = {"hours": 8.0, "epochs": 10, "after_epoch": 1, "last_epoch": None}
    run.write_json(run.time_plan, plan)
    assert run_status(run, limited) == "finished"
    assert run_status(run, changed("train.hours=9", "train.epochs=50")) == "interrupted"
    assert run_status(run, changed("train.epochs=50")) == "interrupted", "without a limit the epochs count"
    run.write_json(run.summary, {"epochs": 9, "stopped_early": False})
    assert run_status(run, limited) == "interrupted"
    run.write_json(run.time_plan, {**plan, "last_epoch": 9})
    assert run_status(run, limited) == "finished"
    run.time_plan.write_text("{")
    assert mistake(run, limited) == [f"{run.time_plan}: damaged; restore it, or --overwrite starts over"]
