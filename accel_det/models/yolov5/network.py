"""YOLOv5's network: a CSP backbone, a path-aggregation neck, one linear head per level.

Three levels, or four in the P6 networks, whose backbone has one more stage.

Letters: B images, A anchors of a level, K classes, H and W cells of a level.
"""

import math
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accel_det.models.layers.blocks import C3, SPPF, ConvBnAct

STRIDES = (8, 16, 32, 64)  # of the levels, finest first; the plain networks have the first three
ANCHORS_PER_LEVEL = 3
BOX_CHANNELS = 5  # x, y, width, height, objectness


class Scale(NamedTuple):
    """Multipliers of the number of bottlenecks and of the number of channels."""

    depth: float
    width: float


SCALES = {
    "yolov5n": Scale(0.33, 0.25),
    "yolov5s": Scale(0.33, 0.50),
    "yolov5m": Scale(0.67, 0.75),
    "yolov5l": Scale(1.00, 1.00),
    "yolov5x": Scale(1.33, 1.25),
}


def level_channels(scale: Scale, *, levels: int) -> tuple[int, ...]:
    """Channels of the maps of each level, finest first: 3 levels, or 4 with a stage of 768 before the last."""
    widths = (256, 512, 1024) if levels == 3 else (256, 512, 768, 1024)
    return tuple(scaled_channels(width, scale) for width in widths)


class Backbone(nn.Module):
    """Five halvings of the image, or six with 4 levels; gives the maps of strides 8, 16, 32 and 64."""

    def __init__(self, scale: Scale, *, levels: int) -> None:
        super().__init__()
        c1, c2 = (scaled_channels(c, scale) for c in (64, 128))
        c3, c4, c5, *c6 = level_channels(scale, levels=levels)
        self.stem = ConvBnAct(3, c1, kernel=6, stride=2, padding=2)
        self.stage2 = _down(c1, c2, num_bottlenecks=scaled_repeats(3, scale))
        self.stage3 = _down(c2, c3, num_bottlenecks=scaled_repeats(6, scale))
        self.stage4 = _down(c3, c4, num_bottlenecks=scaled_repeats(9, scale))
        repeats = scaled_repeats(3, scale)
        self.stage5: nn.Module
        self.stage6: nn.Module | None = None
        if c6:
            self.stage5 = _down(c4, c5, num_bottlenecks=repeats)
            self.stage6 = _last(c5, *c6, num_bottlenecks=repeats)
        else:
            self.stage5 = _last(c4, c5, num_bottlenecks=repeats)

    def forward(self, x: Tensor) -> list[Tensor]:
        p3 = self.stage3(self.stage2(self.stem(x)))
        p4 = self.stage4(p3)
        p5 = self.stage5(p4)
        return [p3, p4, p5] if self.stage6 is None else [p3, p4, p5, self.stage6(p5)]


class Neck(nn.Module):
    """Top-down, then bottom-up joining of three levels.

    Args:
        channels: of the maps of each level, which it keeps.
        num_bottlenecks: of each joining block.

    Source: Liu et al., Path Aggregation Network, 2018, section 3.1, with concatenation in place of addition.
    """

    def __init__(self, channels: tuple[int, int, int], *, num_bottlenecks: int) -> None:
        super().__init__()
        c3, c4, c5 = channels
        self.lateral5 = ConvBnAct(c5, c4)
        self.top_down4 = C3(2 * c4, c4, num_bottlenecks=num_bottlenecks, shortcut=False)
        self.lateral4 = ConvBnAct(c4, c3)
        self.top_down3 = C3(2 * c3, c3, num_bottlenecks=num_bottlenecks, shortcut=False)
        self.down3 = ConvBnAct(c3, c3, kernel=3, stride=2)
        self.bottom_up4 = C3(2 * c3, c4, num_bottlenecks=num_bottlenecks, shortcut=False)
        self.down4 = ConvBnAct(c4, c4, kernel=3, stride=2)
        self.bottom_up5 = C3(2 * c4, c5, num_bottlenecks=num_bottlenecks, shortcut=False)

    def forward(self, p3: Tensor, p4: Tensor, p5: Tensor) -> list[Tensor]:
        lateral5 = self.lateral5(p5)
        lateral4 = self.lateral4(self.top_down4(torch.cat((_double(lateral5), p4), dim=1)))
        out3 = self.top_down3(torch.cat((_double(lateral4), p3), dim=1))
        out4 = self.bottom_up4(torch.cat((self.down3(out3), lateral4), dim=1))
        out5 = self.bottom_up5(torch.cat((self.down4(out4), lateral5), dim=1))
        return [out3, out4, out5]


