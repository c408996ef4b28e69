"""The benchmark of the input pipelines: what it runs is the same policy everywhere, and what it writes is what it measured."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.transform_images import NOTHING, soft_image
from PIL import Image

from benchmarks.common.memory import peak_mebibytes
from benchmarks.common.timing import summarise, time_rounds
from benchmarks.input import peers
from benchmarks.input.images import copy_photos, draw_images
from benchmarks.input.pipelines import VARIANTS
from benchmarks.input_pipeline import main
from hw1.config.recipe import AugConfig
from hw1.data.image_folder import ImageSet
from hw1.errors import UserError, run_command

UNUSUAL = AugConfig(
    size=32, scale=(0.5, 0.9), ratio=(0.9, 1.2), hflip=0.3, rotation=7, brightness=0.1, contrast=0.15, saturation=0.25, hue=0.05
)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> ImageSet:
    return draw_images(300, 220, 2, tmp_path_factory.mktemp("drawn")).images


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> Path:
    """The result file of a quick run."""
    file = tmp_path_factory.mktemp("quick") / "result.json"
    env = {key: value for key, value in os.environ.items() if not key.startswith("HW1_PHOTOS")} | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.input_pipeline", "--quick", "--out", str(file)]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return file


def as_rows(image) -> np.ndarray:
    """[S, S, 3], whatever the library's order."""
    array = np.asarray(image)
    return array if array.shape[2] == 3 else array.transpose(1, 2, 0)


@pytest.mark.parametrize("key", VARIANTS)
def test_every_pipeline_makes_images_of_the_size(drawn, tmp_path, key):
    image = as_rows(VARIANTS[key].build(drawn, AugConfig(size=48), tmp_path)(0, 1))
    assert image.shape == (48, 48, 3)
    assert image.dtype == (np.float32 if key == "report" else np.uint8)


@pytest.mark.parametrize("key", [key for key in VARIANTS if key != "report" and not key.startswith("two_more")])
def test_with_nothing_to_change_all_pipelines_make_the_same_image(tmp_path, key):
    """So each reads the right file, in RGB, and none does more than the policy."""
    (tmp_path / "pictures").mkdir()
    Image.fromarray(soft_image(96, 96, seed=3)).save(tmp_path / "pictures/00000.jpg", quality=95)
    images = ImageSet(tmp_path, ("pictures/00000.jpg",), np.zeros(1, np.int64), 0)
    image = VARIANTS[key].build(images, AugConfig(size=80, ratio=(1.0, 1.0), **NOTHING), tmp_path / "cache")(0, 0)
    expected = Image.open(images.path(0)).resize((80, 80), Image.Resampling.BILINEAR)
    assert np.abs(as_rows(image).astype(int) - np.asarray(expected)).mean() < 2


@pytest.mark.parametrize("build", [peers.on_pillow, peers.float_on_pillow, peers.on_tensors, peers.timm_loader])
def test_torchvision_and_timm_get_the_amounts_of_the_recipe(drawn, build):
    dataset = getattr(build(drawn, UNUSUAL), "dataset", None) or build(drawn, UNUSUAL)
    steps = {type(step).__name__: step for step in dataset.transform.transforms}
    crop = steps.get("RandomResizedCrop") or steps["RandomResizedCropAndInterpolation"]
    assert (tuple(crop.size), tuple(crop.scale), tuple(crop.ratio)) == ((32, 32), (0.5, 0.9), (0.9, 1.2))
    assert steps["RandomHorizontalFlip"].p == 0.3
    jitter = steps["ColorJitter"]
    amounts = [jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue]
    assert np.allclose(amounts, [(0.9, 1.1), (0.85, 1.15), (0.75, 1.25), (-0.05, 0.05)])
    assert build is peers.timm_loader or list(steps["RandomRotation"].degrees) == [-7, 7]


def test_albumentations_gets_the_amounts_of_the_recipe():
    crop, flip, rotation, jitter = peers.Albumentations(UNUSUAL).pipeline.transforms
    assert (tuple(crop.size), tuple(crop.scale), tuple(crop.ratio)) == ((32, 32), (0.5, 0.9), (0.9, 1.2))
    assert (crop.p, flip.p, rotation.p, jitter.p) == (1, 0.3, 1, 1)
    assert tuple(rotation.limit) == (-7, 7)
    amounts = [jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue]
    assert np.allclose(amounts, [(0.9, 1.1), (0.85, 1.15), (0.75, 1.25), (-0.05, 0.05)])


