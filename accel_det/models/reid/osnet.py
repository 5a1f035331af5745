"""OSNet: streams that see at four scales, weighed against each other for every picture.

Modules bear the names of the published weights, which therefore load.

Source: Zhou et al., Omni-Scale Feature Learning for Person Re-Identification, 2019, section 3 and table 1; Zhou et al.,
Learning Generalisable Omni-Scale Representations, 2021, for the network with instance norms that was found by search, table 1.

Letters: B pictures, C channels, H and W height and width of a map.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from accel_det.models.reid.backbone import Backbone
from accel_det.models.reid.options import OSNetOptions
from accel_det.models.reid.pooling import make_pool

FEATURES = 512
_STREAMS = 4
_BOTTLENECK = 4  # a block has so many times fewer channels inside
_GATE_REDUCTION = 16
_LAYERS = (
    ("conv1.",),
    ("conv2.", "pool2."),
    ("conv3.", "pool3."),
    ("conv4.",),
    ("conv5.", "global_avgpool."),
    ("fc.",),
)


class _Size(NamedTuple):
    """Of one OSNet.

    Attributes:
        channels: of the stem, and of the three stages.
        instance_norms: of the two blocks of each stage: whether one normalises its residual by the picture; None is the
            network of 2019, which has no such norm.
    """

    channels: tuple[int, int, int, int]
    instance_norms: tuple[tuple[bool, bool], ...] | None = None


_SIZES = {
    "osnet_x1_0": _Size((64, 256, 384, 512)),
    "osnet_x0_75": _Size((48, 192, 288, 384)),
    "osnet_x0_5": _Size((32, 128, 192, 256)),
    "osnet_x0_25": _Size((16, 64, 96, 128)),
    "osnet_ain_x1_0": _Size((64, 256, 384, 512), ((True, True), (False, True), (True, False))),
}


class Convolution(nn.Module):
    """Convolution, norm, and ReLU where it is asked for."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        norm: type[nn.BatchNorm2d | nn.InstanceNorm2d] | None = nn.BatchNorm2d,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
        self.bn = None if norm is None else norm(outputs, affine=True)
        self.relu = relu

    def forward(self, maps: Tensor) -> Tensor:
        maps = self.conv(maps)
        if self.bn is not None:
            maps = self.bn(maps)
        return F.relu(maps) if self.relu else maps


class LiteConvolution(nn.Module):
    """A 3x3 convolution in two: across channels, then inside of each; norm, ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv2(self.conv1(maps))))


class AggregationGate(nn.Module):
    """Weighs the channels of a map by what is in it; all streams share the same weights."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        inside = channels // _GATE_REDUCTION
        self.fc1 = nn.Conv2d(channels, inside, 1)
        self.fc2 = nn.Conv2d(inside, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        means = maps.mean(dim=(2, 3), keepdim=True)
        weights: Tensor = self.fc2(F.relu(self.fc1(means))).sigmoid()
        return maps * weights


class _Block(nn.Module):
    """Residual: 1x1 in, four streams of one to four lite convolutions, their gated sum, 1x1 out.

    Args:
        instance_norm: the residual is normalised by the picture, in place of the batch.
    """

    def __init__(self, inputs: int, outputs: int, *, instance_norm: bool = False) -> None:
        super().__init__()
        inside = outputs // _BOTTLENECK
        self.conv1 = Convolution(inputs, inside)
        self._add_streams([[LiteConvolution(inside) for _ in range(depth)] for depth in range(1, _STREAMS + 1)])
        self.gate = AggregationGate(inside)
        self.conv3 = Convolution(inside, outputs, norm=None if instance_norm else nn.BatchNorm2d, relu=False)
        self.IN = nn.InstanceNorm2d(outputs, affine=True) if instance_norm else None
        self.downsample = None if inputs == outputs else Convolution(inputs, outputs, relu=False)

    def _add_streams(self, streams: list[list[LiteConvolution]]) -> None:
        raise NotImplementedError

    def _streams(self) -> Iterable[nn.Module]:
        raise NotImplementedError

    def forward(self, maps: Tensor) -> Tensor:
        inside = self.conv1(maps)
        gated: list[Tensor] = [self.gate(stream(inside)) for stream in self._streams()]
        residual: Tensor = self.conv3(gated[0] + gated[1] + gated[2] + gated[3])
        if self.IN is not None:
            residual = self.IN(residual)
        return F.relu(residual + (maps if self.downsample is None else self.downsample(maps)))


class Block(_Block):
    """With the names of 2019."""

    def _add_streams(self, streams: list[list[LiteConvolution]]) -> None:
        self.conv2a = streams[0][0]
        self.conv2b, self.conv2c, self.conv2d = (nn.Sequential(*stream) for stream in streams[1:])

    def _streams(self) -> Iterable[nn.Module]:
        return self.conv2a, self.conv2b, self.conv2c, self.conv2d


class SearchedBlock(_Block):
    """With the names of the network that was found by search."""

    def _add_streams(self, streams: list[list[LiteConvolution]]) -> None:
        self.conv2 = nn.ModuleList(nn.Sequential(OrderedDict(layers=nn.Sequential(*stream))) for stream in streams)

    def _streams(self) -> Iterable[nn.Module]:
        return self.conv2


class OSNet(nn.Module):
    """(B, 3, H, W) -> (B, 512)"""

    def __init__(self, size: _Size, *, pool: nn.Module) -> None:
        super().__init__()
        stem, second, third, fourth = size.channels
        searched = size.instance_norms is not None
        self.conv1 = Convolution(3, stem, kernel=7, stride=2, norm=nn.InstanceNorm2d if searched else nn.BatchNorm2d)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        norms = size.instance_norms or ((False, False),) * 3
        block = SearchedBlock if searched else Block
        self.conv2, self.conv3, self.conv4 = (
            nn.Sequential(block(inputs, outputs, instance_norm=first), block(outputs, outputs, instance_norm=last))
            for inputs, outputs, (first, last) in zip(size.channels, size.channels[1:], norms, strict=False)
        )
        if searched:
            self.pool2, self.pool3 = _transition(second), _transition(third)
        else:
            self.conv2.append(_transition(second))
            self.conv3.append(_transition(third))
        self.searched = searched
        self.conv5 = Convolution(fourth, fourth)
        self.global_avgpool = pool
        self.fc = nn.Sequential(nn.Linear(fourth, FEATURES), nn.BatchNorm1d(FEATURES), nn.ReLU())
        self._draw_weights()

    def forward(self, pixels: Tensor) -> Tensor:
        maps = self.conv2(self.maxpool(self.conv1(pixels)))
        maps = self.conv3(self.pool2(maps) if self.searched else maps)
        maps = self.conv4(self.pool3(maps) if self.searched else maps)
        features: Tensor = self.fc(self.global_avgpool(self.conv5(maps)))
        return features

    def _draw_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)


def make_backbone(name: str, options: OSNetOptions) -> Backbone:
    """One of the OSNets, with fresh weights."""
    return Backbone(OSNet(_SIZES[name], pool=make_pool(options.pooling)), channels=FEATURES, layers=_LAYERS)


def _transition(channels: int) -> nn.Sequential:
    """Between two stages; halves the map."""
    return nn.Sequential(Convolution(channels, channels), nn.AvgPool2d(2, stride=2))
