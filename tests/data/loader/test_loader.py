"""Loading: what a batch is, and the same bits with any number of processes and from any step on."""

import pickle
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.loader_images import AUG, CPU, SIZE, assert_same, processes
from PIL import Image
from torch import nn

from hw1.config.recipe import AugConfig, DataConfig, Recipe, TrainConfig
from hw1.data.augment.transforms import build_eval_transform, build_train_transform
from hw1.data.decode import read_image
from hw1.data.image_folder import ImageSet, open_training_data
from hw1.data.loader.dataset import ImageDataset
from hw1.data.loader.loader import Batch, build_eval_loader, build_train_loader
from hw1.data.loader.sampler import EpochBatches
from hw1.models.preprocess import WithPreprocess

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more processes than this machine has cores


# --- what a batch is ---


@pytest.mark.parametrize("channels_last", [True, False])
def test_batches_hold_the_normalised_images_of_their_order(images, make, channels_last):
    transform = build_train_transform(AUG)
    keys = EpochBatches(SIZE, 5, 118, True)
    keys.seek(3)
    loader = make(channels_last=channels_last)
    batches = list(loader.epoch(3))
    for batch, expected in zip(batches, keys, strict=True):
        assert batch.index.tolist() == [index for _, index in expected]
        assert batch.label.tolist() == [index % 3 for _, index in expected]
        arrays = np.stack([transform(read_image(images.path(index)), (118, 3, index)) for _, index in expected])
        theirs = (arrays.astype(np.float32) / np.float32(255) - np.float32(AUG.mean)) / np.float32(AUG.std)
        np.testing.assert_allclose(batch.image.permute(0, 2, 3, 1).numpy(), theirs, rtol=1e-6, atol=1e-6)
        assert (batch.image.dtype, batch.label.dtype, batch.index.dtype) == (torch.float32, torch.int64, torch.int64)
        assert batch.image.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert [len(batch.index) for batch in batches] == [loader.batch_size_of(step) for step in range(loader.num_batches)] == [5, 5, 5, 5, 3]
    assert (loader.num_samples, loader.num_batches) == (SIZE, 5)


def test_unlabelled_images_have_label_minus_one(images, make):
    unlabelled = ImageSet(images.root, images.files, None, 0)
    tensor, label, index = ImageDataset(unlabelled, build_eval_transform(AUG), 118)[(0, 7)]
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


def test_balanced_training_draws_rare_classes_more_often_and_each_time_anew(images):
    few = replace(images, labels=np.array([0] * (SIZE - 1) + [1], np.int64))
    recipe = Recipe(data=DataConfig(batch_size=5, num_workers=0, sampling="balanced"), aug=AUG, train=TrainConfig(device="cpu"))
    train, val = build_train_loader(few, recipe, CPU), build_eval_loader(few, recipe, CPU)
    batches = list(train.epoch(1))
    labels = torch.cat([batch.label for batch in batches])
    assert abs(2 * labels.sum() - SIZE) <= 1
    rare = torch.cat([batch.image for batch in batches])[labels == 1]
    assert len({image.numpy().tobytes() for image in rare}) == len(rare)
    assert torch.cat([batch.index for batch in val.epoch(0)]).tolist() == list(range(SIZE))
    assert sum(train.preview(SIZE)[1]) == sum(few.labels[index] for batch in train.epoch(0) for index in batch.index)
    train.close()
    val.close()


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
    dataset = ImageDataset(images, build_train_transform(AUG), 118)
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[(2, 4)][0], dataset[(2, 4)][0])


def test_real_photographs(photos):
    data = open_training_data(DataConfig(root=str(photos)), 118, None)
    forked, single = (
        build_train_loader(data.train, Recipe(data=DataConfig(num_workers=n, batch_size=8), aug=AugConfig()), CPU) for n in (1, 0)
    )
    for _, ours, theirs in zip(range(3), forked.epoch(1, 5), single.epoch(1, 5), strict=False):
        assert_same([ours], [theirs])
        assert ours.image.shape == (8, 3, 224, 224)
        assert 0.3 < ours.image.std() < 3
    forked.close()


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


def test_a_model_of_one_channel_gets_grey_images_as_pillow_makes_them(images):
    recipe = Recipe.model_validate({"aug": {"size": 24}, "model": {"in_chans": 1}, "data": {"num_workers": 0, "eval_batch_size": SIZE}})
    recipe = recipe.model_copy(update={"aug": recipe.aug.model_copy(update={"mean": (0.4,) * 3, "std": (0.2,) * 3})})
    [batch] = build_eval_loader(images, recipe, CPU).epoch(0)
    assert batch.image.shape == (SIZE, 1, 24, 24)
    transform = build_eval_transform(recipe.aug)
    squares = [transform(read_image(images.path(index)), (0,)) for index in range(SIZE)]
    grey = np.stack([np.asarray(Image.fromarray(square).convert("L"), np.float32) for square in squares])
    np.testing.assert_allclose(batch.image[:, 0], (grey / 255 - 0.4) / 0.2, atol=0.6 / 255 / 0.2)  # Pillow rounds
    model = WithPreprocess(nn.Identity(), (0.4,), (0.2,))
    assert torch.equal(model(torch.from_numpy(np.stack(squares))), batch.image), "predict normalises as the loader does"
