"""Grad-CAM against its formula on a network cut in two; CBAM's gates against what its forward does to the features."""

import numpy as np
import pytest
import timm
import torch
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
    found = grad_cam(model, images, classes)
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
        frozen = grad_cam(model, images, torch.tensor([4, 0, 2]))
    finally:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
    np.testing.assert_allclose(frozen, grad_cam(model, images, torch.tensor([4, 0, 2])), atol=1e-6)
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


def test_models_without_cbam_or_without_a_map(images):
    assert cbam_gates(timm.create_model("resnet18_half_cbam", cbam_stages=()), images) == []
    transformer = timm.create_model("vit_tiny_patch16_224", img_size=96, depth=1, num_classes=5)
    with pytest.raises(UserError, match="Grad-CAM needs a feature map"):
        grad_cam(transformer, images, torch.tensor([0, 1, 2]))


def test_figure_has_a_row_for_each_image(model, images):
    image = np.zeros((96, 96, 3), np.uint8)
    gates = cbam_gates(model, images)
    rows = [
        AttentionRow(image, f"class ${i}", np.zeros((96, 96)), [(gate.stage, gate.channel[i], gate.spatial[i]) for gate in gates])
        for i in range(3)
    ]
    figure = plot_attention(rows)
    assert len(figure.axes) == 3 * (2 + 2 * 2)
    assert [axes.get_title() for axes in figure.axes[:1]] == ["class $0"]
    np.testing.assert_array_equal(figure.axes[3].lines[0].get_ydata(), np.sort(gates[0].channel[0])[::-1])
    with pytest.raises(ValueError, match="one model"):
        plot_attention([rows[0], rows[1]._replace(gates=[])])
    with pytest.raises(ValueError, match="expected rows"):
        plot_attention([])
