"""ResNet and ResNeXt with CBAM after any of the four stages, registered with timm.

Apart from CBAM and dropout they are torchvision's networks. A CBAM, and the dropout after layer3, are named children at the end of their
stage's nn.Sequential (`layer4.cbam`, `layer3.drop`), so that timm's forward, feature extraction, gradient checkpointing and export need
no changes, and a model without them has timm's keys and timm's output.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

import torch
from timm.models import PretrainedCfg, build_model_with_cfg, generate_default_cfgs, get_arch_pretrained_cfgs, register_model
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import nn

from hw1.models.cbam import Cbam, CbamInit
from hw1.models.fit_weights import add_new_tensors

__all__ = ["ResNetCbam"]  # timm's register_model appends the models

LAST_BLOCK = (99999,)  # timm's mark in a group matcher: joins the group before it


class ResNetCbam(ResNet):
    """timm's ResNet with CBAM after some stages and element-wise dropout after layer3.

    With the same seed the weights outside of CBAM do not depend on the arguments of CBAM and dropout, because CBAM draws its weights last.

    Args:
        block: timm's block.
        layers: Blocks of each stage.
        cbam_stages: Stages 1-4 that a CBAM follows; () is timm's plain network.
        cbam_reduction: See `hw1.models.cbam.Cbam`, as for the next two.
        cbam_kernel: In pixels of the feature map; odd.
        cbam_init: `paper` or `identity`.
        drop_layer3: Probability, in [0, 1), of the dropout after layer3 (and after its CBAM, if it has one).
        device: Where the weights are made.
        dtype: Type of the weights.
        **kwargs: timm's arguments (`num_classes`, `in_chans`, `global_pool`, `drop_rate` before the classifier, ...).

    Raises:
        ValueError: A stage is outside of 1-4 or named twice, or a value is out of range.
    """

    _is_built = False

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        layers: tuple[int, ...],
        *,
        cbam_stages: Sequence[int] = (4,),
        cbam_reduction: int = 16,
        cbam_kernel: int = 7,
        cbam_init: CbamInit = "paper",
        drop_layer3: float = 0.0,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        **kwargs: Any,
    ) -> None:
        stages = sorted(cbam_stages)
        if len(set(stages)) < len(stages) or not set(stages) <= {1, 2, 3, 4}:
            raise ValueError(f"cbam_stages must be different stages of 1-4, got {cbam_stages}")
        if not 0.0 <= drop_layer3 < 1.0:
            raise ValueError(f"drop_layer3 must be in [0, 1), got {drop_layer3}")
        super().__init__(block, layers, device=device, dtype=dtype, **kwargs)  # type: ignore[arg-type]  # timm annotates instances but means the classes
        for stage in stages:
            channels = cast(int, self.feature_info[stage]["num_chs"])
            cbam = Cbam(channels, cbam_reduction, cbam_kernel, cbam_init, device=device, dtype=dtype)
            cast(nn.Sequential, getattr(self, f"layer{stage}")).add_module("cbam", cbam)
        if drop_layer3 > 0.0:
            self.get_submodule("layer3").add_module("drop", nn.Dropout(drop_layer3))
        self._is_built = True

    @torch.jit.ignore  # type: ignore[untyped-decorator]  # torch has no types for it
    def init_weights(self, zero_init_last: bool = True) -> None:
        """Set every parameter and buffer to its start, also after `to_empty()`; timm's ResNet leaves BatchNorm and the classifier out.

        Args:
            zero_init_last: Start the last BatchNorm of each block at zero.
        """
        modules = list(self.modules()) if self._is_built else []  # timm's constructor calls it too, once these have their values
        for module in modules:
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()  # type: ignore[operator]
        super().init_weights(zero_init_last)
        for module in modules:
            if isinstance(module, Cbam):
                module.reset_parameters()  # timm's method draws every convolution, that of a CBAM too

    @torch.jit.ignore  # type: ignore[untyped-decorator]  # torch has no types for it
    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's parameter groups (stem, stages or blocks, head); a CBAM belongs to the last block of its stage."""
        matcher: dict[str, Any] = super().group_matcher(coarse)
        if not coarse:
            matcher["blocks"] = [(matcher["blocks"], None), (r"^layer(\d+)\.cbam\.", LAST_BLOCK)]
        return matcher


