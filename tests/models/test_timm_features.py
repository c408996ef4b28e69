"""What timm offers for any of its models works for ours too: features, groups, checkpointing, heads, export, its train.py."""

import io

import pytest
import timm
import torch
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import nn

import hw1.models  # noqa: F401  registers the models

ARCHS = ("resnet18", "resnet50", "resnext50_32x4d", "resnext101_32x8d")


def images(size=(64, 64), batch=2, seed=0):
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def small(**kwargs):
    torch.manual_seed(0)
    return timm.create_model("resnet18_cbam", **({"layers": (1, 1, 1, 1), "num_classes": 10} | kwargs))


def test_registry_lists_models_and_tags():
    assert set(timm.list_models("*_cbam")) == {"resnet18_half_cbam"} | {f"{arch}_cbam" for arch in ARCHS}
    for arch in ARCHS:
        theirs = timm.models.get_arch_pretrained_cfgs(arch)
        ours = timm.models.get_arch_pretrained_cfgs(f"{arch}_cbam")
        assert {name.replace("_cbam", "") for name in ours} == set(theirs)
        for name, cfg in ours.items():
            plain = theirs[name.replace("_cbam", "")]
            assert cfg.architecture == f"{arch}_cbam"
            assert cfg.hf_hub_id == plain.hf_hub_id == f"timm/{name.replace('_cbam', '')}"
            assert (cfg.url, cfg.input_size, cfg.mean, cfg.license) == (plain.url, plain.input_size, plain.mean, plain.license)
            assert name in timm.list_pretrained("*_cbam")


def test_default_weights_are_torchvisions_newest():
    default = {arch: timm.models.get_pretrained_cfg(f"{arch}_cbam").tag for arch in ARCHS}
    assert default == {"resnet18": "tv_in1k", "resnet50": "tv2_in1k", "resnext50_32x4d": "tv2_in1k", "resnext101_32x8d": "tv2_in1k"}


def test_half_width_model_is_timms_resnet_with_cbam():
    torch.manual_seed(0)
    ours = timm.create_model("resnet18_half_cbam", num_classes=10, cbam_stages=()).eval()
    shape = {"channels": (32, 64, 128, 256), "stem_type": "deep", "stem_width": 16}
    theirs = timm.create_model("resnet18", num_classes=10, **shape).eval()
    theirs.load_state_dict(ours.state_dict())
    assert torch.equal(ours(images()), theirs(images()))
    features = timm.create_model("resnet18_half_cbam", features_only=True)(images((96, 96)))
    assert [tuple(f.shape[1:]) for f in features] == [(32, 48, 48), (32, 24, 24), (64, 12, 12), (128, 6, 6), (256, 3, 3)]
    grey = timm.create_model("resnet18_half_cbam", in_chans=1, num_classes=10)
    assert grey(torch.randn(2, 1, 64, 64)).shape == (2, 10)


@pytest.mark.parametrize("name", timm.list_models("*_cbam"))
def test_default_configuration(name):
    """What timm asks of each of its own models (`test_model_default_cfgs` in its tests/test_models.py), of every tag."""
    with torch.device("meta"):
        model = timm.create_model(name).eval()
        cfgs = list(timm.models.get_arch_pretrained_cfgs(name).values())
        for cfg in cfgs:
            assert f"{cfg.classifier}.weight" in model.state_dict()
            assert f"{cfg.first_conv}.weight" in model.state_dict()
            assert cfg.pool_size is not None
        sizes = {(cfg.input_size, cfg.pool_size) for cfg in cfgs} | {(cfg.test_input_size, cfg.test_pool_size) for cfg in cfgs}
        for size, pool_size in sizes:
            if pool_size is not None:
                features = model.forward_features(torch.empty(1, *size))
                assert features.shape == (1, model.num_features, *pool_size)
        pooled = model.forward_head(features, pre_logits=True)
        assert pooled.shape == (1, model.head_hidden_size)
        model.reset_classifier(0)
        assert (model.num_classes, model(torch.empty(1, *cfg.input_size)).shape) == (0, pooled.shape)
        model.reset_classifier(0, "")
        assert model(torch.empty(1, *cfg.input_size)).shape == (1, model.num_features, *cfg.pool_size)
        without = timm.create_model(name, num_classes=0, global_pool="")
        assert without(torch.empty(2, *cfg.input_size)).shape == (2, model.num_features, *cfg.pool_size)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    assert transform.transforms[0].interpolation.value == timm.models.get_pretrained_cfg(name).interpolation == "bilinear"


