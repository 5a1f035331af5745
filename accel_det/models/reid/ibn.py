"""Instance and batch normalisation side by side."""

import torch
from torch import Tensor, nn


class InstanceBatchNorm(nn.Module):
    """The first half of the channels is normalised by its own picture, the rest by the batch.

    Source: Pan et al., Two at Once: Enhancing Learning and Generalization Capacities via IBN-Net, 2018, section 3.2; the
    names of the two norms are those of its published weights.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._sizes = (channels // 2, channels - channels // 2)
        self.IN = nn.InstanceNorm2d(self._sizes[0], affine=True)
        self.BN = nn.BatchNorm2d(self._sizes[1])

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)"""
        own, common = maps.split(self._sizes, dim=1)
        return torch.cat((self.IN(own), self.BN(common)), dim=1)
