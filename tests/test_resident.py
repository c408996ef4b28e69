"""Loading from the device's memory: what a batch is, the same from any step on, what is refused, and a whole run."""

import os
import random
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from loader_pictures import AUG, CPU, SIZE, assert_same, processes, write_pictures
from PIL import Image
from train_commands import rows_without_times, run
from transform_pictures import NOTHING, difference, noise, soft_picture

from hw1 import engine
from hw1.config import AugConfig, DataConfig, Recipe, TrainConfig
from hw1.data import memory
from hw1.data.batch import Batch
from hw1.data.decode import read_image
from hw1.data.folders import ImageSet
from hw1.data.fused import augment_fused
from hw1.data.loaders import build_eval_loader, build_train_loader
from hw1.data.memory import available_memory, require_room
from hw1.data.policy import draw_factors, smallest_side
from hw1.data.resident import ResidentLoader
from hw1.data.sampler import EpochBatches
from hw1.data.shrink import shrink, shrunk_size
from hw1.data.store import load_for_crops, load_resized
from hw1.data.transforms import build_eval_transform
from hw1.errors import RunError, UserError


@pytest.fixture
def images(tmp_path) -> ImageSet:
    return write_pictures(tmp_path)


def make(images: ImageSet, **changed) -> ResidentLoader:
    settings = {"augmented": True, "batch_size": 5, "shuffle": True, "seed": 118, "device": CPU, "channels_last": True}
    return ResidentLoader(images, changed.pop("aug", AUG), **{**settings, **changed})


def kept(path: Path, aug: AugConfig) -> np.ndarray:
    """What is stored of a file for training."""
    return shrink(read_image(path, smallest_side(aug)), smallest_side(aug))


def levels(batch: Batch, aug: AugConfig) -> np.ndarray:
    """[B, S, S, 3] before normalisation."""
    return (batch.image.permute(0, 2, 3, 1).numpy() * aug.std + aug.mean) * 255


def image_set(root: Path, pictures: dict[str, np.ndarray]) -> ImageSet:
    for name, picture in pictures.items():
        Image.fromarray(picture).save(root / name, **({"quality": 95} if name.endswith("jpg") else {}))
    return ImageSet(root, tuple(pictures), np.arange(len(pictures), dtype=np.int64), 0)


# --- what a batch is ---


@pytest.mark.parametrize("channels_last", [True, False])
def test_training_batches_hold_the_fused_pictures_of_their_order(images, channels_last):
    keys = EpochBatches(SIZE, 5, 118, True)
    keys.seek(3)
    loader = make(images, channels_last=channels_last)
    batches = list(loader.epoch(3))
    off = []
    for batch, expected in zip(batches, keys, strict=True):
        assert batch.index.tolist() == [index for _, index in expected]
        assert batch.label.tolist() == [index % 3 for _, index in expected]
        for ours, (_, index) in zip(levels(batch, AUG), expected, strict=True):
            picture = kept(images.path(index), AUG)
            theirs = augment_fused(picture, draw_factors((118, 3, index), *picture.shape[:2], AUG), 24)
            off.append(np.abs(ours - theirs))
        assert (batch.image.dtype, batch.label.dtype, batch.index.dtype) == (torch.float32, torch.int64, torch.int64)
        assert batch.image.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert np.mean(off) < 0.05
    assert np.mean(np.array(off) > 2) < 1e-3
    assert [len(batch.index) for batch in batches] == [loader.batch_size_of(step) for step in range(loader.num_batches)] == [5, 5, 5, 5, 3]
    assert (loader.num_samples, loader.num_batches) == (SIZE, 5)


def test_evaluation_gives_the_bits_of_the_ordinary_loader(images):
    for channels_last in (True, False):
        train = TrainConfig(channels_last=channels_last)
        ours, theirs = (
            build_eval_loader(images, Recipe(aug=AUG, train=train, data=DataConfig(eval_batch_size=6, num_workers=0, cache=cache)), CPU)
            for cache in ("device", "none")
        )
        assert isinstance(ours, ResidentLoader)
        assert_same(list(ours.epoch(0)), list(theirs.epoch(0)))
        assert_same(list(ours.epoch(1, 2)), list(theirs.epoch(1, 2)))
        assert [batch.image.stride() for batch in ours.epoch(0)] == [batch.image.stride() for batch in theirs.epoch(0)]
        np.testing.assert_array_equal(ours.preview(9)[0], theirs.preview(9)[0])


