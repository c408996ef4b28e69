"""Runs of a plan as tasks of Ray, which queues them, retries those whose worker or node dies, and cancels them."""

import os
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from tqdm import tqdm

from hw1.ablate.child_process import ChildProcess, end_with_parent
from hw1.ablate.plan import PlannedRun, conclude, describe, train
from hw1.ablate.ray_cluster.connection import MAX_RETRIES, connected
from hw1.ablate.ray_cluster.nodes import Requirements, Resources, check_nodes, choose_resources, current_node, list_nodes, probe_files
from hw1.errors import Interrupted
from hw1.runs.environment import code_digest
from hw1.runs.folder import RunFolder
from hw1.utils.signals import STOP_SIGNALS, StopRequest
from hw1.utils.text import one_line

say = partial(tqdm.write, file=sys.stderr)  # does not break the progress bar
POLL_SECONDS = 0.5
LOG_SECONDS = 1.0
"""How long Ray may take to forward the last lines of a run."""
UNLOCK_SECONDS = 180.0
"""How long a retried run waits for the lock of its former process, whose worker or node died; NFS takes up to 90 s to release it."""
SIGNAL_CODES = {code for signum in STOP_SIGNALS for code in (128 + signum, -signum)}
TASK_ENVIRONMENT = {"RAY_kill_child_processes_on_worker_exit": "0"}
"""Ray would kill the training before it has saved; the training ends by itself when its worker does."""


class EndedBySignal(Exception):
    """A training was ended by a signal that this command did not send; Ray retries its task."""


def run_on_ray(runs: Sequence[PlannedRun], address: str, cpus: int | None, gpus: float | None) -> None:
    """Train what is not finished, as many runs at once as the cluster takes.

    Args:
        runs: The plan.
        address: Of the cluster, see `connected`.
        cpus: Cores of each run; None: see `choose_resources`.
        gpus: GPUs of each run, 0 to 1; None: see `choose_resources`.

    Raises:
        UserError: Before any run has started.
        RunError: At the end, if some runs failed.
        Interrupted: After SIGINT or SIGTERM, once the runs under way have saved and ended.
    """
    unfinished = [run for run in runs if run.status != "finished"]
    if not unfinished:
        conclude(runs, [])
        return
    with connected(address) as ray, probe_files(unfinished) as probes:
        nodes = list_nodes(ray)
        resources = choose_resources(nodes, cpus, gpus, on_gpu=any(run.recipe.train.device != "cpu" for run in unfinished))
        data = [run.recipe.data for run in unfinished if not run.recipe.data.generate]
        data_roots = sorted({each.root for each in data if each.root})
        label_files = sorted({each.labels for each in data if each.labels})
        requirements = Requirements(os.getcwd(), code_digest(), probes, tuple(data_roots), tuple(label_files))
        check_nodes(ray, [node for node in nodes if resources.num_runs(node)], requirements)
        num_parallel = sum(resources.num_runs(node) for node in nodes)
        say(f"{describe(runs, num_parallel=num_parallel)}; {num_parallel} at once, each with {resources}")
        with StopRequest().listening() as stop:
            failed = _follow(ray, _submit(ray, unfinished, resources, requirements), len(runs), stop)
        time.sleep(LOG_SECONDS)
    if stop.signum is not None:
        num_unfinished = sum(run.status != "finished" for run in runs)
        raise Interrupted(stop.signum, f"interrupted; {num_unfinished} of {len(runs)} runs are not finished, the same command continues")
    conclude(runs, failed)


def _submit(ray: Any, runs: Sequence[PlannedRun], resources: Resources, requirements: Requirements) -> dict[Any, PlannedRun]:
    """Return the runs by Ray's references to their tasks."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "HW1_CORES"), str(resources.cpus))
    task = ray.remote(
        num_cpus=resources.cpus,
        num_gpus=resources.gpus,
        max_retries=MAX_RETRIES,
        retry_exceptions=[EndedBySignal],
        runtime_env={"env_vars": TASK_ENVIRONMENT | threads},
    )(train_on_node)
    return {task.options(name=f"{run.recipe.run.name} seed{run.recipe.seed}").remote(run, requirements): run for run in runs}


def _follow(ray: Any, tasks: dict[Any, PlannedRun], num_runs: int, stop: StopRequest) -> list[str]:
    """Wait until every task has ended, and cancel them after a signal.

    Returns:
        A line for each run that failed by itself.
    """
    failed = []
    is_cancelled = False
    with tqdm(total=num_runs, initial=num_runs - len(tasks), desc="runs", unit="run", disable=None, dynamic_ncols=True) as bar:
        while tasks:
            if stop.signum is not None and not is_cancelled:
                is_cancelled = True
                for task in tasks:
                    ray.cancel(task)  # dropped if it has not started, else interrupted: `train_on_node` lets the run save
            ended, _ = ray.wait(list(tasks), timeout=POLL_SECONDS)
            for task in ended:
                run = tasks.pop(task)
                problem = _find_problem(ray, task, run)
                if problem is None:
                    run.status = "finished"
                    say(f"{run.folder.path}: finished")
                elif not is_cancelled:
                    failed.append(problem)
                    say(f"{problem}; the others go on")
                bar.update()
            bar.refresh()
    return failed


def _find_problem(ray: Any, task: Any, run: PlannedRun) -> str | None:
    """Return what the task returned, or one line for the error of its last attempt."""
    try:
        problem: str | None = ray.get(task)
    except ray.exceptions.RayError as error:
        problem = f"{run.folder.path}: {one_line(getattr(error, 'cause', None) or error)}"
    return problem


def train_on_node(run: PlannedRun, requirements: Requirements) -> str | None:
    """Train one run on the machine that Ray chose, until it ends or the task is cancelled.

    Returns:
        What went wrong, as one line; None if the run is finished.

    Raises:
        EndedBySignal: Another than this command ended the training.
    """
    end_with_parent(signal.SIGKILL)  # a worker may outlive its node's raylet, where neither retries nor cancellation reach it
    path, node = run.folder.path, current_node()
    print(f"{path}: on node {node}", file=sys.stderr)
    if problems := requirements.find_problems():  # of a machine that joined after the first check
        return f"{path}: {problems[0]} (node {node})"
    os.chdir(requirements.folder)
    child = ChildProcess()
    with child.listening(signal.SIGINT):  # Ray's cancellation; on SIGTERM Ray ends the worker, and thereby its child
        _wait_for_lock(run.folder, child)
        outcome = train(run, child)
    if outcome.code in SIGNAL_CODES and child.signum is None:
        print(f"{path}: ended by a signal, though not by this command (node {node}); goes on where there is room", file=sys.stderr)
        raise EndedBySignal(f"not by this command (node {node})")
    return outcome.problem and f"{outcome.problem} (node {node})"


def _wait_for_lock(folder: RunFolder, child: ChildProcess) -> None:
    deadline = time.monotonic() + UNLOCK_SECONDS
    while folder.is_locked() and time.monotonic() < deadline and child.signum is None:
        time.sleep(POLL_SECONDS)
