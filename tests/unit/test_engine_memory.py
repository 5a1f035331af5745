"""The largest micro-batch: the search with a memory that the test makes up, and what a trial leaves behind."""

import mmap
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from accel_det.config.schema import OptimizerSection, RuntimeSection
from accel_det.engine.memory import HEADROOM, Found, ProcessMemory, find_micro_batch, make_probe
from accel_det.engine.optimize import make_optimizer
from accel_det.engine.runtime import _bound_memory
from accel_det.types import Batch, BoxTarget, Frame, LossTerm


class Network(nn.Module):
    """Counts passes, and fails like an allocator above so many images."""

    def __init__(self, *, exhausted_from: int = 10**9, message: str = "CUDA out of memory") -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.5)
        self.frozen = nn.Linear(1, 1).requires_grad_(False)
        self.passes: list[int] = []
        self._exhausted_from = exhausted_from
        self._message = message

    def forward(self, batch: Batch[BoxTarget]) -> dict[str, LossTerm]:
        assert self.training and not self.norm.training
        self.passes.append(len(batch.images))
        values = self.dropout(self.norm(self.convolution(batch.images.float())))
        if len(batch.images) >= self._exhausted_from:
            raise RuntimeError(self._message)
        return {"box": LossTerm(values.square().sum(), torch.tensor(1.0))}


class Memory:
    """So many bytes for each image of the largest batch since `begin`."""

    def __init__(self, network: Network, *, limit_bytes: int, per_image: int = 10, fixed: int = 5) -> None:
        self.limit_bytes = limit_bytes
        self._network = network
        self._per_image, self._fixed = per_image, fixed

    def begin(self) -> None:
        self._network.passes.append(0)

    def peak_bytes(self) -> int:
        return self._fixed + self._per_image * self._network.passes[-1]


def crowded(count: int) -> Batch[BoxTarget]:
    images = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    frames = [Frame(number, f"image {number}", 8, 8) for number in range(count)]
    return Batch(images, torch.full((count, 2), 8), [BoxTarget.empty()] * count, frames)


def search(network: Network, *, share: int, limit_bytes: int, settings: dict[str, Any] | None = None) -> Found:
    optimizer = make_optimizer(network, OptimizerSection.model_validate(settings or {}))
    memory = Memory(network, limit_bytes=limit_bytes)
    return find_micro_batch(Accelerator(cpu=True), network, optimizer, crowded, share=share, probe=memory)


@pytest.mark.parametrize("share", [1, 2, 7, 12, 16])
def test_the_largest_equal_part_of_the_share_within_the_bound_is_found(share: int) -> None:
    """Against trying every divisor; an image takes 10 bytes beside 5 for all."""
    divisors = [size for size in range(1, share + 1) if share % size == 0]
    for bound in (1, 2, 3, 5, 6, 15, 16, 100):
        network = Network()
        found = search(network, share=share, limit_bytes=5 + 10 * bound)
        expected = max(size for size in divisors if size <= bound)
        assert found == Found(expected, 5 + 10 * expected, 5 + 10 * bound)
        assert max(network.passes.count(size) for size in divisors) == 2, (
            "two micro-batches, with an update between them"
        )
        assert network.passes[:3] == [0, 1, 1]


@pytest.mark.parametrize(
    "message", ["CUDA out of memory. Tried to allocate", "DefaultCPUAllocator: can't allocate memory"]
)
def test_an_allocation_that_fails_counts_as_too_much(message: str) -> None:
    found = search(Network(exhausted_from=5, message=message), share=12, limit_bytes=10**6)
    assert found.images == 4


def test_another_error_of_the_network_is_not_taken_for_a_lack_of_memory() -> None:
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        search(Network(exhausted_from=3, message="shapes do not fit"), share=4, limit_bytes=10**6)


def test_a_bound_that_not_even_one_image_keeps_is_refused_with_what_to_do() -> None:
    with pytest.raises(
        ValueError,
        match=r"train.max_images_per_forward: auto finds that not even one image.*lower the size of the images",
    ):
        search(Network(), share=8, limit_bytes=14)


@pytest.mark.parametrize("settings", [{"name": "sgd", "lr": 0.1}, {"name": "adamw", "lr": 0.1, "weight_decay": 0.1}])
@pytest.mark.parametrize("exhausted_from", [4, 10**9])
def test_trials_leave_weights_buffers_optimizer_modes_and_random_state_as_they_were(
    settings: dict[str, Any], exhausted_from: int
) -> None:
    network = Network(exhausted_from=exhausted_from).eval()
    network.dropout.train()
    optimizer = make_optimizer(network, OptimizerSection.model_validate(settings))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    torch.manual_seed(5)
    state = torch.get_rng_state()
    memory = Memory(network, limit_bytes=10**6)
    found = find_micro_batch(Accelerator(cpu=True), network, optimizer, crowded, share=8, probe=memory)
    assert found.images == (2 if exhausted_from == 4 else 8)
    after: dict[str, Tensor] = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert dict(optimizer.state) == {}
    assert all(group["lr"] == 0.1 for group in optimizer.param_groups)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_trial_holds_the_optimizers_state_while_the_second_pass_runs() -> None:
    network = Network()
    optimizer = make_optimizer(network, OptimizerSection(name="adamw"))
    held: list[int] = []
    original: Callable[..., Any] = network.forward

    def watched(batch: Batch[BoxTarget]) -> Any:
        held.append(len(optimizer.state))
        return original(batch)

    network.forward = watched  # type: ignore[method-assign]
    memory = Memory(network, limit_bytes=10**6)
    find_micro_batch(Accelerator(cpu=True), network, optimizer, crowded, share=1, probe=memory)
    assert held == [0, 4], "weights and biases of the convolution and of the norm"


def test_a_cpu_is_measured_only_where_its_memory_is_bounded() -> None:
    cpu = torch.device("cpu")
    assert make_probe(cpu, RuntimeSection()) is None
    probe = make_probe(cpu, RuntimeSection(max_memory_gb=2.0))
    assert isinstance(probe, ProcessMemory)
    assert probe.limit_bytes == int(HEADROOM * 2 * 2**30)


_PEAKS = """
from accel_det.engine.memory import ProcessMemory
import torch
probe = ProcessMemory(2.0)
probe.begin()
before = probe.peak_bytes()
ballast = torch.ones(64 * 2**20, dtype=torch.uint8)
del ballast
print(probe.peak_bytes() - before)
probe.begin()
print(probe.peak_bytes() - before)
"""


def test_the_peak_of_a_process_is_measured_and_forgotten() -> None:
    """In a process of its own: in this one, what earlier tests left may be freed in between."""
    done = subprocess.run([sys.executable, "-c", _PEAKS], capture_output=True, text=True, check=True)
    peak, forgotten = map(int, done.stdout.split())
    assert 60 * 2**20 <= peak <= 80 * 2**20
    assert forgotten < 20 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of the data segment is Linux's")
def test_the_limit_of_a_cpu_counts_what_is_used_and_not_what_is_only_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: asked.append(limits[0]))
    claimed = mmap.mmap(-1, 512 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("Vm")}
    _bound_memory(RuntimeSection(max_memory_gb=2.0), torch.device("cpu"))
    claimed.close()
    assert sizes["VmData"] - sizes["VmRSS"] > 400 * 2**20, "the test claims 512 MiB and uses none of it"
    assert abs(asked[0] - (sizes["VmData"] + 2 * 2**30 - sizes["VmRSS"])) < 20 * 2**20
