"""wandb's standard variables."""

import pytest

from hw1.config.recipe import LogConfig, Recipe, RunConfig
from hw1.errors import UserError
from hw1.tracking.wandb_environment import with_environment


@pytest.mark.parametrize(
    ("config", "typed", "environment", "expected", "used"),
    [
        ({"wandb": "online"}, [], {"WANDB_MODE": "offline"}, {"wandb": "offline"}, 1),
        ({"wandb": "online"}, ["log.wandb"], {"WANDB_MODE": "disabled"}, {"wandb": "off"}, 1),
        ({"wandb": "off"}, [], {"WANDB_MODE": "online", "WANDB_PROJECT": "p"}, {"wandb": "off", "project": "hw1"}, 0),
        ({"wandb": "offline"}, [], {"WANDB_MODE": "online"}, {"wandb": "offline"}, 0),
        ({"wandb": "offline"}, [], {"WANDB_PROJECT": "p", "WANDB_RUN_GROUP": "g"}, {"project": "p", "group": "g"}, 2),
        ({"wandb": "offline", "project": "typed"}, ["log.project"], {"WANDB_PROJECT": "p"}, {"project": "typed"}, 0),
        ({"wandb": "offline", "tags": ["x"]}, [], {"WANDB_TAGS": "a, b"}, {"tags": ("a", "b")}, 1),
        ({"wandb": "offline"}, [], {"WANDB_PROJECT": ""}, {"project": "hw1"}, 0),
    ],
)
def test_what_was_typed_comes_before_the_environment_and_that_before_the_recipe(config, typed, environment, expected, used):
    found, variables = with_environment(Recipe(log=LogConfig.model_validate(config)), typed, environment)
    assert {key: getattr(found.log, key) for key in expected} == expected
    assert len(variables) == used


def test_a_variable_that_wandb_refuses_is_one_line():
    with pytest.raises(UserError, match=r"^environment: WANDB_\*: log\.project: "):
        with_environment(Recipe(log=LogConfig(wandb="offline")), [], {"WANDB_PROJECT": "a/b"})


TRIAL = {"WANDB_SWEEP_ID": "s1", "WANDB_RUN_ID": "abc123"}


@pytest.mark.parametrize(
    ("typed", "environment", "name"),
    [
        ([], TRIAL, "flowers-abc123"),
        (["run.name"], TRIAL, "flowers"),  # two trials would share it, but who types it wants it
        ([], {"WANDB_RUN_ID": "abc123"}, "flowers"),  # no sweep: the folder is the recipe's
        ([], {}, "flowers"),
    ],
)
def test_a_trial_of_a_sweep_has_a_folder_of_its_own(typed, environment, name):
    found, _ = with_environment(Recipe(run=RunConfig(name="flowers")), typed, environment)
    assert found.run.name == name


def test_a_run_id_that_is_no_folder_name_is_one_line():
    with pytest.raises(UserError, match=r"^environment: WANDB_RUN_ID=a/b: cannot be part of a folder's name; type run\.name=NAME$"):
        with_environment(Recipe(run=RunConfig(name="flowers")), [], {**TRIAL, "WANDB_RUN_ID": "a/b"})
