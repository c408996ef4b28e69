"""Atomic writes against real faults: full disks, killed processes, two writers, folders that cannot be written to."""

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from helpers.paths import ROOT

from hw1.errors import RunError
from hw1.utils import files
from hw1.utils.files import make_folder, remove_leftovers, replacing_folder, write_atomic


def python(code: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", code, *map(str, arguments)]


@pytest.mark.parametrize("data", [b"", b"new", memoryview(b"new"), b"\0" * 3_000_000])
def test_a_file_is_made_and_replaced(tmp_path, data):
    path = tmp_path / "a b ü.json"
    for _ in range(2):
        write_atomic(path, data)
        assert path.read_bytes() == data
        assert os.listdir(tmp_path) == [path.name]
        path.write_bytes(b"old and longer than the new one")


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_permissions_follow_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "a", b"x")
        (tmp_path / "b").write_bytes(b"x")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"}
    assert modes == {0o666 & ~mask}


def test_what_cannot_be_written_is_a_run_error_that_names_it(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder/inner").mkdir(parents=True)
    for path, reason in (
        (tmp_path / "file/x", "Not a directory"),
        (tmp_path / "gone/x", "No such file or directory"),
        (tmp_path / "folder", "directory"),
        (tmp_path / ("n" * 300), "File name too long"),
        (Path("/proc/x"), ""),  # root may write almost anywhere, but not here
    ):
        with pytest.raises(RunError, match=f"^{path}: cannot be written: .*{reason}"):
            write_atomic(path, b"new")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"old"


FILL = """
import resource, signal, sys
from pathlib import Path
from hw1.errors import RunError
from hw1.utils.files import write_atomic
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    write_atomic(Path(sys.argv[1]), bytes(1_000_000))
except RunError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "last.pt"
    path.write_bytes(b"old")
    done = subprocess.run(python(FILL, path), cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == (f"{path}: cannot be written: File too large\n", "")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["last.pt"]


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(errno.EIO, "Input/output error")])
def test_a_fault_before_the_rename_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, fault):
    def fail(*_):
        raise fault

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises((KeyboardInterrupt, RunError)):
        write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


def test_the_data_is_on_disk_before_the_name_is_and_then_the_name(tmp_path, monkeypatch):
    """A rename may reach the disk before the data; after a power cut the file would be there, and empty."""
    events = []
    sync, replace = os.fsync, os.replace

    def spy_sync(handle):
        events.append("sync folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"sync {os.fstat(handle).st_size} bytes")
        sync(handle)

    def spy_replace(source, target):
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr(files.os, "fsync", spy_sync)
    monkeypatch.setattr(files.os, "replace", spy_replace)
    write_atomic(tmp_path / "a", b"12345")
    assert events == ["sync 5 bytes", "rename", "sync folder"]


def test_a_file_system_that_cannot_sync_folders_will_do(tmp_path, monkeypatch):
    sync = os.fsync

    def picky(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(handle)

    monkeypatch.setattr(files.os, "fsync", picky)
    write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_readers_and_other_writers_meet_only_whole_files(tmp_path):
    path = tmp_path / "a"
    versions = {bytes([n]) * 100_000 for n in range(4)}
    write_atomic(path, next(iter(versions)))
    ended = threading.Event()

    def write(data: bytes) -> None:
        while not ended.is_set():
            write_atomic(path, data)

    writers = [threading.Thread(target=write, args=[data]) for data in versions]
    for writer in writers:
        writer.start()
    seen, num_reads, deadline = set(), 0, time.monotonic() + 30
    while num_reads < 300 or (len(seen) < 2 and time.monotonic() < deadline):  # on a busy disk the first rename may take its time
        seen.add(path.read_bytes())
        num_reads += 1
    ended.set()
    for writer in writers:
        writer.join()
    assert seen <= versions
    assert len(seen) > 1
    assert os.listdir(tmp_path) == ["a"]


REWRITE = """
import itertools, sys
from pathlib import Path
from hw1.utils.files import write_atomic
for n in itertools.count():
    write_atomic(Path(sys.argv[1]), bytes([n % 256]) * 300_000)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "a"
    for delay in (0.0, 0.003, 0.011, 0.02):
        path.unlink(missing_ok=True)
        process = subprocess.Popen(python(REWRITE, path), cwd=ROOT)
        try:
            deadline = time.monotonic() + 60
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(delay)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
        data = path.read_bytes()
        assert data == data[:1] * 300_000
        remove_leftovers(tmp_path)
        assert os.listdir(tmp_path) == ["a"]


def test_only_leftovers_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "replace", lambda *_: None)  # as if killed just before
    write_atomic(tmp_path / "a", b"new")
    others = [".hidden", "mine.tmp", "a", ".lock"]
    for name in others:
        (tmp_path / name).write_bytes(b"")
    assert len(os.listdir(tmp_path)) == 5
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == sorted(others)


def test_new_folders_are_synced_to_disk_in_their_parents(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd))[1])
    (tmp_path / "a").mkdir()
    make_folder(tmp_path / "a/b/c")
    assert (tmp_path / "a/b/c").is_dir()
    assert sorted(synced) == [str(tmp_path / "a"), str(tmp_path / "a/b")]
    synced.clear()
    make_folder(tmp_path / "a/b/c")
    assert synced == []
    with replacing_folder(tmp_path / "a/d"):
        pass
    assert synced[-1] == str(tmp_path / "a")