@pytest.mark.parametrize("init", ["paper", "identity"])
def test_init_weights_is_a_whole_start(init):
    """Also of memory that holds anything, as `to_empty()` leaves it: the same as a new model, up to the draw of the numbers."""
    with torch.device("meta"):
        model = small(cbam_stages=(1, 4), cbam_init=init, drop_layer3=0.2)
    model.to_empty(device="cpu")
    for value in model.state_dict().values():
        value.fill_(float("nan") if value.is_floating_point() else 7)
    model.init_weights()
    fresh = small(cbam_stages=(1, 4), cbam_init=init)
    for name, value in fresh.state_dict().items():
        own = model.state_dict()[name]
        if value.numel() < 2 or value.std() == 0:
            assert torch.equal(own, value), name
        else:
            torch.testing.assert_close(own.std(), value.std(), rtol=0.35, atol=0, msg=name)
    if init == "identity":
        x = torch.rand(2, 512, 3, 3)
        assert torch.equal(model.layer4.cbam(x), x)
        model.layer4.cbam.to_empty(device="cpu").reset_parameters()
        assert torch.equal(model.layer4.cbam(x), x)


@pytest.mark.parametrize("feature_cls", ["list", "dict", "hook", "getter"])
def test_features_include_cbam(feature_cls):
    model = small(cbam_stages=(2, 4)).eval()
    extractor = small(cbam_stages=(2, 4), features_only=True, feature_cls=feature_cls, out_indices=(0, 1, 2, 3, 4)).eval()
    features = extractor(images())
    features = list(features.values()) if isinstance(features, dict) else features
    assert [f.shape[1] for f in features] == extractor.feature_info.channels() == [64, 64, 128, 256, 512]
    assert torch.equal(features[-1], model.forward_features(images()))
    stem_to_2 = nn.Sequential(model.conv1, model.bn1, model.act1, model.maxpool, model.layer1, model.layer2)
    assert torch.equal(features[2], stem_to_2(images()))
    assert not torch.equal(features[-1], small(cbam_stages=(2,)).eval().forward_features(images()))


def test_intermediates_and_pruning():
    model = small(cbam_stages=(3, 4)).eval()
    last, intermediates = model.forward_intermediates(images(), indices=(3, 4))
    assert torch.equal(last, model.forward_features(images()))
    assert torch.equal(last, intermediates[-1])
    expected = intermediates[0]
    model.prune_intermediate_layers([3])
    assert torch.equal(model.forward_features(images()), expected)


def test_head():
    model = small().eval()
    pooled = model.forward_head(model.forward_features(images()), pre_logits=True)
    assert pooled.shape == (2, 512)
    torch.testing.assert_close(model.fc(pooled), model(images()))
    assert model.get_classifier() is model.fc
    assert model.get_classifier(name_only=True) == "fc"
    model.reset_classifier(3)
    assert model(images()).shape == (2, 3)
    model.reset_classifier(0)
    torch.testing.assert_close(model(images()), pooled)
    assert small(num_classes=0, global_pool="").eval()(images()).shape == (2, 512, 2, 2)


