"""One optimizer update: forward, agree on the counts, backward, check, step."""

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from accel_det.draws import mix
from accel_det.engine.normalize import Agreed, agree, global_loss, reciprocal, void, window_counts
from accel_det.engine.optimize import gradient_norm
from accel_det.engine.transfer import to_device
from accel_det.types import Batch, Losses


class NonFiniteLoss(ValueError):
    """A loss or gradient that is no number; nothing was updated. Raised on every process in the same step."""


class StepResult(NamedTuple):
    """What happened in one update, the same on every process.

    Attributes:
        losses: term -> mean over all images of the update; "total" is the sum of those that are not only watched.
        gradient_norm: L2, after `loss_factor` and before clipping.
        stop: some process was asked to stop.
        skipped: fp16 overflow made the update void.
        left_out: images of all processes that could not be read.
    """

    losses: dict[str, float]
    gradient_norm: float
    stop: bool
    skipped: bool
    left_out: int = 0


def train_step(
    accelerator: Accelerator,
    wrapped: nn.Module,
    optimizer: Any,
    batches: Sequence[Batch[Any]],
    *,
    seed: int,
    loss_factor: float = 1.0,
    max_grad_norm: float | None = None,
    stop: bool = False,
) -> StepResult:
    """Update the weights once. Collective: every process must call it.

    Args:
        wrapped: what `accelerator.prepare` made of the network; in train mode.
        optimizer: what `accelerator.prepare` made of the optimizer.
        batches: the micro-batches of this process.
        seed: of this step; dropout and the like draw from it and the rank, so a resume needs no generator state.
        loss_factor: of the loss that the gradient is taken of; what is reported stays the mean.
        max_grad_norm: L2 norm to which the gradient of the multiplied loss is clipped.
        stop: this process was asked to stop.

    Raises:
        NonFiniteLoss: before anything was updated.
    """
    torch.manual_seed(mix(seed, accelerator.process_index))
    optimizer.zero_grad()
    model = accelerator.unwrap_model(wrapped)
    on_device = [to_device(batch, accelerator.device) for batch in batches]
    counts = _counts_of_window(model, on_device)
    agreed: list[Agreed] = []
    local: list[Losses] = []
    for number, batch in enumerate(on_device, start=1):
        last = number == len(on_device)
        with contextlib.nullcontext() if last else accelerator.no_sync(wrapped):
            losses: Losses = wrapped(batch)
            losses = void(losses) if batch.void else losses
            agreed.append(agree(losses, stop=stop, left_out=len(batch.left_out)))
            local.append({name: term._replace(sum=term.sum.detach()) for name, term in losses.items()})
            loss = global_loss(losses, counts or _as_mapping(agreed[-1]), world=accelerator.num_processes)
            share = loss if counts else loss / len(on_device)
            accelerator.backward(share * loss_factor)
    accelerator.unscale_gradients(optimizer)
    norm = gradient_norm(model)
    values, (gradient, left_out, stops) = _read(agreed, counts, norm)
    overflow_is_handled = accelerator.scaler is not None
    if not all(map(math.isfinite, values.values())) or not (math.isfinite(gradient) or overflow_is_handled):
        raise NonFiniteLoss(_describe(values, gradient, local, batches, accelerator.process_index))
    if max_grad_norm is not None:
        parameters = [p for p in model.parameters() if p.grad is not None]
        torch.nn.utils.clip_grads_with_norm_(parameters, max_grad_norm, norm)
    optimizer.step()
    total = sum(value for name, value in values.items() if not local[0][name].watched)
    skipped = bool(accelerator.optimizer_step_was_skipped)
    return StepResult(values | {"total": total}, gradient, bool(stops), skipped, int(left_out))


def settle_buckets(accelerator: Accelerator, wrapped: nn.Module, optimizer: Optimizer, batch: Batch[Any]) -> None:
    """A throw-away forward and backward pass, after which DistributedDataParallel keeps the order of its sums.

    It reorders its buckets after the first backward pass. On three and more processes a resumed run would otherwise sum
    gradients in another order than the run it continues. Collective: every process must call it.

    Args:
        batch: the same one in every life of a run.
    """
    if accelerator.num_processes == 1:
        return
    buffers = [buffer.clone() for buffer in wrapped.buffers()]
    losses: Losses = wrapped(to_device(batch, accelerator.device))
    torch.stack([term.sum for term in losses.values()]).sum().backward()
    optimizer.zero_grad()
    for buffer, before in zip(wrapped.buffers(), buffers, strict=True):
        buffer.copy_(before)


def _counts_of_window(model: nn.Module, batches: Sequence[Batch[Any]]) -> dict[str, Tensor] | None:
    """Counts of all processes over all micro-batches, where they do not depend on predictions."""
    if len(batches) == 1:
        return None  # the forward pass will tell
    counts = [model.counts(batch) for batch in batches]  # type: ignore[operator]
    known = [
        {name: count * (not batch.void) for name, count in c.items()}
        for c, batch in zip(counts, batches, strict=True)
        if c is not None
    ]
    return window_counts(known) if len(known) == len(batches) else None


def _as_mapping(agreed: Agreed) -> dict[str, Tensor]:
    return dict(zip(agreed.names, agreed.counts, strict=True))


def _read(
    agreed: Sequence[Agreed], counts: Mapping[str, Tensor] | None, norm: Tensor
) -> tuple[dict[str, float], tuple[float, float, float]]:
    """Loss terms; gradient norm, images left out and stop requests: the one moment at which the host waits for the device."""
    names = agreed[0].names
    if counts is None:
        means = torch.stack([part.values() for part in agreed]).mean(dim=0)
    else:
        divisors = torch.stack([counts[name] for name in names])
        means = torch.stack([part.sums for part in agreed]).sum(dim=0) * reciprocal(divisors)
    told = torch.stack([torch.stack((part.left_out, part.stop)) for part in agreed]).sum(dim=0)
    *numbers, gradient, left_out, stops = torch.cat((means, norm.detach().double()[None], told)).tolist()
    return dict(zip(names, numbers, strict=True)), (gradient, left_out, stops)


def _describe(
    values: Mapping[str, float], gradient: float, local: Sequence[Losses], batches: Sequence[Batch[Any]], rank: int
) -> str:
    wrong = [name for name, value in values.items() if not math.isfinite(value)]
    what = f"loss term {', '.join(wrong)}" if wrong else f"the gradient (norm {gradient})"
    mine = [
        frame.name
        for losses, batch in zip(local, batches, strict=True)
        if not all(bool(torch.isfinite(term.sum)) for term in losses.values())
        for frame in batch.frames
    ]
    where = (
        f"in a batch of process {rank} with {', '.join(mine[:8])}" if mine else f"not from process {rank}'s own losses"
    )
    return (
        f"{what} is not finite, {where}; nothing was updated. Lower optimizer.lr, set optimizer.max_grad_norm, "
        "use bf16 or no mixed precision, and look at these images"
    )
