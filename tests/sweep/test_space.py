"""What SPACE.yaml may say, and the line for each mistake in it."""

from pathlib import Path

import pytest

from hw1.config.load import all_keys, load_recipe
from hw1.config.recipe import Recipe
from hw1.config.settings import flatten
from hw1.errors import UserError
from hw1.sweep.space import FIXED, Choice, Range, as_overrides, num_combinations, read_space


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("tiny.yaml").write_text("train: {epochs: 2}\nsched: {name: cosine, warmup_epochs: 1, min_lr: 0}\n")
    return "tiny.yaml"


def read(text: str, *overrides: str) -> object:
    Path("space.yaml").write_text(text)
    return read_space("space.yaml", "tiny.yaml", overrides)


def test_lists_and_ranges_are_read_and_counted(recipe):
    space = read(
        "optim.lr: {low: 1e-5, high: 1, log: true}\ndata.batch_size: {low: 8, high: 32, step: 8}\nmodel.cbam_stages: [[4], [3, 4], []]"
    )
    assert space == {
        "optim.lr": Range(1e-5, 1.0, True, None, False),
        "data.batch_size": Range(8, 32, False, 8, True),
        "model.cbam_stages": Choice(([4], [3, 4], [])),
    }
    assert num_combinations(space) == float("inf")
    del space["optim.lr"]
    assert num_combinations(space) == 4 * 3


@pytest.mark.parametrize(
    "values", [{"optim.lr": 1.2345678901234e-07}, {"model.cbam_stages": [3]}, {"sched.name": "cosine"}, {"freeze.until_epoch": None}]
)
def test_a_recipe_takes_the_values_as_they_were_drawn(recipe, values):
    [(key, value)] = values.items()
    found = dict(flatten(load_recipe(recipe, ["freeze.stages=[layer1]", *as_overrides(values)]).model_dump()))[key]
    assert found == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("optim.lrr: [1, 2]", "optim.lrr: unknown key; nearest: optim.lr"),
        ("optim.lr: {low: 0, high: 1}", "optim.lr: must be greater than 0, got 0.0"),
        ("aug.hflip: {low: 0, high: 2}", "aug.hflip: must be less than or equal to 1, got 2.0"),
        ("aug.hflip: [0.5, yes, 3]", "aug.hflip: must be a valid number, got 'yes'"),
        ("optim.lr: {low: 1e-3, high: 1e-4}", "optim.lr: low must be less than high, got 0.001 and 0.0001"),
        ("optim.weight_decay: {low: 0, high: 1, log: true}", "optim.weight_decay: low must be more than 0 with log, got 0"),
        ("optim.lr: {low: 1e-4, hgih: 1e-2}", "optim.lr: hgih: unknown; nearest: high"),
        ("optim.lr: {low: 1e-4}", "optim.lr: high: must be a number, got null"),
        ("optim.lr: {low: 1e-4, high: 1, step: 2}", "optim.lr: step must be more than 0, at most high - low, and without log, got 2"),
        ("optim.lr: 1e-3", "optim.lr: must be a list of values or {low: A, high: B}, got 0.001; one value belongs into the recipe"),
        ("optim.lr: [1e-3]", "optim.lr: must list two different values or more, got [0.001]"),
        ("optim.lr: [1e-3, 1e-3, 1]", "optim.lr: must list two different values or more, got [0.001, 0.001, 1]"),
        ("optim: {lr: [1e-3, 1e-2]}", "optim: sections have no place here; write optim.lr: ..."),
        ("optim: {lrr: {low: 1, high: 2}}", "optim: sections have no place here; write optim.lrr: ..."),
        ("optim.kwargs: {eps: [1e-8, 1e-7]}", "optim.kwargs: sections have no place here; write optim.kwargs.eps: ..."),
        ("data.batch_size: {low: 8, high: 16.5}", "data.batch_size: high: must be a whole number, got 16.5"),
        ("sched.name: {low: 1, high: 2}", "sched.name: takes no number, so it has no range; list its values"),
        ("seed: [0, 1]", "seed: is the same in all trials; set it in the recipe or on the command line"),
        ("train.epochs: [1, 2]", "train.epochs: is the same in all trials; set it in the recipe or on the command line"),
        ("mixup.alpha: [0.1, 0.2]", "mixup.alpha: is set on the command line too; leave it out in one place"),
        ("sched.warmup_epochs: [0, 3]", "sched.warmup_epochs: must not exceed train.epochs (2), got 3.0"),
        ("- optim.lr", None),
        ("", None),
        ("optim.lr: [1, 2", None),
        ("optim.lr: !!python/object:os.system [1, 2]", None),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(recipe, text, line):
    with pytest.raises(UserError) as error:
        read(text, "mixup.alpha=0.3")
    assert all("\n" not in problem and problem.startswith("space.yaml: ") for problem in error.value.problems)
    if line is not None:
        assert error.value.problems == (f"space.yaml: {line}",)


def test_all_mistakes_are_said_at_once(recipe):
    with pytest.raises(UserError) as error:
        read("optim.lrr: [1, 2]\nmodel.drop_rate: [0, 7]\nseed: [1, 2]")
    assert [problem.split(": ")[1] for problem in error.value.problems] == ["optim.lrr", "model.drop_rate", "seed"]


def test_a_value_that_the_rest_of_the_recipe_forbids_is_said_with_what_forbids_it(recipe):
    with pytest.raises(UserError) as error:
        read("optim.lr: [1e-3, 1e-9]", "sched.min_lr=1e-6")
    assert error.value.problems[0].startswith("space.yaml: optim.lr: 1e-09 does not go with the rest: command line: sched.min_lr: ")


def test_no_such_file_is_said(recipe):
    with pytest.raises(UserError, match=r"nothing\.yaml: no such file"):
        read_space("nothing.yaml", recipe, [])


def test_the_keys_that_are_fixed_are_keys():
    import fnmatch

    for pattern in set(FIXED) - {"base"}:
        assert fnmatch.filter(all_keys(Recipe), pattern), pattern