def test_training_without_augmentation_gives_the_bits_of_the_ordinary_loader(images):
    recipes = [
        Recipe(aug=AugConfig(size=24, **NOTHING), data=DataConfig(batch_size=6, num_workers=0, cache=cache)) for cache in ("device", "none")
    ]
    ours, theirs = (build_train_loader(images, recipe, CPU) for recipe in recipes)
    assert isinstance(ours, ResidentLoader)
    assert_same(list(ours.epoch(2)), list(theirs.epoch(2)))


def test_recipe_decides_on_the_training_loader(images):
    loader = build_train_loader(images, Recipe(seed=118, aug=AUG, data=DataConfig(batch_size=5, cache="device")), CPU)
    assert isinstance(loader, ResidentLoader)
    assert_same(list(loader.epoch(1)), list(make(images).epoch(1)))


def test_preview_shows_the_first_pictures_of_the_first_epoch(images):
    loader = make(images)
    pictures, labels = loader.preview(7)
    batches = list(loader.epoch(0))[:2]
    expected = np.concatenate([levels(batch, AUG) for batch in batches])[:7]
    assert (pictures.dtype, pictures.shape) == (np.uint8, (7, 24, 24, 3))
    assert np.abs(pictures - expected).max() < 0.01
    assert labels == torch.cat([batch.label for batch in batches])[:7].tolist()
    assert len(loader.preview(99)[0]) == SIZE


def test_unlabelled_pictures_have_label_minus_one_and_a_small_set_is_one_batch(images):
    few = ImageSet(images.root, images.files[:3], None, 0)
    loader = make(few)
    (batch,) = loader.epoch(0)
    assert batch.label.tolist() == [-1, -1, -1] == loader.preview(3)[1]
    assert sorted(batch.index.tolist()) == [0, 1, 2]


# --- the same bits, from any step on ---


def test_every_epoch_is_the_same_again_from_any_step_on(images):
    first, second = make(images), make(images)
    expected = {epoch: list(first.epoch(epoch)) for epoch in (0, 1)}
    for epoch, start in ((1, 0), (0, 3), (1, 4), (0, 0), (1, 5)):
        assert_same(list(second.epoch(epoch, start)), expected[epoch][start:])
    assert not torch.equal(expected[0][0].image, expected[1][0].image)
    with pytest.raises(ValueError, match="within 0"):
        first.epoch(0, 6)


def test_an_epoch_left_half_way_is_over(images):
    loader, other = make(images), make(images)
    left = loader.epoch(0)
    next(left), next(left)
    assert_same(list(loader.epoch(1)), list(other.epoch(1)))
    with pytest.raises(RuntimeError, match="another epoch was begun"):
        next(left)
    left = loader.epoch(0)
    loader.close()
    with pytest.raises(RuntimeError, match="the loader was closed"):
        next(left)
    assert processes() == []


def test_loading_leaves_the_global_generators_alone(images):
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    list(make(images).epoch(0))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == before[1:]


# --- what is stored ---


def test_pictures_are_stored_no_larger_than_crops_need(tmp_path):
    """Large JPEG files, decoded at reduced size, and all that the sizes in headers say otherwise."""
    turned = Image.Exif()
    turned[0x0112] = 6
    pictures = {"a.jpg": soft_picture(1001, 777, 1), "b.png": soft_picture(90, 300, 2), "c.png": noise(10, 50), "d.png": noise(1, 1)}
    images = image_set(tmp_path, pictures)
    Image.fromarray(soft_picture(203, 811, 3)).save(tmp_path / "e.jpg", exif=turned)
    Image.fromarray(soft_picture(50, 70, 4)).convert("L").save(tmp_path / "f.gif")
    images = ImageSet(tmp_path, (*images.files, "e.jpg", "f.gif"), None, 0)
    side = smallest_side(AUG)
    store = load_for_crops(images, AUG, CPU)
    for index in range(len(images)):
        expected = kept(images.path(index), AUG)
        start, height, width = store.starts[index], store.heights[index], store.widths[index]
        np.testing.assert_array_equal(store.pixels[start : start + height * width].view(height, width, 3), expected)
    assert [*zip(store.heights, store.widths, strict=True)][1:4] == [(side, round(300 * side / 90)), (10, 50), (1, 1)]
    assert store.heights[4] > store.widths[4] == side  # upright
    assert len(store.pixels) < 1.1 * sum(h * w for h, w in zip(store.heights, store.widths, strict=True))


