"""Loading: the same bits with any number of processes and from any step on; what happens when a file or a process is lost."""

import hashlib
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from hw1.config import AugConfig, DataConfig, Recipe, TrainConfig
from hw1.data import workers
from hw1.data.cores import usable_cores
from hw1.data.dataset import PictureDataset
from hw1.data.decode import read_image
from hw1.data.folders import ImageSet, open_training_data
from hw1.data.loaders import Batch, Loader, build_eval_loader, build_train_loader
from hw1.data.sampler import EpochBatches
from hw1.data.transforms import build_eval_transform, build_train_transform
from hw1.data.workers import default_num_workers
from hw1.errors import RunError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more processes than this machine has cores
CPU = torch.device("cpu")
AUG = AugConfig(size=24)
SIZE = 23  # with batches of 5 the last has 3


def write_pictures(root: Path, count: int = SIZE) -> ImageSet:
    files = []
    for index in range(count):
        coarse = np.random.default_rng(index).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (30 + 3 * index, 70 - 2 * index), interpolation=cv2.INTER_CUBIC)
        files.append(f"{index % 3}/{index}.jpg")
        (root / files[-1]).parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(root / files[-1]), picture)
    return ImageSet(root, tuple(files), np.arange(count, dtype=np.int64) % 3, 0)


@pytest.fixture
def images(tmp_path) -> ImageSet:
    return write_pictures(tmp_path)


@pytest.fixture
def make(images):
    """Makes loaders, and closes them."""
    made = []

    def make(num_workers: int = 0, **changed) -> Loader:
        settings = {"batch_size": 5, "shuffle": True, "seed": 118, "device": CPU, "aug": AUG, "channels_last": True}
        made.append(Loader(images, build_train_transform(AUG), num_workers=num_workers, **{**settings, **changed}))
        return made[-1]

    yield make
    for loader in made:
        loader.close()


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def processes() -> list[int]:
    return sorted(child.pid for child in multiprocessing.active_children())


# --- what a batch is ---


@pytest.mark.parametrize("channels_last", [True, False])
def test_batches_hold_the_normalised_pictures_of_their_order(images, make, channels_last):
    transform = build_train_transform(AUG)
    keys = EpochBatches(SIZE, 5, 118, True)
    keys.seek(3)
    loader = make(channels_last=channels_last)
    batches = list(loader.epoch(3))
    for batch, expected in zip(batches, keys, strict=True):
        assert batch.index.tolist() == [index for _, index in expected]
        assert batch.label.tolist() == [index % 3 for _, index in expected]
        pictures = np.stack([transform(read_image(images.path(index)), (118, 3, index)) for _, index in expected])
        theirs = (pictures.astype(np.float32) / np.float32(255) - np.float32(AUG.mean)) / np.float32(AUG.std)
        np.testing.assert_allclose(batch.image.permute(0, 2, 3, 1).numpy(), theirs, rtol=1e-6, atol=1e-6)
        assert (batch.image.dtype, batch.label.dtype, batch.index.dtype) == (torch.float32, torch.int64, torch.int64)
        assert batch.image.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert [len(batch.index) for batch in batches] == [loader.batch_size_of(step) for step in range(loader.num_batches)] == [5, 5, 5, 5, 3]
    assert (loader.num_samples, loader.num_batches) == (SIZE, 5)


def test_unlabelled_pictures_have_label_minus_one(images, make):
    unlabelled = ImageSet(images.root, images.files, None, 0)
    tensor, label, index = PictureDataset(unlabelled, build_eval_transform(AUG), 118)[(0, 7)]
    assert (tensor.dtype, tuple(tensor.shape), label, index) == (torch.uint8, (24, 24, 3), -1, 7)


def test_recipe_decides_what_the_loaders_do(images):
    recipe = Recipe(aug=AUG, data=DataConfig(batch_size=4, eval_batch_size=6, num_workers=0), train=TrainConfig(channels_last=False))
    train, evaluation = build_train_loader(images, recipe, CPU), build_eval_loader(images, recipe, CPU)
    assert (train.num_batches, evaluation.num_batches) == (6, 4)
    first, second = ([*evaluation.epoch(epoch)] for epoch in (0, 1))
    assert_same(first, second)
    assert torch.cat([batch.index for batch in first]).tolist() == list(range(SIZE))
    plain = build_eval_transform(AUG)(read_image(images.path(0)), (0, 0, 0)) / 255
    np.testing.assert_allclose(first[0].image[0].permute(1, 2, 0), (plain - AUG.mean) / AUG.std, atol=1e-5)
    begin = next(train.epoch(2))
    augmented = build_train_transform(AUG)(read_image(images.path(begin.index[0])), (118, 2, int(begin.index[0]))) / 255
    np.testing.assert_allclose(begin.image[0].permute(1, 2, 0), (augmented - AUG.mean) / AUG.std, atol=1e-5)
    order = torch.cat([batch.index for batch in train.epoch(0)]).tolist()
    assert sorted(order) == list(range(SIZE)) != order
    assert order != torch.cat([batch.index for batch in train.epoch(1)]).tolist()
    assert first[0].image.is_contiguous()


# --- the same bits, however loaded ---