@pytest.mark.parametrize("stages", [(), (4,), (1, 2, 3, 4)])
def test_parameter_groups_leave_only_the_head_over(stages):
    model = small(cbam_stages=stages, layers=(2, 1, 1, 2), drop_layer3=0.2)
    fine = group_parameters(model, model.group_matcher(), reverse=True)
    assert [fine[f"layer{s}.{b}.conv1.weight"] for s, b in ((1, 0), (1, 1), (2, 0), (3, 0), (4, 0), (4, 1))] == [1, 2, 3, 4, 5, 6]
    assert {name for name, group in fine.items() if group == 7} == {"fc.weight", "fc.bias"}
    coarse = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
    assert {name for name, group in coarse.items() if group == 5} == {"fc.weight", "fc.bias"}
    for name in fine:
        if ".cbam." in name:
            stage = int(name[5])
            last_block = {1: 1, 4: 1}.get(stage, 0)
            assert fine[name] == fine[f"layer{stage}.{last_block}.conv1.weight"]
            assert coarse[name] == stage


def test_layer_decay_covers_every_parameter():
    model = small(cbam_stages=(1, 4))
    groups = param_groups_layer_decay(model, weight_decay=0.05, layer_decay=0.5)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))


def test_gradient_checkpointing_gives_the_same_gradients():
    gradients = []
    for enable in (False, True):
        model = small(cbam_stages=(2, 4), drop_layer3=0.2).train()
        model.set_grad_checkpointing(enable)
        torch.manual_seed(5)
        model(images(batch=4)).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(gradient is not None for gradient in gradients[1].values())
    torch.testing.assert_close(gradients[0], gradients[1])


def test_compiled_training_step_has_the_same_gradients():
    plain, compiled = small().train(), small().train()
    plain(images()).square().sum().backward()
    torch.compile(compiled, backend="eager", fullgraph=True)(images()).square().sum().backward()
    for (name, p), q in zip(plain.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, msg=name)


@pytest.mark.parametrize("init", ["paper", "identity"])
def test_exports_for_any_batch_size(init):
    model = small(cbam_init=init).eval()
    with torch.no_grad():
        exported = torch.export.export(model, (images(batch=2),), dynamic_shapes={"x": {0: torch.export.Dim("batch", max=64)}})
        torch.testing.assert_close(exported.module()(images(batch=3)), model(images(batch=3)))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
@pytest.mark.parametrize("init", ["paper", "identity"])
def test_is_scriptable(init):
    """timm's train.py and validate.py offer --torchscript."""
    model = small(cbam_init=init).eval()
    torch.testing.assert_close(torch.jit.script(model)(images()), model(images()))


@pytest.mark.parametrize("init", ["paper", "identity"])
def test_saved_weights_load_again(init):
    model = small(cbam_stages=(1, 4), cbam_init=init).train()
    model(images()).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.01).step()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = timm.create_model("resnet18_cbam", layers=(1, 1, 1, 1), num_classes=10, cbam_stages=(1, 4), cbam_init=init)
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert torch.equal(other.eval()(images()), model.eval()(images()))


def test_the_arguments_of_timms_train_script(tmp_path):
    """What timm's train.py passes to create_model, unset ones included, then a checkpoint as --initial-checkpoint."""
    arguments = {
        "in_chans": None, "num_classes": 10, "drop_rate": 0.1, "drop_path_rate": 0.1, "drop_block_rate": None,
        "global_pool": None, "bn_momentum": None, "bn_eps": None, "scriptable": False, "checkpoint_path": "",
    }  # fmt: skip
    model = timm.create_model("resnet18_cbam", pretrained=False, **arguments, cbam_stages=[3, 4])
    assert model.drop_rate == 0.1
    assert model.layer4[1].drop_path.drop_prob == pytest.approx(0.1)
    checkpoint = tmp_path / "last.pth.tar"
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, checkpoint)
    again = timm.create_model(
        "resnet18_cbam",
        **arguments | {"checkpoint_path": str(checkpoint), "drop_path_rate": None, "drop_block_rate": 0.1},
        cbam_stages=[3, 4],
    )
    assert torch.equal(again.eval()(images()), model.eval()(images()))
    config = timm.data.resolve_data_config({}, model=timm.create_model("resnet50_cbam", num_classes=2, layers=(1, 1, 1, 1)))
    assert config["input_size"] == (3, 176, 176)  # of tv2_in1k: set the size explicitly
