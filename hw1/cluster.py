"""The runs of a plan on a Ray cluster, many at once: each is an actor that starts the same `train.py` as its child.

Ray decides where and when a run starts, and says if its worker or node has died. What a run does, and what counts as finished, continued
and failed, is the plan's and `train.py`'s. The run folders are the only memory: whatever dies, the same command goes on from them.
"""

import os
import re
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from hw1.child import ChildRunner
from hw1.data.cores import usable_cores
from hw1.environment import code_digest
from hw1.errors import EXIT_USER, Interrupted, UserError
from hw1.interrupt import StopRequest
from hw1.plan import Outcome, PlannedRun, conclude, describe, train

say = partial(tqdm.write, file=sys.stderr)  # beside a bar
LOCAL = "local"
ADDRESS = re.compile(rf"{LOCAL}|auto|(ray://)?[^/\s:=]+:\d+")
POLL_SECONDS = 0.5
LOG_SECONDS = 1.0
"""How long the last lines of a run take to arrive from its node."""
HANDOVER_SECONDS = 180.0
"""How long a run waits for its former process, whose worker or node died, to let go of the folder; NFS takes up to 90 s to notice."""
MAX_LOSSES = 10
"""With more workers or nodes than this lost under it, in one call, a run has failed: it may be what kills them."""
ENDED_BY_OTHERS = {128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM}
"""Exit codes of a run that was told to end, though not by this command: its machine is being taken away."""


class Node(NamedTuple):
    """A machine of the cluster."""

    id: str
    name: str
    """Its address, unless `ray start --node-name` gave it another."""
    cpus: int
    gpus: float


class Share(NamedTuple):
    """What one run gets."""

    cpus: int
    gpus: float

    def times_in(self, node: Node) -> int:
        """How many runs the node can take at once."""
        by_cpus = node.cpus // self.cpus
        return min(by_cpus, int(node.gpus / self.gpus + 1e-9)) if self.gpus else by_cpus

    def __str__(self) -> str:
        return (f"{self.gpus:g} GPU and " if self.gpus else "") + f"{self.cpus} core" + ("s" if self.cpus > 1 else "")


class Site(NamedTuple):
    """What a node must have as the driver has it."""

    folder: str
    """Where the commands run."""
    code: str
    """`code_digest` of this project."""
    marks: tuple[str, ...]
    """A file in each folder of runs."""
    roots: tuple[str, ...]
    """Folders of data."""

    def find_problems(self) -> list[str]:
        """What is missing on the machine that calls this."""
        if not Path(self.folder).is_dir():
            return [f"{self.folder}: no such folder there; the command runs in it"]
        problems = [f"{Path(mark).parent}: not shared: a file written there is not seen" for mark in self.marks if not Path(mark).exists()]
        if code_digest() != self.code:
            problems.append("another version of this project's code is there")
        folders = [(root, Path(self.folder, Path(root).expanduser())) for root in self.roots]
        return problems + [f"data.root: {root}: no such folder there" for root, path in folders if not path.is_dir()]


def check_options(address: str | None, cpus: int | None, gpus: float | None) -> None:
    """Raises `UserError` for what cannot be asked for, None standing for an option not given, and where Ray is not installed."""
    if address is None:
        if cpus is not None or gpus is not None:
            raise UserError("--cpus-per-run, --gpus-per-run: only with --ray")
        return
    if cpus is not None and cpus < 1:
        raise UserError(f"--cpus-per-run: at least 1, got {cpus}")
    if gpus is not None and not 0 <= gpus <= 1:
        raise UserError(f"--gpus-per-run: 0 to 1, as a run uses one GPU, got {gpus:g}")
    if not ADDRESS.fullmatch(address):
        raise UserError(f"--ray: {address}: no address; auto, HOST:PORT or ray://HOST:PORT, or nothing behind it for this machine alone")
    if find_spec("ray") is None:
        raise UserError("--ray: Ray is not installed; pip install -r requirements-ray.txt")


def carry_out_on_ray(runs: Sequence[PlannedRun], address: str, cpus: int | None, gpus: float | None) -> None:
    """Trains what is not finished, as many runs at once as the cluster takes.

    `cpus` and `gpus` are for each run; None: see `choose_share`. Raises `UserError` before anything has started, `RunError` at the end if
    some failed; after SIGINT or SIGTERM `Interrupted`, once the runs under way have saved and ended.
    """
    pending = [run for run in runs if run.status != "finished"]
    if not pending:
        conclude(runs, [])
        return
    with connected(address) as ray, marked_folders(pending) as marks:
        nodes = list_nodes(ray)
        share = choose_share(nodes, cpus, gpus, any(run.recipe.train.device != "cpu" for run in pending))
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


