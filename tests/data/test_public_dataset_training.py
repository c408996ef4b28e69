"""Public data sets at work: a copy of a folder as WebDataset shards or as a Hugging Face table trains, resumes and is evaluated as the
folder itself is, bit for bit."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.killed_runs import assert_killed_run_ends_like
from helpers.loader_images import AUG, CPU, assert_same
from helpers.public_sets import encoded, jpeg, opened, write_folder, write_food101, write_parquet, write_shards
from helpers.train_commands import assert_equal, newest_state, rows_without_times, run, write_recipe

from hw1.config.recipe import DataConfig, Recipe, TrainConfig
from hw1.data import bad_images
from hw1.data.bad_images import check_images, find_bad_images
from hw1.data.image_set import ImageSet
from hw1.data.leak_check import describe_faults, find_equal_files
from hw1.data.loader.loader import Loader, build_eval_loader, build_train_loader
from hw1.data.synthetic import draw_shapes
from hw1.errors import UserError
from hw1.evaluation.predictor import load_predictor
from hw1.export.onnx_check import load_split
from hw1.runs.checkpoint import load_weights
from hw1.runs.folder import RunFolder

pytestmark = pytest.mark.slow
for package in ("datasets", "webdataset"):
    pytest.importorskip(package, reason="requirements-datasets.txt is not installed")

KINDS = ("folder", "wds", "hfds")


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """One set of images, three times: 200 for training, 100 for validation, 100 unlabelled; as the overrides that open each."""
    base = tmp_path_factory.mktemp("copies")
    draw_shapes(base / "shapes", 2)
    data = opened(base / "shapes")
    test = [path.read_bytes() for path in sorted((base / "shapes/test").glob("*.jpg"))]
    shards, table = write_shards(base / "shards", data, test), write_parquet(base / "table", data, test)
    (base / "cache").mkdir()
    for root in (shards, base / "cache"):  # what classes that are integers are called on images
        shutil.copy(base / "shapes/class_names.json", root)
    return {
        "folder": [f"data.root={base / 'shapes'}"],
        "wds": [f"data.root={shards}", "data.dataset=wds/shapes"],
        "hfds": [f"data.root={base / 'cache'}", f"data.dataset=hfds/{table}"],
    }


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), Path("nowhere"))


@pytest.fixture(scope="module")
def finished(copies: dict[str, list[str]], recipe: Path) -> dict[str, Path]:
    """The run folder of an uninterrupted run of each, with another number of loader processes."""
    folders = {}
    for workers, kind in enumerate(KINDS):
        result = run("train.py", recipe, *copies[kind], f"run.name={kind}", f"data.num_workers={workers}")
        assert result.returncode == 0, result.stderr
        folders[kind] = recipe.parent / "runs" / kind / "seed5"
    return folders


# --- batches ---


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[ImageSet, ImageSet]]:
    """23 images for training, 9 for validation, thrice."""
    base = tmp_path_factory.mktemp("sets")
    data = opened(write_folder(base / "folder", train=8, val=3))
    made = {"folder": data, "wds": opened(write_shards(base / "shards", data), "wds/x")}
    made["hfds"] = opened(base / "cache", f"hfds/{write_parquet(base / 'table', data)}")
    return {kind: (data.train.subset(range(1, 24)), data.val) for kind, data in made.items()}


@pytest.fixture
def batches(tmp_path: Path) -> Iterator[object]:
    loaders: list[Loader] = []

    def make(images: tuple[ImageSet, ImageSet], workers: int, cache: str) -> list[Loader]:
        data = DataConfig(batch_size=5, eval_batch_size=4, num_workers=workers, cache=cache, cache_dir=str(tmp_path), sampling="balanced")
        recipe = Recipe(data=data, aug=AUG, train=TrainConfig(device="cpu"))
        loaders.extend(made := [build_train_loader(images[0], recipe, CPU), build_eval_loader(images[1], recipe, CPU)])
        return made

    yield make
    for loader in loaders:
        loader.close()


@pytest.mark.parametrize("cache", ["none", "disk"])
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["wds", "hfds"])
def test_batches_are_those_of_the_folder(sets, batches, kind, workers, cache):
    """From the start and from any step on."""
    for ours, theirs in zip(batches(sets[kind], workers, cache), batches(sets["folder"], 0, cache), strict=True):
        for epoch, step in ((0, 0), (1, 0), (1, 2), (0, 1)):
            assert_same(list(ours.epoch(epoch, step)), list(theirs.epoch(epoch, step)))


@pytest.mark.parametrize("kind", ["wds", "hfds"])
def test_the_disk_cache_is_built_once_and_stays_for_other_splits(sets, batches, tmp_path, kind):
    train, val = sets[kind]
    halves = [train.subset(range(part, 23, 2)) for part in range(2)]
    for half in (*halves, *halves):
        batches((half, val), 0, "disk")
    made = sorted(path.stat().st_ino for path in tmp_path.glob("*.pictures"))
    assert len(made) == 3
    batches((halves[0], val), 0, "disk")
    assert sorted(path.stat().st_ino for path in tmp_path.glob("*.pictures")) == made


# --- checks before the first step ---


@pytest.mark.parametrize("kind", ["wds", "hfds"])
def test_unreadable_members_are_named_and_left_out_and_good_ones_remembered(tmp_path, monkeypatch, kind):
    root = write_folder(tmp_path / "folder")
    (root / "train/1/2.jpg").write_bytes(jpeg(3)[:-200])
    data = opened(root)
    if kind == "wds":
        train, bad = opened(write_shards(tmp_path / "shards", data), "wds/x").train, f"{tmp_path}/shards/train-000.tar/train/00006.jpg"
    else:
        train = opened(tmp_path / "cache", f"hfds/{write_parquet(tmp_path / 'table', data)}").train
        bad = f"{train.root}/table-train.arrow/6"
    with pytest.raises(UserError) as caught:
        check_images([train], "stop")
    assert caught.value.problems[0] == f"{bad}: truncated"
    [good] = check_images([train], "skip")
    assert good.files == train.files[:6] + train.files[7:]
    assert encoded(good) == encoded(train)[:6] + encoded(train)[7:]
    decoded = []
    real = bad_images.read_image
    monkeypatch.setattr(bad_images, "read_image", lambda file: (decoded.append(str(file)), real(file))[1])
    assert find_bad_images(train) == {6: "truncated"}
    assert decoded == [bad]


@pytest.mark.parametrize("kind", ["wds", "hfds"])
def test_equal_images_in_both_splits_are_seen(tmp_path, kind):
    root = write_folder(tmp_path / "folder")
    shutil.copy(root / "train/1/3.jpg", root / "val/0/1.jpg")
    data = opened(root)
    if kind == "wds":
        ours, names = (
            opened(write_shards(tmp_path / "shards", data), "wds/x"),
            ("validation-000.tar/validation/00001.jpg", "train-001.tar/train/00007.jpg"),
        )
    else:
        ours, names = opened(tmp_path / "cache", f"hfds/{write_parquet(tmp_path / 'table', data)}"), ("validation/000001", "train/000007")
    assert find_equal_files(ours) == find_equal_files(data) == [(7, 1)]
    assert describe_faults(ours) == f"warning: 1 of 6 validation images are in training too ({names[0]} is {names[1]})"


# --- whole runs ---


def test_metrics_and_predictions_are_those_of_the_folder(finished):
    rows = rows_without_times(finished["folder"])
    assert len(rows) == 2
    saved = np.load(finished["folder"] / "val_predictions.npz", allow_pickle=False)
    for kind in ("wds", "hfds"):
        assert rows_without_times(finished[kind]) == rows
        ours = np.load(finished[kind] / "val_predictions.npz", allow_pickle=False)
        for name in ("logits", "labels", "class_names"):
            assert np.array_equal(ours[name], saved[name])
        (weights, meta), (others, other_meta) = (load_weights(finished[each] / "checkpoints/best.safetensors") for each in (kind, "folder"))
        assert_equal(weights, others, but=())
        assert_equal(meta, other_meta, but=("identity",))  # which names the data set
    assert np.load(finished["wds"] / "val_predictions.npz")["files"][99] == "validation-014.tar/validation/00099.jpg"
    assert np.load(finished["hfds"] / "val_predictions.npz")["files"][99] == "validation/000099"


@pytest.mark.parametrize(("kind", "workers"), [("wds", 2), ("hfds", 0)])
def test_a_killed_run_ends_bit_identical(finished, copies, recipe, tmp_path, kind, workers):
    """kill -9 in the second epoch, at another number of loader processes; then the same command to the end."""
    arguments = (
        recipe,
        *copies[kind],
        f"run.name={kind}",
        f"run.dir={tmp_path}",
        f"data.num_workers={workers}",
        "checkpoint.every_steps=1",
    )
    assert_killed_run_ends_like(finished[kind], tmp_path / kind / "seed5", tmp_path / "out.txt", arguments)


@pytest.fixture(scope="module")
def evaluated(finished: dict[str, Path]) -> Path:
    """What there is of the folder's run, evaluated and predicted with."""
    for split in ("val", "test"):
        result = run("validate.py", finished["folder"], "--split", split)
        assert result.returncode == 0, result.stderr
    return finished["folder"] / "eval"