def test_a_file_decoded_at_any_reduced_size_finds_room(tmp_path):
    draw = np.random.default_rng(0)
    sizes = [(31 + int(draw.integers(0, 260)), 31 + int(draw.integers(0, 260))) for _ in range(60)]
    images = image_set(tmp_path, {f"{index}.jpg": np.zeros((*size, 3), np.uint8) for index, size in enumerate(sizes)})
    store = load_for_crops(images, AUG, CPU)
    assert [min(size) for size in zip(store.heights, store.widths, strict=True)] == [smallest_side(AUG)] * 60


def test_whole_pictures_of_any_aspect_are_stored_as_augmentation_would_begin(tmp_path):
    """With no crop to limit the aspect a panorama would have every picture filtered as widely as itself."""
    aug = AugConfig(size=24, scale=(1.0, 1.0), hue=0.0)
    images = image_set(tmp_path, {"a.png": soft_picture(30, 900, 1), "b.png": soft_picture(30, 25, 2), "c.png": noise(1, 300)})
    loader = make(images, aug=aug, shuffle=False)
    (batch,) = loader.epoch(4)
    for index, ours in enumerate(levels(batch, aug)):
        picture = kept(images.path(index), aug)
        theirs = augment_fused(picture, draw_factors((118, 4, index), *picture.shape[:2], aug), 24)
        assert np.abs(ours - theirs).mean() < 0.05


def test_evaluation_stores_the_resized_pictures(images):
    store = load_resized(images, 24, CPU)
    transform = build_eval_transform(AUG)
    expected = np.stack([transform(read_image(images.path(index)), (0, 0, 0)) for index in range(SIZE)])
    np.testing.assert_array_equal(store.pixels.view(SIZE, 24, 24, 3), expected)


@pytest.mark.parametrize(("size", "side", "expected"), [((60, 90), 30, (30, 45)), ((90, 61), 30, (44, 30)), ((30, 90), 30, (30, 90))])
def test_shrinking_keeps_the_aspect(size, side, expected):
    assert shrunk_size(*size, side) == expected
    assert shrunk_size(*size, None) == size
    picture = soft_picture(*size, 1)
    ours = shrink(picture, side)
    assert ours.shape == (*expected, 3)
    assert difference(ours, cv2.resize(picture, expected[::-1], interpolation=cv2.INTER_AREA)).mean() < 2
    assert shrink(picture, None) is picture


def test_a_file_that_cannot_be_read_any_more_is_named(images):
    images.path(5).write_bytes(b"no image")
    for augmented in (True, False):
        with pytest.raises(RunError, match=r"5\.jpg: not an image"):
            make(images, augmented=augmented)


def test_a_file_that_grows_meanwhile_is_named(images, monkeypatch):
    monkeypatch.setattr("hw1.data.store.read_size", lambda path: (10, 10))
    with pytest.raises(RunError, match=r"\.jpg: changed while it was being read"):
        make(images)


# --- what is refused ---


def test_too_little_memory_is_refused_before_anything_is_decoded(images, monkeypatch):
    monkeypatch.setattr("hw1.data.store.FileSource.read", lambda *_: pytest.fail("decoded"))
    monkeypatch.setattr(memory, "free_memory", lambda device: 2 * SIZE * 24 * 24 * 3 - 1)
    for augmented in (True, False):
        with pytest.raises(UserError, match=r"^data\.cache: .*23 files.* GB .*cpu.* GB are free.*data\.cache=disk or data\.cache=none"):
            make(images, augmented=augmented)


def test_half_of_the_free_memory_may_be_taken(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda device: 3_000_000_000)
    require_room(1_500_000_000, "pictures", CPU)
    with pytest.raises(UserError, match=r"pictures take 1\.60 GB in the memory of cpu, of which 3\.00 GB are free"):
        require_room(1_600_000_000, "pictures", CPU)


