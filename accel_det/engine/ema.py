"""A moving average of the weights, in at least float32, apart from the network that is trained."""

import copy
import math

import torch
from torch import Tensor, nn


class MovingAverage:
    """Averages parameters and floating buffers; other buffers are copied.

    Args:
        model: unwrapped network, on its device.
        decay: share of the average that an update keeps, once it has ramped up.
        ramp_steps: at update n the decay is decay * (1 - exp(-n / ramp_steps)), so that early weights are forgotten.
    """

    def __init__(self, model: nn.Module, *, decay: float, ramp_steps: float) -> None:
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._decay = decay
        self._ramp_steps = ramp_steps
        self._averages, self._copies = _tensors(self.model)

    @torch.no_grad()
    def update(self, model: nn.Module, *, update: int) -> None:
        """Take in the weights after update number `update` (1-based, of those that changed the weights)."""
        keep = self._decay * (1 - math.exp(-update / self._ramp_steps))
        averaged, copied = _tensors(model)
        torch._foreach_lerp_(self._averages, averaged, 1 - keep)
        for own, new in zip(self._copies, copied, strict=True):
            own.copy_(new)


def _tensors(model: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    every = [*model.parameters(), *model.buffers()]
    floating = [tensor.detach() for tensor in every if tensor.is_floating_point()]
    return floating, [tensor for tensor in every if not tensor.is_floating_point()]
