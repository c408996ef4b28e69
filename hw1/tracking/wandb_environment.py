"""wandb's standard variables: what they change in a recipe. The rest of them (WANDB_NOTES, WANDB_DIR, ...) the client reads itself."""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import ValidationError

from hw1.config.recipe import LogConfig, Recipe, RunConfig
from hw1.errors import UserError

VARIABLES = {"WANDB_PROJECT": "project", "WANDB_ENTITY": "entity", "WANDB_RUN_GROUP": "group", "WANDB_TAGS": "tags"}
"""wandb's own variables, and the keys of `log:` that they stand for."""
MODES = {"offline": "offline", "dryrun": "offline", "disabled": "off"}
"""Values of WANDB_MODE, and those of `log.wandb` that they turn `online` and `offline` into."""


def with_environment(recipe: Recipe, typed: Collection[str], environment: Mapping[str, str]) -> tuple[Recipe, list[str]]:
    """Apply wandb's standard variables to the recipe.

    What was typed on the command line comes first, then the environment, then the recipe's files. The environment never switches on what
    `log.wandb: off` says; WANDB_MODE=offline or disabled wins over `online`, whoever asked for that. A trial of a sweep, whose agent sets
    WANDB_SWEEP_ID and WANDB_RUN_ID, gets a run folder of its own, `<run.name>-<run id>`, unless `run.name` was typed.

    Args:
        recipe: The recipe.
        typed: Dotted keys that were typed on the command line.
        environment: The process' variables.

    Returns:
        The recipe to use, and which variables took effect.

    Raises:
        UserError: A variable has a value that wandb refuses.
    """
    log, used = _log_from_environment(recipe.log, typed, environment)
    run = recipe.run
    if environment.get("WANDB_SWEEP_ID") and (trial := environment.get("WANDB_RUN_ID")) and "run.name" not in typed:
        try:
            run = RunConfig.model_validate({**run.model_dump(), "name": f"{run.name}-{trial}"})
        except ValidationError:
            raise UserError(f"environment: WANDB_RUN_ID={trial}: cannot be part of a folder's name; type run.name=NAME") from None
        used.append(f"WANDB_RUN_ID={trial} (run.name={run.name})")
    return recipe.model_copy(update={"log": log, "run": run}), used


def _log_from_environment(config: LogConfig, typed: Collection[str], environment: Mapping[str, str]) -> tuple[LogConfig, list[str]]:
    if config.wandb == "off":
        return config, []
    changes: dict[str, Any] = {}
    used = []
    mode = environment.get("WANDB_MODE", "")
    wanted = MODES.get(mode, config.wandb)
    if wanted != config.wandb:
        changes["wandb"] = wanted
        used.append(f"WANDB_MODE={mode}")
    for variable, key in VARIABLES.items():
        if (value := environment.get(variable)) and f"log.{key}" not in typed:
            changes[key] = [tag.strip() for tag in value.split(",") if tag.strip()] if key == "tags" else value
            used.append(f"{variable}={value}")
    try:
        return LogConfig.model_validate({**config.model_dump(), **changes}), used
    except ValidationError as error:
        problems = [f"{item['loc'][0]}: {item['msg']}" for item in error.errors(include_url=False)]
        raise UserError(*(f"environment: WANDB_*: log.{problem}" for problem in problems)) from None