def test_other_devices_are_refused(images):
    with pytest.raises(UserError, match=r"data\.cache: .*not mps; use data\.cache=disk"):
        make(images, device=torch.device("mps"))


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/\n", {}, 8000 * 1024),
        ("0::/\n", {"memory.max": "max\n", "memory.current": "5\n"}, 8000 * 1024),
        ("0::/a/b\n", {"a/b/memory.max": "5000\n", "a/b/memory.current": "2000\n", "a/b/memory.stat": "anon 5\ninactive_file 300\n"}, 3300),
        ("0::/a/b\n", {"a/memory.max": "5000\n", "a/memory.current": "2000\n"}, 3000),
        ("0::/\n", {"memory.max": "5000\n", "memory.current": "6000\n"}, 0),
        ("3:memory:/a\n", {"memory/a/memory.limit_in_bytes": "9000\n", "memory/a/memory.usage_in_bytes": "1000\n"}, 8000),
    ],
)
def test_available_memory_is_what_system_and_control_groups_leave(tmp_path, membership, files, expected):
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    (tmp_path / "self").write_text(membership)
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    8000 kB\n")
    assert available_memory(tmp_path / "meminfo", tmp_path / "cgroup", tmp_path / "self") == expected


# --- a whole run ---


@pytest.mark.slow
def test_a_run_interrupted_in_the_middle_of_an_epoch_ends_bit_identical(folder, monkeypatch):
    """And is evaluated from the files, which `validate.py` reads itself."""
    recipe = Path(__file__).parents[1] / "recipes" / "debug.yaml"
    arguments = [recipe, f"data.root={folder}/data", "data.cache=device", "train.epochs=2", "train.device=cpu", "data.batch_size=40"]
    arguments.append("model.name=resnet18_half_cbam")
    whole = run("train.py", *arguments, "run.dir=whole")
    assert whole.returncode == 0, whole.stderr
    train_step, steps = engine.train_step, []

    def step_and_stop(*given):
        steps.append(given)
        if len(steps) == 4:  # the first of the second epoch
            os.kill(os.getpid(), signal.SIGTERM)
        return train_step(*given)

    monkeypatch.setattr(engine, "train_step", step_and_stop)
    stopped = run("train.py", *arguments, "run.dir=halves")
    assert (stopped.returncode, "epoch 2, step 1" in stopped.stderr) == (143, True), stopped.stderr
    continued = run("train.py", *arguments, "run.dir=halves")
    assert continued.returncode == 0, continued.stderr
    assert len(steps) == 2 * 3
    one, two = (folder / name / "debug" / "seed118" for name in ("whole", "halves"))
    assert rows_without_times(one) == rows_without_times(two)
    assert (one / "checkpoints" / "best.safetensors").read_bytes() == (two / "checkpoints" / "best.safetensors").read_bytes()
    monkeypatch.setattr("hw1.data.resident.ResidentLoader.__init__", lambda *_, **__: pytest.fail("prediction needs no cache"))
    evaluated = run("validate.py", one)
    assert evaluated.returncode == 0, evaluated.stderr


# --- on a GPU ---


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_gives_the_cpus_batches_within_rounding(images):
    ours, theirs = make(images, device=torch.device("cuda")), make(images)
    for epoch, start in ((0, 0), (1, 3)):
        for a, b in zip(ours.epoch(epoch, start), theirs.epoch(epoch, start), strict=True):
            assert a.image.device.type == a.label.device.type == "cuda"
            assert torch.equal(a.index, b.index)
            assert torch.equal(a.label.cpu(), b.label)
            off = (a.image.cpu() - b.image).abs() * 255 * 0.225  # levels
            assert off.mean() < 0.05
            assert (off > 2).float().mean() < 1e-3
    evaluation = make(images, device=torch.device("cuda"), augmented=False)
    for a, b in zip(evaluation.epoch(0), make(images, augmented=False).epoch(0), strict=True):
        torch.testing.assert_close(a.image.cpu(), b.image, rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_memory_counts(images):
    assert 0 < memory.free_memory(torch.device("cuda")) <= torch.cuda.mem_get_info()[1]
