"""data.cache: disk, against real faults: a killed process, two at once, torn and altered files, disks without room, files gone bad."""

import contextlib
import os
import pickle
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.cached_images import LOCK, names, open_cache
from helpers.loader_images import AUG, SIZE, loaders_of, write_images
from helpers.paths import ROOT

from hw1.data.cache import disk
from hw1.data.cache.image_file import HEADER, CacheFile, DamagedFile
from hw1.data.image_folder import ImageSet
from hw1.errors import RunError, UserError


@pytest.fixture
def images(tmp_path) -> ImageSet:
    return write_images(tmp_path / "data")


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "cached"


# --- killed, interrupted, two at once ---

SLOWLY = """
import sys, time
from pathlib import Path
sys.path.insert(0, "tests")
from helpers.cached_images import open_cache
from helpers.loader_images import write_images
from hw1.data.image_source import FileSource
read, delay = FileSource.read, float(sys.argv[3])
FileSource.read = lambda self, index: (time.sleep(delay), read(self, index))[1]
root = Path(sys.argv[1])
cached = open_cache(write_images(root), Path(sys.argv[2]))
print(len(cached))
"""


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SLOWLY, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(condition, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_while_building_leaves_nothing_that_stays(tmp_path, folder):
    process = start(tmp_path, folder, 0.3)
    wait_until(lambda: any(path.stat().st_size > 20_000 for path in folder.glob("*.tmp")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    [leftover] = names(folder)
    assert leftover.endswith(".tmp")
    (folder / ".of_another_program.tmp").touch()
    images = write_images(tmp_path)
    cached = open_cache(images, folder)
    assert names(folder) == [".of_another_program.tmp", cached.path.name]
    assert [cached.read(index).shape for index in range(SIZE)] == [
        image.shape for image in map(open_cache(images, tmp_path / "fresh").read, range(SIZE))
    ]


def test_the_second_of_two_waits_and_uses_what_the_first_has_made(images, tmp_path, folder, capsys):
    process = start(tmp_path / "other", folder, 0.05)
    wait_until(lambda: any(folder.glob("*.tmp")), process)
    cached = open_cache(ImageSet(tmp_path / "other", images.files, images.labels, 0), folder)
    assert capsys.readouterr().err == f"data.cache: waiting for another process that writes to {folder}\n"
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, f"{SIZE}\n"), err
    assert len(cached) == SIZE
    assert names(folder) == [cached.path.name]


def test_many_at_once_all_get_the_whole(images, folder, capsys):
    caches: list[CacheFile] = []
    threads = [threading.Thread(target=lambda: caches.append(open_cache(images, folder))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(each.path, len(each)) for each in caches} == {(caches[0].path, SIZE)}
    assert len(caches) == 4
    assert capsys.readouterr().err.count("data.cache: writing") == 1


def test_an_interrupt_removes_what_was_written(images, folder, monkeypatch):
    read = disk.FileSource.read

    def interrupt(self, index):
        if index == 17:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(disk.FileSource, "read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_cache(images, folder)
    assert names(folder) == []


# --- torn and altered files ---


def cut(data: bytes) -> bytes:
    return data[:-10]


def begin(data: bytes) -> bytes:
    return data[:20]


def empty(data: bytes) -> bytes:
    return b""


def longer(data: bytes) -> bytes:
    return data + b"\0"


def without_head(data: bytes) -> bytes:
    return bytes(40) + data[40:]


def flip(position: int):
    """Flips one bit: from the start, or with a negative position from the end."""

    def alter(data: bytes) -> bytes:
        altered = bytearray(data)
        altered[position] ^= 4
        return bytes(altered)

    alter.__name__ = f"flip {position}"
    return alter


@pytest.mark.parametrize("alter", [cut, begin, empty, longer, without_head, *(flip(n) for n in (0, 9, 15, 17, 24, 31, 33, 39, -1, -500))])
def test_a_damaged_file_is_noticed_and_the_cache_built_anew(images, folder, alter, capsys):
    cached = open_cache(images, folder)
    expected = [cached.read(index).copy() for index in range(SIZE)]
    data = cached.path.read_bytes()
    cached.path.write_bytes(alter(data))
    capsys.readouterr()
    again = open_cache(images, folder)
    assert f"data.cache: {cached.path}: " in (said := capsys.readouterr().err)
    assert "made anew" in said
    assert ("bytes in place of" in said) == (alter in (cut, longer) or alter.__name__ in ("flip 24", "flip 31"))
    assert names(folder) == [cached.path.name]
    for index in range(SIZE):
        np.testing.assert_array_equal(again.read(index), expected[index])


def test_every_byte_of_the_table_is_guarded(images, folder):
    """An offset that is wrong by one byte would give an image that looks almost right."""
    cached = open_cache(images.subset(range(3)), folder)
    data = cached.path.read_bytes()
    _, count, description_size, length = HEADER.unpack_from(data)
    start = length - description_size - count * 24
    assert struct.unpack_from("<Q", data, start)[0] < start
    for position in (*range(40), *range(start, length)):
        cached.path.write_bytes(flip(position)(data))
        with pytest.raises(DamagedFile):
            CacheFile(cached.path)


def test_altered_pixels_are_noticed_when_they_are_read(images, folder):
    path = open_cache(images, folder).path
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    cached = open_cache(images, folder)  # looking at all pixels would take as long as an epoch
    bad = []
    for index in range(SIZE):
        try:
            cached.read(index)
        except RunError as error:
            bad.append(str(error))
    assert len(bad) == 1
    assert bad[0].startswith(f"{path}: image ")
    assert "delete the file" in bad[0]


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_says_which_cache_is_gone(images, folder, workers):
    source = pickle.loads(pickle.dumps(open_cache(images, folder)))  # as it comes to a process that was not forked
    source.path.unlink()
    with loaders_of(images) as make, pytest.raises(RunError, match=rf"^{source.path}: No such file"):
        list(make(workers, source=source).epoch(0))


# --- disks and folders that will not do ---


def test_a_disk_without_room_is_refused_before_anything_is_written(images, folder, monkeypatch):
    needed = open_cache(images, folder).path.stat().st_size
    shutil.rmtree(folder)
    usage = shutil.disk_usage(folder.parent)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=needed - 100))
    with pytest.raises(UserError) as caught:
        open_cache(images, folder)
    [line] = caught.value.problems
    assert line.startswith(f"data.cache: {folder}: ")
    for part in ("MB are needed", "MB are free", "data.cache_dir=FOLDER", "data.cache=none"):
        assert part in line
    assert os.listdir(folder) == [LOCK]
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=needed))
    assert len(open_cache(images, folder)) == SIZE


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small disk takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_small_disk_is_measured_and_one_that_fills_up_is_left_clean(images, folder, monkeypatch):
    with small_disk(folder, "64k"):
        with pytest.raises(UserError, match=r"data\.cache: .* MB are needed"):
            open_cache(images, folder)
        usage = shutil.disk_usage(folder)
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=10**9))  # as if others wrote meanwhile
        with pytest.raises(RunError, match=r"^data\.cache: .*: cannot be written: No space left on device; data\.cache_dir=FOLDER"):
            open_cache(images, folder)
        assert names(folder) == []


def test_a_write_that_fails_half_way_leaves_nothing(images, folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(RunError, match=r"^data\.cache: .*: cannot be written: File too large; "):
            open_cache(images, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(folder) == []


def test_a_folder_that_cannot_be_written_to_is_named(images, tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "inner", Path("/proc/inner")):
        with pytest.raises(UserError, match=rf"^data\.cache_dir: {folder}: cannot be written to: .*; data\.cache_dir=FOLDER"):
            open_cache(images, folder)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("content", [None, b"", b"\xff\xd8\xff\xe0 no image"])
def test_a_file_that_went_bad_after_the_check_is_named(images, folder, content, training):
    images.path(7).unlink()
    if content is not None:
        images.path(7).write_bytes(content)
    with pytest.raises(RunError, match=f"^{images.path(7)}: "):
        open_cache(images, folder, AUG, training=training)
    assert names(folder) == []
