"""Images that are none, and odd ones that are good; before the run and during it."""

import os
import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from faults import powers
from faults.processes import Bench, Process, expect_clear, run_in
from faults.tally import Tally, expect

BAD: dict[str, Callable[[Path], None]] = {
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "joined": lambda path: _write(path, path.read_bytes()[: path.stat().st_size // 2] + path.read_bytes()),
    "empty": lambda path: os.truncate(path, 0),
    "HTML": lambda path: _write(path, b"<!DOCTYPE html><html><body>404</body></html>"),
    "bomb": lambda path: _write(path, _bomb()),
    "permission": lambda path: path.chmod(0),
    "dangling link": lambda path: (path.unlink(), path.symlink_to("nowhere"))[1],
    "noise": lambda path: _write(path, b"\xff\xd8" + random.Random(0).randbytes(4000)),
}

ODD: dict[str, Callable[[Path], None]] = {
    "wrong suffix": lambda path: Image.open(path).save(path, "PNG"),
    "1 x 1": lambda path: Image.new("RGB", (1, 1)).save(path),
    "20,000 wide": lambda path: Image.new("RGB", (20_000, 20), "red").save(path),
    "grey": lambda path: Image.open(path).convert("L").save(path),
    "CMYK": lambda path: Image.open(path).convert("CMYK").save(path),
}


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def _bomb() -> bytes:
    """A PNG of a hundred bytes that says it is 50,000 x 50,000."""
    data = bytearray(cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1].tobytes())
    data[16:24] = (50_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def _copy(bench: Bench, folder: Path) -> list[Path]:
    """A copy of the images; returns those of training."""
    shutil.copytree(bench.data, folder)
    return sorted((folder / "train").rglob("*.jpg"))


def bad_photos(tally: Tally, folder: Path, n: int) -> None:
    """1 % of a set is bad: all are listed and nothing is begun; where they are skipped they are counted, up to a share of the set."""
    bench = Bench(folder)
    for i in range(n):
        rng = random.Random(f"photos {i}")
        root = folder / f"photos{i}"
        kinds = list(BAD)
        with tally.attempt(f"number {i}"):
            files = rng.sample(_copy(bench, root), 3 + len(ODD))
            chosen = {path: kinds[(3 * i + k) % len(kinds)] for k, path in enumerate(files[:3])}  # 1 % of 300
            for path, kind in chosen.items():
                BAD[kind](path)
            for path, change in zip(files[3:], ODD.values(), strict=True):
                change(path)
            runs = folder / f"runs{i}"
            process = bench.start(runs, f"data.root={root}", without_powers=[])
            process.wait()
            expect_clear(process, 2, "3 of 300 images cannot be decoded", *(f"{path}: " for path in chosen))
            expect(len(process.output.splitlines()) <= 5, f"more than the bad ones are named: {process.output}")
            expect(not runs.exists(), "something was written")
            skipping = ["data.bad_images=skip", "train.epochs=1", f"data.root={root}"]
            process = bench.start(runs, *skipping, "data.max_bad=0.009", without_powers=[])
            process.wait()
            expect_clear(process, 2, "data.max_bad: 3 of 300 images cannot be decoded, more than the share of 0.009")
            expect(not runs.exists(), "something was written")
            expect_clear(bench.finish(runs, *skipping, without_powers=[]), 0, "skipped: 3 of 300 images cannot be decoded")
        shutil.rmtree(root)


def real_photos(tally: Tally, folder: Path, n: int) -> None:
    """1 % of real images bad, of every kind, and as many odd: each bad one is named with its reason, and nothing else."""
    if not os.environ.get("HW1_PHOTOS"):
        tally.skipped.append("real images (HW1_PHOTOS names no folder of them)")
        return
    source = Path(os.environ["HW1_PHOTOS"])
    bench = Bench(folder, per_class=1)
    for i in range(n):
        root = folder / f"photos{i}"
        with tally.attempt(f"number {i}"):
            for split in ("train", "val"):
                for path in (source / split).rglob("*.*"):
                    link = root / path.relative_to(source)
                    link.parent.mkdir(parents=True, exist_ok=True)
                    link.symlink_to(path)
            files = sorted((root / "train").rglob("*.*")) + sorted((root / "val").rglob("*.*"))
            share = -(-len(files) // 100)
            chosen = random.Random(f"real {i}").sample(files, 2 * share)
            for k, path in enumerate(chosen):
                content = path.read_bytes()
                path.unlink()
                path.write_bytes(content)
                changes = list((BAD if k < share else ODD).values())
                changes[k % len(changes)](path)
            process = bench.start(folder / f"runs{i}", f"data.root={root}", without_powers=[])
            process.wait()
            named = [line.partition(": ") for line in process.output.splitlines() if line.startswith(str(root))]
            expect_clear(process, 2, f"{share} of {len(files)} images cannot be decoded")
            expect({path for path, _, _ in named} == {str(path) for path in chosen[:share]}, f"named: {process.output}")
            expect(all(reason for _, _, reason in named), f"without a reason: {process.output}")
            expect(not (folder / f"runs{i}").exists(), "something was written")
            tally.seen["real images bad"] += share
            tally.seen["good"] += len(files) - share
        shutil.rmtree(root)


def each_kind(tally: Tally, folder: Path, n: int) -> None:
    """Each kind of bad and of odd image by itself, in the check that comes before a run; `n` files of each."""
    from hw1.data.bad_images import find_bad_images
    from hw1.data.image_folder import ImageSet

    bench = Bench(folder)
    for kind, change in (BAD | ODD).items():
        root = folder / kind.replace(" ", "_")
        files = _copy(bench, root)
        for i in range(n):
            with tally.attempt(f"{kind} {i}"):
                change(files[i])
                with powers.dropped():
                    found = find_bad_images(ImageSet(root, (str(files[i].relative_to(root)),), None, 0))
                expect(bool(found) == (kind in BAD), f"found {found}")
                expect(all("\n" not in reason and reason for reason in found.values()), f"found {found}")
            if kind == "permission":
                with tally.attempt(f"{kind} {i}, taken away after it was found good"):
                    files[i].chmod(0o644)
                    images = ImageSet(root, (str(files[i].relative_to(root)),), None, 0)
                    expect(not find_bad_images(images), "a good one was found bad")
                    change(files[i])
                    with powers.dropped():
                        expect(find_bad_images(images), "not found")
        shutil.rmtree(root)


def turning_bad(tally: Tally, folder: Path, n: int) -> None:
    """Files that break while training reads them: one is named, the state is safe, and once they are mended the run goes on."""
    bench = Bench(folder)
    for i in range(n):
        root, runs = folder / f"turning{i}", folder / f"turned{i}"
        with tally.attempt(f"number {i}"):
            files = _copy(bench, root)
            batch = random.Random(f"turning {i}").randrange(1, 7)
            settings = [f"data.root={root}", f"data.num_workers={(0, 2)[i % 2]}"]
            process: Process = bench.start(runs, *settings, damage_at=[batch, [str(path) for path in files]])
            process.wait()
            expect_clear(process, 3, ".jpg: truncated", str(root))
            shutil.rmtree(root)
            _copy(bench, root)
            bench.finish(runs, *settings)
            expect((run_in(runs) / "summary.json").is_file(), "not finished")
        shutil.rmtree(root, ignore_errors=True)
