"""A batch from the host to the device, without waiting where memory is pinned."""

from typing import TypeVar

import torch
from torch import Tensor

from accel_det.types import Batch

TargetT = TypeVar("TargetT")


def to_device(batch: Batch[TargetT], device: torch.device) -> Batch[TargetT]:
    """Images and targets on the device; sizes stay on the CPU, where shapes are decided."""
    if device.type == "cpu":
        return batch
    proposals = batch.proposals
    return batch._replace(
        images=batch.images.to(device, non_blocking=True),
        targets=[_moved(target, device) for target in batch.targets],
        proposals=None if proposals is None else [boxes.to(device, non_blocking=True) for boxes in proposals],
    )


def _moved(target: TargetT, device: torch.device) -> TargetT:
    fields = [value.to(device, non_blocking=True) if isinstance(value, Tensor) else value for value in target]  # type: ignore[attr-defined]
    return type(target)(*fields)