@pytest.mark.parametrize(("kind", "split"), [("wds", "val"), ("hfds", "validation")])
def test_the_runs_own_split_and_the_sets_are_evaluated_alike(finished, evaluated, kind, split):
    """As the folder is, and as training logged it; with the images on the page."""
    result = run("validate.py", finished[kind], "--split", split)
    assert result.returncode == 0, result.stderr
    ours, theirs = finished[kind] / "eval" / split, evaluated / "val"
    metrics = json.loads((ours / "metrics.json").read_text())
    assert metrics == json.loads((theirs / "metrics.json").read_text())
    row = rows_without_times(finished[kind])[metrics["epoch"] - 1]
    assert (metrics["top1"], metrics["loss"]) == (row["val_top1"], row["val_loss"])
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
    for name in ("per_class.csv", "confused.csv", "worst.png"):  # attention.png names the files, which have other names
        assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    with open(ours / "worst.csv") as file:
        names = {line["file"] for line in csv.DictReader(file)}
    assert names == set(np.load(finished[kind] / "val_predictions.npz")["files"].tolist())


@pytest.mark.parametrize(("kind", "names"), [("wds", ["00000", "00099"]), ("hfds", ["000000", "000099"])])
def test_an_unlabelled_split_is_predicted(finished, evaluated, kind, names):
    result = run("validate.py", finished[kind], "--split", "test")
    assert result.returncode == 0, result.stderr
    ours, theirs = (predicted(folder / "test/prediction.csv") for folder in (finished[kind] / "eval", evaluated))
    assert [label for _, label in ours] == [label for _, label in theirs]
    assert [ours[0][0], ours[99][0]] == names


