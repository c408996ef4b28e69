"""timm models with CBAM. Importing this package registers them, so that `timm.create_model("resnet50_cbam")` knows them."""

from hw1.models.cbam import Cbam, ChannelAttention, SpatialAttention
from hw1.models.resnet_cbam import ResNetCbam

__all__ = ["Cbam", "ChannelAttention", "ResNetCbam", "SpatialAttention"]
