"""How many images a forward pass can take: measured with real updates on the most crowded images.

A trial holds what a training update holds: weights, moving average, gradients of an earlier micro-batch, the optimizer's
state, and the forward and backward pass of the next one. Nothing is communicated inside a trial, so a process that runs out
of memory keeps no other waiting; afterwards all processes agree, and weights, buffers, optimizer and random state are what
they were.
"""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer

from accel_det.config.schema import RuntimeSection
from accel_det.engine.collectives import largest_over_processes
from accel_det.engine.transfer import to_device
from accel_det.types import Batch, Losses

HEADROOM = 0.9
"""Share of the memory that may be used: the allocator needs room, and images that are drawn later may be worse."""

_GIB = 2**30
_EXHAUSTED = ("out of memory", "can't allocate memory")


class Probe(Protocol):
    """Measures the memory of this process.

    Attributes:
        limit_bytes: what it may use.
    """

    limit_bytes: int

    def begin(self) -> None:
        """Forget earlier peaks."""

    def peak_bytes(self) -> int:
        """The most that was used since."""


class Found(NamedTuple):
    """The largest micro-batch that fits, the same on every process, and the memory of the process that needs most.

    Attributes:
        images: per process and forward pass.
    """

    images: int
    peak_bytes: int
    limit_bytes: int

    def describe(self) -> str:
        used, limit = self.peak_bytes / _GIB, self.limit_bytes / _GIB
        return f"memory: {self.images} images per forward pass fit: measured {used:.2f} of {limit:.2f} GiB per process"


class GpuMemory:
    """What the allocator of a GPU holds, against 90 % of what is free, or of the configured bound."""

    def __init__(self, device: torch.device, runtime: RuntimeSection) -> None:
        self._device = device
        free, total = torch.cuda.mem_get_info(device)
        limits = [free + torch.cuda.memory_reserved(device)]
        if runtime.max_memory_gb is not None:
            limits.append(int(runtime.max_memory_gb * _GIB))
        if runtime.max_memory_share is not None:
            limits.append(int(runtime.max_memory_share * total))
        self.limit_bytes = int(HEADROOM * min(limits))

    def begin(self) -> None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self._device)

    def peak_bytes(self) -> int:
        return torch.cuda.max_memory_reserved(self._device)


class ProcessMemory:
    """What Linux counts as resident, against 90 % of the configured bound."""

    def __init__(self, max_memory_gb: float) -> None:
        self.limit_bytes = int(HEADROOM * max_memory_gb * _GIB)

    def begin(self) -> None:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 5 resets the peak, see proc(5)

    def peak_bytes(self) -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
        return int(found[1]) * 1024 if found else 0


def make_probe(device: torch.device, runtime: RuntimeSection) -> Probe | None:
    """What measures this device; None where there is no bound, as on a CPU whose memory is not limited."""
    if device.type == "cuda":
        return GpuMemory(device, runtime)
    if device.type == "cpu" and runtime.max_memory_gb is not None and sys.platform == "linux":
        return ProcessMemory(runtime.max_memory_gb)
    return None


def find_micro_batch(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: Optimizer,
    crowded: Callable[[int], Batch[Any]],
    *,
    share: int,
    probe: Probe,
    unit: int = 1,
) -> Found:
    """The largest equal part of this process's share of an update that fits. Collective: every process must call it.

    Args:
        model: unwrapped, on its device, trained as in the phase that trains most.
        optimizer: torch's own, before its first update.
        crowded: gives so many of the most crowded images, at the largest size that training uses.
        share: images of each process in an update.
        unit: images that stay together in a forward pass.

    Raises:
        ValueError: not even one image fits.
    """
    assert not optimizer.state, "measure before training begins"
    sizes = [size for size in range(unit, share + 1, unit) if share % size == 0]
    best: Found | None = None
    low, high = 0, len(sizes)
    while low < high:
        # The smallest first: what it needs is what the message is about, where nothing fits.
        middle = (low + high) // 2 if best else 0
        peak = _try(accelerator, model, optimizer, crowded(sizes[middle]), probe)
        fits, peak = _agree(peak, probe.limit_bytes, accelerator.device)
        if fits:
            best, low = Found(sizes[middle], peak, probe.limit_bytes), middle + 1
        else:
            high = middle
    if best is None:
        raise ValueError(
            f"train.max_images_per_forward: auto finds that not even {_images(unit)} per forward pass fits into "
            f"{probe.limit_bytes / _GIB:.2f} GiB per process: lower the size of the images, choose a smaller network, or raise "
            "runtime.max_memory_gb"
        )
    return best


def _images(number: int) -> str:
    return "one image" if number == 1 else f"a group of {number} images"


def _agree(peak: int | None, limit: int, device: torch.device) -> tuple[bool, int]:
    """Whether a trial went well in every process, and the highest peak."""
    failed, highest = largest_over_processes([float(peak is None or peak > limit), float(peak or 0)], device)
    return not failed, int(highest)


def _try(
    accelerator: Accelerator, model: nn.Module, optimizer: Optimizer, batch: Batch[Any], probe: Probe
) -> int | None:
    """The peak of two micro-batches with an update between them, in bytes; None where memory ran out."""
    with _unchanged(model, optimizer):
        probe.begin()
        try:
            on_device = to_device(batch, accelerator.device)
            _forward_and_backward(accelerator, model, on_device)
            optimizer.step()
            _forward_and_backward(accelerator, model, on_device)
        except (MemoryError, RuntimeError) as error:
            if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in _EXHAUSTED):
                raise
            return None
        return probe.peak_bytes()


def _forward_and_backward(accelerator: Accelerator, model: nn.Module, batch: Batch[Any]) -> None:
    with accelerator.autocast():
        losses: Losses = model(batch)
    torch.stack([term.sum for term in losses.values()]).sum().backward()


@contextlib.contextmanager
def _unchanged(model: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """Train mode for trials, after which everything is as it was, bit for bit."""
    kept = [(tensor, tensor.detach().cpu().clone()) for tensor in (*model.parameters(), *model.buffers())]
    modes = [(module, module.training) for module in model.modules()]
    rates = [group["lr"] for group in optimizer.param_groups]
    device = kept[0][0].device
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            module.eval()  # statistics of all processes would be a collective
    for group in optimizer.param_groups:
        group["lr"] = 0.0  # weights far off could stop the second forward pass
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        optimizer.zero_grad()
        optimizer.state.clear()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for tensor, before in kept:
                tensor.copy_(before)
        if device.type == "cuda":
            torch.cuda.empty_cache()
