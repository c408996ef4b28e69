"""Pretrained weights through timm's own create_model: only new tensors may be missing, at any head, strictly."""

import pytest
import timm
import torch

import hw1.models  # noqa: F401  registers the models
from hw1.models.weights import WeightsError

ONE_BLOCK = {"layers": (1, 1, 1, 1)}  # a stage: the same keys and rules in half the time


@pytest.fixture(scope="module")
def weights():
    """Of timm's plain network with its published head; every test works on a copy of the dict."""
    torch.manual_seed(1)
    return timm.create_model("resnet18", num_classes=1000, zero_init_last=False, **ONE_BLOCK).state_dict()


def load(weights, **kwargs):
    overlay = {"state_dict": weights, **kwargs.pop("overlay", {})}
    return timm.create_model("resnet18_cbam.tv_in1k", pretrained=True, pretrained_cfg_overlay=overlay, **ONE_BLOCK, **kwargs)


@pytest.mark.parametrize("num_classes", [100, 1000, 0])
@pytest.mark.parametrize("stages", [(), (4,), (1, 2, 3, 4)])
def test_loads_at_any_head(weights, num_classes, stages):
    torch.manual_seed(2)
    model = load(weights, num_classes=num_classes, cbam_stages=stages)
    own = model.state_dict()
    kept = [name for name in weights if num_classes == 1000 or not name.startswith("fc.")]
    assert all(torch.equal(own[name], weights[name]) for name in kept)
    torch.manual_seed(2)
    fresh = timm.create_model("resnet18_cbam", num_classes=num_classes, cbam_stages=stages, **ONE_BLOCK).state_dict()
    assert all(torch.equal(own[name], fresh[name]) for name in own if name not in kept)  # new tensors keep their own start
    assert {name.split("cbam")[0] for name in own if "cbam" in name} == {f"layer{stage}." for stage in stages}


def test_identity_start_keeps_the_pretrained_features(weights):
    x = torch.randn(2, 3, 64, 64)
    plain = timm.create_model("resnet18", pretrained=True, pretrained_cfg_overlay={"state_dict": weights}, **ONE_BLOCK).eval()
    torch.testing.assert_close(load(weights, cbam_init="identity").eval()(x), plain(x))


def test_features_only(weights):
    extractor = load(weights, features_only=True, cbam_init="identity").eval()
    plain = timm.create_model("resnet18", pretrained=True, pretrained_cfg_overlay={"state_dict": weights}, **ONE_BLOCK).eval()
    x = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(extractor(x)[-1], plain.forward_features(x))
    headless = {name: value for name, value in weights.items() if not name.startswith("fc.")}
    assert load(headless, features_only=True)(x)[-1].shape == (2, 512, 2, 2)


def test_grey_images_get_the_sum_of_the_input_weights(weights):
    model = load(weights, in_chans=1, num_classes=10)
    torch.testing.assert_close(model.conv1.weight, weights["conv1.weight"].sum(1, keepdim=True))


def changed(weights, remove=(), add=None):
    return {name: value for name, value in weights.items() if name not in remove} | (add or {})


@pytest.mark.parametrize("num_classes", [100, 1000])
@pytest.mark.parametrize(
    ("remove", "add", "named"),
    [
        (["layer1.0.conv1.weight"], {}, "missing layer1.0.conv1.weight"),
        ([], {"layer4.9.conv1.weight": torch.zeros(1)}, "unexpected layer4.9.conv1.weight"),
        ([], {"layer3.cbam.channel.fc1.weight": torch.zeros(16, 256)}, "unexpected layer3.cbam.channel.fc1.weight"),
        ([], {"bn1.weight": torch.zeros(3)}, r"wrong shape of bn1.weight \[3\], not \[64\]"),
        ([], {"layer4.cbam.channel.fc1.weight": torch.zeros(32, 512)}, "missing layer4.cbam.channel.fc2.weight, layer4.cbam.spatial"),
    ],
)
def test_every_other_difference_is_an_error(weights, num_classes, remove, add, named):
    with pytest.raises(WeightsError, match=named):
        load(changed(weights, remove, add), num_classes=num_classes)


def test_all_differences_are_named_at_once(weights):
    bad = changed(weights, ["layer1.0.conv1.weight"], {"extra": torch.zeros(1), "bn1.bias": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"missing layer1.0.conv1.weight; unexpected extra; wrong shape of bn1.bias"):
        load(bad, num_classes=10)


def test_a_head_that_timm_would_load_has_to_fit(weights):
    head = {"fc.weight": torch.zeros(200, 512), "fc.bias": torch.zeros(200)}
    with pytest.raises(WeightsError, match=r"wrong shape of fc.weight"):
        load(changed(weights, add=head), num_classes=1000)
    with pytest.raises(WeightsError, match=r"missing fc.weight, fc.bias"):
        load(changed(weights, remove=["fc.weight", "fc.bias"]), num_classes=1000)
    assert torch.equal(load(changed(weights, add=head), num_classes=200, overlay={"num_classes": 200}).fc.weight, head["fc.weight"])


def test_wrong_channels_of_the_input_layer(weights):
    with pytest.raises(WeightsError, match=r"wrong shape of conv1.weight"):
        load(changed(weights, add={"conv1.weight": torch.zeros(64, 4, 7, 7)}), in_chans=1)


@pytest.mark.parametrize(("init", "other"), [("paper", "identity"), ("identity", "paper")])
def test_one_kind_of_cbam_is_not_taken_for_the_other(init, other):
    saved = timm.create_model("resnet18_cbam", num_classes=1000, cbam_init=init, **ONE_BLOCK).state_dict()
    assert load(saved, cbam_init=init).num_classes == 1000
    with pytest.raises(WeightsError, match=r"layer4.cbam.gate_scale"):
        load(saved, cbam_init=other)
