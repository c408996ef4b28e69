"""`aug.transforms`: every transform of albumentations by name trains or is refused in one line, and draws from the words of the call."""

import pickle
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import albumentations as A
import jsonschema
import numpy as np
import pytest
from helpers.paths import ROOT
from helpers.transform_images import noise

from hw1.config.recipe import AugConfig
from hw1.data.augment.named_transforms import POLICY, arguments_of, transform_classes
from hw1.data.augment.transform_schema import step_schema
from hw1.data.augment.transforms import build_train_transform, check_transforms
from hw1.errors import RunError, UserError

SIZE = 64
REQUIRED: dict[str, dict[str, Any]] = {
    "CenterCrop": {"height": SIZE, "width": SIZE},
    "RandomCrop": {"height": SIZE, "width": SIZE},
    "AtLeastOneBBoxRandomCrop": {"height": SIZE, "width": SIZE},
    "Resize": {"height": SIZE, "width": SIZE},
    "RandomResizedCrop": {"size": [SIZE, SIZE]},
    "RandomSizedCrop": {"min_max_height": [30, 60], "size": [SIZE, SIZE]},
    "Crop": {"x_max": SIZE, "y_max": SIZE},
    "CropAndPad": {"px": 4},
    "GridElasticDeform": {"num_grid_xy": [4, 4], "magnitude": 5},
    "LongestMaxSize": {"max_size": SIZE},
    "SmallestMaxSize": {"max_size": SIZE},
    "PadIfNeeded": {"min_height": SIZE, "min_width": SIZE},
    "CropNonEmptyMaskIfExists": {"height": SIZE, "width": SIZE},
    "RandomSizedBBoxSafeCrop": {"height": SIZE, "width": SIZE},
    "CenterCrop3D": {"size": [8, 8, 8]},
    "RandomCrop3D": {"size": [8, 8, 8]},
    "Pad3D": {"padding": 1},
    "RandomCropNearBBox": {},
    "TextImage": {"font_path": "font.ttf"},
    **{
        name: {"transforms": ["Blur", "GaussNoise"]}
        for name in ("OneOf", "SomeOf", "Sequential", "RandomOrder", "SelectiveChannelTransform", "OneOrOther")
    },
}
"""Arguments that a transform cannot do without, or that fit it to the size."""
REFUSED = {
    "BBoxSafeRandomCrop", "CenterCrop3D", "CoarseDropout3D", "CropNonEmptyMaskIfExists", "CubicSymmetry", "FDA", "FromFloat",
    "HistogramMatching", "Lambda", "MaskDropout", "Mosaic", "Normalize", "OverlayElements", "Pad3D", "PadIfNeeded3D",
    "PixelDistributionAdaptation", "RandomCrop3D", "RandomCropNearBBox", "RandomScale", "RandomCropFromBorders",
    "RandomSizedBBoxSafeCrop", "TextImage", "ToFloat", "ToTensor3D", "ToTensorV2",
}  # fmt: skip
"""What needs more than an image, or changes its kind or its size; docs/guide/augmentation.md has the same list."""


def aug_of(*steps: Any, size: int = SIZE, **keys: Any) -> AugConfig:
    return AugConfig(size=size, transforms=steps, **keys)


def problem(*steps: Any, size: int = SIZE) -> str:
    with pytest.raises(UserError) as caught:
        check_transforms(aug_of(*steps, size=size))
    [line] = caught.value.problems
    assert line.startswith("aug.transforms: ")
    assert "\n" not in line
    return line.removeprefix("aug.transforms: ")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # albumentations gives advice
@pytest.mark.parametrize("name", sorted(transform_classes()))
def test_every_transform_trains_or_is_refused_in_one_line(name: str) -> None:
    """Beside the policy, with the arguments that it needs; the same words draw the same image, in any order and in another process."""
    step = {name: REQUIRED[name]} if name in REQUIRED else name
    if name in REFUSED:
        problem(POLICY, step)
        return
    check_transforms(aug_of(POLICY, step))
    transform, image = build_train_transform(aug_of(POLICY, step)), noise(100, 90)
    images = [transform(image, (118, 3, index)) for index in range(4)]
    again = pickle.loads(pickle.dumps(transform))
    random.seed(5), np.random.seed(5)
    for index in (3, 1, 0, 2):
        np.testing.assert_array_equal(again(image, (118, 3, index)), images[index])
    assert {(each.shape, each.dtype) for each in images} == {((SIZE, SIZE, 3), np.dtype(np.uint8))}


