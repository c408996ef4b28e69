"""The registered models against torchvision's and timm's plain ones, and where CBAM and dropout stand in them."""

import pytest
import timm
import torch
import torchvision
from torch import nn

from hw1.models import Cbam, ResNetCbam

ARCHS = ("resnet18", "resnet50", "resnext50_32x4d", "resnext101_32x8d")


def images(size=(64, 64), batch=2, channels=3, seed=0):
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(seed))


def torchvision_model(arch):
    """Random weights in which every layer counts: BatchNorm away from 0 and 1. Built without memory first: it is quicker."""
    with torch.device("meta"):
        model = torchvision.models.get_model(arch, weights=None, num_classes=12)
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.uniform_(module.bias, -0.2, 0.2)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.8, 1.5)
            module.num_batches_tracked.zero_()
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_uniform_(module.weight)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.2, 0.2)
    return model.eval()


def small(**kwargs):
    """A ResNet with one block a stage: every part of the real ones in a fraction of the time."""
    return timm.create_model("resnet18_cbam", layers=(1, 1, 1, 1), num_classes=10, **kwargs)


def with_weights(arch, weights, **kwargs):
    """The model with a state dict that has to fit exactly; built without memory first, as filling 88 million weights is slow."""
    with torch.device("meta"):
        model = timm.create_model(f"{arch}_cbam", num_classes=12, **kwargs)
    model.load_state_dict(weights, strict=True, assign=True)
    return model.eval()


@pytest.mark.parametrize("arch", ARCHS)
def test_equals_torchvision(arch):
    """With the same weights: the plain network, one with an identity CBAM, and one with a random CBAM up to that."""
    reference = torchvision_model(arch)
    weights = reference.state_dict()
    with torch.no_grad():
        features = nn.Sequential(*list(reference.children())[:-2])(images())
        logits = reference(images())
        assert logits.std() > 0.01
        torch.testing.assert_close(with_weights(arch, weights, cbam_stages=())(images()), logits, rtol=1e-4, atol=1e-4)

        for init in ("identity", "paper"):
            cbam = Cbam(features.shape[1], init=init)
            added = {f"layer4.cbam.{key}": value for key, value in cbam.state_dict().items()}
            model = with_weights(arch, weights | added, cbam_init=init)
            torch.testing.assert_close(model.forward_features(images()), cbam(features), rtol=1e-4, atol=1e-4)
            if init == "identity":
                torch.testing.assert_close(model(images()), logits, rtol=1e-4, atol=1e-4)


def test_resnext101_has_the_reports_shape():
    with torch.device("meta"):
        model = timm.create_model("resnext101_32x8d_cbam", num_classes=100)
    assert model.num_features == 2048
    assert model.fc.out_features == 100
    cbam = {name: tuple(p.shape) for name, p in model.named_parameters() if "cbam" in name}
    assert cbam == {
        "layer4.cbam.channel.fc1.weight": (128, 2048),
        "layer4.cbam.channel.fc2.weight": (2048, 128),
        "layer4.cbam.spatial.conv.weight": (1, 2, 7, 7),
    }


def test_without_cbam_is_timms_model():
    """Same keys, same output, and from one seed the same weights."""
    torch.manual_seed(3)
    theirs = timm.create_model("resnet18", num_classes=7).eval()
    torch.manual_seed(3)
    ours = timm.create_model("resnet18_cbam", num_classes=7, cbam_stages=()).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert torch.equal(ours(images()), theirs(images()))


def test_cbam_draws_its_weights_last():
    torch.manual_seed(3)
    theirs = timm.create_model("resnet18", num_classes=7).state_dict()
    torch.manual_seed(3)
    ours = timm.create_model("resnet18_cbam", num_classes=7, cbam_stages=(1, 4)).state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert sum("cbam" in key for key in ours) == 2 * 3 == len(ours) - len(theirs)


@pytest.mark.parametrize("stages", [(1,), (2,), (3,), (4, 1), (1, 2, 3, 4)])
def test_cbam_stands_after_the_stages_named(stages):
    model = small(cbam_stages=stages).eval()
    cbams = {int(name[5]): module for name, module in model.named_modules() if isinstance(module, Cbam)}
    assert set(cbams) == set(stages)
    x = model.maxpool(model.act1(model.bn1(model.conv1(images()))))
    for stage in (1, 2, 3, 4):
        x = getattr(model, f"layer{stage}")[0](x)
        x = cbams[stage](x) if stage in stages else x
    torch.testing.assert_close(model.forward_features(images()), x)


def test_cbam_options_reach_it():
    cbam = small(cbam_stages=(2,), cbam_reduction=8, cbam_kernel=3, cbam_init="identity").layer2.cbam
    assert cbam.channel.fc1.out_features == 128 // 8
    assert cbam.spatial.conv.kernel_size == (3, 3)
    assert cbam.gate_scale == 2.0


@pytest.mark.parametrize(
    "arguments", [{"cbam_stages": (0,)}, {"cbam_stages": (5,)}, {"cbam_stages": (4, 4)}, {"drop_layer3": 1.0}, {"drop_layer3": -0.1}]
)
def test_refuses_bad_arguments(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        small(**arguments)


def test_dropout_after_layer3_is_elementwise():
    torch.manual_seed(0)
    model = small(drop_layer3=0.2, cbam_stages=(3,))
    assert [name for name, _ in model.layer3.named_children()] == ["0", "cbam", "drop"]
    features = {}
    model.layer3.cbam.register_forward_hook(lambda _m, _i, out: features.update(before=out))
    model.layer4.register_forward_pre_hook(lambda _m, args: features.update(after=args[0]))
    model.train()(images((128, 128), batch=4))
    alive = features["before"] != 0
    passed = (features["after"] != 0)[alive]
    assert passed.float().mean() == pytest.approx(0.8, abs=0.02)
    torch.testing.assert_close(features["after"][alive][passed], features["before"][alive][passed] / 0.8)
    shares = (features["after"] != 0).float().sum((2, 3)) / alive.float().sum((2, 3)).clamp(min=1)
    assert ((shares > 0.3) & (shares < 1.0)).float().mean() > 0.9  # single elements, not whole channels
    model.eval()(images())
    assert torch.equal(features["before"], features["after"])


def test_library_default_drops_nothing():
    model = small()
    assert model.drop_rate == 0.0
    assert not any(isinstance(module, nn.Dropout) for module in model.modules())


def test_head_dropout_stands_before_the_classifier():
    model = small(drop_rate=0.5).train()
    features = torch.ones(4, 512, 2, 2)
    pooled = model.forward_head(features, pre_logits=True)
    assert set(pooled.unique().tolist()) == {0.0, 2.0}
    assert model.eval().forward_head(features, pre_logits=True).unique().tolist() == [1.0]


@pytest.mark.parametrize("size", [(33, 65), (97, 64), (32, 32)])
def test_input_of_any_size_and_channels(size):
    model = small(in_chans=1, cbam_stages=(1, 2, 3, 4)).eval()
    assert isinstance(model, ResNetCbam)
    assert model(images(size, channels=1)).shape == (2, 10)
