"""Train, evaluate and predict from Python: `hw1.train`, `hw1.load` and the `hw1.Run` that both return.

They do what the commands do: the same recipes, run folders, exact resume and messages. Where a command exits they raise an error of
`hw1.errors`: `UserError` for a mistake in recipe, data or argument, `RunError` for a training that failed, `Interrupted` after a signal.
"""

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from hw1.commands import train as train_command
from hw1.commands import validate as validate_command
from hw1.config.recipe import TrainConfig
from hw1.errors import UserError
from hw1.evaluation.temperature import RequestedTemperature, check_temperature, choose_temperature
from hw1.runs.folder import RunFolder
from hw1.runtime import distributed as dist
from hw1.utils.signals import StopRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from hw1.plots import Figure
    from hw1.predict.classifier import Classifier
    from hw1.predict.top_k import ClassProbability

    Source = str | os.PathLike[str] | NDArray[np.uint8] | Image.Image
    """An image: its file, an array or a Pillow image."""

WORDS = {"command line: ": "overrides: ", "--overwrite": "overwrite=True", "--new": "new=True"}
"""What the commands' messages name, and its name here."""
_WORK = threading.Lock()


def train(
    recipe: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None, *, new: bool = False, overwrite: bool = False
) -> "Run":
    """Train the model that a recipe describes, or continue an interrupted run, as `hw1 train` does.

    An interrupt (Ctrl-C, a notebook's stop button) ends it after the step under way, saved; the same call continues it. In a thread that is
    not the main one no signal is heard: then the process may be ended at any time, and the same call continues from the last checkpoint.
    Settings of the process are put back at the end (`hw1.runtime.process_settings`).

    Args:
        recipe: YAML file, or the name of a recipe that comes with hw1, such as "finetune".
        overrides: Changes to the recipe by dotted key: `{"data.root": "photos", "optim.lr": 1e-4, "freeze.stages": ["stem"]}`.
        new: Train another run of this name and seed, in `NAME-2`, `NAME-3`, ...
        overwrite: Start over a finished run of this name and seed, or one of another recipe or data. An unfinished one is continued.

    Returns:
        The finished run.

    Raises:
        UserError: A mistake in the recipe or the data; both `new` and `overwrite`; or another training or evaluation is under way in this
            process.
        RunError: Training failed.
        Interrupted: A signal asked it to stop; the state is saved.
    """
    if new and overwrite:
        raise UserError("new, overwrite: only one of them")
    args = train_command.parse([os.fspath(recipe)])
    args.overrides, args.new, args.overwrite = as_overrides(overrides), new, overwrite
    with _at_work(), dist.process_group():
        return Run(train_command.carry_out(args, StopRequest(exits=False)).path)


def load(path: str | os.PathLike[str], *, checkpoint: Literal["best", "last", "ema"] | None = None, device: str = "auto") -> "Run":
    """Open a run folder, a folder that `hw1 export` wrote or its `.onnx` file.

    Args:
        path: The folder or file. An export only predicts. An `.onnx` file does so without importing torch.
        checkpoint: Weights of a run folder; None takes the best.
        device: Where to compute: auto, cpu, cuda or mps.

    Raises:
        UserError: It is none of the three.
    """
    run = Run(Path(path), checkpoint, device)
    if not run.is_export:
        RunFolder.existing(run.path)
    elif not run.path.exists():
        raise UserError(f"{run.path}: no such file")
    return run