# ------------------------------------------------------------------------------------------------------------- cluster


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """The module `ray`, connected to the cluster, or to one of this machine alone that is started, and ended, for it.

    Raises `UserError` where there is none.
    """
    for name, value in (("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_DEDUP_LOGS", "0"), ("RAY_COLOR_PREFIX", "0")):
        os.environ.setdefault(name, value)  # which Ray reads when it is imported
    import ray

    options: dict[str, Any] = {"logging_level": "ERROR"}
    if address == LOCAL:  # nothing of size passes through Ray's object store
        options |= {"num_cpus": usable_cores(), "object_store_memory": 80 * 2**20, "include_dashboard": False}
    try:
        ray.init(address, **options)
    except (ConnectionError, RuntimeError, ValueError, ImportError, ray.exceptions.RayError) as error:
        raise UserError(f"--ray {address}: {str(error).strip().partition(chr(10))[0]}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def list_nodes(ray: Any) -> list[Node]:
    """The machines that are there now."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    amounts = [node["Resources"] for node in alive]
    return [
        Node(node["NodeID"], node["NodeName"], int(amount.get("CPU", 0)), amount.get("GPU", 0.0))
        for node, amount in zip(alive, amounts, strict=True)
    ]


def choose_share(nodes: Sequence[Node], cpus: int | None, gpus: float | None, may_use_gpu: bool) -> Share:
    """What each run gets: one GPU where there are GPUs, with its part of its machine's cores; else all cores of the smallest machine.

    Machines without cores, or without GPUs where those are used, take no part. Raises `UserError` if none is large enough.
    """
    if gpus is None:
        gpus = 1.0 if may_use_gpu and any(node.gpus >= 1 for node in nodes) else 0.0
    able = [node for node in nodes if node.gpus >= gpus and node.cpus >= 1]
    if cpus is None:
        parts = [int(node.cpus * gpus / node.gpus) if gpus else node.cpus for node in able]
        cpus = max(min(parts, default=1), 1)
    share = Share(cpus, gpus)
    if not any(share.times_in(node) for node in able):
        there = ", ".join(f"{node.name}: {node.gpus:g} GPU, {node.cpus} cores" for node in nodes)
        raise UserError(f"--ray: no machine of the cluster has {share} for a run ({there})")
    return share


@contextmanager
def marked_folders(runs: Sequence[PlannedRun]) -> Iterator[tuple[str, ...]]:
    """Makes the folders of these runs' folders, and an empty file in each for as long as the block lasts; yields the files' paths."""
    marks = [Path(folder).absolute() / f".ray-{secrets.token_hex(4)}" for folder in dict.fromkeys(run.recipe.run.dir for run in runs)]
    try:
        for mark in marks:
            try:
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()
            except OSError as error:
                raise UserError(f"run.dir: {error.filename}: cannot be written to: {error.strerror}") from None
        yield tuple(map(str, marks))
    finally:
        for mark in marks:
            mark.unlink(missing_ok=True)


def check_nodes(ray: Any, nodes: Sequence[Node], site: Site) -> None:
    """Looks on every machine at once. Raises `UserError` with what each lacks."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(Site.find_problems)
    answers = [(node, look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)).remote(site)) for node in nodes]
    problems = []
    for node, answer in answers:
        try:
            found = ray.get(answer)
        except (ray.exceptions.RayError, ImportError) as error:
            found = [str(error).strip().rpartition("\n")[2]]
        problems += [f"node {node.name}: {problem}" for problem in found]
    if problems:
        raise UserError(*problems)


# ---------------------------------------------------------------------------------------------------------------- runs


class Trainer:
    """The actor: one run on the node that Ray chose. Two threads, so that `stop` is heard while `train` waits."""

    def __init__(self, run: PlannedRun, cpus: int, site: Site) -> None:
        self.run, self.site = run, site
        self.runner = ChildRunner()
        os.environ["OMP_NUM_THREADS"] = os.environ["HW1_CORES"] = str(cpus)

    def __repr__(self) -> str:
        """What Ray puts before each line that the run writes."""
        return f"{self.run.recipe.run.name} seed{self.run.recipe.seed}"

    def train(self) -> Outcome:
        if problems := self.site.find_problems():  # the node may have come later than the others
            return Outcome(EXIT_USER, f"{self.run.folder.path}: {problems[0]}")
        os.chdir(self.site.folder)
        deadline = time.monotonic() + HANDOVER_SECONDS
        while self.run.folder.is_locked() and time.monotonic() < deadline and self.runner.signum is None:
            time.sleep(POLL_SECONDS)
        return train(self.run, self.runner)

    def node_name(self) -> str:
        import ray

        here = ray.get_runtime_context().get_node_id()
        return next(node.name for node in list_nodes(ray) if node.id == here)

    def stop(self) -> None:
        self.runner.stop(signal.SIGTERM)


@dataclass(eq=False)
class Attempt:
    """One run in Ray's hands, and Ray's references to the answers of its actor."""

    run: PlannedRun
    actor: Any
    started: Any
    """The name of its node."""
    ended: Any
    """The outcome."""
    node: str = "that it was to have"


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
        path = attempt.run.folder.path
        try:
            outcome = self.ray.get(attempt.ended)
        except self.ray.exceptions.RayActorError:
            outcome = None
            self.ray.kill(attempt.actor)  # should only the way to it be lost, it ends
        if outcome and outcome.problem is None:
            attempt.run.status = "finished"
            say(f"{path}: finished on node {attempt.node}")
        elif self.is_stopping:
            return
        elif outcome and outcome.code not in ENDED_BY_OTHERS:
            self.fail(f"{outcome.problem} (node {attempt.node})")
        else:
            self.losses[path] += 1
            if self.losses[path] > MAX_LOSSES:
                self.fail(f"{path}: lost {self.losses[path]} times with its worker or node, the last one {attempt.node}")
            else:
                say(f"{path}: lost with its worker or node {attempt.node}; goes on where there is room")
                self.hand_over(attempt.run)

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
