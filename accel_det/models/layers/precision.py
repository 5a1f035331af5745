"""The number types in which boxes and losses are computed."""

import torch
from torch import Tensor


def precise(predicted: Tensor) -> Tensor:
    """In float32 at least: boxes in bfloat16 are off by pixels."""
    return predicted.to(precise_type(predicted.dtype))


def precise_type(dtype: torch.dtype) -> torch.dtype:
    """float64 for a float64 network, else float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32
