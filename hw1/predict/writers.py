"""Write predictions: as lines, as a CSV or JSON file, or drawn above the images. No torch."""

import csv
import io
import json
import os
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from hw1.data.decode import BadImage, read_image
from hw1.errors import RunError, UserError
from hw1.predict.top_k import ImagePrediction
from hw1.runtime.cpu import usable_cores
from hw1.utils.files import atomic_file, workbench
from hw1.utils.text import csv_cell, on_one_line, printable

NUM_DRAWN_CLASSES = 3

Writer = Callable[[ImagePrediction], None]


def print_prediction(prediction: ImagePrediction) -> None:
    """Print the path and the likeliest classes with their probabilities on one line."""
    classes = (f"{printable(each.description)} {each.probability:.4f}" for each in prediction.top_classes)
    print(f"{printable(prediction.path)}  " + "  ".join(classes))


@contextmanager
def table_writer(path: Path, num_classes: int) -> Iterator[Writer]:
    """Write predictions as they come into a `.csv` or `.json` file, which appears whole at the end of the block or not at all.

    Args:
        path: The file.
        num_classes: Classes of each image.

    Raises:
        RunError: The file cannot be written.
    """
    with _name_errors(path), atomic_file(path) as file:
        # names of files need not be valid UTF-8: their bytes are written as they are
        text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="", write_through=True)
        yield from (_csv_writer(text, num_classes) if path.suffix == ".csv" else _json_writer(text))
        text.detach()


def _csv_writer(file: io.TextIOWrapper, num_classes: int) -> Iterator[Writer]:
    writer = csv.writer(file, lineterminator="\n")
    columns = (f"{name}_{rank}" for rank in range(1, num_classes + 1) for name in ("class", "name", "probability"))
    writer.writerow(["file", *columns])

    def write(prediction: ImagePrediction) -> None:
        classes = prediction.top_classes
        cells = (cell for each in classes for cell in (each.label, each.description, f"{each.probability:.6f}"))
        writer.writerow(map(csv_cell, (str(prediction.path), *cells)))

    yield write


def _json_writer(file: io.TextIOWrapper) -> Iterator[Writer]:
    separator = "["

    def write(prediction: ImagePrediction) -> None:
        nonlocal separator
        classes = prediction.top_classes
        content = [{"class": each.label, "name": each.description, "probability": each.probability} for each in classes]
        file.write(f"{separator}\n{json.dumps({'file': str(prediction.path), 'predictions': content})}")
        separator = ","

    yield write
    file.write("\n]\n")


def plan_drawings(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Return the file that each image is drawn to: its path below the folder that all images share, below `folder`, as a `.jpg`.

    Raises:
        UserError: A source or another drawing would be overwritten.
    """
    absolute = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in absolute])
    targets = [folder / _as_jpeg(os.path.relpath(path, common)) for path in absolute]
    sources = {os.path.realpath(path) for path in absolute}
    if overwritten := [target for target in targets if os.path.realpath(target) in sources]:
        raise UserError(f"--draw: would overwrite {printable(overwritten[0])}, one of the images; choose another folder")
    if duplicates := [target for target, count in Counter(targets).items() if count > 1]:
        raise UserError(f"--draw: two images would be drawn to {printable(duplicates[0])}; name one of them only")
    return targets


def _as_jpeg(name: str) -> str:
    return name if name.lower().endswith((".jpg", ".jpeg")) else f"{name}.jpg"


@contextmanager
def drawing_writer(folder: Path, targets: Sequence[Path]) -> Iterator[Writer]:
    """Draw the likeliest classes above each image, by threads.

    The drawings are made in a hidden folder, and get their names at the end of the block: all at once where the folder is new.

    Args:
        folder: Where all targets lie.
        targets: File of each image, as `plan_drawings` returns them.

    Raises:
        RunError: An image cannot be read any more, or a file cannot be written.
    """
    pending: deque[Future[None]] = deque()
    drawn: list[int] = []
    with _name_errors(folder), workbench(folder.absolute()) as bench:
        pool = ThreadPoolExecutor(usable_cores())

        def draw(prediction: ImagePrediction) -> None:
            drawn.append(prediction.position)
            while len(pending) >= 4 * usable_cores():  # each holds a whole image
                pending.popleft().result()
            pending.append(pool.submit(_draw, prediction, bench / str(prediction.position)))

        try:
            yield draw
            while pending:
                pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
        place = folder if folder.exists() else bench / "new"
        for position in drawn:
            target = place / targets[position].relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(bench / str(position), target)
        if place != folder and drawn:
            os.rename(place, folder)


def _draw(prediction: ImagePrediction, target: Path) -> None:
    from hw1.plots.annotate import draw_label  # matplotlib takes a second to import

    try:
        image = read_image(prediction.path)
    except BadImage as error:
        raise RunError(f"{error}: it could be read a moment ago") from error
    lines = [f"{on_one_line(each.description)} {each.probability:.1%}" for each in prediction.top_classes[:NUM_DRAWN_CLASSES]]
    Image.fromarray(draw_label(image, lines)).save(target, "JPEG", quality=90)


@contextmanager
def _name_errors(path: Path) -> Iterator[None]:
    """Turn an error of the system into a `RunError` that names the path."""
    try:
        yield
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from None
