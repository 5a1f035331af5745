"""Sums and counts -> the loss of all processes.

A model reports sums and counts of what this process saw. Divided by the count of all processes, and with the gradients
averaged by DistributedDataParallel, N processes compute exactly the gradient of one process on the same images.
Everything that processes must agree on in a step travels in one all-reduce: sums, counts, images that were left out, and the
wish to stop.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from accel_det.engine.collectives import sum_over_processes
from accel_det.types import Losses


class Agreed(NamedTuple):
    """What all processes know after a forward pass.

    Attributes:
        names: of the loss terms, sorted.
        sums: (T,) float64, over all processes.
        counts: (T,) float64, over all processes.
        left_out: () float64, number of images that could not be read.
        stop: () float64, number of processes that were asked to stop.
    """

    names: tuple[str, ...]
    sums: Tensor
    counts: Tensor
    left_out: Tensor
    stop: Tensor

    def values(self) -> Tensor:
        """(T,) the terms of the loss, sum / count; a term that nothing counted for is 0."""
        return self.sums * reciprocal(self.counts)


def agree(losses: Losses, *, stop: bool, left_out: int = 0) -> Agreed:
    """Add up sums and counts over all processes. Collective: every process must call it, with the same terms."""
    names = tuple(sorted(losses))
    some = losses[names[0]].sum
    packed = torch.stack(
        [
            *(losses[name].sum.detach().double() for name in names),
            *(losses[name].count.detach().double() for name in names),
            *(torch.full((), float(told), dtype=torch.float64, device=some.device) for told in (left_out, stop)),
        ]
    )
    sum_over_processes(packed)
    return Agreed(names, packed[: len(names)], packed[len(names) : -2], packed[-2], packed[-1])


def window_counts(micro_batches: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Counts of all processes over a window of gradient accumulation, known before the first forward pass.

    Collective: every process must call it.
    """
    names = sorted(micro_batches[0])
    packed = torch.stack([torch.stack([counts[name].double() for counts in micro_batches]).sum() for name in names])
    return dict(zip(names, sum_over_processes(packed), strict=True))


def global_loss(losses: Losses, counts: Mapping[str, Tensor], *, world: int) -> Tensor:
    """The loss to go backward from: its gradient, averaged over `world` processes, is that of the global mean.

    Args:
        losses: terms of this process.
        counts: name -> () count of all processes.
    """
    terms = [
        term.sum * (reciprocal(counts[name]) * world).to(term.sum.dtype)
        for name, term in losses.items()
        if not term.watched
    ]
    return torch.stack(terms).sum()


def void(losses: Losses) -> Losses:
    """The terms of a batch that nothing is to be learned from: parameters take part, with gradients that are zero."""
    return {name: term._replace(sum=term.sum * 0, count=term.count * 0) for name, term in losses.items()}


def reciprocal(count: Tensor) -> Tensor:
    """1 / count, and 0 where nothing was counted."""
    return torch.where(count > 0, 1 / count.clamp(min=torch.finfo(count.dtype).tiny), torch.zeros_like(count))
