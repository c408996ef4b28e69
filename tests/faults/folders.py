"""Folders of two readings or with files that are not used, and runs continued on other images of the same names, sizes and dates."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from helpers.folder_trees import make

from faults.processes import Bench, expect_clear, updates_in
from faults.tally import Tally, expect
from hw1.config.recipe import DataConfig
from hw1.data.image_folder import find_split, open_training_data
from hw1.data.image_set import ClassMap
from hw1.data.list_files import natural_key
from hw1.data.passed_over import group_strays
from hw1.errors import UserError

IMAGES = ("1.jpg", "2.PNG", "a b.webp", "3.JPeG", "photo")  # the last by its content
SILENT = (".DS_Store", "._1.jpg", "Thumbs.db", ".git/1.jpg", ".ipynb_checkpoints/1.jpg")
NAMED = ("1.heic", "2.JXL", "README.txt", "notes", "__MACOSX/1.jpg", "@eaDir/1.jpg/THUMB.jpg", ".photo.jpg", "x.jpg.part")
CLASSES = ("a", "b", "c")


def odd_folders(tally: Tally, folder: Path, n: int) -> None:
    """`n` random test folders: labelled, unlabelled, or refused with the names; all that is not used is named, but for what systems add."""
    for i in range(n):
        rng = random.Random(f"folder {i}")
        root = folder / str(i)
        inside, beside = ([name for name in IMAGES if rng.random() < chance] for chance in (rng.choice((0.0, 0.5)), rng.choice((0.0, 0.3))))
        odd = [(place, name) for name in SILENT + NAMED for place in ("", "a/") if rng.random() < 0.2]
        make(root / "test", *(f"{c}/deep/{name}" for c in CLASSES for name in inside), *beside, *(place + name for place, name in odd))
        make(root, "test/")
        for path in root.rglob("photo"):
            path.write_bytes(b"\xff\xd8\xff\xe0 and so on")
        with tally.attempt(f"number {i}: {inside} in class folders, {beside} beside them, {odd}"):
            try:
                images, _ = find_split("test", DataConfig(root=str(root)), ClassMap(CLASSES), 0)
            except UserError as error:
                expect("\n" not in str(error), f"unclear: {error}")
                expect(bool(inside) == bool(beside), f"refused: {error}")
                expect(not inside or all(name in str(error) for name in sorted(beside, key=natural_key)[:3]), f"not named: {error}")
                tally.seen["refused"] += 1
                continue
            expect(bool(inside) != bool(beside), "taken, though its labels are unclear")
            expect((images.labels is not None) == bool(inside), "the other reading")
            expect(len(images) == len(inside) * len(CLASSES) + len(beside), f"used: {images.files}")
            named = {Path(stray).name for group in group_strays(images.root, images.strays).values() for stray in group}
            wanted = {name.partition("/")[0] for place, name in odd if name in NAMED and (place == "" or inside)}
            wanted |= {"a"} if beside and any(place for place, _ in odd) else set()
            expect(named == wanted, f"named: {named}, not {wanted}")
            tally.seen["labelled" if inside else "unlabelled"] += 1


def _keeping_date(path: Path, content: bytes) -> None:
    status = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _swap(a: Path, b: Path) -> None:
    between = a.with_name("between")
    a.rename(between)
    b.rename(a)
    between.rename(b)


def _rotate(files: list[Path]) -> None:
    contents = [path.read_bytes() for path in files]
    for path, content in zip(files, contents[1:] + contents[:1], strict=True):
        _keeping_date(path, content)


def _flip(files: list[Path]) -> None:
    content = bytearray(files[0].read_bytes())
    content[len(content) // 2] ^= 1
    _keeping_date(files[0], bytes(content))


SWAPS: dict[str, Callable[[list[Path]], None]] = {
    "two files change places": lambda files: _swap(files[0], files[-1]),
    "one is written over another, with its date": lambda files: _keeping_date(files[0], files[-1].read_bytes()),
    "all are moved on by one": _rotate,
    "one bit": _flip,
}


def swapped_contents(tally: Tally, folder: Path, n: int) -> None:
    """Each swap among files of one size and date, `n` times: another fingerprint. A killed run is refused on one, and goes on on a copy."""
    bench = Bench(folder)
    for path in bench.data.glob("*/*/*.jpg"):
        path.write_bytes(path.read_bytes().ljust(6000, b"\0"))  # what follows a JPEG's end is not read
        os.utime(path, (10**9, 10**9))
    runs, copy = folder / "runs", folder / "copy"
    process = bench.start(runs)
    process.wait_until(lambda: updates_in(runs) >= 2)
    process.kill()
    shutil.copytree(bench.data, copy, copy_function=shutil.copyfile)
    shutil.copytree(bench.data, folder / "swapped")
    files = sorted((folder / "swapped/train").rglob("*.jpg"))
    expect({path.stat().st_size for path in files} == {6000}, "sizes differ")
    original = _fingerprint(bench.data)
    for i in range(n):
        for what, swap in SWAPS.items():
            with tally.attempt(f"{what}, {i}"):
                before = _fingerprint(folder / "swapped")
                swap(random.Random(f"{what} {i}").sample(files, len(files)))
                expect(_fingerprint(folder / "swapped") not in (before, original), "not seen")
    with tally.attempt("a run on them"):
        process = bench.start(runs, f"data.root={folder / 'swapped'}")
        process.wait()
        expect_clear(process, 2, f"the images in {folder / 'swapped'} have changed since (200 + 100 then, 200 + 100 now)")
    with tally.attempt("a run on a copy"):
        expect(_fingerprint(copy) == original, "another fingerprint")
        bench.finish(runs, f"data.root={copy}")


def _fingerprint(root: Path) -> str:
    return open_training_data(DataConfig(root=str(root)), 0, None).fingerprint
