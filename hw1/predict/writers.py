"""Where predictions go: lines, a CSV or JSON file, images with the label drawn. No torch."""

import csv
import io
import json
import os
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from hw1.data.decode import BadImage, read_image
from hw1.errors import RunError, UserError
from hw1.plots.annotate import draw_label
from hw1.predict.top_k import Row
from hw1.runtime.cpu import usable_cores
from hw1.utils.files import atomic_file
from hw1.utils.text import printable

DRAWN_LINES = 3  # classes named on a drawn image

Sink = Callable[[Row], None]


def print_row(row: Row) -> None:
    print(f"{printable(row.path)}  " + "  ".join(f"{printable(guess.words)} {guess.probability:.4f}" for guess in row.guesses))


@contextmanager
def table_file(path: Path, top: int) -> Iterator[Sink]:
    """Rows as they come into a `.csv` or `.json` file, which is there whole at the end or not at all."""
    with _errors_named(path), atomic_file(path) as file:
        # file names need not be valid UTF-8: they come out as the bytes they are
        text = io.TextIOWrapper(file, "utf-8", errors="surrogateescape", newline="", write_through=True)
        yield from (_csv if path.suffix == ".csv" else _json)(text, top)
        text.detach()


def _csv(file: io.TextIOWrapper, top: int) -> Iterator[Sink]:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["file", *(f"{what}_{rank}" for rank in range(1, top + 1) for what in ("class", "name", "probability"))])
    yield lambda row: writer.writerow(
        [str(row.path), *(cell for label, words, value in row.guesses for cell in (label, words, f"{value:.6f}"))]
    )


def _json(file: io.TextIOWrapper, top: int) -> Iterator[Sink]:
    separator = "["

    def write(row: Row) -> None:
        nonlocal separator
        guesses = [{"class": label, "name": words, "probability": value} for label, words, value in row.guesses]
        file.write(f"{separator}\n{json.dumps({'file': str(row.path), 'predictions': guesses})}")
        separator = ","

    yield write
    file.write("\n]\n")


def plan_drawings(folder: Path, paths: Sequence[Path]) -> list[Path]:
    """Where the image of each path goes: its place below the folder that all have in common, as a `.jpg`, below `folder`.

    Raises `UserError` where a source or another drawing would be overwritten.
    """
    absolute = [os.path.abspath(path) for path in paths]
    common = os.path.commonpath([os.path.dirname(path) for path in absolute])
    targets = [folder / _as_jpeg(os.path.relpath(path, common)) for path in absolute]
    sources = {os.path.realpath(path) for path in absolute}
    if over := [target for target in targets if os.path.realpath(target) in sources]:
        raise UserError(f"--draw: would overwrite {printable(over[0])}, one of the images; choose another folder")
    if twice := [target for target, count in Counter(targets).items() if count > 1]:
        raise UserError(f"--draw: two images would be drawn to {printable(twice[0])}; name one of them only")
    return targets


def _as_jpeg(name: str) -> str:
    return name if name.lower().endswith((".jpg", ".jpeg")) else f"{name}.jpg"


@contextmanager
def drawings(folder: Path, targets: Sequence[Path]) -> Iterator[Sink]:
    """Draws each row's image with its likeliest classes, by threads; all of them are moved to their `targets` at the end, or none."""
    waiting: deque[Future[None]] = deque()
    with _errors_named(folder):
        hidden = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.absolute().parent))
    pool = ThreadPoolExecutor(usable_cores())

    drawn: list[int] = []

    def draw(row: Row) -> None:
        drawn.append(row.position)
        while len(waiting) >= 4 * usable_cores():  # each holds a whole image
            waiting.popleft().result()
        waiting.append(pool.submit(_draw, row, hidden / str(row.position)))

    try:
        with _errors_named(folder):
            yield draw
            while waiting:
                waiting.popleft().result()
            for position in drawn:
                targets[position].parent.mkdir(parents=True, exist_ok=True)
                shutil.move(hidden / str(position), targets[position])
    finally:
        pool.shutdown(cancel_futures=True)
        shutil.rmtree(hidden, ignore_errors=True)


def _draw(row: Row, target: Path) -> None:
    try:
        image = read_image(row.path)
    except BadImage as error:
        raise RunError(f"{error}: it could be read a moment ago") from error
    lines = [f"{guess.words} {guess.probability:.1%}" for guess in row.guesses[:DRAWN_LINES]]
    Image.fromarray(draw_label(image, lines)).save(target, "JPEG", quality=90)


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from None
