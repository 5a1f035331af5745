"""YOLOv3's networks: Darknet-53 with three predicting branches, with or without spatial pooling, and the tiny one.

Modules are made in the order in which Darknet's configuration lists them, because its weight files have no names.
Letters: B images, A anchors of a level, K classes, H and W cells of a level.
"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accel_det.models.layers.blocks import ConvBnAct

ANCHORS_PER_LEVEL = 3
BOX_CHANNELS = 5  # x, y, width, height, objectness
DARKNET53_REPEATS = (1, 2, 8, 8, 4)
# Training begins with every cell almost sure that it holds nothing: Lin et al., Focal Loss, 2017, section 4.1.
_FIRST_OBJECTNESS = 0.01

_ConvBlock = partial(ConvBnAct, activation=partial(nn.LeakyReLU, 0.1))


class Residual(nn.Module):
    """1x1 convolution to half the channels, 3x3 back to all of them, and a shortcut around both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = _ConvBlock(channels, channels // 2)
        self.expand = _ConvBlock(channels // 2, channels, kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.expand(self.reduce(x))
        return x + y


class Darknet53(nn.Module):
    """Five halvings of the image in 52 convolutions; gives the maps of strides 8, 16 and 32.

    Source: Redmon and Farhadi, YOLOv3, 2018, section 2.4 and table 1, without its classifier.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        c0, c1, c2, c3, c4, c5 = (scaled_channels(c, width) for c in (32, 64, 128, 256, 512, 1024))
        one, two, three, four, five = DARKNET53_REPEATS
        self.stem = _ConvBlock(3, c0, kernel=3)
        self.stage1 = _stage(c0, c1, repeats=one)
        self.stage2 = _stage(c1, c2, repeats=two)
        self.stage3 = _stage(c2, c3, repeats=three)
        self.stage4 = _stage(c3, c4, repeats=four)
        self.stage5 = _stage(c4, c5, repeats=five)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p3 = self.stage3(self.stage2(self.stage1(self.stem(x))))
        p4 = self.stage4(p3)
        return p3, p4, self.stage5(p4)


class TinyBackbone(nn.Module):
    """Seven convolutions with pools between them; gives the maps of strides 16 and 32.

    Source: the published configuration of YOLOv3-tiny. Its last pool is of stride 1 and sees one column and one row
    beyond the map on the far sides.
    """

    def __init__(self, width: float) -> None:
        super().__init__()
        c = [scaled_channels(channels, width) for channels in (16, 32, 64, 128, 256, 512, 1024)]
        self.stem = _ConvBlock(3, c[0], kernel=3)
        self.stage1 = _pooled(c[0], c[1])
        self.stage2 = _pooled(c[1], c[2])
        self.stage3 = _pooled(c[2], c[3])
        self.stage4 = _pooled(c[3], c[4])
        self.stage5 = _pooled(c[4], c[5])
        self.pool = nn.MaxPool2d(2, stride=1, padding=1)
        self.stage6 = _ConvBlock(c[5], c[6], kernel=3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        p4 = self.stage4(self.stage3(self.stage2(self.stage1(self.stem(x)))))
        # Padded on all sides, less the first row and column: padded on the far sides alone.
        return p4, self.stage6(self.pool(self.stage5(p4))[:, :, 1:, 1:])


class SpatialPooling(nn.Module):
    """The map beside its maxima over 13x13, 9x9 and 5x5 cells, in Darknet's order.

    Source: He et al., Spatial Pyramid Pooling, 2014, section 2, with windows of stride 1 in place of bins.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pools = nn.ModuleList(nn.MaxPool2d(side, stride=1, padding=side // 2) for side in (13, 9, 5))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*(pool(x) for pool in self.pools), x], dim=1)


class Branch(nn.Module):
    """What predicts one level: features that the next finer level takes too, then a 3x3 and a linear 1x1 convolution.

    Args:
        features: gives `channels` channels.
        outputs: A * (5 + K).
    """

    def __init__(self, features: nn.Module, channels: int, *, expanded: int, outputs: int) -> None:
        super().__init__()
        self.features = features
        self.expand = _ConvBlock(channels, expanded, kernel=3)
        self.linear = nn.Conv2d(expanded, outputs, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(x)
        raw: Tensor = self.linear(self.expand(features))
        return features, raw.unflatten(1, (ANCHORS_PER_LEVEL, -1))


class YoloV3Network(nn.Module):
    """Images -> raw predictions of the levels of strides 8, 16 and 32.

    Args:
        num_classes: K, at least 1.
        width: multiplier of the channels; 1 is the published network.
        pooling: with spatial pooling in the coarsest branch, as YOLOv3-SPP.
    """

    strides = (8, 16, 32)
    pretrained_layers = 52  # of darknet53.conv.74: the backbone

    def __init__(self, num_classes: int, *, width: float = 1.0, pooling: bool = False) -> None:
        super().__init__()
        self.num_classes = num_classes
        c3, c4, c5 = (scaled_channels(c, width) for c in (256, 512, 1024))
        n3, n4, n5 = (scaled_channels(c, width) for c in (128, 256, 512))
        outputs = ANCHORS_PER_LEVEL * (BOX_CHANNELS + num_classes)
        self.backbone = Darknet53(width)
        coarse = _pooled_features(c5, n5) if pooling else _features(c5, n5)
        self.branch5 = Branch(coarse, n5, expanded=c5, outputs=outputs)
        self.lateral4 = _ConvBlock(n5, n4)
        self.branch4 = Branch(_features(n4 + c4, n4), n4, expanded=c4, outputs=outputs)
        self.lateral3 = _ConvBlock(n4, n3)
        self.branch3 = Branch(_features(n3 + c3, n3), n3, expanded=c3, outputs=outputs)
        _initialize([self.branch3, self.branch4, self.branch5])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits of every level: x, y, width, height, objectness, classes.

        Args:
            images: (B, 3, H, W) float in [0, 1], H and W multiples of 32 pixels.

        Returns:
            Per level, finest first, (B, A, 5 + K, H / stride, W / stride) float.
        """
        p3, p4, p5 = self.backbone(images)
        features5, raw5 = self.branch5(p5)
        features4, raw4 = self.branch4(torch.cat((_double(self.lateral4(features5)), p4), dim=1))
        _, raw3 = self.branch3(torch.cat((_double(self.lateral3(features4)), p3), dim=1))
        return [raw3, raw4, raw5]


class YoloV3TinyNetwork(nn.Module):
    """Images -> raw predictions of the levels of strides 16 and 32; arguments and results as of `YoloV3Network`."""

    strides = (16, 32)
    pretrained_layers = 9  # of yolov3-tiny.conv.15: the backbone and two more

    def __init__(self, num_classes: int, *, width: float = 1.0) -> None:
        super().__init__()
        self.num_classes = num_classes
        c4, c5, n4, n5, wide = (scaled_channels(c, width) for c in (256, 512, 128, 256, 1024))
        outputs = ANCHORS_PER_LEVEL * (BOX_CHANNELS + num_classes)
        self.backbone = TinyBackbone(width)
        self.branch5 = Branch(_ConvBlock(wide, n5), n5, expanded=c5, outputs=outputs)
        self.lateral4 = _ConvBlock(n5, n4)
        self.branch4 = Branch(nn.Identity(), n4 + c4, expanded=c4, outputs=outputs)
        _initialize([self.branch4, self.branch5])

    def forward(self, images: Tensor) -> list[Tensor]:
        p4, p5 = self.backbone(images)
        features5, raw5 = self.branch5(p5)
        _, raw4 = self.branch4(torch.cat((_double(self.lateral4(features5)), p4), dim=1))
        return [raw4, raw5]


def scaled_channels(channels: int, width: float) -> int:
    """Channels times the width multiplier, rounded up to a multiple of 8."""
    return math.ceil(channels * width / 8) * 8


def _stage(in_channels: int, out_channels: int, *, repeats: int) -> nn.Sequential:
    down = _ConvBlock(in_channels, out_channels, kernel=3, stride=2)
    return nn.Sequential(down, *(Residual(out_channels) for _ in range(repeats)))


def _pooled(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.MaxPool2d(2), _ConvBlock(in_channels, out_channels, kernel=3))


def _features(in_channels: int, narrow: int) -> nn.Sequential:
    """1x1 and 3x3 convolutions in turn, five of them."""
    return nn.Sequential(
        _ConvBlock(in_channels, narrow),
        _ConvBlock(narrow, 2 * narrow, kernel=3),
        _ConvBlock(2 * narrow, narrow),
        _ConvBlock(narrow, 2 * narrow, kernel=3),
        _ConvBlock(2 * narrow, narrow),
    )


def _pooled_features(in_channels: int, narrow: int) -> nn.Sequential:
    """As `_features`, with pooling and one more 1x1 convolution in the middle."""
    first, second, third, fourth, fifth = _features(in_channels, narrow)
    return nn.Sequential(first, second, third, SpatialPooling(), _ConvBlock(4 * narrow, narrow), fourth, fifth)


@torch.no_grad()
def _initialize(branches: list[Branch]) -> None:
    for branch in branches:
        assert branch.linear.bias is not None
        bias = branch.linear.bias.view(ANCHORS_PER_LEVEL, -1)
        bias[:, BOX_CHANNELS - 1] = math.log(_FIRST_OBJECTNESS / (1 - _FIRST_OBJECTNESS))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
