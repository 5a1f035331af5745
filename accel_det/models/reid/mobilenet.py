"""torchvision's MobileNets up to their last map.

What follows it in MobileNetV3, a layer that prepares the classification, is left out.

Source: Sandler et al., MobileNetV2, 2018; Howard et al., Searching for MobileNetV3, 2019.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor, nn
from torchvision.models.mobilenetv2 import MobileNetV2, mobilenet_v2
from torchvision.models.mobilenetv3 import MobileNetV3, mobilenet_v3_large, mobilenet_v3_small

from accel_det.models.reid.backbone import Backbone
from accel_det.models.reid.options import MapOptions
from accel_det.models.reid.pooling import make_pool

_SIZES: Mapping[str, tuple[Callable[[], MobileNetV2 | MobileNetV3], int]] = MappingProxyType(
    {
        "reid_mobilenet_v2": (mobilenet_v2, 1280),
        "reid_mobilenet_v3_small": (mobilenet_v3_small, 576),
        "reid_mobilenet_v3_large": (mobilenet_v3_large, 960),
    }
)
"""Name -> torchvision's own builder, and the channels of the last map."""


class PooledFeatures(nn.Module):
    """Stages, and the pooling of their last map; the stages are named as torchvision names them."""

    def __init__(self, features: nn.Sequential, pool: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.pool = pool

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C)"""
        pooled: Tensor = self.pool(self.features(pixels))
        return pooled


def make_backbone(name: str, options: MapOptions) -> Backbone:
    """One of the MobileNets, with fresh weights, under torchvision's names."""
    build, channels = _SIZES[name]
    features = build().features
    layers: list[tuple[str, ...]] = [(f"features.{number}.",) for number in range(len(features))]
    layers[-1] = (*layers[-1], "pool.")
    return Backbone(PooledFeatures(features, make_pool(options.pooling)), channels=channels, layers=layers)