def test_any_number_of_processes_gives_the_same_bits_from_any_step_on(make):
    single = make(0)
    expected = {epoch: list(single.epoch(epoch)) for epoch in (0, 1, 2)}
    for num_workers in (1, 4):
        loader = make(num_workers)
        for epoch, start in ((0, 0), (1, 0), (2, 3), (0, 4), (1, 5)):
            assert_same(list(loader.epoch(epoch, start)), expected[epoch][start:])
    assert not torch.equal(expected[0][0].image, expected[1][0].image)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_epoch_left_half_way_leaves_nothing_behind(make, num_workers):
    loader, other = make(num_workers), make(0)
    left = loader.epoch(0)
    next(left), next(left)
    before = processes()
    assert_same(list(loader.epoch(1)), list(other.epoch(1)))
    assert processes() == before
    assert len(before) == num_workers
    with pytest.raises(RuntimeError, match="another epoch was begun"):
        next(left)
    assert_same(list(loader.epoch(1, 2)), list(other.epoch(1, 2)))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_loading_and_the_global_generators_leave_each_other_alone(make, num_workers):
    expected = list(make(0).epoch(0))
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    loader = make(num_workers)
    assert_same(list(loader.epoch(0)), expected)
    list(loader.epoch(1, 3))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


def test_steps_that_an_epoch_lacks_are_refused(make):
    loader = make()
    assert list(loader.epoch(0, 5)) == []
    with pytest.raises(ValueError, match="within 0"):
        loader.epoch(0, 6)


def test_dataset_reaches_other_processes_by_pickling_too(images):
    """Where processes are not forked: macOS, and Python from 3.14 on."""
    dataset = PictureDataset(images, build_train_transform(AUG), 118)
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[(2, 4)][0], dataset[(2, 4)][0])


def test_real_photographs(photos):
    data = open_training_data(DataConfig(root=str(photos)), 118, None)
    forked, single = (build_train_loader(data.train, Recipe(data=DataConfig(num_workers=n, batch_size=8)), CPU) for n in (1, 0))
    for _, ours, theirs in zip(range(3), forked.epoch(1, 5), single.epoch(1, 5), strict=False):
        assert_same([ours], [theirs])
        assert ours.image.shape == (8, 3, 224, 224)
        assert 0.3 < ours.image.std() < 3
    forked.close()


# --- what goes wrong ---


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
    with pytest.raises(RunError, match=r"killed by SIGKILL.*/dev/shm.*--ipc=host.*--shm-size") as died:
        [*epoch, *loader.epoch(1)]
    assert died.tb is not None  # holds torch's iterator: the other process must have been ended all the same
    assert time.monotonic() - began < 60
    assert processes() == []
    assert_same(list(loader.epoch(0)), list(make(0).epoch(0)))


def test_full_shared_memory_is_reported(make, monkeypatch):
    def full(tensor):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1_2_3>: No space left on device (28)")  # torch's words

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(RunError, match=r"^no room .*/dev/shm.*--ipc=host.*--shm-size.*$"):
        list(make(1).epoch(0))
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
from hw1.config import AugConfig
from hw1.data.folders import ImageSet
from hw1.data.loaders import Loader
from hw1.data.transforms import build_train_transform
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


# --- how many processes ---


def cgroup(tmp_path: Path, membership: str, **files: str) -> dict[str, Path]:
    for name, text in files.items():
        path = tmp_path / "cgroup" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "self").write_text(membership)
    return {"cgroups": tmp_path / "cgroup", "membership": tmp_path / "self"}


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 8),
        ("0::/job/step\n", {"job__cpu.max": "300000 100000\n", "job__step__cpu.max": "max 100000\n"}, 3),
        ("0::/docker/of-the-host\n", {"cpu.max": "400000 100000\n"}, 4),
        ("3:cpu,cpuacct:/a\n1:name=systemd:/\n", {"cpu__a__cpu.cfs_quota_us": "500000\n", "cpu__a__cpu.cfs_period_us": "100000\n"}, 5),
        ("3:cpu,cpuacct:/a\n", {"cpu__a__cpu.cfs_quota_us": "-1\n", "cpu__a__cpu.cfs_period_us": "100000\n"}, 8),
        ("4:cpuset:/a\n", {"cpu__a__cpu.cfs_quota_us": "100000\n", "cpu__a__cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_usable_cores_are_those_of_affinity_and_quota(monkeypatch, tmp_path, membership, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert usable_cores(**cgroup(tmp_path, membership, **files)) == expected


def test_usable_cores_follow_the_affinity():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(("cores", "on_cuda"), [(1, 1), (2, 1), (4, 3), (16, 15), (64, 16)])
def test_default_number_of_processes(monkeypatch, cores, on_cuda):
    monkeypatch.setattr(workers, "usable_cores", lambda: cores)
    assert default_num_workers(torch.device("cuda")) == on_cuda
    assert default_num_workers(CPU) <= 1


# --- on a GPU ---


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("num_workers", [0, 2])
def test_cuda_gives_the_cpus_batches_and_keeps_them_intact(make, num_workers):
    """Each batch is compared after later ones were copied and memory was reused, with work queued on the caller's stream meanwhile."""
    cuda = make(num_workers, device=torch.device("cuda"))
    for epoch, start in ((0, 0), (1, 2), (2, 4), (3, 5)):
        sums = []
        for batch in cuda.epoch(epoch, start):
            assert batch.image.device.type == batch.label.device.type == "cuda"
            assert batch.index.device == CPU
            torch.cuda._sleep(20_000_000)
            sums.append(Batch(batch.image.clone(), batch.label.clone(), batch.index))
            del batch
        expected = list(make(0).epoch(epoch, start))
        assert len(sums) == len(expected)
        for ours, theirs in zip(sums, expected, strict=True):
            torch.testing.assert_close(ours.image.cpu(), theirs.image, rtol=1e-6, atol=1e-6)
            assert torch.equal(ours.label.cpu(), theirs.label)
            assert torch.equal(ours.index, theirs.index)
