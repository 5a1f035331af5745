"""The appearance network of Deep SORT.

Source: Wojke et al., Simple Online and Realtime Tracking with a Deep Association Metric, 2017, table 1. That it has 2,800,864
parameters says the rest: norms learn a shift and no scale; the second convolution of a unit has a bias, the others and the
dense layer have a norm behind them in its place; shortcuts that change the channels are 1x1 convolutions with neither; the
first unit has no norm in front, because the convolution before it ends with one. Here maps of odd sides and strides are
padded as torch does it, by as much on all sides, and shortcuts that change the channels take what the unit's norm gives, as
in Zagoruyko and Komodakis, Wide Residual Networks, 2016.

Letters: B pictures, H and W height and width of a map.
"""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accel_det.models.reid.backbone import Backbone
from accel_det.models.reid.options import DeepSortOptions

_FEATURES = 128
_UNITS = ((32, 32, 1), (32, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1))
"""Of each residual unit: channels in, channels out, stride."""


class ShiftNorm(nn.Module):
    """A batch norm with a shift and without a scale; (B, C) or (B, C, H, W).

    Frozen with its shift are the statistics.
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        """Args:
        norm: without scale and shift.
        """
        super().__init__()
        self.norm = norm
        self.bias = nn.Parameter(torch.zeros(norm.num_features))

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if not self.bias.requires_grad:
            self.norm.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        normalized: Tensor = self.norm(x)
        return normalized + self.bias.to(normalized.dtype).reshape(-1, *[1] * (x.ndim - 2))


class Convolution(nn.Module):
    """3x3 convolution, norm, ELU."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm = _norm(outputs)

    def forward(self, maps: Tensor) -> Tensor:
        return F.elu(self.norm(self.conv(maps)))


class ResidualUnit(nn.Module):
    """Norm and ELU, then convolution with norm and ELU, dropout, convolution; and the shortcut around them."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, dropout: float, first: bool) -> None:
        super().__init__()
        self.norm = None if first else _norm(inputs)
        self.conv1 = Convolution(inputs, outputs, stride=stride)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        active = maps if self.norm is None else F.elu(self.norm(maps))
        inner: Tensor = self.conv2(self.dropout(self.conv1(active)))
        return inner + (maps if self.shortcut is None else self.shortcut(active))


class DeepSortNetwork(nn.Module):
    """(B, 3, H, W) -> (B, 128), of one size of pictures."""

    def __init__(self, *, input_px: tuple[int, int], dropout: float) -> None:
        super().__init__()
        self.input_px = input_px
        self.conv1 = Convolution(3, 32)
        self.conv2 = Convolution(32, 32)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.units = nn.Sequential(
            *(
                ResidualUnit(inputs, outputs, stride=stride, dropout=dropout, first=number == 0)
                for number, (inputs, outputs, stride) in enumerate(_UNITS)
            )
        )
        self.dropout = nn.Dropout(dropout)
        height, width = (-(-side // 8) for side in input_px)  # the pool and two units halve, and round up
        self.dense = nn.Linear(128 * height * width, _FEATURES, bias=False)
        self.dense_norm = ShiftNorm(nn.BatchNorm1d(_FEATURES, affine=False))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, nn.Conv2d) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, pixels: Tensor) -> Tensor:
        height, width = pixels.shape[-2:]
        if (height, width) != self.input_px:
            raise ValueError(
                f"pictures of {height}x{width} pixels: the dense layer of this network is made for "
                f"{self.input_px[0]}x{self.input_px[1]}; resize them, or set model.options.input_px to [{height}, {width}]"
            )
        maps = self.units(self.pool(self.conv2(self.conv1(pixels))))
        return F.elu(self.dense_norm(self.dense(self.dropout(maps.flatten(1)))))


def make_backbone(name: str, options: DeepSortOptions) -> Backbone:
    """The network with fresh weights, after He."""
    body = DeepSortNetwork(input_px=options.input_px, dropout=options.block_dropout)
    units = [(f"units.{number}.",) for number in range(len(_UNITS))]
    return Backbone(body, channels=_FEATURES, layers=[("conv1.",), ("conv2.",), *units, ("dense",)])


def _norm(channels: int) -> ShiftNorm:
    return ShiftNorm(nn.BatchNorm2d(channels, affine=False))
