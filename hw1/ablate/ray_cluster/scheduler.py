"""Hands runs to Ray and follows them: each is an actor on some machine, which starts the same `train.py` as its child."""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hw1.ablate.child_process import ChildProcess, end_with_parent
from hw1.ablate.plan import Outcome, PlannedRun, conclude, describe, train
from hw1.ablate.ray_cluster.connection import connected
from hw1.ablate.ray_cluster.nodes import Share, Site, check_nodes, choose_share, list_nodes, marked_folders
from hw1.errors import EXIT_USER, Interrupted
from hw1.runs.environment import code_digest
from hw1.utils.signals import StopRequest

say = partial(tqdm.write, file=sys.stderr)  # which spares the bar
POLL_SECONDS = 0.5
LOG_SECONDS = 1.0
"""How long the last lines of a run may be on their way."""
HANDOVER_SECONDS = 180.0
"""How long a run waits for its former process, whose worker or node died, to let go of the folder; NFS takes 90 s to notice."""
MAX_LOSSES = 10
"""A run under which more workers or nodes died than that, in one call, has failed: it may be what kills them."""
ENDED_BY_OTHERS = {128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM}


def carry_out_on_ray(runs: Sequence[PlannedRun], address: str, cpus: int | None, gpus: float | None) -> None:
    """Trains what is not finished, as many runs at once as the cluster takes.

    `cpus` and `gpus` of each run: see `choose_share`. Raises `UserError` before anything has started, `RunError` at the end if some
    failed; after SIGINT or SIGTERM `Interrupted`, once the runs under way have saved and ended.
    """
    pending = [run for run in runs if run.status != "finished"]
    if not pending:
        conclude(runs, [])
        return
    with connected(address) as ray, marked_folders(pending) as marks:
        nodes = list_nodes(ray)
        share = choose_share(nodes, cpus, gpus, on_gpu=any(run.recipe.train.device != "cpu" for run in pending))
        roots = {str(run.recipe.data.root) for run in pending if not run.recipe.data.generate}
        site = Site(os.getcwd(), code_digest(), marks, tuple(sorted(roots)))
        check_nodes(ray, [node for node in nodes if share.times_in(node)], site)
        at_once = sum(share.times_in(node) for node in nodes)
        say(f"{describe(runs, at_once=at_once)}; {at_once} at once, each with {share}")
        with StopRequest().listening() as stop:
            failed = Supervisor(ray, runs, share, site).work(stop)
        time.sleep(LOG_SECONDS)
    if stop.signum is not None:
        to_go = sum(run.status != "finished" for run in runs)
        raise Interrupted(stop.signum, f"interrupted; {to_go} of {len(runs)} runs are not finished, the same command continues")
    conclude(runs, failed)


class Trainer:
    """The actor: one run on the machine that Ray chose. It has two threads, so that `stop` is heard while `train` waits."""

    def __init__(self, run: PlannedRun, cpus: int, site: Site) -> None:
        self.run, self.site = run, site
        self.runner = ChildProcess()
        end_with_parent(signal.SIGKILL)  # workers may outlive their node's process, which kept the run from going on elsewhere
        os.environ["OMP_NUM_THREADS"] = os.environ["HW1_CORES"] = str(cpus)

    def __repr__(self) -> str:
        """What Ray puts before each line that the run writes."""
        return f"{self.run.recipe.run.name} seed{self.run.recipe.seed}"

    def node_name(self) -> str:
        import ray

        here = ray.get_runtime_context().get_node_id()
        return next(node.name for node in list_nodes(ray) if node.id == here)

    def train(self) -> Outcome:
        if problems := self.site.find_problems():  # on a machine that came later than the others
            return Outcome(EXIT_USER, f"{self.run.folder.path}: {problems[0]}")
        os.chdir(self.site.folder)
        deadline = time.monotonic() + HANDOVER_SECONDS
        while self.run.folder.is_locked() and time.monotonic() < deadline and self.runner.signum is None:
            time.sleep(POLL_SECONDS)
        return train(self.run, self.runner)

    def stop(self) -> None:
        self.runner.stop(signal.SIGTERM)


