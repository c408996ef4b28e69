"""The machines of a Ray cluster: what they have, what of it a run gets, and whether they see what the runs need."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from hw1.ablate.plan import PlannedRun
from hw1.errors import UserError
from hw1.runs.environment import code_digest

ANSWER_SECONDS = 120.0


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
    """What every machine must see as the one does that the command was given on."""

    folder: str
    """In which the command runs."""
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
            problems.append("this project's code there is not the same as here")
        folders = [(root, Path(self.folder, Path(root).expanduser())) for root in self.roots]
        return problems + [f"data.root: {root}: no such folder there" for root, folder in folders if not folder.is_dir()]


def list_nodes(ray: Any) -> list[Node]:
    """The machines that are there now."""
    return [
        Node(node["NodeID"], node["NodeName"], int(node["Resources"].get("CPU", 0)), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    ]


def choose_share(nodes: Sequence[Node], cpus: int | None, gpus: float | None, *, on_gpu: bool) -> Share:
    """What each run gets; None is chosen: where there are GPUs, and `on_gpu`, one of them and its part of its machine's cores; else all
    cores of the smallest machine.

    Machines without cores, or without GPUs where those are used, take no part. Raises `UserError` if none is large enough.
    """
    if gpus is None:
        gpus = 1.0 if on_gpu and any(node.gpus >= 1 for node in nodes) else 0.0
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
    """Makes the folders that these runs' folders are in, and an empty file in each for as long as the block lasts; yields the files."""
    marks = [Path(folder).absolute() / f".ray-{secrets.token_hex(4)}" for folder in dict.fromkeys(run.recipe.run.dir for run in runs)]
    with ExitStack() as stack:
        for mark in marks:
            try:
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.touch()
            except OSError as error:
                raise UserError(f"run.dir: {mark.parent}: cannot be written to: {error.strerror}") from None
            stack.callback(mark.unlink, missing_ok=True)
        yield tuple(map(str, marks))


def check_nodes(ray: Any, nodes: Sequence[Node], site: Site) -> None:
    """Looks on all these machines. Raises `UserError` with what each lacks."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(Site.find_problems)
    strategies = [NodeAffinitySchedulingStrategy(node.id, soft=False) for node in nodes]
    answers = [look.options(scheduling_strategy=strategy).remote(site) for strategy in strategies]
    problems = []
    for node, answer in zip(nodes, answers, strict=True):
        try:
            found = ray.get(answer, timeout=ANSWER_SECONDS)
        except ray.exceptions.RayError as error:
            found = [str(error).strip().rpartition("\n")[2]]
        problems += [f"node {node.name}: {problem}" for problem in found]
    if problems:
        raise UserError(*problems)
