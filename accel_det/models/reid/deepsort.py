"""Deep SORT's appearance networks.

Source: Wojke, Bewley, Paulus, Simple Online and Realtime Tracking with a Deep Association Metric, 2017, table 1.
"""

from torch import Tensor, nn

from accel_det.models.reid.options import DeepSortOptions, ReidOptions

_CELLS = (16, 8)
"""Height and width of the last map of a picture of 128 x 64 pixels; the maps of others are brought to it."""


def _shift_norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalisation whose scale stays 1, as published."""
    norm = nn.BatchNorm2d(channels)
    norm.weight.requires_grad_(False)
    return norm


class PreActivationBlock(nn.Module):
    """x + conv(dropout(elu(norm(conv(elu(norm(x))))))), with a projection where the size changes.

    Args:
        first: of the network: its input is activated already.
        widens: twice the channels, half the height and width.
    """

    def __init__(self, in_channels: int, *, first: bool = False, widens: bool = False, dropout: float) -> None:
        super().__init__()
        channels = 2 * in_channels if widens else in_channels
        stride = 2 if widens else 1
        self.enter = nn.Identity() if first else nn.Sequential(_shift_norm(in_channels), nn.ELU())
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False),
            _shift_norm(channels),
            nn.ELU(),
            nn.Dropout(dropout),
            nn.Conv2d(channels, channels, 3, 1, 1),
        )
        self.project = nn.Conv2d(in_channels, channels, 1, stride, bias=False) if widens else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        shortcut: Tensor = self.project(x)
        return shortcut + self.layers(self.enter(x))


class DeepSortCNN(nn.Module):
    """The network of table 1: 128 numbers for a picture of 128 x 64 pixels; 2,800,864 trained parameters."""

    channels = 128

    def __init__(self, options: DeepSortOptions) -> None:
        super().__init__()
        dropout = options.block_dropout
        self.stem = nn.Sequential(
            *(nn.Conv2d(3, 32, 3, 1, 1, bias=False), _shift_norm(32), nn.ELU()),
            *(nn.Conv2d(32, 32, 3, 1, 1, bias=False), _shift_norm(32), nn.ELU()),
            nn.MaxPool2d(3, 2, 1),
        )
        self.blocks = nn.Sequential(
            PreActivationBlock(32, first=True, dropout=dropout),
            PreActivationBlock(32, dropout=dropout),
            PreActivationBlock(32, widens=True, dropout=dropout),
            PreActivationBlock(64, dropout=dropout),
            PreActivationBlock(64, widens=True, dropout=dropout),
            PreActivationBlock(128, dropout=dropout),
        )
        self.dense = nn.Sequential(
            nn.AdaptiveAvgPool2d(_CELLS),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(128 * _CELLS[0] * _CELLS[1], self.channels, bias=False),
            nn.BatchNorm1d(self.channels),
            nn.ELU(),
        )
        norm = self.dense[4]
        assert isinstance(norm, nn.BatchNorm1d)
        norm.weight.requires_grad_(False)

    def forward(self, pixels: Tensor, cameras: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 128); cameras are not read."""
        feature: Tensor = self.dense(self.blocks(self.stem(pixels)))
        return feature


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, in_channels: int, channels: int, *, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.project: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.project = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        shortcut: Tensor = self.project(x)
        return (shortcut + self.layers(x)).relu()


class DeepSortResNet(nn.Module):
    """The wider variant that is used with Deep SORT in PyTorch: four stages of two basic blocks, 512 numbers."""

    channels = 512

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 3, 1, 1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)
        )
        self.layer1 = self._stage(64, 64, stride=1)
        self.layer2 = self._stage(64, 128, stride=2)
        self.layer3 = self._stage(128, 256, stride=2)
        self.layer4 = self._stage(256, 512, stride=2)

    @staticmethod
    def _stage(in_channels: int, channels: int, *, stride: int) -> nn.Sequential:
        return nn.Sequential(
            BasicBlock(in_channels, channels, stride=stride), BasicBlock(channels, channels, stride=1)
        )

    def forward(self, pixels: Tensor, cameras: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 512, H / 16, W / 16); cameras are not read."""
        x: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(pixels)))))
        return x


def make_backbone(name: str, options: ReidOptions) -> DeepSortCNN | DeepSortResNet:
    """One of the two with fresh weights."""
    assert isinstance(options, DeepSortOptions)
    return DeepSortCNN(options) if name == "deepsort_cnn" else DeepSortResNet()
