"""Closing what a recipe leaves open, against timm's own reading of its configurations."""

import pytest
import timm
import timm.data
from helpers.paths import ROOT
from timm.models import get_pretrained_cfg

from hw1.config.auto import AUTO_KEYS
from hw1.config.load import load_recipe
from hw1.config.recipe import IMAGENET_MEAN, IMAGENET_STD
from hw1.models.resolve import resolve

FINETUNE = ROOT / "recipes/finetune.yaml"
FAST = ROOT / "recipes/fast.yaml"
AUTO_SIZE = "aug.size=auto"
MODELS = ("tf_efficientnet_lite0", "vit_tiny_patch16_384", "resnet50.a1_in1k", "mobilenetv3_small_100", "inception_v3", "resnet18_cbam")


def resolved(*overrides: str):
    return resolve(load_recipe(FINETUNE, list(overrides)))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("weights", ["model.pretrained=true", "model.weights=some.safetensors"])
def test_images_are_what_the_weights_expect(name, weights):
    recipe, lines = resolved(f"model.name={name}", weights, AUTO_SIZE, "aug.fit=crop")
    theirs = timm.data.resolve_data_config(pretrained_cfg=get_pretrained_cfg(name).to_dict())
    aug = recipe.aug
    assert (aug.size, aug.mean, aug.std) == (theirs["input_size"][1], theirs["mean"], theirs["std"])
    assert (aug.crop_pct, aug.interpolation) == (theirs["crop_pct"], theirs["interpolation"])
    assert lines[0].startswith(f"images: {aug.size} pixels, crop, ")
    assert not any(line.startswith("aug.") for line in lines)


def test_weights_of_small_images_take_the_size_that_they_are_tested_at():
    assert get_pretrained_cfg("resnet50.tv2_in1k").input_size[1] == 176
    assert resolved("model.name=resnet50.tv2_in1k", AUTO_SIZE)[0].aug.size == 224


def test_without_weights_it_is_imagenet():
    aug = resolved("model.name=vit_tiny_patch16_384", "model.pretrained=false", AUTO_SIZE)[0].aug
    assert (aug.size, aug.mean, aug.std, aug.interpolation, aug.crop_pct) == (384, IMAGENET_MEAN, IMAGENET_STD, "bilinear", 1.0)
    untold = resolved("model.name=nothing_like_it", AUTO_SIZE)[0]  # check_model says that there is no such model
    assert untold.aug.size == 224
    assert untold.freeze.stages == 0.5
    assert resolved("model.name=resnet18.nothing", AUTO_SIZE)[0].aug.mean == IMAGENET_MEAN


def test_squash_shows_the_whole_image_whatever_the_weights_crop():
    assert resolved("model.name=resnet50.a1_in1k")[0].aug.crop_pct == 1.0


def test_what_a_recipe_says_stays_and_what_contradicts_the_weights_is_a_line():
    name = "model.name=mobilenetv3_large_100.miil_in21k_ft_in1k"  # mean 0, standard deviation 1
    recipe, lines = resolved(name, "aug.mean=[0.485, 0.456, 0.406]", "aug.interpolation=nearest", "aug.size=160")
    assert (recipe.aug.size, recipe.aug.mean, recipe.aug.interpolation) == (160, IMAGENET_MEAN, "nearest")
    said = [line for line in lines if line.startswith("aug.")]
    expected = get_pretrained_cfg("mobilenetv3_large_100.miil_in21k_ft_in1k")
    assert said == [
        f"aug.mean: [0.485, 0.456, 0.406] is not what the weights of {name[11:]} expect: {list(expected.mean)} (auto)",
        f"aug.interpolation: nearest is not what the weights of {name[11:]} expect: {expected.interpolation} (auto)",
    ]
    assert not any(line.startswith("aug.") for line in resolved(name, "model.pretrained=false", "aug.mean=[0, 0, 0]")[1])
    again, lines = resolve(recipe)
    assert again == recipe, "what is closed stays"
    assert all(getattr(recipe.aug, key) != "auto" for key in AUTO_KEYS)


def test_grey_images_have_one_mean():
    aug = resolved("model.name=resnet18", "model.in_chans=1")[0].aug
    assert aug.mean == pytest.approx((sum(IMAGENET_MEAN) / 3,) * 3)
    assert aug.std == pytest.approx((sum(IMAGENET_STD) / 3,) * 3)


def test_stages_of_another_model_are_frozen_where_this_one_has_all_of_them():
    stages = resolve(load_recipe(FAST, ["model.name=resnet26d"]))[0].freeze.stages
    assert stages == ("stem", "layer1", "layer2")
    recipe, lines = resolve(load_recipe(FAST, ["model.name=convnext_atto", "freeze.until_epoch=2"]))
    assert recipe.freeze.until_epoch is None, "of nothing"
    assert recipe.freeze.stages == ()
    assert lines[-1] == (
        "freeze.stages: nothing of stem, layer1, layer2 is frozen, as convnext_atto has no layer1, layer2; it has stem, stages"
    )


@pytest.mark.parametrize(("name", "stages"), [("convnext_atto", 0.5), ("resnet50_cbam", 0.5), ("pit_ti_224", ())])
def test_a_share_of_another_model_is_frozen_where_timm_groups_its_layers(name, stages):
    recipe, lines = resolved(f"model.name={name}", "model.pretrained=false")
    assert recipe.freeze.stages == stages
    told = "freeze.stages: nothing is frozen, as timm has no groups of layers of pit_ti_224 to count 0.5 of"
    assert (lines[-1] == told) == (stages == ())


@pytest.mark.parametrize("mark", ["3?", "0.25?"])
def test_numbers_come_back_as_what_they_were(mark):
    recipe = load_recipe(FINETUNE, ["model.name=convnext_atto"])
    marked = recipe.model_copy(update={"freeze": recipe.freeze.model_copy(update={"stages": (mark,)})})
    assert repr(resolve(marked)[0].freeze.stages) == mark.removesuffix("?")
