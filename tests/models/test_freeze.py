"""Freezing stages: parameters, BatchNorm statistics, and what is refused."""

import pytest
import timm
import torch
from torch import nn

from hw1.config.recipe import FreezeConfig
from hw1.errors import UserError
from hw1.models import Cbam
from hw1.models.freeze import check_freeze, freeze_stages, set_train_mode, stage_names


def small(**kwargs):
    torch.manual_seed(0)
    # with zero_init_last, timm's default, some parameters get no gradient in the first step
    return timm.create_model("resnet18_cbam", layers=(1, 1, 1, 1), num_classes=5, zero_init_last=False, **kwargs)


def frozen_names(model):
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


def train_step(model, config):
    set_train_mode(model, config)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.01, weight_decay=0.1)
    model(torch.randn(4, 3, 64, 64) + 1).square().sum().backward()
    optimizer.step()


def changed(model, before):
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_report_setting_freezes_layers_1_and_2_alone():
    model = small()
    names = freeze_stages(model, FreezeConfig())
    expected = [name for name, _ in model.named_parameters() if name.startswith(("layer1.", "layer2."))]
    assert names == expected
    assert frozen_names(model) == set(expected)


@pytest.mark.parametrize("bn", ["train", "eval"])
def test_frozen_parameters_stay_and_batchnorm_obeys(bn):
    model, config = small(), FreezeConfig(stages=("stem", "layer1", "layer2"), bn=bn)
    freeze_stages(model, config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_step(model, config)
    frozen_part = ("conv1.", "bn1.", "layer1.", "layer2.")
    assert all(p.grad is None for name, p in model.named_parameters() if name.startswith(frozen_part))
    assert all(p.grad is not None for name, p in model.named_parameters() if not name.startswith(frozen_part))
    statistics = {name for name in before if "running" in name or "num_batches" in name}
    frozen_statistics = {name for name in statistics if name.startswith(frozen_part)}
    moved = changed(model, before)
    assert {name for name in moved if name.startswith(frozen_part)} == (frozen_statistics if bn == "train" else set())
    assert {name for name in before if not name.startswith(frozen_part)} == {name for name in moved if not name.startswith(frozen_part)}


def test_eval_touches_batchnorm_of_the_frozen_stages_only():
    model, config = small(drop_layer3=0.2), FreezeConfig(stages=("layer3",), bn="eval")
    freeze_stages(model, config)
    set_train_mode(model, config)
    asleep = {name for name, module in model.named_modules() if not module.training}
    assert asleep == {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d) and name.startswith("layer3.")}
    assert model.layer3.drop.training
    set_train_mode(model, FreezeConfig(stages=("layer3",)))
    assert all(module.training for module in model.modules())


def test_stem_is_conv1_and_bn1():
    model, config = small(), FreezeConfig(stages=("stem",), bn="eval")
    assert freeze_stages(model, config) == ["conv1.weight", "bn1.weight", "bn1.bias"]
    set_train_mode(model, config)
    assert {name for name, module in model.named_modules() if not module.training} == {"bn1"}


