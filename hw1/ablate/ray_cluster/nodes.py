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


class Resources(NamedTuple):
    """What one run gets."""

    cpus: int
    gpus: float

    def num_runs(self, node: Node) -> int:
        """Return how many runs the node can take at once."""
        by_cpus = node.cpus // self.cpus
        return min(by_cpus, int(node.gpus / self.gpus + 1e-9)) if self.gpus else by_cpus

    def __str__(self) -> str:
        """Return them as words: "0.5 GPU and 4 cores"."""
        return (f"{self.gpus:g} GPU and " if self.gpus else "") + f"{self.cpus} core" + ("s" if self.cpus > 1 else "")


class Requirements(NamedTuple):
    """What every machine must see just as the machine of the command does."""

    folder: str
    """In which the command runs."""
    code: str
    """`code_digest` of this project."""
    probes: tuple[str, ...]
    """A file in each folder of runs, see `probe_files`."""
    data_roots: tuple[str, ...]
    label_files: tuple[str, ...] = ()

    def find_problems(self) -> list[str]:
        """Return a line for each that is not met on the machine that calls this."""
        if not Path(self.folder).is_dir():
            return [f"{self.folder}: no such folder there; the command runs in it"]
        problems = [
            f"{Path(probe).parent}: not shared: a file written there is not seen" for probe in self.probes if not Path(probe).exists()
        ]
        if code_digest() != self.code:
            problems.append("this project's code there is not the same as here")
        folder = Path(self.folder)
        problems += [
            f"data.root: {root}: no such folder there" for root in self.data_roots if not (folder / Path(root).expanduser()).is_dir()
        ]
        return problems + [f"data.labels: {file}: no such file there" for file in self.label_files if not (folder / file).is_file()]


def list_nodes(ray: Any) -> list[Node]:
    """Return the machines that are alive now."""
    return [
        Node(node["NodeID"], node["NodeName"], int(node["Resources"].get("CPU", 0)), node["Resources"].get("GPU", 0.0))
        for node in ray.nodes()
        if node["Alive"]
    ]


def current_node() -> str:
    """Return the name of the machine on which the calling task runs."""
    import ray

    node_id = ray.get_runtime_context().get_node_id()
    return next((node.name for node in list_nodes(ray) if node.id == node_id), node_id)


def choose_resources(nodes: Sequence[Node], cpus: int | None, gpus: float | None, *, on_gpu: bool) -> Resources:
    """Choose what each run gets, the same for all.

    Machines without cores, or without GPUs where runs use those, take no part.

    Args:
        nodes: The machines of the cluster.
        cpus: Cores of each run; None: with a GPU its part of the machine's cores, on the machine with fewest for each; else all cores of
            the smallest machine.
        gpus: GPUs of each run, 0 to 1; None: one where there are any and `on_gpu` is set, else none.
        on_gpu: Whether some recipe allows a GPU.

    Raises:
        UserError: If no machine is large enough.
    """
    if gpus is None:
        gpus = 1.0 if on_gpu and any(node.gpus >= 1 for node in nodes) else 0.0
    usable = [node for node in nodes if node.gpus >= gpus and node.cpus >= 1]
    if cpus is None:
        cpus_per_run = [int(node.cpus * gpus / node.gpus) if gpus else node.cpus for node in usable]
        cpus = max(min(cpus_per_run, default=1), 1)
    resources = Resources(cpus, gpus)
    if not any(resources.num_runs(node) for node in usable):
        machines = ", ".join(f"{node.name}: {node.gpus:g} GPU, {node.cpus} cores" for node in nodes)
        raise UserError(f"--ray: no machine of the cluster has {resources} for a run ({machines})")
    return resources


@contextmanager
def probe_files(runs: Sequence[PlannedRun]) -> Iterator[tuple[str, ...]]:
    """Make the folders of runs, with an empty file in each for as long as the block lasts; yield the paths of these files.

    Raises:
        UserError: If a folder cannot be written to.
    """
    probes = [Path(folder).absolute() / f".ray-{secrets.token_hex(4)}" for folder in dict.fromkeys(run.recipe.run.dir for run in runs)]
    with ExitStack() as stack:
        for probe in probes:
            try:
                probe.parent.mkdir(parents=True, exist_ok=True)
                probe.touch()
            except OSError as error:
                raise UserError(f"run.dir: {probe.parent}: cannot be written to: {error.strerror}") from None
            stack.callback(probe.unlink, missing_ok=True)
        yield tuple(map(str, probes))


def check_nodes(ray: Any, nodes: Sequence[Node], requirements: Requirements) -> None:
    """Check the requirements on all these machines.

    Raises:
        UserError: With what each machine lacks.
    """
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(num_cpus=0, max_retries=0)(Requirements.find_problems)
    strategies = [NodeAffinitySchedulingStrategy(node.id, soft=False) for node in nodes]
    answers = [task.options(scheduling_strategy=strategy).remote(requirements) for strategy in strategies]
    lines = []
    for node, answer in zip(nodes, answers, strict=True):
        try:
            problems = ray.get(answer, timeout=ANSWER_SECONDS)
        except ray.exceptions.RayError as error:
            problems = [str(error).strip().rpartition("\n")[2]]
        lines += [f"node {node.name}: {problem}" for problem in problems]
    if lines:
        raise UserError(*lines)
