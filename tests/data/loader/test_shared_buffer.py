"""The memory between the loader's processes and the device: never written while in use, bounded, and gone after use."""

import hashlib
import itertools
import mmap
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from helpers.loader_images import AUG, CPU, assert_same, processes
from helpers.paths import ROOT

from hw1.config.recipe import AugConfig
from hw1.data.augment.transforms import build_eval_transform
from hw1.data.image_folder import ImageSet
from hw1.data.loader.loader import Loader
from hw1.data.loader.shared_buffer import MAX_BYTES, SharedBuffer
from hw1.errors import RunError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more processes than this machine has cores


class Numbers:
    """A source whose image `index` is all of value `index`."""

    def read(self, index: int) -> np.ndarray:
        return np.full((24, 24, 3), index, np.uint8)


def numbered_loader(count: int, **settings) -> Loader:
    images = ImageSet(Path("nowhere"), tuple(f"{i}.jpg" for i in range(count)), np.arange(count, dtype=np.int64), 0)
    aug = AugConfig(size=24, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    settings = {"shuffle": True, "seed": 1, "device": CPU, "aug": aug, "channels_last": True, "source": Numbers(), **settings}
    return Loader(images, build_eval_transform(aug), **settings)


# --- slots ---


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_a_slow_consumer_never_sees_a_batch_change(num_workers):
    """The processes have time to write all they may while a batch is in use, and all batches are kept to the end."""
    loader = numbered_loader(200, batch_size=4, num_workers=num_workers)
    batches = []
    for step, batch in enumerate(loader.epoch(0)):
        if step % 10 == 0:
            time.sleep(0.05)
        batches.append(batch)
    loader.close()
    for batch in batches:
        assert torch.equal((batch.image * 255).round().long(), batch.index.view(-1, 1, 1, 1).expand_as(batch.image))
        assert torch.equal(batch.label, batch.index)
    assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == list(range(200))


class Copy:
    """Stands for the event after a batch's copy to the device."""

    def __init__(self) -> None:
        self.waited = False

    def synchronize(self) -> None:
        self.waited = True


def test_a_slot_is_given_again_only_after_its_copy():
    buffer = SharedBuffer(1, 2, 24)
    copies = []
    for turn in range(9):
        slot = buffer.slot(turn)
        assert [copy.waited for copy in copies] == [earlier <= turn - buffer.num_slots for earlier in range(turn)]
        copies.append(Copy())
        buffer.reuse_after(slot, copies[-1])
    buffer.close()
    assert all(copy.waited for copy in copies)


def test_a_batch_is_filled_when_its_slot_is_not_the_one_in_use(make, monkeypatch):
    """Batches given out but not received yet, with the one just received, never exceed the slots."""
    loader, under_way = make(2), []
    slot_of, received = SharedBuffer.slot, 0

    def spy(buffer, turn):
        under_way.append(turn - received + 1)
        return slot_of(buffer, turn)

    monkeypatch.setattr(SharedBuffer, "slot", spy)
    for _ in loader.epoch(0):
        received += 1
    assert len(under_way) == 5
    assert max(under_way) <= loader._buffer.num_slots - 1  # the last one may still be on its way to the device


# --- memory ---


@pytest.mark.parametrize(("num_workers", "batch_size", "size"), [(0, 32, 224), (1, 32, 224), (16, 32, 224), (16, 64, 224), (15, 256, 224)])
def test_memory_is_what_the_docstring_says(monkeypatch, num_workers, batch_size, size):
    asked = []
    monkeypatch.setattr(
        "hw1.data.loader.shared_buffer._shared_memory", lambda num: asked.append(num) or torch.empty(num, dtype=torch.uint8)
    )
    buffer = SharedBuffer(num_workers, batch_size, size)
    expected = buffer.num_slots * batch_size * (3 * size**2 + 16)
    assert asked == [expected]
    assert expected <= MAX_BYTES == 1024**3
    assert buffer.image.shape == (num_workers * buffer.prefetch + 2, batch_size, size, size, 3)
    assert buffer.label.shape == buffer.index.shape == buffer.image.shape[:2]
    pointers = sorted((part.data_ptr(), part.data_ptr() + part.nbytes) for part in (buffer.image, buffer.label, buffer.index))
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(pointers))
    assert (buffer.prefetch, num_workers == 15) in ((2, False), (1, True))


def test_a_small_set_takes_no_more_than_it_fills(make):
    loader = make(1, batch_size=4096)
    list(loader.epoch(0))
    assert loader._buffer.image.shape[1] == 23


