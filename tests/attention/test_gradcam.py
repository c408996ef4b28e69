"""Grad-CAM against its formula on a network cut in two; CBAM's gates against what its forward does to the features."""

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

import hw1.models  # noqa: F401  registers the models
from hw1.attention.gradcam import grad_cam
from hw1.errors import UserError
from hw1.models.cbam import Cbam
from hw1.models.cbam_gates import cbam_gates
from hw1.plots import AttentionRow, plot_attention


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = timm.create_model("resnet18_half_cbam", num_classes=5, cbam_stages=(2, 4), drop_rate=0.5, cbam_init="identity")
    for module in model.modules():
        if isinstance(module, Cbam):  # identity gates are all 1: nothing to see
            torch.nn.init.normal_(module.channel.fc2.weight)
            torch.nn.init.normal_(module.spatial.conv.weight)
    return model


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 96, 96, generator=torch.Generator().manual_seed(1))


def test_grad_cam_is_the_papers_formula(model, images):
    classes = torch.tensor([4, 0, 2])
    found = grad_cam(model, images, classes).maps
    features = model.eval().forward_features(images).detach().requires_grad_()
    score = model.forward_head(features).gather(1, classes[:, None]).sum()
    weights = torch.autograd.grad(score, features)[0].numpy().mean((2, 3), keepdims=True)
    heat = np.maximum((weights * features.detach().numpy()).sum(1, keepdims=True), 0)
    heat = F.interpolate(torch.from_numpy(heat), (96, 96), mode="bilinear").numpy()[:, 0]
    assert found.shape == (3, 96, 96)
    np.testing.assert_allclose(found, heat / np.maximum(heat.max((1, 2), keepdims=True), 1e-30), atol=1e-5)
    assert 0 in found.max((1, 2))  # an image without evidence for its class stays dark, it is not divided by 0


def test_grad_cam_works_on_frozen_weights_and_leaves_no_gradient(model, images):
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    try:
        frozen = grad_cam(model, images, torch.tensor([4, 0, 2])).maps
    finally:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    np.testing.assert_allclose(frozen, grad_cam(model, images, torch.tensor([4, 0, 2])).maps, atol=1e-6)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_gates_are_what_the_features_are_multiplied_by(model, images):
    seen = {}
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: (inputs[0], output)}))
        for name in ("layer2.cbam", "layer4.cbam")
    ]
    gates = cbam_gates(model, images)
    for hook in hooks:
        hook.remove()
    assert [gate.stage for gate in gates] == ["layer2", "layer4"]
    for gate in gates:
        before, after = (tensor.numpy() for tensor in seen[f"{gate.stage}.cbam"])
        np.testing.assert_allclose(before * gate.channel[:, :, None, None] * gate.spatial[:, None], after, rtol=1e-4, atol=1e-5)
        assert 0 < gate.channel.min() < gate.channel.max() < 2
    assert not any(module._forward_hooks for module in model.modules())


TOKENS = {
    "vit_tiny_patch16_224": ("blocks.11.norm1", 1),
    "deit3_small_patch16_224": ("blocks.11.norm1", 1),
    "vit_small_patch14_reg4_dinov2": ("blocks.11.norm1", 5),
    "vit_medium_patch16_rope_reg1_gap_256": ("blocks.11.norm1", 1),
}


@pytest.mark.parametrize("name", TOKENS)
def test_grad_cam_of_a_transformer_is_that_of_its_patches(name, images):
    torch.manual_seed(0)
    side = 98 if "14" in name else 96
    model = timm.create_model(name, img_size=side, num_classes=5).eval()
    nn.init.normal_(model.head.weight)
    images = F.interpolate(images, (side, side))
    classes, seen = torch.tensor([4, 0, 2]), []
    layer, prefix = TOKENS[name]
    hook = model.get_submodule(layer).register_forward_hook(lambda _, inputs, output: (output.retain_grad(), seen.append(output))[0])
    model(images).gather(1, classes[:, None]).sum().backward()
    hook.remove()
    tokens, slopes = (tensor.detach().numpy()[:, prefix:] for tensor in (seen[0], seen[0].grad))
    patches = round(tokens.shape[1] ** 0.5)
    heat = np.maximum((slopes.mean(1, keepdims=True) * tokens).sum(2), 0).reshape(3, 1, patches, patches)
    heat = F.interpolate(torch.from_numpy(heat), (side, side), mode="bilinear").numpy()[:, 0]
    np.testing.assert_allclose(grad_cam(model, images, classes).maps, heat / np.maximum(heat.max((1, 2), keepdims=True), 1e-30), atol=1e-4)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "convnext_atto", "tf_efficientnet_lite0", "cait_xs24_384", "pvt_v2_b0"])
def test_grad_cam_of_other_kinds_has_the_size_of_the_image(name, images):
    torch.manual_seed(0)
    size = {"img_size": 96} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    found = grad_cam(timm.create_model(name, num_classes=5, **size), images, torch.tensor([4, 0, 2])).maps
    assert found.shape == (3, 96, 96)
    assert np.ptp(found) == 1


def test_models_without_cbam_or_without_a_map(images):
    assert cbam_gates(timm.create_model("resnet18_half_cbam", cbam_stages=()), images) == []
    with pytest.raises(UserError, match="does not call the module"):
        grad_cam(timm.create_model("coat_lite_tiny", num_classes=5), F.interpolate(images, (224, 224)), torch.tensor([0, 1, 2]))


def test_figure_has_a_row_for_each_image(model, images):
    image = np.zeros((96, 96, 3), np.uint8)
    gates = [gate._replace(spatial=1 + (gate.spatial - 1) / 10) for gate in cbam_gates(model, images)]
    rows = [
        AttentionRow(
            image, f"{i}.jpg", f"class ${i}", np.zeros((96, 96)), (3, 3), [(gate.stage, gate.channel[i], gate.spatial[i]) for gate in gates]
        )
        for i in range(3)
    ]
    figure = plot_attention(rows)
    assert len(figure.axes) == 3 * (2 + 2 * 2)
    assert [axes.get_title() for axes in figure.axes[:2]] == ["0.jpg\nclass $0", "Grad-CAM, 3 x 3\n0 to 1"]
    farthest = max(abs(gate.spatial - 1).max() for gate in gates)
    reach = min(scale for scale in (0.1, 0.25, 0.5, 1.0) if scale >= farthest)
    assert reach < 0.5
    maps = [axes for axes in figure.axes if axes.get_title().startswith("CBAM")]
    assert {axes.images[1].get_clim() for axes in maps} == {(1 - reach, 1 + reach)}  # one scale for all images and stages, about 1
    low, high = gates[0].spatial[1].min(), gates[0].spatial[1].max()
    assert maps[2].get_title() == f"CBAM, layer2, 12 x 12\n{low:.2f} to {high:.2f} of {1 - reach:g} to {1 + reach:g}"
    np.testing.assert_array_equal(figure.axes[3].lines[0].get_ydata(), np.sort(gates[0].channel[0])[::-1])
    with pytest.raises(ValueError, match="one model"):
        plot_attention([rows[0], rows[1]._replace(gates=[])])
    with pytest.raises(ValueError, match="expected rows"):
        plot_attention([])
