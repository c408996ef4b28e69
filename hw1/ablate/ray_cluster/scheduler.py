"""Runs of a plan as tasks of Ray, which queues them, retries those whose worker or node dies, and cancels them."""

import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from tqdm import tqdm

from hw1.ablate.child_process import ChildProcess, end_with_parent
from hw1.ablate.plan import PlannedRun, conclude, describe, train, wait_for_lock
from hw1.ablate.ray_cluster.connection import MAX_RETRIES, connected
from hw1.ablate.ray_cluster.nodes import Requirements, Resources, check_nodes, choose_resources, current_node, list_nodes, probe_files
from hw1.ablate.run_queue import RunQueue
from hw1.errors import Interrupted
from hw1.runs.environment import code_digest
from hw1.utils.signals import STOP_SIGNALS, StopRequest
from hw1.utils.text import one_line

say = partial(tqdm.write, file=sys.stderr)  # does not break the progress bar
POLL_SECONDS = 0.5
LOG_SECONDS = 1.0
"""How long Ray may take to forward the last lines of a run."""
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
    with open_cluster(unfinished, address, cpus, gpus) as cluster:
        say(f"{describe(runs, num_parallel=cluster.num_parallel)}; {cluster}")
        with StopRequest().listening() as stop:
            failed = _follow(cluster, {cluster.submit(run): run for run in unfinished}, len(runs), stop)
    if stop.signum is not None:
        num_unfinished = sum(run.status != "finished" for run in runs)
        raise Interrupted(stop.signum, f"interrupted; {num_unfinished} of {len(runs)} runs are not finished, the same command continues")
    conclude(runs, failed)


def train_queue_on_ray(queue: RunQueue, first: PlannedRun, address: str, cpus: int | None, gpus: float | None) -> None:
    """Train what a queue gives until it has no more, as many runs at once as the cluster takes; the rest as in `run_on_ray`.

    Args:
        queue: The runs.
        first: A run with the folder, the data and the device of them all.
        address: Of the cluster, see `connected`.
        cpus: Cores of each run; None: see `choose_resources`.
        gpus: GPUs of each run, 0 to 1; None: see `choose_resources`.
    """
    with open_cluster([first], address, cpus, gpus) as cluster:
        say(str(cluster))
        tasks: dict[Any, PlannedRun] = {}
        cancelled: set[Any] = set()
        with StopRequest().listening() as stop:
            while True:
                while stop.signum is None and len(tasks) < cluster.num_parallel and (run := queue.take()) is not None:
                    tasks[cluster.submit(run)] = run
                if not tasks:
                    break
                for task in [task for task in tasks if task not in cancelled]:
                    if stop.signum is not None or queue.is_unpromising(tasks[task]):
                        cancelled.add(task)
                        cluster.cancel(task)
                for task in cluster.ended(tasks):
                    run = tasks.pop(task)
                    problem = cluster.find_problem(task, run)
                    if stop.signum is None:
                        queue.end(run, problem)
    if stop.signum is not None:
        raise Interrupted(stop.signum, "interrupted; the same command continues")


@dataclass(frozen=True)
class Cluster:
    """A cluster whose machines see what the runs need, and what each run gets of them."""

    ray: Any
    resources: Resources
    requirements: Requirements
    num_parallel: int
    """Runs at once."""

    def __str__(self) -> str:
        """Return it as words: "4 at once, each with 1 GPU and 8 cores"."""
        return f"{self.num_parallel} at once, each with {self.resources}"

    def submit(self, run: PlannedRun) -> Any:
        """Return Ray's reference to the task that trains a run."""
        threads = dict.fromkeys(("OMP_NUM_THREADS", "HW1_CORES"), str(self.resources.cpus))
        task = self.ray.remote(
            num_cpus=self.resources.cpus,
            num_gpus=self.resources.gpus,
            max_retries=MAX_RETRIES,
            retry_exceptions=[EndedBySignal],
            runtime_env={"env_vars": TASK_ENVIRONMENT | threads},
        )(train_on_node)
        return task.options(name=f"{run.recipe.run.name} seed{run.recipe.seed}").remote(run, self.requirements)

    def cancel(self, task: Any) -> None:
        """Drop a task that has not started; interrupt another, whose run `train_on_node` lets save."""
        self.ray.cancel(task)

    def ended(self, tasks: Iterable[Any]) -> list[Any]:
        """Wait for a moment, and return tasks that have ended."""
        ended, _ = self.ray.wait(list(tasks), timeout=POLL_SECONDS)
        return list(ended)

    def find_problem(self, task: Any, run: PlannedRun) -> str | None:
        """Return what an ended task returned, or one line for the error of its last attempt."""
        try:
            problem: str | None = self.ray.get(task)
        except self.ray.exceptions.RayError as error:
            problem = f"{run.folder.path}: {one_line(getattr(error, 'cause', None) or error)}"
        return problem


@contextmanager
def open_cluster(runs: Sequence[PlannedRun], address: str, cpus: int | None, gpus: float | None) -> Iterator[Cluster]:
    """Connect to a cluster and check its machines; the arguments are those of `run_on_ray`.

    Raises:
        UserError: There is no cluster, or it lacks what the runs need.
    """
    with connected(address) as ray, probe_files(runs) as probes:
        nodes = list_nodes(ray)
        resources = choose_resources(nodes, cpus, gpus, on_gpu=any(run.recipe.train.device != "cpu" for run in runs))
        data = [run.recipe.data for run in runs if not run.recipe.data.generate]
        data_roots = sorted({each.root for each in data if each.root})
        label_files = sorted({each.labels for each in data if each.labels})
        requirements = Requirements(os.getcwd(), code_digest(), probes, tuple(data_roots), tuple(label_files))
        check_nodes(ray, [node for node in nodes if resources.num_runs(node)], requirements)
        yield Cluster(ray, resources, requirements, sum(resources.num_runs(node) for node in nodes))
        time.sleep(LOG_SECONDS)


def _follow(cluster: Cluster, tasks: dict[Any, PlannedRun], num_runs: int, stop: StopRequest) -> list[str]:
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
                    cluster.cancel(task)
            for task in cluster.ended(tasks):
                run = tasks.pop(task)
                problem = cluster.find_problem(task, run)
                if problem is None:
                    run.status = "finished"
                    say(f"{run.folder.path}: finished")
                elif not is_cancelled:
                    failed.append(problem)
                    say(f"{problem}; the others go on")
                bar.update()
            bar.refresh()
    return failed


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
        wait_for_lock(run.folder, child)
        outcome = train(run, child)
    if outcome.code in SIGNAL_CODES and child.signum is None:
        print(f"{path}: ended by a signal, though not by this command (node {node}); goes on where there is room", file=sys.stderr)
        raise EndedBySignal(f"not by this command (node {node})")
    return outcome.problem and f"{outcome.problem} (node {node})"
