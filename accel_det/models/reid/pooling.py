"""From a map to one feature.

Letters: B pictures, C channels, H and W cells of the map.
"""

import torch
from torch import Tensor, nn

from accel_det.models.layers.precision import precise

_LEAST = 1e-6


class AveragePool(nn.Module):
    """(B, C, H, W) -> (B, C), the mean over cells."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3))


class MaxPool(nn.Module):
    """(B, C, H, W) -> (B, C), the maximum over cells."""

    def forward(self, x: Tensor) -> Tensor:
        return x.amax(dim=(2, 3))


class GeneralizedMeanPool(nn.Module):
    """(B, C, H, W) -> (B, C), (mean over cells of x^p)^(1/p), in float32 at least; p is learned.

    Source: Radenovic et al., Fine-tuning CNN Image Retrieval with No Human Annotation, 2018, section 3.2; p begins at 3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.full((1,), 3.0))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            powers = precise(x).clamp(min=_LEAST) ** precise(self.exponent)
            mean: Tensor = powers.mean(dim=(2, 3)) ** (1 / precise(self.exponent))
        return mean


POOLS: dict[str, type[nn.Module]] = {"avg": AveragePool, "max": MaxPool, "gem": GeneralizedMeanPool}
