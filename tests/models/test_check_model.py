"""`check_model`: every problem of `model` and `freeze` at once, each with its key, before anything is loaded."""

import random

import numpy as np
import pytest
import timm
import torch

from hw1.config.recipe import FreezeConfig, ModelConfig
from hw1.errors import UserError
from hw1.models import factory
from hw1.models.factory import build_model, check_model

PLAIN = {"cbam_stages": (), "drop_layer3": 0.0}


def config(**kwargs):
    return ModelConfig(**({"name": "resnet18_cbam", "pretrained": False} | kwargs))


def problems_of(**kwargs):
    return check_model(config(**kwargs))


def test_build_model_refuses_what_check_model_finds():
    with pytest.raises(UserError) as caught:
        build_model(config(name="resnet18"), 5)
    assert list(caught.value.problems) == problems_of(name="resnet18") != []


def test_unknown_names_come_with_the_nearest():
    (line,) = problems_of(name="resnext101_32x8d_cban")
    assert line.startswith("model.name: timm has no model 'resnext101_32x8d_cban'")
    assert "resnext101_32x8d_cbam" in line
    (line,) = problems_of(name="resnet50_cbam.tv3_in1k")
    assert line.startswith("model.name: resnet50_cbam has no weights tagged 'tv3_in1k'")
    assert "tv2_in1k" in line
    assert len(problems_of(name="hf-hub:timm/resnet50.a1_in1k")) == 1
    assert len(problems_of(name="???")) == 1


def test_options_that_a_plain_model_cannot_honour_are_named_at_once():
    lines = problems_of(name="resnet18", cbam_reduction=8, cbam_kernel=3, cbam_init="identity")
    assert {line.partition(":")[0] for line in lines} == {
        "model.cbam_stages", "model.cbam_reduction", "model.cbam_kernel", "model.cbam_init", "model.drop_layer3"
    }  # fmt: skip
    assert build_model(config(name="resnet18", **PLAIN), 5).drop_rate == 0.5


def test_cbam_options_without_a_cbam_are_refused():
    (line,) = problems_of(cbam_stages=(), cbam_init="identity")
    assert line.startswith("model.cbam_init: ")
    assert not any("cbam" in name for name in build_model(config(cbam_stages=()), 5).state_dict())


def test_a_model_without_published_weights():
    unpublished = next(name for name in timm.list_models("resnet*") if not timm.models.is_model_pretrained(name))
    (line,) = problems_of(name=unpublished, pretrained=True, **PLAIN)
    assert line.startswith(f"model.pretrained: timm has no weights of {unpublished}")


def test_check_names_the_problems_of_both_sections_at_once(tmp_path):
    lines = check_model(config(name="resnet18", weights="gone.pth"), FreezeConfig(stages=("layer1", "layer9")))
    assert [line.partition(":")[0] for line in lines] == ["model.weights", "model.cbam_stages", "model.drop_layer3", "freeze.stages"]
    assert check_model(ModelConfig(), FreezeConfig()) == []  # the defaults, without weights or network


@pytest.mark.parametrize("name", ["nest_tiny", "crossvit_9_240", "deit_tiny_patch16_224"])
def test_image_sizes_that_a_model_cannot_take(name):
    """Refused by the constructor, by the forward pass, not at all."""
    lines = check_model(config(name=name, **PLAIN), image_size=90)
    assert [line.partition(":")[0] for line in lines] == ([] if name.startswith("deit") else ["model.name"])
    assert all("90 x 90 pixels" in line for line in lines)


@pytest.mark.parametrize("name", ["mobilenetv5_300m_enc", "deepseek_vit_412m_enc", "qwen3_vit_306m_enc"])
@pytest.mark.parametrize("size", [None, 96])
def test_encoders_without_a_classifier_are_named(name, size):
    reason = f"model.name: {name} is no classifier: it gives features, not a score for each class"
    assert check_model(config(name=name, **PLAIN), image_size=size) == [reason]


def test_a_model_without_dropout_is_named_with_its_other_problems():
    lines = check_model(config(name="gemma4_vit_167m_enc", **PLAIN), image_size=96)
    assert lines[0] == "model.drop_rate: gemma4_vit_167m_enc has no dropout; set it to 0"
    assert [line.partition(":")[0] for line in lines] == ["model.drop_rate", "model.name"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sehalonet33ts", "efficientformer_l1", "deepseek_vit_412m", "inception_v3", "vgg11"])
def test_a_size_that_a_model_cannot_be_trained_at_comes_with_its_own(name):
    lines = check_model(config(name=name, **PLAIN), image_size=30)
    own = timm.models.get_pretrained_cfg(name).input_size[1]
    assert [line.partition(" (")[0] for line in lines] == [f"model.name: {name} fails with images of 30 x 30 pixels"]
    assert all(f"(aug.size; timm's are {own} x {own})" in line for line in lines)


@pytest.mark.parametrize("name", ["skresnet18", "levit_128s", "resnet18_cbam"])
def test_a_model_is_tried_in_a_step_of_training_of_the_smallest_batch(name, monkeypatch):
    """BatchNorm behind a global pool takes two images, not one; the loader never makes a batch of one."""
    config_ = config(name=name, **({} if name.endswith("cbam") else PLAIN))
    assert check_model(config_, image_size=64) == []
    monkeypatch.setattr(factory, "MIN_BATCH", 1)
    lines = check_model(config_, image_size=64)
    assert len(lines) == (name != "resnet18_cbam")
    assert all("Expected more than 1 value per channel when training" in line for line in lines)


def test_the_trial_draws_no_random_numbers():
    """So that a run's weights do not depend on it."""
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert check_model(config(drop_rate=0.5, drop_layer3=0.2), image_size=64) == []
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())