def test_the_result_file_holds_what_was_measured(quick):
    result = json.loads(quick.read_bytes())
    one_core = result["one_core"]
    assert set(one_core["results"]) == set(result["variants"]) == set(result["memory_mib"]) == set(VARIANTS)
    assert one_core["size"] == 224
    assert one_core["pictures"] == {**one_core["pictures"], "origin": "generated images", "count": 16, "width": 300, "height": 220}
    for key, row in one_core["results"].items():
        base = one_core["results"][VARIANTS[key].base]
        rates, bases = np.array(row["images_per_second"]), np.array(base["images_per_second"])
        assert row["median"] == pytest.approx(np.median(rates), abs=0.11)
        assert row["ratio"] == pytest.approx(np.median(rates / bases), rel=0.02)
    assert [block["size"] for block in result["output_size"]] == [64, 224]
    assert all(row["median"] > 0 for block in result["loaders"] for row in block["results"].values())
    assert [target["needed"] for target in result["targets"]][:2] == [4.5, 7.0]
    assert result["machine"]["packages"]["numba"]
    assert quick.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_result_file_names_no_folder_of_the_machine(quick):
    text = quick.read_text()
    assert [name for name in (str(Path.home()), "/tmp", str(ROOT), str(quick.parent)) if name in text] == []


def test_the_table_comes_from_the_result_file(quick, capsys):
    assert run_command(main, ["--markdown", str(quick)]) == 0
    table = capsys.readouterr().out
    result = json.loads(quick.read_bytes())
    for key, variant in result["variants"].items():
        row = result["one_core"]["results"][key]
        assert any(
            variant["label"] in line and f"| {row['ratio']:.2f} |" in line and f" {row['median']:.0f} " in line
            for line in table.splitlines()
        )


@pytest.mark.parametrize(("content", "message"), [(None, "No such file"), ("{", "no JSON")])
def test_a_result_file_that_cannot_be_read_is_the_users_mistake(folder, capsys, content, message):
    if content:
        Path("result.json").write_text(content)
    assert run_command(main, ["--markdown", "result.json"]) == 2
    assert capsys.readouterr().err.startswith(f"result.json: {message}")


def test_photographs_are_chosen_at_any_depth_and_a_folder_without_is_refused(tmp_path):
    for number in range(5):
        path = tmp_path / f"photos/{number}/sub/{number}.JPG"
        path.parent.mkdir(parents=True)
        Image.fromarray(soft_image(20 + number, 30, number)).save(path, "JPEG")
    images = copy_photos(tmp_path / "photos", 3, tmp_path / "copies")
    assert [images.images.path(index).is_file() for index in range(len(images.images))] == [True] * 3
    assert len({Image.open(path).size for path in (tmp_path / "copies").rglob("*.jpg")}) == 3
    assert images.origin == "images of photos"
    with pytest.raises(UserError, match="no JPEG files"):
        copy_photos(tmp_path / "elsewhere", 3, tmp_path / "copies")


def test_each_round_does_every_image_once_with_every_pipeline_in_turn():
    calls: list[tuple[str, int, int]] = []
    work = {key: lambda number, index, key=key: calls.append((key, number, index)) for key in "ab"}
    rates = time_rounds(work, 10, rounds=2, chunk=4)
    assert {key: len(values) for key, values in rates.items()} == {"a": 2, "b": 2}  # the first of three rounds does not count
    assert sorted(calls) == [(key, number, index) for key in "ab" for number in range(3) for index in range(10)]
    turns = [key for place, (key, _, _) in enumerate(calls) if place == 0 or calls[place - 1][0] != key]
    assert len(turns) > 8


def test_ratios_are_of_the_same_round():
    """A machine that halves its speed for a round changes no ratio."""
    rows = summarise({"ours": [50.0, 25.0, 60.0], "base": [10.0, 5.0, 10.0]}, {"ours": "base", "base": "base"})
    assert (rows["ours"]["median"], rows["ours"]["ratio"], rows["base"]["ratio"]) == (50.0, 5.0, 1.0)


def test_peak_memory_is_that_of_the_work():
    # In a small process: of a large one, the kernel may reclaim meanwhile more than the work takes.
    code = "import numpy as np; from benchmarks.common.memory import peak_mebibytes as peak\n"
    code += "print(peak(lambda: np.ones(64 * 2**20, np.uint8).sum()), peak(lambda: None))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    large, nothing = map(float, done.stdout.split())
    assert 60 < large < 80
    assert nothing < 10
    with pytest.raises(ValueError, match="failed"):
        peak_mebibytes(lambda: sys.exit(1))
