"""Run on two processes at once: does what the canaries of accelerate and torch ask about, writes one JSON file each.

Usage: `two_processes.py FOLDER`, with RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT set as a launcher does.
"""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import InitProcessGroupKwargs
from torch import nn


def main() -> None:
    folder = Path(sys.argv[1])
    rank = int(os.environ["RANK"])
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    if not torch.accelerator.is_available():
        found["world without cpu=True"] = Accelerator().num_processes
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    accelerator = Accelerator(cpu=True, kwargs_handlers=[InitProcessGroupKwargs(timeout=timedelta(seconds=60))])
    found["world"] = accelerator.num_processes
    found["backend as torch names it"] = dist.get_backend()
    found["backend"] = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu")).name()
    found["scheduler steps"] = scheduler_steps(accelerator)
    found |= wrapped_network(accelerator, rank)
    found["gathered bytes"] = gathered_bytes(rank)
    found["sum in float64"] = sum_in_float64(rank)
    found["synchronized norm"] = synchronized_norm()
    dist.barrier()
    if rank == 1:
        (folder / "1.json").write_text(json.dumps(found), encoding="utf-8")
        os._exit(0)
    found["error after a process died"] = error_after_death()
    (folder / "0.json").write_text(json.dumps(found), encoding="utf-8")
    os._exit(0)


def scheduler_steps(accelerator: Accelerator) -> int:
    """How often one step of a prepared scheduler steps the one inside."""
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    optimizer_, scheduler_ = accelerator.prepare(optimizer, scheduler)
    before = scheduler.last_epoch
    parameter.grad = torch.ones(1)
    optimizer_.step()
    scheduler_.step()
    return scheduler.last_epoch - before


def wrapped_network(accelerator: Accelerator, rank: int) -> dict[str, Any]:
    """Weights, gradients and buckets of a network that is wrapped for two processes."""
    torch.manual_seed(rank)
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    model.register_buffer("seen", torch.full((1,), float(rank)))
    own = [p.detach().clone() for p in model.parameters()]
    wrapped = accelerator.prepare(model)
    found: dict[str, Any] = {
        "wrapper": type(wrapped).__name__,
        "own weights kept": all(torch.equal(a, b) for a, b in zip(own, model.parameters(), strict=True)),
        "weights": [p.detach().flatten().tolist() for p in model.parameters()],
    }
    rebuilt = []
    for _ in range(3):
        model.zero_grad()
        wrapped(torch.full((1, 2), float(rank + 1))).sum().backward()
        rebuilt.append(bool(wrapped.reducer._rebuild_buckets()))
    found["buckets are rebuilt after backward pass 1, 2, 3"] = rebuilt
    weight = model[1].weight
    assert weight.grad is not None
    found["averaged gradient"] = weight.grad.flatten().tolist()
    hidden = [model[0](torch.full((1, 2), float(r + 1))).flatten().tolist() for r in range(2)]
    found["gradient of each process"] = hidden
    model.zero_grad()
    with accelerator.no_sync(wrapped):
        wrapped(torch.full((1, 2), float(rank + 1))).sum().backward()
    found["gradient without synchronisation"] = weight.grad.flatten().tolist() if weight.grad is not None else None
    found["buffer after forward"] = model.get_buffer("seen").tolist()
    return found


def gathered_bytes(rank: int) -> list[list[int]] | None:
    parts = [torch.empty(2, dtype=torch.uint8) for _ in range(2)] if rank == 0 else None
    dist.gather(torch.tensor([rank, rank + 10], dtype=torch.uint8), parts, dst=0)
    return [part.tolist() for part in parts] if parts else None


def sum_in_float64(rank: int) -> float:
    value = torch.tensor(2.0**-50 if rank else 1.0, dtype=torch.float64)
    dist.all_reduce(value)
    return float(value)


def synchronized_norm() -> str:
    try:
        nn.SyncBatchNorm(2)(torch.zeros(4, 2, 3, 3))
    except (ValueError, RuntimeError) as error:
        return str(error)
    return "no error"


def error_after_death() -> str:
    try:
        for _ in range(100):
            dist.all_reduce(torch.zeros(1))
    except RuntimeError as error:
        return str(error)
    return "no error"


if __name__ == "__main__":
    main()
