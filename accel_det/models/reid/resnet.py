"""torchvision's ResNets, without classifier: with a last stage that keeps its map large, and with IBN-a.

Source: He et al., Deep Residual Learning, 2015; Xie et al., Aggregated Residual Transformations, 2017. The last stride: Sun
et al., Beyond Part Models, 2018, section 3.1.
"""

from collections.abc import Iterator
from typing import NamedTuple

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from accel_det.models.reid.backbone import Backbone
from accel_det.models.reid.ibn import InstanceBatchNorm
from accel_det.models.reid.options import ResNetOptions
from accel_det.models.reid.pooling import make_pool


class _Size(NamedTuple):
    block: type[BasicBlock | Bottleneck]
    blocks: tuple[int, int, int, int]
    groups: int = 1
    width_per_group: int = 64


_SIZES = {
    "reid_resnet18": _Size(BasicBlock, (2, 2, 2, 2)),
    "reid_resnet34": _Size(BasicBlock, (3, 4, 6, 3)),
    "reid_resnet50": _Size(Bottleneck, (3, 4, 6, 3)),
    "reid_resnet101": _Size(Bottleneck, (3, 4, 23, 3)),
    "reid_resnet50_ibn": _Size(Bottleneck, (3, 4, 6, 3)),
    "reid_resnet101_ibn": _Size(Bottleneck, (3, 4, 23, 3)),
    "reid_resnext50": _Size(Bottleneck, (3, 4, 6, 3), groups=32, width_per_group=4),
    "deepsort_resnet": _Size(BasicBlock, (2, 2, 2, 2)),
}
_LAYERS = (("conv1.", "bn1."), ("layer1.",), ("layer2.",), ("layer3.",), ("layer4.", "avgpool."))


def make_backbone(name: str, options: ResNetOptions) -> Backbone:
    """One of the ResNets, with fresh weights, under torchvision's names.

    "deepsort_resnet" begins with a 3x3 convolution that keeps the size, in place of a 7x7 that halves it.
    """
    size = _SIZES[name]
    body = ResNet(size.block, list(size.blocks), groups=size.groups, width_per_group=size.width_per_group)
    channels = body.fc.in_features
    body.fc = nn.Identity()  # type: ignore[assignment]
    body.avgpool = make_pool(options.pooling)  # type: ignore[assignment]
    if name == "deepsort_resnet":
        body.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(body.conv1.weight, mode="fan_out", nonlinearity="relu")
    if options.last_stride == 1:
        _keep_map(next(_blocks(body.layer4)))
    if options.ibn:
        for stage in (body.layer1, body.layer2, body.layer3):
            for block in _blocks(stage):
                block.bn1 = InstanceBatchNorm(block.conv1.out_channels)
    return Backbone(body, channels=channels, layers=_LAYERS)


def _keep_map(block: BasicBlock | Bottleneck) -> None:
    """Let a block that halves its map leave it as it is."""
    for part in block.modules():
        if isinstance(part, nn.Conv2d):
            part.stride = (1, 1)


def _blocks(stage: nn.Sequential) -> Iterator[BasicBlock | Bottleneck]:
    for block in stage:
        assert isinstance(block, BasicBlock | Bottleneck)
        yield block