def test_members_of_the_same_name_in_two_shards_keep_it_whole(finished, copies):
    for shard in ("test-000.tar", "copy-000.tar"):
        shutil.copy(Path(copies["wds"][0].partition("=")[2]) / "test-000.tar", finished["wds"].parent / shard)
    arguments = ("validate.py", finished["wds"], f"data.root={finished['wds'].parent}", "--split", "{test,copy}-000.tar")
    result = run(*arguments)
    assert result.returncode == 2
    assert "test-000.tar/test/00000.jpg and copy-000.tar/test/00000.jpg share the name '00000'" in result.stderr
    result = run(*arguments, "--full-names")
    assert result.returncode == 0, result.stderr
    rows = predicted(finished["wds"] / "eval/_test_copy_-000.tar/prediction.csv")
    assert [rows[0][0], rows[-1][0]] == ["test-000.tar/test/00000.jpg", "copy-000.tar/test/00006.jpg"]


def predicted(path: Path) -> list[tuple[str, str]]:
    with open(path) as file:
        return [(row["image_name"], row["pred_label"]) for row in csv.DictReader(file)]


def test_an_export_is_checked_on_the_same_images(finished):
    splits = []
    for kind in KINDS:
        folder = RunFolder.existing(finished[kind])
        splits.append(load_split(load_predictor(folder, folder.read_recipe()), "val", 9))
    assert all(each.source == "9 of 100 images of the validation split" for each in splits)
    assert all(np.array_equal(each.pixels, splits[0].pixels) and np.array_equal(each.labels, splits[0].labels) for each in splits)


