"""OSNet: blocks that see several scales at once, weighted by what they see; names of tensors are the authors'.

Source: Zhou et al., Omni-Scale Feature Learning for Person Re-Identification, 2019; with instance norms: Zhou et al.,
Learning Generalisable Omni-Scale Representations for Person Re-Identification, 2021.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from accel_det.models.reid.options import OSNetOptions, ReidOptions

_CHANNELS = (64, 256, 384, 512)
_FEATURE = 512
_STREAMS = 4
_GATE_REDUCTION = 16


class _Block(NamedTuple):
    """Whether an instance norm stands before the shortcut is added."""

    instance_norm: bool


_PLAIN = ((_Block(False), _Block(False)),) * 3
_AIN = ((_Block(True), _Block(True)), (_Block(False), _Block(True)), (_Block(True), _Block(False)))


class ConvLayer(nn.Sequential):
    """Convolution, norm, ReLU."""

    def __init__(
        self, in_channels: int, channels: int, kernel: int, *, stride: int = 1, instance_norm: bool = False
    ) -> None:
        super().__init__()
        self.add_module("conv", nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False))
        norm: nn.Module = nn.InstanceNorm2d(channels, affine=True) if instance_norm else nn.BatchNorm2d(channels)
        self.add_module("bn", norm)
        self.add_module("relu", nn.ReLU())


class LightConv3x3(nn.Module):
    """A 1x1 convolution, then a 3x3 one of each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv2(self.conv1(x)))
        return y.relu()


class ChannelGate(nn.Module):
    """x times a weight of each of its channels, which follows from their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // _GATE_REDUCTION)
        self.fc1 = nn.Conv2d(channels, hidden, 1)
        self.fc2 = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        means = x.mean(dim=(2, 3), keepdim=True)
        weights: Tensor = self.fc2(self.fc1(means).relu())
        return x * weights.sigmoid()


class OSBlock(nn.Module):
    """Streams of 1 to 4 light convolutions, added up through one gate that they share, around a shortcut."""

    def __init__(self, in_channels: int, channels: int, *, instance_norm: bool) -> None:
        super().__init__()
        middle = channels // 4
        self.conv1 = ConvLayer(in_channels, middle, 1)
        self.streams = nn.ModuleList(
            nn.Sequential(*(LightConv3x3(middle) for _ in range(depth))) for depth in range(1, _STREAMS + 1)
        )
        self.gate = ChannelGate(middle)
        self.conv3 = nn.Sequential()
        self.conv3.add_module("conv", nn.Conv2d(middle, channels, 1, bias=False))
        self.conv3.add_module(
            "bn", nn.InstanceNorm2d(channels, affine=True) if instance_norm else nn.BatchNorm2d(channels)
        )
        self.downsample: nn.Module = nn.Identity()
        if in_channels != channels:
            self.downsample = nn.Sequential()
            self.downsample.add_module("conv", nn.Conv2d(in_channels, channels, 1, bias=False))
            self.downsample.add_module("bn", nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        shortcut: Tensor = self.downsample(x)
        narrow = self.conv1(x)
        mixed = self.gate(self.streams[0](narrow))
        for stream in self.streams[1:]:
            mixed = mixed + self.gate(stream(narrow))
        return (shortcut + self.conv3(mixed)).relu()


class OSNet(nn.Module):
    """Three stages of two blocks, then 512 numbers."""

    channels = _FEATURE

    def __init__(self, *, width: float, blocks: Sequence[tuple[_Block, _Block]], instance_stem: bool) -> None:
        super().__init__()
        widths = [int(channels * width) for channels in _CHANNELS]
        self.conv1 = ConvLayer(3, widths[0], 7, stride=2, instance_norm=instance_stem)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        for number, pair in enumerate(blocks):
            stage = _stage(widths[number], widths[number + 1], pair, shrinks=number < len(blocks) - 1)
            self.add_module(f"conv{number + 2}", stage)
        self.conv5 = ConvLayer(widths[3], widths[3], 1)
        self.fc = nn.Sequential(nn.Linear(widths[3], _FEATURE), nn.BatchNorm1d(_FEATURE), nn.ReLU())

    def forward(self, pixels: Tensor, cameras: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 512); cameras are not read."""
        x = self.conv5(self.conv4(self.conv3(self.conv2(self.maxpool(self.conv1(pixels))))))
        feature: Tensor = self.fc(x.mean(dim=(2, 3)))
        return feature


def _stage(in_channels: int, channels: int, pair: tuple[_Block, _Block], *, shrinks: bool) -> nn.Sequential:
    first, second = pair
    layers: list[nn.Module] = [
        OSBlock(in_channels, channels, instance_norm=first.instance_norm),
        OSBlock(channels, channels, instance_norm=second.instance_norm),
    ]
    if shrinks:
        layers.append(nn.Sequential(ConvLayer(channels, channels, 1), nn.AvgPool2d(2, 2)))
    return nn.Sequential(*layers)


def make_backbone(name: str, options: ReidOptions) -> OSNet:
    """An OSNet of this width with weights as published: He et al., 2015, for convolutions."""
    assert isinstance(options, OSNetOptions)
    generalises = name.startswith("osnet_ain")
    width = float(name.rpartition("_x")[2].replace("_", "."))
    network = OSNet(width=width, blocks=_AIN if generalises else _PLAIN, instance_stem=generalises)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return network