@dataclass(eq=False)
class Attempt:
    """One run in Ray's hands, with Ray's references to the answers of its actor."""

    run: PlannedRun
    actor: Any
    started: Any
    """The name of its node."""
    ended: Any
    """Its outcome."""
    node: str = "not known"


class Supervisor:
    """Hands the runs to Ray, says what becomes of them, and hands those over again whose worker or node has died."""

    def __init__(self, ray: Any, runs: Sequence[PlannedRun], share: Share, site: Site) -> None:
        self.ray, self.runs, self.share, self.site = ray, runs, share, site
        self.waiting: dict[Any, Attempt] = {}
        """By each of an attempt's references that is not answered yet."""
        self.losses: Counter[Path] = Counter()
        self.failed: list[str] = []
        self.is_stopping = False

    def work(self, stop: StopRequest) -> list[str]:
        """Returns, when every run has ended for good or, after a signal, has saved, a line for each that failed."""
        for run in self.runs:
            if run.status != "finished":
                self.hand_over(run)
        with tqdm(total=len(self.runs), desc="runs", unit="run", disable=None, dynamic_ncols=True) as bar:
            while self.waiting:
                bar.n = sum(run.status == "finished" for run in self.runs) + len(self.failed)
                bar.refresh()
                answered, _ = self.ray.wait(list(self.waiting), timeout=POLL_SECONDS)
                for reference in answered:
                    if attempt := self.waiting.pop(reference, None):
                        self.hear_start(attempt) if reference == attempt.started else self.hear_end(attempt)
                if stop.signum is not None and not self.is_stopping:
                    self.stop_all()
        return self.failed

    def hand_over(self, run: PlannedRun) -> None:
        remote = self.ray.remote(num_cpus=self.share.cpus, num_gpus=self.share.gpus, max_concurrency=2)(Trainer)
        actor = remote.remote(run, self.share.cpus, self.site)
        attempt = Attempt(run, actor, actor.node_name.remote(), actor.train.remote())
        self.waiting |= {attempt.started: attempt, attempt.ended: attempt}

    def hear_start(self, attempt: Attempt) -> None:
        with suppress(self.ray.exceptions.RayActorError):  # it has died since, as its end will say
            attempt.node = self.ray.get(attempt.started)
            say(f"{attempt.run.folder.path}: on node {attempt.node}")

    def hear_end(self, attempt: Attempt) -> None:
        if self.waiting.pop(attempt.started, None):
            self.hear_start(attempt)
        run, path = attempt.run, attempt.run.folder.path
        try:
            outcome = self.ray.get(attempt.ended)
        except self.ray.exceptions.RayActorError:
            outcome = None
        self.ray.kill(attempt.actor)  # gives its place to another; after an error too, as only the way to it may have been lost
        if outcome and outcome.problem is None:
            run.status = "finished"
            say(f"{path}: finished (node {attempt.node})")
        elif self.is_stopping:
            return
        elif outcome and outcome.code not in ENDED_BY_OTHERS:
            self.fail(f"{outcome.problem} (node {attempt.node})")
        else:
            what = "told to end, though not by this command" if outcome else "its worker or node died"
            self.losses[path] += 1
            if self.losses[path] > MAX_LOSSES:
                self.fail(f"{path}: {what} (node {attempt.node}), after {MAX_LOSSES} losses of that kind")
            else:
                say(f"{path}: {what} (node {attempt.node}); goes on where there is room")
                self.hand_over(run)

    def fail(self, problem: str) -> None:
        self.failed.append(problem)
        say(f"{problem}; the others go on")

    def stop_all(self) -> None:
        """Tells the runs under way to save and end, and takes back those that have not started."""
        self.is_stopping = True
        for attempt in set(self.waiting.values()):
            if attempt.started in self.waiting:
                self.ray.kill(attempt.actor)
            else:
                attempt.actor.stop.remote()
