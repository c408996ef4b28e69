"""Models: timm's and this project's with CBAM.

Importing the package registers the latter, so that `timm.create_model("resnet50_cbam")` knows them.
"""

from hw1.models import import_timm  # noqa: F401  before any module that imports timm itself
from hw1.models.cbam import Cbam, ChannelAttention, SpatialAttention
from hw1.models.resnet_cbam import ResNetCbam

__all__ = ["Cbam", "ChannelAttention", "ResNetCbam", "SpatialAttention"]
