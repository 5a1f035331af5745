"""torchvision's ResNets, without classifier: with a last stage that keeps its map large, and with IBN-a.

Source: He et al., Deep Residual Learning, 2015; Xie et al., Aggregated Residual Transformations, 2017. The last stride: Sun
et al., Beyond Part Models, 2018, section 3.1.
"""

from collections.abc import Iterator

from torch import nn
from torchvision.models.resnet import (
    BasicBlock,
    Bottleneck,
    resnet18,
    resnet34,
    resnet50,
    resnet101,
    resnext50_32x4d,
)

from accel_det.models.reid.backbone import Backbone
from accel_det.models.reid.ibn import InstanceBatchNorm
from accel_det.models.reid.options import ResNetOptions
from accel_det.models.reid.pooling import make_pool

_NETWORKS = {
    "reid_resnet18": resnet18,
    "reid_resnet34": resnet34,
    "reid_resnet50": resnet50,
    "reid_resnet101": resnet101,
    "reid_resnet50_ibn": resnet50,
    "reid_resnet101_ibn": resnet101,
    "reid_resnext50": resnext50_32x4d,
    "deepsort_resnet": resnet18,
}
_LAYERS = (("conv1.", "bn1."), ("layer1.",), ("layer2.",), ("layer3.",), ("layer4.", "avgpool."))


def make_backbone(name: str, options: ResNetOptions) -> Backbone:
    """One of the ResNets, with fresh weights, under torchvision's names.

    "deepsort_resnet" begins with a 3x3 convolution that keeps the size, in place of a 7x7 that halves it.
    """
    body = _NETWORKS[name]()
    channels = body.fc.in_features
    body.fc = nn.Identity()
    body.avgpool = make_pool(options.pooling)
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