class Run:
    """A run folder, or an export, with which to predict; made by `train` and `load`."""

    def __init__(self, path: Path, checkpoint: Literal["best", "last", "ema"] | None = None, device: str = "auto") -> None:
        self.path = path
        """The run folder, `<run.dir>/<run.name>/seed<seed>`; or the export's folder or file."""
        self._checkpoint: Literal["best", "last", "ema"] | None = checkpoint
        self._device = device

    def __repr__(self) -> str:
        return f"hw1.load({str(self.path)!r})"

    @property
    def is_export(self) -> bool:
        """Whether this is an export, which only predicts."""
        return self.path.suffix == ".onnx" or (self.path / "config.json").is_file()

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """A dict for each finished epoch: the rows of `metrics.csv`, read anew each time."""
        return [dict(row) for row in self._folder.read_metrics()]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each class, by the number of its logit."""
        return self._classifier.class_names

    def curves(self) -> "Figure":
        """Draw loss, accuracy and learning rate over the epochs: the figure of `curves.png`, which a notebook shows."""
        from hw1.training.curves import draw_run_curves

        return draw_run_curves(self._folder)

    def evaluate(self, split: str = "val", overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Evaluate on a split of the run's data, or any folder, as `hw1 validate` does: with a page of results in `eval/`.

        Args:
            split: `val`, `test`, or a folder of class folders.
            overrides: Where and how to run, by dotted key: `data.root`, `train.device`, ...

        Returns:
            The content of `metrics.json`; empty for images without labels, for which a submission is written instead.
        """
        options = [f"--split={split}", f"--checkpoint={self._checkpoint or 'best'}"]
        args = validate_command.parse([str(self._folder.path), *options])
        device = {} if self._device == "auto" else {"train.device": self._device}
        args.overrides = as_overrides({**device, **(overrides or {})})
        with _at_work():
            out = validate_command.carry_out(args)
        metrics = out / "metrics.json"
        return cast("dict[str, Any]", json.loads(metrics.read_bytes())) if metrics.is_file() else {}

    @overload
    def predict(  # type: ignore[overload-overlap]  # a string is a sequence of strings, too
        self, images: "Source", *, top: int = 5, temperature: RequestedTemperature = 1.0
    ) -> "list[ClassProbability]": ...

    @overload
    def predict(
        self, images: "Sequence[Source]", *, top: int = 5, temperature: RequestedTemperature = 1.0
    ) -> "list[list[ClassProbability]]": ...

    def predict(
        self, images: "Source | Sequence[Source]", *, top: int = 5, temperature: RequestedTemperature = 1.0
    ) -> "list[ClassProbability] | list[list[ClassProbability]]":
        """Predict the likeliest classes, as `hw1 predict` does.

        Args:
            images: A file, an array (uint8 [H, W, 3] in RGB, or [H, W] in grey), a Pillow image; or a list of them.
            top: How many classes of each image, at least 1.
            temperature: Divides the logits: a number above 0, or "fitted" for the one that `evaluate("val")` fitted.

        Returns:
            The likeliest classes, the first one first, each with `label`, `description` and `probability` (0-1); of a list of images a list
            of such lists.

        Raises:
            UserError: An image cannot be read, or an argument has a wrong value.
        """
        from hw1.predict.image_batches import read_images
        from hw1.predict.image_sources import as_image, raise_bad_image
        from hw1.predict.top_k import likeliest_classes

        if top < 1:
            raise UserError(f"top: must be at least 1, got {top}")
        classifier = self._classifier
        try:
            divisor = choose_temperature(temperature if temperature == "fitted" else check_temperature(temperature), classifier.fitted)
        except ValueError as error:
            raise UserError(str(error)) from None
        is_list = isinstance(images, list | tuple)
        sources = cast("Sequence[Source]", images if is_list else [images])
        pixels = [as_image(source, position) for position, source in enumerate(sources)]
        answers: list[list[ClassProbability]] = []
        for batch in read_images(pixels, classifier.rule, classifier.batch_size, raise_bad_image):
            names = [f"image {position}" for position in batch.positions]
            answers += likeliest_classes(classifier, batch.pixels, divisor, min(top, len(classifier.class_names)), names)
        return answers if is_list else answers[0]

    @property
    def _folder(self) -> RunFolder:
        if self.is_export:
            raise UserError(f"{self.path}: an export only predicts; load the run folder for its metrics, curves and evaluation")
        return RunFolder.existing(self.path)

    @cached_property
    def _classifier(self) -> "Classifier":
        from hw1.predict.open_classifier import open_classifier

        config = TrainConfig(device=cast(Any, self._device))
        if self.path.suffix == ".onnx":
            return open_classifier(self.path, self._checkpoint, config)
        with _at_work():
            return open_classifier(self.path, self._checkpoint, config)


def as_overrides(changes: Mapping[str, Any] | None) -> list[str]:
    """Return changes by dotted key as a command line has them, `section.key=value`, where values are YAML.

    Raises:
        UserError: A value has a type that no recipe holds.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if hasattr(value, "tolist"):  # of NumPy
            return value.tolist()
        raise UserError(f"overrides: {type(value).__name__} is no value of a recipe")

    return [f"{key}={json.dumps(value, ensure_ascii=False, default=plain)}" for key, value in (changes or {}).items()]


@contextmanager
def _at_work() -> Iterator[None]:
    """Hold what only one call of a process can have, put back its settings, and word the commands' messages for Python.

    Raises:
        UserError: Another call is under way, in another thread.
    """
    if not _WORK.acquire(blocking=False):
        raise UserError("hw1: a training or an evaluation is under way in another thread; one at a time in a process")
    try:
        from hw1.runtime.process_settings import restored_settings  # torch takes seconds to import

        with restored_settings():
            yield
    except UserError as error:
        problems = list(error.problems)
        for old, new in WORDS.items():
            problems = [problem.replace(old, new) for problem in problems]
        raise UserError(*problems) from None
    finally:
        _WORK.release()
