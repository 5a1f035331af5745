"""MobileNets as torchvision builds them; names of tensors are torchvision's.

Source: Sandler et al., MobileNetV2, 2018; Howard et al., Searching for MobileNetV3, 2019.
"""

from torch import Tensor, nn
from torchvision.models import mobilenet

from accel_det.models.reid.options import ReidOptions

_BUILDERS = {
    "reid_mobilenet_v2": mobilenet.mobilenet_v2,
    "reid_mobilenet_v3_small": mobilenet.mobilenet_v3_small,
    "reid_mobilenet_v3_large": mobilenet.mobilenet_v3_large,
}


class MobileNetBackbone(nn.Module):
    """torchvision's features, without the classifier."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.features = network.features
        last = [module for module in self.features.modules() if isinstance(module, nn.Conv2d)][-1]
        self.channels = last.out_channels

    def forward(self, pixels: Tensor, cameras: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H / 32, W / 32); cameras are not read."""
        x: Tensor = self.features(pixels)
        return x


def make_backbone(name: str, options: ReidOptions) -> MobileNetBackbone:
    """A MobileNet of this name with fresh weights."""
    return MobileNetBackbone(_BUILDERS[name](weights=None))
