"""Two checkpoints, of which one is whole at every instant: killed anywhere, damaged, without hard links, misread."""

import errno
import os
import random
from pathlib import Path

import pytest
import torch
from helpers.dying import Dying

from hw1.errors import RunError, UserError
from hw1.runs import checkpoint
from hw1.runs.checkpoint import load_newest, load_state, save_state
from hw1.utils import files


@pytest.fixture
def last(tmp_path: Path) -> Path:
    return tmp_path / "last.pt"


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    return tmp_path / "previous.pt"


def save(last: Path, step: int) -> None:
    save_state(last, {"step": step, "w": torch.full((50, 50), float(step))}, last.with_name("previous.pt"))


def newest(last: Path, previous: Path) -> tuple[int, list[str]]:
    state, problems = load_newest(last, previous)
    assert torch.equal(state["w"], torch.full((50, 50), float(state["step"])))
    return state["step"], problems


def test_the_former_state_becomes_the_previous(last, previous):
    save(last, 1)
    assert not previous.exists()
    for step in (2, 3):
        former = last.read_bytes()
        save(last, step)
        assert previous.read_bytes() == former
        assert load_state(last)["step"] == step
        assert sorted(os.listdir(last.parent)) == ["last.pt", "previous.pt"]


@pytest.mark.parametrize("links", [True, False])
def test_wherever_the_process_dies_a_whole_state_is_there(last, previous, monkeypatch, links):
    """After each call to the system in turn; the next process finds the old state or the new one, and saves as ever."""

    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    class Killed(BaseException):
        pass

    for survived in range(30):
        for path in list(last.parent.iterdir()):
            path.unlink()
        save(last, 1)
        save(last, 2)
        dies = Dying(survived, Killed)
        with monkeypatch.context() as patch:
            if not links:
                patch.setattr(os, "link", refuse)
            for name in ("link", "replace", "fsync", "open"):
                patch.setattr(files.os, name, dies(getattr(os, name)))
            patch.setattr(Path, "unlink", lambda *_, **__: None)  # the dead clean up nothing
            try:
                save(last, 3)
            except Killed:
                pass
            else:
                break
        assert newest(last, previous)[0] in (2, 3)
        files.remove_leftovers(last.parent)
        save(last, 4)
        assert newest(last, previous) == (4, [])
        assert sorted(os.listdir(last.parent)) == ["last.pt", "previous.pt"]
    assert 4 < survived < 29
    assert newest(last, previous) == (3, [])
    assert load_state(previous)["step"] == 2


def test_every_cut_and_every_flipped_bit_is_found_and_the_previous_used(last, previous):
    save(last, 1)
    save(last, 2)
    data = last.read_bytes()
    rng = random.Random(0)
    for n in range(100):
        if n < 50:
            damaged = data[: rng.randrange(len(data))]
        else:
            bit = rng.randrange(len(data) * 8)
            damaged = data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]
        last.write_bytes(damaged)
        step, [problem] = newest(last, previous)
        assert step == 1
        assert problem.startswith(f"{last}: damaged")
    last.unlink()
    assert newest(last, previous) == (1, [f"{last}: no such file"])
    previous.write_bytes(b"")
    with pytest.raises(UserError) as caught:
        load_newest(last, previous)
    assert [problem.split(": ")[0] for problem in caught.value.problems] == [str(last), str(previous)]


def test_what_does_not_read_back_the_same_replaces_nothing(last, previous, monkeypatch):
    """A disk that returns other bytes than were written."""
    save(last, 1)
    save(last, 2)
    before = last.read_bytes(), previous.read_bytes()

    def misread(file):
        with open(file.name, "r+b") as other:
            other.seek(500)
            other.write(b"\xa5")
        return digest_of(file)

    digest_of = checkpoint._digest_of
    monkeypatch.setattr(checkpoint, "_digest_of", misread)
    with pytest.raises(RunError, match="does not read back the same"):
        save(last, 3)
    assert (last.read_bytes(), previous.read_bytes()) == before
    assert sorted(os.listdir(last.parent)) == ["last.pt", "previous.pt"]


def test_the_disks_error_is_not_made_another_by_torch(last, previous, monkeypatch):
    save(last, 1)
    before = last.read_bytes()

    class FullAfter:
        def __init__(self, file):
            self.file, self.left = file, 5000

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            self.left -= len(data)
            if self.left < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

    write_state = checkpoint._write_state
    monkeypatch.setattr(checkpoint, "_write_state", lambda file, state: write_state(FullAfter(file), state))
    with pytest.raises(RunError, match=f"^{last}: cannot be written: No space left on device; free some space there"):
        save(last, 2)
    assert last.read_bytes() == before
    assert os.listdir(last.parent) == ["last.pt"]
