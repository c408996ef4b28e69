"""The run folder: paths of its files, state of the run, and the lock of the process that writes it."""

import errno
import fcntl
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypedDict, cast

from hw1.config.load import differences, load_recipe
from hw1.config.recipe import Recipe
from hw1.errors import UserError
from hw1.runs.epoch_metrics import EpochMetrics
from hw1.utils.files import write_atomic

Status = Literal["new", "interrupted", "finished"]
RunVersion = list[tuple[str, int, int]]
"""See `RunFolder.version`."""


class TimePlan(TypedDict):
    """What `train.hours` has decided."""

    hours: float
    """What `train.hours` was."""
    epochs: int
    """Epochs that schedule and phases are planned for from then on."""
    after_epoch: int
    """Epochs that were over."""
    last_epoch: int | None
    """Epochs after which the run ended, as there was no time for all that were planned; null = it did not."""


STATE_FILE = re.compile(r"epoch(\d+)-step(\d+)\.pt")
FORMER_STATE_FILES = ("last.pt", "previous.pt")
"""Of version 0.1; the newer one first."""


def digest_file(state_file: Path) -> Path:
    """Return the file that holds the SHA-256 of a state."""
    return state_file.with_suffix(".sha256")


def open_lock(path: Path, *, write: bool) -> BinaryIO:
    """Open a lock file without emptying it, following a link, or waiting for a pipe's other end.

    Raises:
        OSError: It cannot be opened so, or is no regular file.
    """
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | (os.O_RDWR | os.O_CREAT if write else os.O_RDONLY)
    file = os.fdopen(os.open(path, flags, 0o666), "r+b" if write else "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "its .lock is no regular file")
    return file  # type: ignore[return-value]  # unbuffered, of which nothing is read


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run, `<run.dir>/<run.name>/seed<seed>/`. Creating the object creates no files."""

    path: Path

    @classmethod
    def of(cls, recipe: Recipe) -> "RunFolder":
        """Return the folder in which a recipe is trained."""
        return cls(Path(recipe.run.dir) / str(recipe.run.name) / f"seed{recipe.seed}")

    @classmethod
    def existing(cls, path: str | Path) -> "RunFolder":
        """Return the run in `path`.

        Raises:
            UserError: There is none.
        """
        run = cls(Path(path))
        if not run.config.is_file():
            inner = sorted(p.parent for depth in ("*", "*/*") for p in run.path.glob(f"{depth}/config.yaml"))
            reason = "no run folder (it has no config.yaml)" if run.path.is_dir() else "no such folder"
            raise UserError(f"{path}: {reason}" + (f"; did you mean {inner[0]}?" if inner else ""))
        return run

    @property
    def config(self) -> Path:
        """The recipe of the run."""
        return self.path / "config.yaml"

    @property
    def env(self) -> Path:
        """Versions, hardware and code; see `hw1.runs.environment`."""
        return self.path / "env.json"

    @property
    def metrics_jsonl(self) -> Path:
        """One line for each epoch; see `EpochMetrics`."""
        return self.path / "metrics.jsonl"

    @property
    def metrics_csv(self) -> Path:
        """The same as a table."""
        return self.path / "metrics.csv"

    @property
    def steps_jsonl(self) -> Path:
        """Metrics of single steps; see `StepMetrics`. Only runs with a tracker have it."""
        return self.path / "steps.jsonl"

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def summary(self) -> Path:
        """Results; written only when the run has finished."""
        return self.path / "summary.json"

    @property
    def time_plan(self) -> Path:
        """How many epochs `train.hours` holds; written once, after the first epoch."""
        return self.path / "time_plan.json"

    @property
    def curves(self) -> Path:
        """Figure of the metrics over epochs."""
        return self.path / "curves.png"

    @property
    def samples(self) -> Path:
        """Figure of augmented training images."""
        return self.path / "samples.png"

    @property
    def val_predictions(self) -> Path:
        """Logits of the last validated epoch."""
        return self.path / "val_predictions.npz"

    @property
    def checkpoints(self) -> Path:
        """Folder of weights and states."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Weights of the epoch with the best validation accuracy."""
        return self.checkpoints / "best.safetensors"

    def state_file(self, epoch: int, step: int) -> Path:
        """Return the file of the whole state after `epoch` epochs and `step` batches of the next."""
        return self.checkpoints / f"epoch{epoch:04}-step{step:06}.pt"

    def state_files(self) -> list[Path]:
        """Return the files of whole states that exist, the newest first, then those of version 0.1."""
        names: list[str] = []
        with suppress(OSError):  # no such folder, or one that cannot be: its name is too long
            names = os.listdir(self.checkpoints)
        numbered = [(tuple(map(int, match.groups())), name) for name in names if (match := STATE_FILE.fullmatch(name))]
        former = [name for name in FORMER_STATE_FILES if name in names]
        return [self.checkpoints / name for name in (*(name for _, name in sorted(numbered, reverse=True)), *former)]

    def version(self) -> RunVersion:
        """Return a value that changes whenever a process starts the run or saves its state.

        It holds (name, inode, modification time in ns) of the recipe and of each state.
        """
        version: RunVersion = []
        for path in (self.config, *self.state_files()):
            with suppress(OSError):
                status = path.stat()
                version.append((path.name, status.st_ino, status.st_mtime_ns))
        return version

    def eval_dir(self, split: str) -> Path:
        """Return the folder of the evaluation on a split."""
        return self.path / "eval" / split

    @property
    def calibration(self) -> Path:
        """Temperature fitted on the validation split, and its effect."""
        return self.eval_dir("val") / "calibration.json"

    def read_recipe(self, overrides: Sequence[str] = ()) -> Recipe:
        """Load the run's recipe.

        Args:
            overrides: `section.key=value`, of keys that may change when a run is continued.

        Raises:
            UserError: The recipe is damaged, or an override changes another key.
        """
        recipe = load_recipe(self.config, overrides, of_run=True)
        refused, _ = differences(load_recipe(self.config, of_run=True), recipe) if overrides else ([], [])
        if refused:
            raise UserError(*(f"command line: {line}: cannot change after training" for line in refused))
        return recipe

    def read_time_plan(self) -> TimePlan | None:
        """Read what `train.hours` has decided; None if it has decided nothing.

        Raises:
            UserError: The file is damaged.
        """
        try:
            plan = json.loads(self.time_plan.read_bytes())
            last = plan["last_epoch"]
            return TimePlan(
                hours=float(plan["hours"]),
                epochs=int(plan["epochs"]),
                after_epoch=int(plan["after_epoch"]),
                last_epoch=None if last is None else int(last),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{self.time_plan}: damaged; restore it, or --overwrite starts over") from None

    def planned_epochs(self, recipe: Recipe) -> int:
        """Return the epochs after which a run is finished: the recipe's, or those that `train.hours` has decided.

        Raises:
            UserError: That decision is damaged.
        """
        plan = None if recipe.train.hours is None else self.read_time_plan()
        if plan is None or plan["hours"] != recipe.train.hours:
            return recipe.train.epochs
        return min(plan["epochs"] if plan["last_epoch"] is None else plan["last_epoch"], recipe.train.epochs)

    def read_metrics(self) -> list[EpochMetrics]:
        """Read the metrics of all finished epochs, in order.

        Raises:
            UserError: A line is damaged.
        """
        if not self.metrics_jsonl.is_file():
            return []
        rows: list[EpochMetrics] = []
        for number, line in enumerate(self.metrics_jsonl.read_bytes().splitlines(), start=1):
            try:
                row = json.loads(line)
            except ValueError:
                row = None
            if not isinstance(row, dict):
                raise UserError(f"{self.metrics_jsonl}: line {number} is damaged; delete it, or --overwrite starts over")
            rows.append(cast(EpochMetrics, row))
        return rows

    def write_metrics(self, rows: Sequence[EpochMetrics]) -> None:
        """Write `metrics.jsonl` and `metrics.csv` as a whole, so that neither ever holds half a row, or a row twice."""
        write_atomic(self.metrics_jsonl, "".join(json.dumps(row) + "\n" for row in rows).encode())
        records: list[dict[str, Any]] = [dict(row) for row in rows]
        names = list(dict.fromkeys(name for row in records for name in row))  # a tracker that is switched on has more measured
        lines = [",".join(names), *(",".join(json.dumps(row[name]) if name in row else "" for name in names) for row in records)]
        write_atomic(self.metrics_csv, ("\n".join(lines) + "\n").encode())

    def write_json(self, path: Path, content: dict[str, Any]) -> None:
        """Write a JSON file of the run."""
        write_atomic(path, (json.dumps(content, indent=2) + "\n").encode())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run for the block; the lock ends with the process.

        It is a POSIX lock because, unlike that of flock, forked loader processes do not inherit it; they may outlive a killed process by
        seconds.

        Raises:
            UserError: Another process holds the lock, or the folder cannot be written to.
        """
        try:
            file = open_lock(self.path / ".lock", write=True)
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written to: {error.strerror}") from None
        with file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                is_held = error.errno in (errno.EACCES, errno.EAGAIN)
                reason = "another process is training this run" if is_held else f"cannot be locked: {error.strerror}"
                raise UserError(f"{self.path}: {reason}") from None
            yield

    def is_locked(self) -> bool:
        """Return whether another process, on any machine that shares the folder, is training this run.

        Never call it in the process that holds the lock: closing the file would release it.
        """
        try:
            with open_lock(self.path / ".lock", write=False) as file:
                fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError as error:
            return error.errno in (errno.EACCES, errno.EAGAIN)
        return False

    def require_unlocked(self) -> None:
        """Check that no other process holds the lock; create no file.

        Raises:
            UserError: Another process holds it.
        """
        if os.path.isfile(self.path / ".lock"):  # also False for an impossible path, about which `run_status` says more
            with self.lock():
                pass
