"""Folders whose files are meant as one, against kill -9 before every operation, errors, links, readers and other writers."""

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
from hw1.utils.files import remove_leftovers, replacing_folder, write_folder

OLD, NEW = {"a": b"old", "b": b"old", "gone": b"old"}, {"a": b"new", "b": b"new"}
NEW_PAGE = {"a": b"new", "page": b"new"}

WRITE = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from helpers.killed import die_before
from hw1.utils import files
from hw1.utils.files import write_folder
path, count, can_exchange = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
if not can_exchange:
    files._exchange = lambda *_: False
die_before(count, str(path.parent))
write_folder(path, {"a": b"new", "b": b"new"})
"""


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_and_die(path: Path, count: int, *, can_exchange: bool) -> int:
    return subprocess.run([sys.executable, "-c", WRITE, str(path), str(count), str(can_exchange)], cwd=ROOT, timeout=60).returncode


@pytest.mark.parametrize("can_exchange", [True, False])
@pytest.mark.parametrize("is_there", [True, False])
def test_kill_9_before_each_operation_leaves_one_of_the_two_and_the_next_call_cleans_up(tmp_path, can_exchange, is_there):
    path, seen = tmp_path / "eval [1]", set()
    for count in range(1, 100):
        if is_there:
            write_folder(path, OLD)
        elif path.exists():
            write_folder(path, {})
            path.rmdir()
        code = write_and_die(path, count, can_exchange=can_exchange)
        found = content(path) if path.exists() else None
        assert found in (OLD if is_there else None, NEW) or (is_there and not can_exchange and found is None)
        seen.add(None if found is None else found["a"])
        if found is None and is_there:  # only without an exchange: what stood there comes back, also where the next call fails
            with pytest.raises(ZeroDivisionError), replacing_folder(path):
                raise ZeroDivisionError
            assert content(path) == OLD
        write_folder(path, NEW)
        assert content(path) == NEW
        assert os.listdir(tmp_path) == [path.name], "a remnant stays"
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert count > 8
    assert seen >= ({b"old", b"new"} if is_there else {None, b"new"})
    assert (None in seen) == (not is_there or not can_exchange)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device"), ZeroDivisionError()])
@pytest.mark.parametrize("place", ["block", "sync", "rename"])
def test_after_an_error_all_is_as_it_was(tmp_path, monkeypatch, fault, place):
    path = tmp_path / "val"
    write_folder(path, OLD)

    def fail(*_):
        raise fault

    if place == "sync":
        monkeypatch.setattr(files.os, "fsync", fail)
    elif place == "rename":
        calls = iter([os.rename, fail, os.rename])
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
        monkeypatch.setattr(files.os, "rename", lambda *names: next(calls)(*names))
    with pytest.raises(RunError if isinstance(fault, OSError) else type(fault)) as caught, replacing_folder(path) as folder:
        (folder / "a").write_bytes(b"new") if place != "block" else fail()
    if isinstance(fault, OSError):
        assert str(caught.value).startswith(f"{path}: cannot be written: No space left on device; free some space")
    assert content(path) == OLD
    assert os.listdir(tmp_path) == ["val"]


def test_the_files_are_on_disk_before_they_are_put_in_place(tmp_path, monkeypatch):
    events, sync, exchange = [], os.fsync, files._exchange

    def spy_sync(handle):
        events.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else f"{os.fstat(handle).st_size} bytes")
        sync(handle)

    def spy_exchange(*paths):
        events.append("exchange")
        return exchange(*paths)

    write_folder(tmp_path / "val", OLD)
    monkeypatch.setattr(files.os, "fsync", spy_sync)
    monkeypatch.setattr(files, "_exchange", spy_exchange)
    write_folder(tmp_path / "val", {"a": b"12345", "b": b"123"})
    assert sorted(events[:2]) == ["3 bytes", "5 bytes"]
    assert events[2:] == ["folder", "exchange", "folder"]


def test_a_writer_that_lives_is_left_alone(tmp_path):
    path = tmp_path / "val"
    with replacing_folder(path) as folder:
        (folder / "a").write_bytes(b"first")
        write_folder(path, NEW)
        assert content(path) == NEW
        remove_leftovers(tmp_path)
        assert (folder / "a").read_bytes() == b"first"
    assert content(path) == {"a": b"first"}
    assert os.listdir(tmp_path) == ["val"]


@pytest.mark.skipif(sys.platform != "linux", reason="two folders exchange their names on Linux only")
def test_readers_meet_whole_folders_only(tmp_path):
    path, ended, seen, faults = tmp_path / "val", threading.Event(), set(), []
    write_folder(path, {"a": b"0", "b": b"0"})

    def write(number: int) -> None:
        while not ended.is_set():
            write_folder(path, dict.fromkeys("ab", str(number).encode()))

    writers = [threading.Thread(target=write, args=[number]) for number in range(3)]
    for writer in writers:
        writer.start()
    num_reads, deadline = 0, time.monotonic() + 30
    while num_reads < 300 or (len(seen) < 2 and time.monotonic() < deadline):  # on a busy disk the first exchange may take its time
        num_reads += 1
        folder = os.open(path, os.O_RDONLY)  # one folder, whatever its name is by now
        try:
            values = {Path(f"/proc/self/fd/{folder}/{name}").read_bytes() for name in "ab"}
            seen |= values
            faults += [values] * (len(values) > 1)
        except FileNotFoundError:  # a former one, which is being removed
            pass
        finally:
            os.close(folder)
    ended.set()
    for writer in writers:
        writer.join()
    assert not faults
    assert len(seen) > 1
    assert os.listdir(tmp_path) == ["val"]


def test_links_stay_links_and_a_file_stays(tmp_path):
    write_folder(tmp_path / "elsewhere/val", OLD)
    (tmp_path / "link").symlink_to("elsewhere/val")
    write_folder(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink()
    assert content(tmp_path / "elsewhere/val") == NEW
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(RunError, match="cannot be written: Not a directory"):
        write_folder(tmp_path / "file", NEW)
    assert (tmp_path / "file").read_bytes() == b"mine"
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "file", "link"]


REPLACE = """
import sys
from pathlib import Path
sys.path.insert(0, "tests")
from helpers.killed import die_before
from hw1.utils.files import replace_files
path = Path(sys.argv[1])
die_before(int(sys.argv[2]), str(path))
replace_files(path, {"a": b"new", "page": b"new"}, ["a", "gone"])
"""


def test_files_in_a_folder_of_the_users_are_whole_and_his_others_stay(tmp_path):
    """Killed before any operation: each file is whole; before the last of them has its name the page is the old one."""
    path = tmp_path / "docs"
    path.mkdir()
    seen = set()
    for count in range(1, 60):
        for name in ("a", "page", "gone", "mine"):
            (path / name).write_bytes(b"old")
        code = subprocess.run([sys.executable, "-c", REPLACE, str(path), str(count)], cwd=ROOT, timeout=60).returncode
        found = {p.name: p.read_bytes() for p in path.iterdir() if p.is_file()}
        assert found.pop("mine") == b"old"
        assert set(found.values()) <= {b"old", b"new"}
        assert found["a"] == b"new" or found["page"] == b"old"
        seen.add(found["page"])
        files.replace_files(path, NEW_PAGE, ["a", "gone"])
        assert content(path) == {**NEW_PAGE, "mine": b"old"}
        if code == 0:
            break
    assert seen == {b"old", b"new"}
    assert count > 8


def test_a_full_disk_changes_no_file_of_a_folder(tmp_path, monkeypatch):
    files.replace_files(tmp_path, {"a": b"old", "page": b"old"})

    def fail(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", fail)
    with pytest.raises(RunError, match="cannot be written: No space left on device; free some space"):
        files.replace_files(tmp_path, NEW_PAGE)
    assert content(tmp_path) == {"a": b"old", "page": b"old"}