def shared_bytes() -> int:
    """Anonymous shared memory mapped by this process."""
    total = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/dev/zero (deleted)" in line:
            start, end = (int(word, 16) for word in line.split()[0].split("-"))
            total += end - start
    return total


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_epochs_and_loaders_leave_no_memory_and_no_process(make):
    before, files = shared_bytes(), len(os.listdir("/proc/self/fd"))
    sizes = []
    for _ in range(3):
        loader = make(2)
        for epoch in range(3):
            list(loader.epoch(epoch))
            next(loader.epoch(epoch))
            sizes.append(shared_bytes() - before)
        loader.close()
        assert shared_bytes() == before
        assert processes() == []
    assert len(set(sizes)) == 1
    assert sizes[0] >= 6 * 5 * 24 * 24 * 3
    assert len(os.listdir("/proc/self/fd")) <= files + 2


def test_too_little_memory_is_reported(make, monkeypatch):
    def full(fileno, length):
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(mmap, "mmap", full)
    with pytest.raises(RunError, match=r"^no room for 0 MiB of images .*\(Cannot allocate memory\): lower data\.num_workers"):
        make(1).epoch(0)


def test_without_fork_a_full_dev_shm_is_reported(make, monkeypatch):
    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)")  # torch's words

    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(RunError, match=r"^no room .*/dev/shm.*--ipc=host.*--shm-size.*$"):
        make(1).epoch(0)


PROGRAM = """
import hashlib, multiprocessing, sys, torch
from pathlib import Path
from hw1.config.recipe import AugConfig
from hw1.data.image_folder import ImageSet
from hw1.data.loader.loader import Loader
from hw1.data.augment.transforms import build_train_transform
if __name__ == "__main__":
    method, root, size, *files = sys.argv[1:]
    multiprocessing.set_start_method(method)
    aug = AugConfig(size=int(size))
    loader = Loader(ImageSet(Path(root), tuple(files), None, 0), build_train_transform(aug), batch_size=8, shuffle=True, seed=118,
                    num_workers=1, device=torch.device("cpu"), aug=aug, channels_last=True)
    for batch in loader.epoch(4):
        print(hashlib.sha256(batch.image.numpy().tobytes()).hexdigest())
    loader.close()
"""


def program(tmp_path: Path, images: ImageSet, method: str, size: int, prefix: str = "") -> subprocess.CompletedProcess[str]:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = f"{prefix} exec {sys.executable} program.py {method} {images.root} {size} {' '.join(images.files)}"
    shell = ["unshare", "-m", "bash", "-c"] if prefix else ["bash", "-c"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run([*shell, command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)


def test_a_tiny_dev_shm_is_enough(tmp_path, images):
    """Docker's has 64 MB: here it has a tenth of one batch."""
    mount = "mount -t tmpfs -o size=256k tmpfs /dev/shm &&"
    try:
        subprocess.run(["unshare", "-m", "bash", "-c", f"{mount} true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("may not mount in a namespace of its own")
    result = program(tmp_path, images, "fork", 336, mount)
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 3


def test_processes_that_are_not_forked_give_the_same_bits(tmp_path, images, make):
    result = program(tmp_path, images, "spawn", 24)
    assert result.returncode == 0, result.stderr
    here = [hashlib.sha256(batch.image.numpy().tobytes()).hexdigest() for batch in make(0, batch_size=8).epoch(4)]
    assert result.stdout.split() == here


# --- what processes inherit ---


def test_a_transform_runs_once_before_the_processes_are_started(images):
    """So that its compilation or loading is done once, here, and not in each process at the same time."""
    here = os.getpid()
    calls = multiprocessing.get_context("fork").Array("i", 3)

    def transform(image, words):
        with calls:
            calls[0 if os.getpid() == here else 1] += 1
            calls[2] += os.getpid() == here and len(processes()) > 0
        return cv2.resize(image, (24, 24))

    transform.smallest_side = None
    loader = Loader(
        images, transform, batch_size=5, shuffle=True, seed=1, num_workers=2, device=CPU, aug=AUG, channels_last=True
    )  # fmt: skip
    for epoch in range(2):
        list(loader.epoch(epoch))
    loader.close()
    assert list(calls) == [1, 46, 0]


# --- page-locked memory, with CUDA's calls in place of CUDA ---


@pytest.mark.parametrize("error", [0, 2])
def test_memory_is_page_locked_once_and_released(monkeypatch, error):
    calls = []
    cudart = SimpleNamespace(
        cudaHostRegister=lambda pointer, size, flags: calls.append(("lock", pointer, size)) or error,
        cudaHostUnregister=lambda pointer: calls.append(("release", pointer)),
    )
    monkeypatch.setattr(torch.cuda, "cudart", lambda: cudart)
    buffer = SharedBuffer(1, 2, 24)
    buffer.pin(CPU)
    buffer.close()
    buffer.close()
    lock = ("lock", buffer._memory.data_ptr(), 4 * 2 * (3 * 24**2 + 16))
    assert calls == ([lock, ("release", buffer._memory.data_ptr())] if error == 0 else [lock])


def test_bits_are_those_of_one_process_with_more_batches_than_slots(make):
    loader = make(2, batch_size=2)
    assert_same(list(loader.epoch(0)), list(make(0, batch_size=2).epoch(0)))
    assert loader.num_batches > loader._buffer.num_slots