def test_a_split_that_is_not_there_is_a_mistake_and_a_folder_still_one(finished, tmp_path):
    result = run("validate.py", finished["wds"], "--split", "tset")
    assert result.returncode == 2
    assert result.stderr.startswith("--split: wds/shapes: split tset not found in info")
    assert not (finished["wds"] / "eval/tset").exists()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(jpeg(0))
    result = run("validate.py", finished["wds"], "--split", tmp_path / "images")
    assert result.returncode == 0, result.stderr


def test_shards_may_move(finished, copies, recipe, tmp_path):
    root = Path(copies["wds"][0].partition("=")[2])
    shutil.copytree(root, tmp_path / "elsewhere")
    moved = [f"data.root={tmp_path / 'elsewhere'}", copies["wds"][1], "run.name=wds"]
    shutil.copytree(finished["wds"], tmp_path / "runs/wds/seed5")
    result = run("train.py", recipe, *moved, f"run.dir={tmp_path / 'runs'}", "train.epochs=3")
    assert result.returncode == 0, result.stderr
    assert "continues in epoch 3" in result.stderr
    for here, there in ((3, 4), (4, 3)):
        shutil.copy(root / f"train-00{there}.tar", tmp_path / f"elsewhere/train-00{here}.tar")
    result = run("train.py", recipe, *moved, f"run.dir={tmp_path / 'runs'}", "train.epochs=4")
    assert result.returncode == 2
    assert f"the images in {tmp_path / 'elsewhere'} have changed since" in result.stderr


def test_mistakes_come_before_anything_is_written(recipe, tmp_path):
    for overrides, message in (
        (["data.dataset=torch/flowers120"], "command line: data.dataset: no such data set: 'torch/flowers120'; nearest: torch/flowers102"),
        (["data.dataset=wds/x"], "recipe.yaml: data.root: nowhere: no such folder"),
        (["data.dataset=hfds/owner/name", "data.root=null"], "command line: data.dataset: hfds/owner/name: "),
    ):
        result = run("train.py", recipe, *overrides, f"run.dir={tmp_path / 'runs'}")
        assert result.returncode == 2
        assert message.removeprefix("recipe.yaml: ") in result.stderr
        assert "Traceback" not in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_classes_keep_the_names_of_the_set(recipe, tmp_path):
    """Food-101's layout, cut to two classes, through a training and a prediction."""
    write_food101(tmp_path / "food")
    overrides = ("data.dataset=torch/food101", f"data.root={tmp_path / 'food'}", "data.val_split=test", f"run.dir={tmp_path}")
    result = run("train.py", recipe, *overrides, "train.epochs=1")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "tiny/seed5"
    assert torch.load(newest_state(folder), weights_only=True)["classes"] == ["apple_pie", "baklava"]
    result = run("validate.py", folder, "--split", "test")
    assert result.returncode == 0, result.stderr
    assert "on 2 images" in result.stdout
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.jpg").write_bytes(jpeg(0))
    assert run("validate.py", folder, "--split", tmp_path / "images").returncode == 0
    [row] = (folder / f"eval/{tmp_path.name}-images/prediction.csv").read_text().splitlines()[1:]
    assert row in ("a,apple_pie", "a,baklava")