class DeeperNeck(nn.Module):
    """A fourth level around the neck of three: one more step down to it, and one more up from it."""

    def __init__(self, channels: tuple[int, int, int, int], *, num_bottlenecks: int) -> None:
        super().__init__()
        *inner, c6 = channels
        c3, c4, c5 = inner
        self.lateral6 = ConvBnAct(c6, c5)
        self.top_down5 = C3(2 * c5, c5, num_bottlenecks=num_bottlenecks, shortcut=False)
        self.inner = Neck((c3, c4, c5), num_bottlenecks=num_bottlenecks)
        self.down5 = ConvBnAct(c5, c5, kernel=3, stride=2)
        self.bottom_up6 = C3(2 * c5, c6, num_bottlenecks=num_bottlenecks, shortcut=False)

    def forward(self, p3: Tensor, p4: Tensor, p5: Tensor, p6: Tensor) -> list[Tensor]:
        lateral6 = self.lateral6(p6)
        outputs: list[Tensor] = self.inner(p3, p4, self.top_down5(torch.cat((_double(lateral6), p5), dim=1)))
        return [*outputs, self.bottom_up6(torch.cat((self.down5(outputs[-1]), lateral6), dim=1))]


class YoloV5Network(nn.Module):
    """Images -> raw predictions of the levels.

    Args:
        num_classes: K, at least 1.
        scale: one of `SCALES`.
        levels: 3 (strides 8, 16 and 32), or 4 (64 as well): what is called P6.
    """

    def __init__(self, num_classes: int, *, scale: Scale, levels: Literal[3, 4] = 3) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.strides = STRIDES[:levels]
        channels, repeats = level_channels(scale, levels=levels), scaled_repeats(3, scale)
        self.backbone = Backbone(scale, levels=levels)
        self.neck: Neck | DeeperNeck
        if levels == 3:
            self.neck = Neck(cast(tuple[int, int, int], channels), num_bottlenecks=repeats)
        else:
            self.neck = DeeperNeck(cast(tuple[int, int, int, int], channels), num_bottlenecks=repeats)
        outputs = ANCHORS_PER_LEVEL * (BOX_CHANNELS + num_classes)
        self.heads = nn.ModuleList(nn.Conv2d(width, outputs, 1) for width in channels)
        self._initialize()

    def forward(self, images: Tensor) -> list[Tensor]:
        """Logits of every level: x, y, width, height, objectness, classes.

        Args:
            images: (B, 3, H, W) float in [0, 1], H and W multiples of the largest stride.

        Returns:
            Per level (B, A, 5 + K, H / stride, W / stride) float.
        """
        maps = self.neck(*self.backbone(images))
        return [
            head(level).unflatten(1, (ANCHORS_PER_LEVEL, BOX_CHANNELS + self.num_classes))
            for head, level in zip(self.heads, maps, strict=True)
        ]

    @torch.no_grad()
    def _initialize(self) -> None:
        """Heads start at the rates of a usual data set: 8 objects in 640x640 pixels, 0.6 right guesses of the class."""
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = 1e-3, 0.03
        for head, stride in zip(self.heads, self.strides, strict=True):
            assert isinstance(head, nn.Conv2d)
            assert head.bias is not None
            bias = head.bias.view(ANCHORS_PER_LEVEL, BOX_CHANNELS + self.num_classes)
            bias[:, BOX_CHANNELS - 1] = math.log(8 / (640 / stride) ** 2)
            bias[:, BOX_CHANNELS:] = math.log(0.6 / (self.num_classes - 0.99999))


def scaled_channels(channels: int, scale: Scale) -> int:
    """Channels times the width multiplier, rounded up to a multiple of 8."""
    return math.ceil(channels * scale.width / 8) * 8


def scaled_repeats(repeats: int, scale: Scale) -> int:
    """Bottlenecks times the depth multiplier, rounded, at least one."""
    return max(round(repeats * scale.depth), 1)


def _down(in_channels: int, out_channels: int, *, num_bottlenecks: int) -> nn.Sequential:
    return nn.Sequential(
        ConvBnAct(in_channels, out_channels, kernel=3, stride=2),
        C3(out_channels, out_channels, num_bottlenecks=num_bottlenecks),
    )


def _last(in_channels: int, out_channels: int, *, num_bottlenecks: int) -> nn.Sequential:
    """The coarsest stage, which looks far around."""
    return nn.Sequential(
        _down(in_channels, out_channels, num_bottlenecks=num_bottlenecks), SPPF(out_channels, out_channels)
    )


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
