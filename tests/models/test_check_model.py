"""`check_model`: every problem of `model` and `freeze` at once, each with its key, before anything is loaded."""

import random

import numpy as np
import pytest
import timm
import torch
from helpers.paths import ROOT
from timm.models import list_modules

from hw1.config.load import load_recipe
from hw1.config.recipe import FreezeConfig, ModelConfig
from hw1.errors import UserError
from hw1.models import factory
from hw1.models.factory import build_model, check_model
from hw1.models.resolve import resolve

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


def test_further_arguments_of_timm_and_those_that_a_model_lacks():
    model = build_model(config(name="test_vit", kwargs={"depth": 2, "global_pool": "avg"}, drop_path=0.2, **PLAIN), 5)
    assert len(model.blocks) == 2
    assert model.global_pool == "avg"
    assert model.blocks[-1].drop_path1.drop_prob == pytest.approx(0.2)
    assert problems_of(name="test_vit", kwargs={"detph": 2}, **PLAIN) == ["model.kwargs: test_vit has no 'detph'"]
    assert problems_of(name="vgg11", drop_path=0.1, drop_rate=0.0, **PLAIN) == [
        "model.drop_path: vgg11 has no stochastic depth; set it to 0"
    ]
    assert len(problems_of(name="vgg11", drop_path=0.1, kwargs={"a": 1, "b": []}, **PLAIN)) == 3


def test_gradient_checkpointing_is_switched_on_or_named():
    model = build_model(config(name="test_vit", grad_checkpointing=True, **PLAIN), 5)
    assert model.grad_checkpointing
    assert build_model(config(grad_checkpointing=True), 5).grad_checkpointing
    [line] = problems_of(name="vgg11", grad_checkpointing=True, **PLAIN)
    assert line == "model.grad_checkpointing: vgg11 has none; set it to false"


@pytest.mark.parametrize("name", ["resnet18_cbam", "test_vit"])
def test_one_channel_takes_the_weights_of_three_summed(name, tmp_path):
    plain = {} if name.endswith("cbam") else PLAIN
    colour = build_model(config(name=name, **plain), 5, image_size=64).eval()
    torch.save(colour.state_dict(), tmp_path / "rgb.pth")
    grey = build_model(config(name=name, in_chans=1, weights=str(tmp_path / "rgb.pth"), **plain), 5, image_size=64).eval()
    images = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(grey(images), colour(images.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)
    assert check_model(config(name=name, in_chans=1, **plain), image_size=64) == []


ONLY_AT_THEIR_SIZE = {"crossvit_15_240", "deepseek_vit_412m", "efficientformer_l1"}
"""Of the models of below, those that cannot be had at the 96 pixels that finetune.yaml names."""
SMALL = {
    "beit": "beit_base_patch16_224", "byoanet": "eca_botnext26ts_256", "byobnet": "eca_resnext26ts", "cait": "cait_xs24_384", "coat":
    "coat_lite_tiny", "convit": "convit_tiny", "convmixer": "convmixer_768_32", "convnext": "convnext_atto_rms", "cpubone":
    "cpubone_b0_bfrobust", "crossvit": "crossvit_15_240", "csatv2": "csatv2", "cspnet": "cs3darknet_focus_s", "cspnext":
    "cspnext_tiny", "davit": "davit_tiny", "deepseek_vit": "deepseek_vit_412m", "deit": "deit_small_patch16_224", "densenet":
    "densenet121", "dla": "dla46_c", "dpn": "dpn48b", "edgenext": "edgenext_xx_small", "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0", "efficientnet": "efficientnet_b0", "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0", "efficientvit_msra": "efficientvit_m0", "eva": "eva02_tiny_patch14_224", "fasternet":
    "fasternet_t0", "fastvit": "fastvit_mci0", "focalnet": "focalnet_tiny_srf", "gcvit": "gcvit_xxtiny", "gemma4_vit":
    "gemma4_vit_167m", "ghostnet": "ghostnet_050", "hardcorenas": "hardcorenas_b", "hgnet": "hgnetv2_b0", "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny", "hrnet": "hrnet_w18_small", "iformer": "iformer_m", "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2", "inception_v3": "inception_v3", "inception_v4": "inception_v4", "lcnetv2":
    "lcnetv2_small", "levit": "levit_128s", "lowformer": "lowformer_b0", "mambaout": "mambaout_femto", "maxxvit": "coatnet_0_224",
    "metaformer": "caformer_s18", "mlp_mixer": "gmlp_ti16_224", "mobilenetv3": "lcnet_035", "mobilenetv5": "mobilenetv5_300m",
    "mobilevit": "mobilevit_xxs", "mvitv2": "mvitv2_tiny", "naflexvit": "naflexvit_base_patch16_gap", "nasnet": "nasnetalarge",
    "nest": "nest_tiny", "nextvit": "nextvit_small", "nfnet": "dm_nfnet_f0", "pit": "pit_ti_224", "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0", "qwen3_vit": "qwen3_vit_306m", "rdnet": "rdnet_tiny", "regnet": "regnetx_002", "repghost":
    "repghostnet_050", "repvit": "repvit_m1", "res2net": "res2net50_14w_8s", "resnest": "resnest14d", "resnet": "ecaresnet26t",
    "resnetv2": "resnetv2_18", "rexnet": "rexnet_100", "selecsls": "selecsls42", "senet": "legacy_seresnet18", "sequencer":
    "sequencer2d_s", "shvit": "shvit_s1", "sknet": "skresnet18", "starnet": "starnet_s050", "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224", "swin_transformer_v2": "swinv2_tiny_window16_256", "swin_transformer_v2_cr":
    "swinv2_cr_tiny_224", "tiny_vit": "tiny_vit_5m_224", "tnt": "tnt_s_legacy_patch16_224", "tresnet": "tresnet_m", "twins":
    "twins_svt_small", "vgg": "vgg11", "visformer": "visformer_tiny", "vision_transformer": "aimv2_1b_patch14_224",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224", "vision_transformer_relpos": "test_vit_relpos", "vision_transformer_sam":
    "samvit_base_patch16", "vitamin": "vitamin_small_224", "volo": "volo_d1_224", "vovnet": "ese_vovnet19b_slim_dw", "xception":
    "legacy_xception", "xception_aligned": "xception41p", "xcit": "xcit_nano_12_p16_224",
}  # fmt: skip
"""One of the smallest models of each module."""


@pytest.mark.slow
@pytest.mark.parametrize("module", sorted(SMALL))
def test_finetune_trains_a_model_of_every_module_of_timm_by_its_name_alone(module):
    """Its keys for another model are left alone, told in one line each; the exceptions are one line too."""
    name = SMALL[module]
    lines: list[str] = []
    recipe, more = resolve(load_recipe(ROOT / "recipes/finetune.yaml", [f"model.name={name}", "model.pretrained=false"], tell=lines.append))
    assert all("\n" not in line for line in lines + more)
    found = check_model(recipe.model, recipe.freeze, image_size=recipe.aug.size)
    assert len(found) == (name in ONLY_AT_THEIR_SIZE), found
    assert all(line.startswith(f"model.name: {name} ") and "\n" not in line for line in found)


def test_every_module_of_timm_is_tried():
    assert set(SMALL) == {module for module in list_modules() if timm.list_models(module=module)} - {"resnet_cbam"}


def test_the_trial_draws_no_random_numbers():
    """So that a run's weights do not depend on it."""
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert check_model(config(drop_rate=0.5, drop_layer3=0.2), image_size=64) == []
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist())
