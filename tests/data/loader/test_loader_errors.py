"""What happens when a file or a loader's process is lost, is sent a signal or has to end."""

import errno
import hashlib
import multiprocessing
import multiprocessing.synchronize
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from helpers.loader_images import assert_same, processes

from hw1.data.loader import loader as loader_module
from hw1.data.loader import watchdog
from hw1.errors import RunError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more processes than this machine has cores


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_file_that_breaks_while_training_is_named(images, make, num_workers):
    loader = make(num_workers)
    list(loader.epoch(0))
    path = images.path(11)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunError) as caught:
        list(loader.epoch(1))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(RunError, match=r"11\.jpg: no such file"):
        list(loader.epoch(1))
    path.write_bytes(whole)
    assert_same(list(loader.epoch(1)), list(make(0).epoch(1)))


def test_a_killed_process_is_reported_where_the_next_batch_is_asked_for(make):
    loader = make(2)
    epoch = loader.epoch(0)
    next(epoch)
    began = time.monotonic()
    os.kill(processes()[0], signal.SIGKILL)
    while time.monotonic() < began + 1:  # the training step: no exception may fall into it
        sum(range(1000))
    with pytest.raises(RunError, match=r"killed by SIGKILL.*lower data\.num_workers$") as died:
        [*epoch, *loader.epoch(1)]
    assert died.tb is not None  # holds torch's iterator: the other process must have been ended all the same
    assert time.monotonic() - began < 60
    assert processes() == []
    assert_same(list(loader.epoch(0)), list(make(0).epoch(0)))


def test_a_hung_process_is_waited_for_no_longer_than_that(make, monkeypatch):
    monkeypatch.setattr(watchdog, "PATIENCE_SECONDS", 2)
    monkeypatch.setattr(loader_module, "SECONDS_PER_IMAGE", 0.2)  # times 5
    loader = make(2)
    epoch = loader.epoch(0)
    next(epoch)
    time.sleep(4)  # the trainer's own time does not count
    os.kill(processes()[0], signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(RunError, match=r"gave nothing for 3 s .* hanging, .*data.num_workers"):
        [*epoch, *loader.epoch(1)]
    assert time.monotonic() - began < 60
    assert processes() == []
    assert_same(list(loader.epoch(0)), list(make(0).epoch(0)))


def test_a_hung_process_is_hardly_waited_for_once_the_run_is_to_stop(make, monkeypatch):
    monkeypatch.setattr(watchdog, "STOPPING_SECONDS", 2)
    loader = make(2)
    epoch = loader.epoch(0)
    next(epoch)
    os.kill(processes()[0], signal.SIGSTOP)
    threading.Timer(1, lambda: setattr(loader, "stop", lambda: signal.SIGTERM)).start()
    began = time.monotonic()
    with pytest.raises(RunError, match="gave nothing"):
        [*epoch, *loader.epoch(1)]
    assert time.monotonic() - began < 60 < watchdog.PATIENCE_SECONDS
    assert processes() == []


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.ENOENT])
def test_where_dev_shm_has_no_room_for_semaphores_the_hint_says_so(make, monkeypatch, error):
    def full(*_, **__):
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "__init__", full)
    with pytest.raises(
        RunError, match=rf"could not be started \({os.strerror(error)}\); if /dev/shm is full.*--ipc=host.*--shm-size"
    ) as caught:
        make(2).epoch(0)
    assert "\n" not in str(caught.value)
    assert len(list(make(0).epoch(0))) == 5


def test_signals_to_the_whole_group_leave_the_processes_to_the_trainer(make):
    loader = make(2)
    epoch = loader.epoch(0)
    pids = processes()  # which have hardly started
    for name in ("INT", "TERM", "INT", "TERM"):
        subprocess.run(["kill", f"-{name}", *map(str, pids)], check=True)
    batches = [next(epoch)]
    subprocess.run(["kill", "-TERM", *map(str, pids)], check=True)
    assert_same([*batches, *epoch], list(make(0).epoch(0)))
    assert processes() == pids


def test_the_parent_can_still_terminate_its_processes(make):
    loader = make(2)
    next(loader.epoch(0))
    for child in multiprocessing.active_children():
        child.terminate()
        child.join(10)
        assert child.exitcode == 0


@pytest.mark.parametrize("half_way", [False, True])
def test_close_ends_the_processes_at_once_and_again_does_nothing(make, half_way):
    loader = make(3)
    epoch = loader.epoch(0)
    batches = [next(epoch)] if half_way else list(epoch)
    assert len(processes()) == 3
    began = time.monotonic()
    loader.close()
    loader.close()
    assert processes() == []
    assert time.monotonic() - began < 12  # torch gives each process 5 s to end by itself
    if half_way:
        with pytest.raises(RuntimeError, match="loader was closed"):
            next(epoch)
    assert_same([next(loader.epoch(0))], batches[:1])


def test_a_fresh_trainer_computes_the_same_bits_and_ends_without_closing(images, make):
    """Another hash seed; and its loader lives in a global, as in a notebook: the processes must not hold the exit up."""
    program = f"""
import hashlib, torch
from pathlib import Path
from hw1.config.recipe import AugConfig
from hw1.data.image_folder import ImageSet
from hw1.data.loader.loader import Loader
from hw1.data.augment.transforms import build_train_transform
aug = AugConfig(size=24)
images = ImageSet(Path({str(images.root)!r}), {images.files!r}, None, 0)
loader = Loader(images, build_train_transform(aug), batch_size=5, shuffle=True, seed=118, num_workers=2, device=torch.device("cpu"),
                aug=aug, channels_last=True)
epoch = loader.epoch(4)
print([hashlib.sha256(batch.image.numpy().tobytes()).hexdigest() for _, batch in zip(range(3), epoch)], flush=True)
"""
    environment = {**os.environ, "PYTHONHASHSEED": "1", "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    with subprocess.Popen([sys.executable, "-c", program], **pipes) as trainer:
        there = trainer.stdout.readline().strip()
        began = time.monotonic()
        assert trainer.wait(timeout=60) == 0
        assert time.monotonic() - began < 20
        assert trainer.stderr.read() == ""
    here = [batch.image for _, batch in zip(range(3), make(0).epoch(4), strict=False)]
    assert there == str([hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in here])
