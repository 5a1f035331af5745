"""From the last map of a network to one feature for each picture.

Letters: B pictures, C channels, H and W height and width of the map.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from accel_det.models.layers.precision import precise, precise_type

PoolKind = Literal["avg", "max", "gem"]

GEM_EXPONENT = 3.0
SMALLEST_ACTIVATION = 1e-6  # the slope of a power has no bound at 0


class MeanPool(nn.Module):
    """(B, C, H, W) -> (B, C), in float32 at least."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=(2, 3), dtype=precise_type(maps.dtype))


class MaxPool(nn.Module):
    """(B, C, H, W) -> (B, C), in float32 at least."""

    def forward(self, maps: Tensor) -> Tensor:
        return precise(maps.amax(dim=(2, 3)))


class GeneralizedMeanPool(nn.Module):
    """(B, C, H, W) -> (B, C): mean(x^p)^(1/p), in float32 at least, with p learnt for all channels together.

    With p 1 it is the mean, with p to infinity the maximum. What is below 1e-6 counts as that.

    Source: Radenovic et al., Fine-tuning CNN Image Retrieval with No Human Annotation, 2018, section 3.2.
    """

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.full((1,), GEM_EXPONENT))

    def forward(self, maps: Tensor) -> Tensor:
        exponent = precise(self.p)
        powers = precise(maps).clamp(min=SMALLEST_ACTIVATION).pow(exponent).mean(dim=(2, 3))
        return powers.clamp(min=torch.finfo(powers.dtype).tiny).pow(1 / exponent)  # a root has no slope at 0


def make_pool(kind: PoolKind) -> nn.Module:
    """(B, C, H, W) -> (B, C), in float32 at least."""
    match kind:
        case "avg":
            return MeanPool()
        case "max":
            return MaxPool()
        case "gem":
            return GeneralizedMeanPool()