def test_refused_ones_are_all_there_and_all_others_have_schemas() -> None:
    assert transform_classes().keys() >= REFUSED
    taken, refused = (ROOT / "docs/guide/augmentation.md").read_text().split("## Transforms that ")[1:]
    listed = [{*re.findall(r"\b[A-Z]\w+(?=[,. ])", text.partition("):\n" if text is taken else "code:\n")[2])} for text in (taken, refused)]
    assert listed[0] == transform_classes().keys() - REFUSED
    assert listed[1] - {"Compose", "ReplayCompose", "Sequential"} == REFUSED
    names = step_schema()["anyOf"][0]["enum"]
    assert {*names} >= {POLICY, *transform_classes()} - REFUSED


@pytest.mark.parametrize("policy", ["rand-m9-mstd0.5-inc1", "augmix-m3-w3", "original", "v0r", "3a"])
def test_a_policy_of_timm_is_timms_with_these_seeds(policy: str) -> None:
    """Against timm's own object, called after the generators that it draws from are seeded; they are left as they were."""
    from PIL import Image
    from timm.data import auto_augment

    transform, image = build_train_transform(aug_of(policy, {"Resize": {"height": SIZE, "width": SIZE}})), noise(SIZE, SIZE)
    check_transforms(aug_of(POLICY, policy))
    before = random.getstate(), np.random.get_state()[1].copy()
    ours = transform(image, (1, 2, 3))
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    seed = transform.pipeline.transforms[0].get_applied_params()["policy_seed"]
    build = {"rand": auto_augment.rand_augment_transform, "augmix": auto_augment.augment_and_mix_transform}
    hparams = {"translate_const": int(SIZE * 0.45), "img_mean": (124, 116, 104)}
    theirs = build.get(policy.partition("-")[0], auto_augment.auto_augment_transform)(policy, hparams)
    random.seed(seed), np.random.seed(seed)
    np.testing.assert_array_equal(ours, np.asarray(theirs(Image.fromarray(image))))
    assert len({transform(image, (1, 2, index)).tobytes() for index in range(8)}) >= 3


def test_steps_are_carried_out_in_their_order_with_their_arguments() -> None:
    """Against albumentations called by hand: nothing in these is drawn."""
    steps = (
        {"Resize": {"height": SIZE, "width": SIZE, "interpolation": "INTER_NEAREST"}},
        {"Solarize": {"threshold_range": [0.3, 0.3], "p": 1}},
        "ToSepia",
    )
    image = noise(90, 80)
    ours = build_train_transform(aug_of(*steps[:2], {"ToSepia": {"p": 1}}))(image, (1, 2, 3))
    theirs = A.Compose([A.Resize(SIZE, SIZE, interpolation=0), A.Solarize((0.3, 0.3), p=1), A.ToSepia(p=1)])(image=image)["image"]
    np.testing.assert_array_equal(ours, theirs)
    other = build_train_transform(aug_of(steps[0], {"ToSepia": {"p": 1}}, steps[1]))(image, (1, 2, 3))
    assert not np.array_equal(ours, other)


def test_the_policy_draws_the_same_with_other_steps_beside_it() -> None:
    image = noise(90, 80)
    np.testing.assert_array_equal(
        build_train_transform(aug_of(POLICY, "NoOp"))(image, (1, 2, 3)), build_train_transform(aug_of(POLICY))(image, (1, 2, 3))
    )


