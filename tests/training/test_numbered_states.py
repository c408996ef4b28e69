"""Numbered states, of which one is whole at every instant: killed anywhere, damaged, misread; version 0.1's two files are read too."""

import errno
import hashlib
import os
import random
from pathlib import Path

import pytest
import torch
from helpers.dying import Dying

from hw1.errors import RunError, UserError
from hw1.runs import checkpoint
from hw1.runs.checkpoint import load_newest, load_state, remove_state
from hw1.runs.folder import RunFolder
from hw1.training.checkpointer import write_checkpoints
from hw1.utils import files


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path)
    run.checkpoints.mkdir()
    return run


def save(run: RunFolder, step: int) -> None:
    state = {"progress": {"epoch": 0, "step": step}, "model": {"w": torch.full((50, 50), float(step))}, "ema": None}
    write_checkpoints(run, state, None)


def newest(run: RunFolder) -> tuple[int, list[str]]:
    state, problems = load_newest(run.state_files())
    step = state["progress"]["step"]
    assert torch.equal(state["model"]["w"], torch.full((50, 50), float(step)))
    return step, problems


def names(*steps: int) -> list[str]:
    return sorted(f"epoch0000-step{step:06}.{end}" for step in steps for end in ("pt", "sha256"))


def test_the_newest_two_are_kept(run):
    for step in (1, 2, 3, 10):
        save(run, step)
        assert newest(run) == (step, [])
    assert sorted(os.listdir(run.checkpoints)) == names(3, 10)


def test_order_is_that_of_numbers(run):
    for epoch, step in ((9, 5), (10, 0), (10, 1_000_000), (10, 999_999)):
        run.state_file(epoch, step).write_bytes(b"")
    found = [path.name for path in run.state_files()]
    assert found == ["epoch0010-step1000000.pt", "epoch0010-step999999.pt", "epoch0010-step000000.pt", "epoch0009-step000005.pt"]


def test_wherever_the_process_dies_a_whole_state_is_there(run, monkeypatch):
    """After each call to the system in turn; the next process finds the old state or the new one, and saves as ever."""

    class Killed(BaseException):
        pass

    for survived in range(40):
        for path in list(run.checkpoints.iterdir()):
            path.unlink()
        save(run, 1)
        save(run, 2)
        dies = Dying(survived, Killed)
        unlink = dies(Path.unlink)
        with monkeypatch.context() as patch:
            for name in ("replace", "fsync", "open"):
                patch.setattr(files.os, name, dies(getattr(os, name)))
            # the dead clean up nothing: of what is removed, only former states are
            patch.setattr(Path, "unlink", lambda path, unlink=unlink, **options: None if path.suffix == ".tmp" else unlink(path, **options))
            try:
                save(run, 3)
            except Killed:
                pass
            else:
                break
        assert newest(run)[0] in (2, 3)
        files.remove_leftovers(run.checkpoints)
        save(run, 4)
        assert newest(run) == (4, [])
        assert {"epoch0000-step000004.pt", "epoch0000-step000004.sha256"} <= set(os.listdir(run.checkpoints))
    assert 4 < survived < 39
    assert newest(run) == (3, [])
    assert sorted(os.listdir(run.checkpoints)) == names(2, 3)


def test_every_cut_and_every_flipped_bit_is_found_and_the_state_before_used(run):
    save(run, 1)
    save(run, 2)
    path = run.state_files()[0]
    data = path.read_bytes()
    rng = random.Random(0)
    for n in range(100):
        if n < 50:
            damaged = data[: rng.randrange(len(data))]
        else:
            bit = rng.randrange(len(data) * 8)
            damaged = data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
        path.write_bytes(damaged)
        step, [problem] = newest(run)
        assert step == 1
        assert problem.startswith(f"{path}: damaged")
    for file in run.state_files():
        file.write_bytes(b"")
    with pytest.raises(UserError) as caught:
        load_newest(run.state_files())
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [str(file) for file in run.state_files()]


def test_a_digest_that_is_gone_or_changed_is_a_damaged_state(run):
    save(run, 1)
    save(run, 2)
    path = run.state_files()[0]
    digest = path.with_suffix(".sha256")
    for content in (b"", b"\xff" * 64, b"0" * 64 + b"  x", None):
        digest.unlink() if content is None else digest.write_bytes(content)
        step, [problem] = newest(run)
        assert step == 1
        assert problem.startswith(f"{path}: damaged")


def test_what_does_not_read_back_the_same_replaces_nothing(run, monkeypatch):
    """A disk that returns other bytes than were written."""
    save(run, 1)
    save(run, 2)
    before = {path: path.read_bytes() for path in run.checkpoints.iterdir()}

    def misread(file, *arguments):
        with open(file.name, "r+b") as other:
            other.seek(500)
            other.write(b"\xa5")
        return hash_file(file, *arguments)

    hash_file = checkpoint._hash_file
    monkeypatch.setattr(checkpoint, "_hash_file", misread)
    with pytest.raises(RunError, match="does not read back the same"):
        save(run, 3)
    assert {path: path.read_bytes() for path in run.checkpoints.iterdir()} == before


def test_the_disks_error_is_not_made_another_by_torch(run, monkeypatch):
    save(run, 1)
    before = {path: path.read_bytes() for path in run.checkpoints.iterdir()}

    class FullAfter(checkpoint._HashedFile):
        left = 5000

        def write(self, data):
            self.left -= len(data)
            if self.left < 0:
                self._error = OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(checkpoint, "_HashedFile", FullAfter)
    path = run.state_file(0, 2)
    with pytest.raises(RunError, match=f"^{path}: cannot be written: No space left on device; free some space there"):
        save(run, 2)
    assert {path: path.read_bytes() for path in run.checkpoints.iterdir()} == before


def test_the_two_files_of_version_0_1_are_read_and_make_way(run):
    def former(name: str, step: int) -> None:
        path = run.checkpoints / name
        torch.save({"format": 1, "progress": {"epoch": 5, "step": step}, "model": {"w": torch.full((50, 50), float(step))}}, path)
        data = path.read_bytes()[:-2] + (64).to_bytes(2, "little")
        path.write_bytes(data + hashlib.sha256(data).hexdigest().encode())

    former("last.pt", 8)
    former("previous.pt", 7)
    assert newest(run) == (8, [])
    remove_state(run.checkpoints / "last.pt")
    assert newest(run) == (7, [])
    former("last.pt", 8)
    save(run, 9)
    assert [path.name for path in run.state_files()] == ["epoch0000-step000009.pt", "last.pt"]
    save(run, 10)
    assert sorted(os.listdir(run.checkpoints)) == names(9, 10)
    assert load_state(run.state_files()[0])["format"] == checkpoint.FORMAT
