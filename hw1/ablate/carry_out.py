"""Train planned runs, here or on a Ray cluster."""

import argparse
from collections.abc import Sequence

from hw1.ablate.child_process import ChildProcess
from hw1.ablate.plan import PlannedRun, conclude, describe, seconds_left, train
from hw1.ablate.ray_cluster.scheduler import run_on_ray
from hw1.errors import Interrupted
from hw1.utils.console import say
from hw1.utils.text import format_seconds


def carry_out(runs: Sequence[PlannedRun], args: argparse.Namespace) -> None:
    """Train what is not finished, here or on a Ray cluster as the options of `add_ray_options` say."""
    if args.ray is None:
        run_locally(runs)
    else:
        run_on_ray(runs, args.ray, args.cpus_per_run, args.gpus_per_run)


def run_locally(runs: Sequence[PlannedRun]) -> None:
    """Train what is not finished, one run after the other.

    Raises:
        RunError: At the end, if some runs failed.
        Interrupted: After SIGINT or SIGTERM, once the run under way has saved and ended.
    """
    say(describe(runs))
    failed = []
    child = ChildProcess()
    with child.listening():
        for number, run in enumerate(runs, start=1):
            if run.status == "finished":
                continue
            left = seconds_left(runs[number - 1 :], runs)
            say(f"run {number} of {len(runs)}: {run.folder.path}" + (f", about {format_seconds(left)} left" if left else ""))
            problem = train(run, child).problem
            if child.signum is not None:
                num_unfinished = sum(other.status != "finished" for other in runs)
                message = f"interrupted in run {number} of {len(runs)}; {num_unfinished} are not finished, the same command continues"
                raise Interrupted(child.signum, message)
            if problem:
                failed.append(problem)
                say(f"{problem}; the others go on")
    conclude(runs, failed)
