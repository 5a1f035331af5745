"""What processes tell each other, beside gradients; every function is the identity, or nearly, on one process."""

import json
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def sum_over_processes(values: Tensor) -> Tensor:
    """Add up in place. Collective: every process must call it."""
    if is_distributed():
        dist.all_reduce(values)
    return values


def largest_over_processes(values: Sequence[float], device: torch.device) -> list[float]:
    """The largest of each value. Collective: every process must call it."""
    packed = torch.tensor(values, dtype=torch.float64, device=device)
    if is_distributed():
        dist.all_reduce(packed, op=dist.ReduceOp.MAX)
    found: list[float] = packed.tolist()
    return found


def share_buffers(module: nn.Module) -> None:
    """Give every process the buffers of the first: running statistics are its own until then.

    Collective: every process must call it.
    """
    if is_distributed():
        for buffer in module.buffers():
            dist.broadcast(buffer, src=0)


def share_json(value: object, device: torch.device) -> object:
    """Give every process the first one's value, which JSON can write. Collective: every process must call it."""
    if not is_distributed():
        return value
    data = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8).to(device)
    length = torch.tensor([len(data)], device=device)
    dist.broadcast(length, src=0)
    if dist.get_rank() != 0:
        data = torch.zeros(int(length.item()), dtype=torch.uint8, device=device)
    dist.broadcast(data, src=0)
    return json.loads(bytes(data.tolist()))


def join_lines(lines: Sequence[str], device: torch.device) -> list[str]:
    """All different lines of all processes, sorted. Collective: every process must call it."""
    if not is_distributed():
        return sorted(set(lines))
    own = torch.frombuffer(bytearray("\n".join([*lines, ""]).encode() or b"\n"), dtype=torch.uint8)
    parts = gather_on_first({"text": own}, device)
    joined = {line for part in parts for line in bytes(part["text"].tolist()).decode().split("\n") if line}
    found = share_json(sorted(joined), device)
    assert isinstance(found, list)
    return found


def gather_on_first(columns: Mapping[str, Tensor], device: torch.device) -> list[dict[str, Tensor]]:
    """Bring tensors of any length to the first process, without pickle.

    Collective: every process must call it.

    Args:
        columns: name -> (n, ...) tensor; names, types and trailing dimensions are those of every process, n is not.

    Returns:
        The columns of each process on the CPU, by rank; empty on the other processes.
    """
    if not is_distributed():
        return [dict(columns)]
    rank, world = dist.get_rank(), dist.get_world_size()
    lengths = torch.zeros((world, len(columns)), dtype=torch.int64, device=device)
    lengths[rank] = torch.tensor([len(column) for column in columns.values()], device=device)
    dist.all_reduce(lengths)
    gathered: list[dict[str, Tensor]] = [{} for _ in range(world)] if rank == 0 else []
    for which, (name, column) in enumerate(columns.items()):
        num_rows = lengths[:, which].tolist()
        padded = torch.zeros((max(num_rows), *column.shape[1:]), dtype=column.dtype, device=device)
        padded[: len(column)] = column.to(device)
        # As bytes: not every backend knows every type.
        payload = (
            padded.view(-1).view(torch.uint8) if padded.numel() else torch.zeros(0, dtype=torch.uint8, device=device)
        )
        parts = [torch.empty_like(payload) for _ in range(world)] if rank == 0 else None
        if payload.numel():
            dist.gather(payload, parts, dst=0)
        for source, part in enumerate(parts or ()):
            whole = part.view(column.dtype).reshape(padded.shape) if part.numel() else padded
            gathered[source][name] = whole[: num_rows[source]].cpu()
    return gathered
