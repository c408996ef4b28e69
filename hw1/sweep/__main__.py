"""Search the values of a recipe's keys that validate best, and test the winner on new seeds.

SPACE.yaml lists the keys that vary: a list of values, or {low: A, high: B}, with log: true or step: S. Optuna proposes, each trial is an
ordinary run, unpromising ones are stopped early, and the same command continues after a kill.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from hw1.ablate.carry_out import carry_out as train_runs
from hw1.ablate.plan import check_data
from hw1.ablate.plan_folder import locked_folder
from hw1.ablate.ray_cluster.connection import add_ray_options, check_options
from hw1.ablate.ray_cluster.scheduler import train_queue_on_ray
from hw1.ablate.run_queue import train_queue
from hw1.config.settings import split_overrides, without_dashes
from hw1.config.shipped import RULE
from hw1.errors import RunError, UserError, run_command
from hw1.sweep.plan import SweepPlan
from hw1.sweep.space import as_overrides, num_combinations
from hw1.utils.console import say, show
from hw1.utils.files import make_folder, write_atomic
from hw1.utils.own_command import hw1_command
from hw1.utils.text import counted

if TYPE_CHECKING:
    from hw1.sweep.study import Study, Trial

EXIT_CODES = (
    "exit codes: 0 done, 2 mistake in recipe, space, data or folder (nothing was started), 3 too many trials failed, 130/143 interrupted "
    "(SIGINT/SIGTERM), state saved"
)


def parse(argv: Sequence[str], prog: str = "python -m hw1.sweep") -> argparse.Namespace:
    """Parse the command line of the program `prog`."""
    parser = argparse.ArgumentParser(prog, description=__doc__, epilog=EXIT_CODES)
    items_help = f"{RULE}; the file with the keys that vary; and changes to all trials"
    parser.add_argument("items", metavar="RECIPE SPACE.yaml | section.key=value", nargs="+", help=items_help)
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="trials in all, those of before included (default: 20)")
    seeds_help = "new seeds for the winner and the recipe (default: 3, the fewest that give a verdict; 0: none)"
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help=seeds_help)
    parser.add_argument("--top", type=int, default=1, metavar="N", help="test the best N trials on the new seeds (default: 1)")
    stop_help = "a trial may be stopped early after N epochs, if it is worse than the median (default: a fifth of all; train.epochs: never)"
    parser.add_argument("--prune-after", type=int, metavar="N", help=stop_help)
    add_ray_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would vary and stop; needs no data and no Optuna")
    return parser.parse_intermixed_args(without_dashes(argv))


def main(argv: Sequence[str], prog: str = "python -m hw1.sweep") -> None:
    """Carry out the sweep that the command line describes."""
    args = parse(argv, prog)
    check_numbers(args)
    check_options(args.ray, args.cpus_per_run, args.gpus_per_run)
    paths, overrides = split_overrides(args.items)
    if len(paths) != 2:
        raise UserError(f"hw1 sweep: needs one recipe and one SPACE.yaml, got {shlex.join(paths) or 'neither'}")
    recipe_path, space_path = paths
    plan = SweepPlan.read(recipe_path, space_path, overrides)
    num_trials = int(min(args.trials, num_combinations(plan.space)))
    if args.dry_run:
        show(describe_space(plan, num_trials))
        return
    if find_spec("optuna") is None:
        raise UserError("hw1 sweep: Optuna is not installed; pip install -r requirements-sweep.txt")
    check_data(plan.runs_to_check())
    with locked_folder(plan.folder):
        make_folder(plan.trials)
        carry_out(plan, args, num_trials)


def check_numbers(args: argparse.Namespace) -> None:
    """Check the options that are counts.

    Raises:
        UserError: One is too small.
    """
    for name, least in (("trials", 1), ("seeds", 0), ("top", 1), ("prune_after", 1)):
        if (value := getattr(args, name)) is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')}: at least {least}, got {value}")


def describe_space(plan: SweepPlan, num_trials: int) -> str:
    """Return which keys vary, over what, and where the trials are written."""
    width = max(map(len, plan.space))
    lines = []
    for key, values in plan.space.items():
        lines.append(f"{key:<{width}}  {values}  (the recipe's own: {json.dumps(plan.own_value(key), ensure_ascii=False)})")
    return "\n".join([*lines, f"{counted(num_trials, 'trial')} of {plan.recipe.train.epochs} epochs each, in {plan.trials}"])


def carry_out(plan: SweepPlan, args: argparse.Namespace, num_trials: int) -> None:
    """Train the trials, then the winners over new seeds, and say what came of it.

    Raises:
        RunError: No trial was trained to its end, runs failed, or the journal cannot be written.
        Interrupted: A signal asked to stop.
    """
    from hw1.sweep.results import format_table, ranked, write_results

    study = open_study(plan, args.prune_after or max(1, plan.recipe.train.epochs // 5))
    try:
        search(plan, study, args, num_trials)
    except OSError as error:  # a full disk, as Optuna writes its journal
        raise RunError(f"{error.filename or plan.journal}: cannot be written: {error.strerror}; the same command continues") from None
    finally:
        write_results(plan, study.trials())
    trials = ranked(study.trials(), minimize=plan.best_by == "loss")
    show(format_table(plan, trials))
    if trials[0].state != "finished":
        raise RunError(f"{plan.folder}: no trial was trained to its end")
    show(f"{plan.folder}: trials.csv and trials.png; the best one: {command_of(plan, trials[0])}")
    if args.seeds:
        compare_on_new_seeds(plan, trials, args)


def open_study(plan: SweepPlan, prune_after: int) -> "Study":
    """Open the study of a sweep, or begin it.

    Raises:
        UserError: It was begun with another recipe or space, or is damaged.
    """
    from hw1.sweep.study import Study

    study = Study(plan.journal, plan.space, minimize=plan.best_by == "loss", seed=plan.recipe.seed, prune_after=prune_after)
    if facts := study.facts():
        plan.require_same(facts)
    else:
        study.set_facts(plan.facts())
    study.complete_proposals()
    return study


def search(plan: SweepPlan, study: "Study", args: argparse.Namespace, num_trials: int) -> None:
    """Train trials until there are so many, those of before included."""
    from hw1.sweep.trial_queue import TrialQueue

    known = study.trials()
    num_done = sum(trial.state != "running" for trial in known)
    num_trials = max(num_trials, len(known))
    say(f"{plan.folder}: {counted(num_trials, 'trial')}, {num_done} done; each trial's own lines are in {plan.trials}/trialNNN-seed*.log")
    if num_done == num_trials:
        return
    queue = TrialQueue(plan, study, num_trials, say)
    if args.ray is None:
        train_queue(queue)
    else:
        train_queue_on_ray(queue, plan.plan_run(plan.trials, "checked", {}), args.ray, args.cpus_per_run, args.gpus_per_run)


def compare_on_new_seeds(plan: SweepPlan, trials: "list[Trial]", args: argparse.Namespace) -> None:
    """Train the winners and the baseline over new seeds, and say whether they differ and how lucky the winners were.

    Args:
        plan: The sweep.
        trials: All trials, the best first.
        args: The command line.
    """
    from hw1.sweep.confirmation import as_json, choose_contenders, confirm, describe_confirmed, plan_seeds

    contenders = choose_contenders(plan, trials, args.top)
    if not contenders:
        show("all finished trials have the recipe's own values: nothing to compare on new seeds")
        return
    make_folder(plan.seeds)
    train_runs(plan_seeds(plan, contenders, args.seeds), args)
    num_scored = sum(trial.state in ("finished", "pruned") for trial in trials)
    confirmed = confirm(plan, contenders, args.seeds, num_scored)
    write_atomic(plan.folder / "winners.json", (json.dumps(as_json(confirmed), indent=2) + "\n").encode())
    for item in confirmed:
        for line in describe_confirmed(item, plan.best_by, contenders[0].name):
            show(line)
    show(f"next: {hw1_command()} report {shlex.quote(str(plan.seeds))} --baseline {contenders[0].name}")


def command_of(plan: SweepPlan, trial: "Trial") -> str:
    """Return the command that trains a trial's values as a run of its own."""
    return f"{hw1_command()} train {shlex.join([plan.recipe_path, *plan.overrides, *as_overrides(trial.values)])}"


if __name__ == "__main__":
    sys.exit(run_command(main, sys.argv[1:]))