@pytest.mark.parametrize(
    ("steps", "line"),
    [
        ([POLICY, "CoarseDropou"], r"step 2: CoarseDropou: no such transform of albumentations .*; nearest: CoarseDropout"),
        ([POLICY, {"CoarseDropout": {"num_hole": 3}}], r"step 2: CoarseDropout: unknown argument 'num_hole'; nearest: num_holes_range"),
        ([POLICY, {"CoarseDropout": {"num_holes_range": [5, 1]}}], r"step 2: CoarseDropout: num_holes_range: .*, got \(5, 1\)"),
        ([POLICY, {"Blur": {"p": 2}}], r"step 2: Blur: p: must be between 0 and 1, got 2"),
        ([POLICY, {"OneOf": {"p": -1, "transforms": ["Blur"]}}], r"step 2: OneOf: p: must be between 0 and 1, got -1"),
        ([POLICY, {"OneOf": {"transforms": [{"Blr": {}}]}}], r"step 2: OneOf: Blr: no such transform .*; nearest: Blur"),
        ([POLICY, "OneOf"], r"step 2: OneOf: needs transforms, a list of steps"),
        ([POLICY, {"OneOf": [POLICY]}], r"step 2: OneOf: policy stands in the list itself, not inside of another step"),
        ([POLICY, {"OneOf": ["Blur", "ToFloat"]}], r"step 2: OneOf: ToFloat: gives float32 \[64, 64, 3\]; a step keeps uint8 .*"),
        ([POLICY, {"GridElasticDeform": {}}], r"step 2: GridElasticDeform: needs num_grid_xy and magnitude"),
        ([POLICY, {"Blur": {}, "Sharpen": {}}], r"step 2: a step is Name or \{Name: \{arguments\}\}, not .*"),
        ([POLICY, {"Blur": 3}], r"step 2: Blur: arguments are a section .*"),
        ([POLICY, POLICY], r"policy stands there twice"),
        ([POLICY, "Compose"], r"step 2: Compose: holds a whole pipeline; inside of one take Sequential"),
        ([POLICY, "rand-q9"], r"step 2: rand-q9: timm cannot read this policy.*"),
        (["Blur"], r"images come out at 96 x 85, not at aug.size \(64\): let policy, or .*"),
        ([], r"images come out at 96 x 85, not at aug.size \(64\): .*"),
        ([{"RandomCrop": {"height": SIZE, "width": SIZE}}], r"step 1: RandomCrop: fails on an image of 43 x 48 pixels: .*"),
        ([{"Resize": {"height": SIZE, "width": SIZE, "p": 0.5}}], r"an image may come out at 96 x 85, .* with p: 1, .*"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(steps: list[Any], line: str) -> None:
    assert re.fullmatch(line, problem(*steps))


def test_an_image_on_which_a_step_fails_ends_the_run_in_one_line() -> None:
    """Which no trial can exclude: here an image smaller than those tried."""
    transform = build_train_transform(aug_of({"CenterCrop": {"height": 40, "width": 40}}, {"Resize": {"height": SIZE, "width": SIZE}}))
    with pytest.raises(RunError, match=r"^aug.transforms: a step fails on an image of 20 x 30 pixels: Crop size[^\n]*$"):
        transform(noise(20, 30), (1, 2, 3))


def test_the_schema_takes_what_the_check_takes_and_names_arguments() -> None:
    schema = {"$defs": {"TransformStep": step_schema()}, "$ref": "#/$defs/TransformStep"}
    for step in (
        POLICY,
        "Blur",
        "rand-m9",
        {"OneOf": ["Blur", {"Sharpen": {"p": 0.1}}]},
        {"SomeOf": {"transforms": ["Blur"], "n": 1}},
        {"Blur": None},
    ):
        jsonschema.validate(step, schema)
    for step in ("Blurr", "Normalise", {"Blur": {"limit": 3}}, {"Blur": {}, "Sharpen": {}}, {"OneOf": ["Blurr"]}, 3):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(step, schema)
    assert arguments_of(A.Blur).keys() == {"blur_limit", "p"}


@pytest.mark.slow
def test_a_mistake_is_said_with_its_source_before_anything_is_made(tmp_path: Path) -> None:
    """By the command, also where only the recipe is printed."""
    for option in ([], ["--print-config"]):
        arguments = ["train", "recipes/debug.yaml", *option, "aug.transforms=[policy, Blurr]", f"run.dir={tmp_path}/runs"]
        result = subprocess.run([sys.executable, "-m", "hw1", *arguments], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 2, result.stderr
        assert result.stderr.startswith("command line: aug.transforms: step 2: Blurr: no such transform")
        assert len(result.stderr.splitlines()) == 1
        assert not (tmp_path / "runs").exists()
