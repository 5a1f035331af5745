"""ResNets whole, with all four stages, as torchvision builds them; names of tensors are torchvision's.

Source: He et al., 2016; Pan et al., IBN-Net, 2018, figure 3 a; Luo et al., 2019, for the last stride.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.resnet import BasicBlock, Bottleneck

from accel_det.models.reid.options import ReidOptions, ResNetOptions

_BUILDERS = {
    "reid_resnet18": resnet.resnet18,
    "reid_resnet34": resnet.resnet34,
    "reid_resnet50": resnet.resnet50,
    "reid_resnet101": resnet.resnet101,
    "reid_resnext50": resnet.resnext50_32x4d,
}
_IBN = "_ibn"
_IBN_STAGES = ("layer1", "layer2", "layer3")


class InstanceBatchNorm(nn.Module):
    """The first half of the channels normalised within each picture, the others over the batch: looks and identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.half = channels // 2
        self.IN = nn.InstanceNorm2d(self.half, affine=True)
        self.BN = nn.BatchNorm2d(channels - self.half)

    def forward(self, x: Tensor) -> Tensor:
        # Contiguous parts: torch's norms are slow, and on a CPU wrong, where layouts differ.
        return torch.cat((self.IN(x[:, : self.half].contiguous()), self.BN(x[:, self.half :].contiguous())), dim=1)


class ResNetBackbone(nn.Module):
    """torchvision's layers, without the classifier."""

    def __init__(self, network: resnet.ResNet) -> None:
        super().__init__()
        self.channels = network.fc.in_features
        for name, child in network.named_children():
            if name not in ("avgpool", "fc"):
                setattr(self, name, child)

    def forward(self, pixels: Tensor, cameras: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C, H / 16, W / 16), or / 32 with a last stride of 2; cameras are not read."""
        x = pixels
        for layer in self.children():
            x = layer(x)
        return x


def make_backbone(name: str, options: ReidOptions) -> ResNetBackbone:
    """A ResNet of this name with fresh weights."""
    assert isinstance(options, ResNetOptions)
    network = _BUILDERS[name.removesuffix(_IBN)](weights=None)
    if name.endswith(_IBN):
        for stage in _IBN_STAGES:
            for block in getattr(network, stage):
                block.bn1 = InstanceBatchNorm(block.bn1.num_features)
    if options.last_stride == 1:
        _keep_size(cast("BasicBlock | Bottleneck", network.layer4[0]))
    return ResNetBackbone(network)


def _keep_size(block: BasicBlock | Bottleneck) -> None:
    """Take the stride out of the first block of a stage."""
    convolutions = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:
        convolution.stride = (1, 1)
    block.stride = 1