def _create(variant: str, pretrained: bool, kwargs: dict[str, Any]) -> nn.Module:
    """Build a model; weights of `pretrained` may lack tensors of CBAM only, see `hw1.models.fit_weights.add_new_tensors`."""
    filter_fn = partial(add_new_tensors, features_only=bool(kwargs.get("features_only")))
    model: nn.Module = build_model_with_cfg(ResNetCbam, variant, pretrained, pretrained_filter_fn=filter_fn, **kwargs)
    return model


def _default_cfgs() -> dict[str, Any]:
    """Return timm's configurations of the plain networks' weights under the names of the `*_cbam` models.

    The first tag is the default, so torchvision's newest comes first: `tv2_in1k` (IMAGENET1K_V2), or `tv_in1k` where there is no second
    version. The registered configurations carry the hub id in full, `timm/resnet50.tv2_in1k`; timm would complete its bare `timm/` with
    the name of the `*_cbam` model.
    """
    cfgs: dict[str, dict[str, Any] | PretrainedCfg] = {}
    for arch in ("resnet18", "resnet50", "resnext50_32x4d", "resnext101_32x8d"):
        tags = {name.partition(".")[2]: cfg for name, cfg in get_arch_pretrained_cfgs(arch).items()}
        for tag in sorted(tags, key=lambda tag: (tag != "tv2_in1k", tag != "tv_in1k")):
            cfgs[f"{arch}_cbam.{tag}"] = tags[tag]
    cfgs["resnet18_half_cbam.untrained"] = {"pool_size": (7, 7), "interpolation": "bilinear", "first_conv": "conv1.0", "classifier": "fc"}
    default_cfgs: dict[str, Any] = generate_default_cfgs(cfgs)
    return default_cfgs


default_cfgs = _default_cfgs()  # register_model looks for this name


@register_model
def resnet18_cbam(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build ResNet-18 with CBAM after layer4; see `ResNetCbam`."""
    return _create("resnet18_cbam", pretrained, {"block": BasicBlock, "layers": (2, 2, 2, 2)} | kwargs)


@register_model
def resnet18_half_cbam(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build ResNet-18 with half the channels and CBAM after layer4, to train from scratch at 64 to 128 pixels on a CPU.

    Its stem is three 3x3 convolutions (ResNet-C in He et al., "Bag of Tricks", 2019, section 4.2). No weights are published.
    """
    args = {"block": BasicBlock, "layers": (2, 2, 2, 2), "channels": (32, 64, 128, 256), "stem_type": "deep", "stem_width": 16}
    return _create("resnet18_half_cbam", pretrained, args | kwargs)


@register_model
def resnet50_cbam(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build ResNet-50 with CBAM after layer4; see `ResNetCbam`."""
    return _create("resnet50_cbam", pretrained, {"block": Bottleneck, "layers": (3, 4, 6, 3)} | kwargs)


@register_model
def resnext50_32x4d_cbam(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build ResNeXt-50 32x4d with CBAM after layer4; see `ResNetCbam`."""
    args = {"block": Bottleneck, "layers": (3, 4, 6, 3), "cardinality": 32, "base_width": 4}
    return _create("resnext50_32x4d_cbam", pretrained, args | kwargs)


@register_model
def resnext101_32x8d_cbam(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Build ResNeXt-101 32x8d with CBAM after layer4, the report's best model; see `ResNetCbam`."""
    args = {"block": Bottleneck, "layers": (3, 4, 23, 3), "cardinality": 32, "base_width": 8}
    return _create("resnext101_32x8d_cbam", pretrained, args | kwargs)