def test_cbam_inside_a_frozen_stage_still_learns():
    model, config = small(cbam_stages=(1, 4)), FreezeConfig(stages=("layer1", "layer4"))
    freeze_stages(model, config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_step(model, config)
    for stage in (model.layer1, model.layer4):
        assert all(p.requires_grad for module in stage if isinstance(module, Cbam) for p in module.parameters())
        assert not any(p.requires_grad for p in stage[0].parameters())
    assert {name for name in changed(model, before) if ".cbam." in name} == {name for name in before if ".cbam." in name}


def test_cbam_is_frozen_when_it_is_named():
    model = small()
    assert freeze_stages(model, FreezeConfig(stages=("layer4.cbam",))) == [
        name for name, _ in model.named_parameters() if name.startswith("layer4.cbam.")
    ]


def test_nothing_named_nothing_frozen():
    model = small()
    assert freeze_stages(model, FreezeConfig(stages=())) == []
    assert not frozen_names(model)


def test_other_timm_models_by_module_names():
    model, config = timm.create_model("vit_tiny_patch16_224", num_classes=3), FreezeConfig(stages=("stem", "blocks.0"))
    names = freeze_stages(model, config)
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight"} <= set(names)
    assert {name.split(".")[0] for name in names} == {"cls_token", "pos_embed", "patch_embed", "blocks"}
    assert not any(name.startswith("blocks.1") for name in names)
    assert stage_names(model) == ["stem", "blocks", "norm"]


def test_batchnorm_of_another_model():
    with torch.device("meta"):
        model = timm.create_model("mobilenetv3_small_050", num_classes=3)
    config = FreezeConfig(stages=("stem", "blocks.1"), bn="eval")
    set_train_mode(model, config)
    asleep = {name for name, module in model.named_modules() if not module.training}
    assert "bn1" in asleep  # timm's BatchNormAct2d
    assert len(asleep) > 3
    assert all(name.startswith(("bn1", "blocks.1.")) for name in asleep)


def test_unknown_stages_are_named_with_the_nearest():
    model = small()
    assert stage_names(model) == ["stem", "layer1", "layer2", "layer3", "layer4"]
    with pytest.raises(UserError) as caught:
        freeze_stages(model, FreezeConfig(stages=("layer5", "layer1", "stemm", "layer4.cban", "")))
    lines = caught.value.problems
    assert len(lines) == 4
    for line, (wrong, nearest) in zip(lines, [("layer5", None), ("stemm", "stem"), ("layer4.cban", "layer4"), ("", None)], strict=True):
        assert line.startswith(f"freeze.stages: this model has no stage {wrong!r}")
        assert line.endswith("it has stem, layer1, layer2, layer3, layer4")
        assert nearest is None or f"the nearest is '{nearest}" in line
    assert not frozen_names(model)  # refused as a whole


@pytest.mark.parametrize("stage", ["maxpool", "act1", "layer3.drop"])
def test_modules_without_parameters_are_no_stages(stage):
    assert len(check_freeze(small(drop_layer3=0.2), FreezeConfig(stages=(stage,)))) == 1


def test_model_without_a_stem_group_has_no_stem():
    model = small()
    model.group_matcher = lambda coarse=False: {"blocks": r"^layer(\d+)"}
    assert len(check_freeze(model, FreezeConfig(stages=("stem",)))) == 1
    assert stage_names(model)[0] == "conv1"


def test_freezing_everything_is_refused():
    everything = ("stem", "layer1", "layer2", "layer3", "layer4", "layer4.cbam", "fc")
    assert check_freeze(small(), FreezeConfig(stages=everything)) == ["freeze.stages: leaves nothing to train"]
    assert check_freeze(small(), FreezeConfig(stages=everything[:-1])) == []


# --------------------------------------------------------------------------------------- timm's groups, from the input on


@pytest.mark.parametrize("stages", [3, 0.5])
def test_a_depth_and_a_share_count_timms_groups_of_layers(stages):
    model = timm.create_model("test_vit", num_classes=5)
    groups = timm.models.group_parameters(model, model.group_matcher())
    depth = stages if isinstance(stages, int) else len(groups) // 2
    expected = {name for number in range(depth) for name in groups[number]}
    freeze_stages(model, FreezeConfig(stages=stages))
    assert frozen_names(model) == expected
    assert {"cls_token", "pos_embed"} <= expected
    assert "head.weight" not in expected


def test_batchnorm_of_frozen_groups_obeys_and_a_cbam_trains_on():
    model, config = small(cbam_stages=(1, 4)), FreezeConfig(stages=2, bn="eval")  # the stem and the only block of layer1
    freeze_stages(model, config)
    expected = [name for name, _ in model.named_parameters() if name.startswith(("conv1.", "bn1.", "layer1.")) and ".cbam." not in name]
    assert frozen_names(model) == set(expected)
    set_train_mode(model, config)
    still = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d) and not module.training}
    assert still == {name.removesuffix(".weight") for name in expected if "bn" in name and name.endswith(".weight")}


def test_depths_that_cannot_be_are_named():
    model = small()
    num = len(timm.models.group_parameters(model, model.group_matcher()))
    assert check_freeze(model, FreezeConfig(stages=num + 1)) == [f"freeze.stages: this model has {num} groups of layers, got {num + 1}"]
    assert check_freeze(model, FreezeConfig(stages=0)) == []
    plain = timm.create_model("test_vit", num_classes=5)
    assert check_freeze(plain, FreezeConfig(stages=len(timm.models.group_parameters(plain, plain.group_matcher())))) == [
        "freeze.stages: leaves nothing to train"
    ]
    nameless = nn.Sequential(nn.Linear(2, 2))
    nameless.pretrained_cfg = {}
    [line] = check_freeze(nameless, FreezeConfig(stages=1))
    assert line == "freeze.stages: this model has no groups to count 1 of; name its stages: 0"
