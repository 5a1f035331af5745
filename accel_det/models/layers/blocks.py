"""Convolution blocks that several detector families are built of.

Letters: B images, C channels, H and W pixels of a feature map.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ConvBnAct(nn.Module):
    """Convolution without bias, batch normalisation, activation.

    Args:
        in_channels, out_channels: numbers of channels.
        kernel: side of the square kernel in pixels.
        stride: in pixels.
        padding: on every side in pixels; None keeps the size at stride 1 (odd kernels).
        activation: makes the activation, e.g. `nn.SiLU`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        padding: int | None = None,
        activation: Callable[[], nn.Module] = nn.SiLU,
    ) -> None:
        super().__init__()
        side = kernel // 2 if padding is None else padding
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, side, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation(self.norm(self.conv(x)))
        return y


class Bottleneck(nn.Module):
    """1x1 then 3x3 convolution of one width, with an optional shortcut around both."""

    def __init__(self, channels: int, *, shortcut: bool) -> None:
        super().__init__()
        self.reduce = ConvBnAct(channels, channels)
        self.mix = ConvBnAct(channels, channels, kernel=3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.mix(self.reduce(x))
        return x + y if self.shortcut else y


class C3(nn.Module):
    """Cross-stage partial block: half the width goes through bottlenecks, half around them, a 1x1 joins both.

    Source: Wang et al., CSPNet, 2019, section 3; with three convolutions beside the bottlenecks.
    """

    def __init__(self, in_channels: int, out_channels: int, *, num_bottlenecks: int, shortcut: bool = True) -> None:
        super().__init__()
        half = out_channels // 2
        self.enter = ConvBnAct(in_channels, half)
        self.around = ConvBnAct(in_channels, half)
        self.bottlenecks = nn.Sequential(*(Bottleneck(half, shortcut=shortcut) for _ in range(num_bottlenecks)))
        self.join = ConvBnAct(2 * half, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.join(torch.cat((self.bottlenecks(self.enter(x)), self.around(x)), dim=1))
        return y


class SPPF(nn.Module):
    """Spatial pyramid pooling by chained pools: three 5x5 pools in a row see 5, 9 and 13 pixels.

    Source: He et al., Spatial Pyramid Pooling, 2014, section 2, with stride-1 windows in place of bins.
    """

    def __init__(self, in_channels: int, out_channels: int, *, window: int = 5) -> None:
        super().__init__()
        half = in_channels // 2
        self.reduce = ConvBnAct(in_channels, half)
        self.pool = nn.MaxPool2d(window, stride=1, padding=window // 2)
        self.join = ConvBnAct(4 * half, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        first = self.reduce(x)
        second = self.pool(first)
        third = self.pool(second)
        y: Tensor = self.join(torch.cat((first, second, third, self.pool(third)), dim=1))
        return y
