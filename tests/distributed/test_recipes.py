"""The training recipes on real processes: the multiplied loss, wrapping for another phase, one micro-batch for all."""

import gc
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from gradients import Work, make_model, my_batches, reference
from harness import run_world
from torch.nn.parallel import DistributedDataParallel
from torch.optim import SGD

from accel_det.config.schema import PhaseSection, RuntimeSection
from accel_det.engine.memory import find_micro_batch
from accel_det.engine.phases import Phases, set_train_mode, undo_wrapping
from accel_det.engine.runtime import make_accelerator
from accel_det.engine.step import settle_buckets, train_step

OBJECTS = (3, 0, 1, 4)
SHARES = {1: ((4,),), 2: ((2,), (2,)), 4: ((1,), (1,), (1,), (1,))}


def multiplied_gradient(work: Work, factor: float) -> tuple[float, float, float]:
    """Relative error against the multiplied reference gradient; the reported loss and that of the reference."""
    accelerator = make_accelerator(RuntimeSection(threads=1), deterministic=False, trackers=[], folder=".")
    expected, values = reference(work)
    model = make_model(work)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    wrapped, prepared = accelerator.prepare(model, SGD(trained, lr=0.0))
    batches = my_batches(work, accelerator.process_index)
    result = train_step(accelerator, wrapped, prepared, batches, seed=0, loss_factor=factor)
    gradient = torch.cat([parameter.grad.flatten() for parameter in trained if parameter.grad is not None])
    error = float((gradient - factor * expected).norm() / (factor * expected).norm())
    return error, result.losses["total"], values["total"]


@pytest.mark.parametrize("world", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4))])
def test_the_gradient_is_that_of_the_loss_times_all_images_on_any_number_of_processes(
    tmp_path: Path, world: int
) -> None:
    """YOLOv5's rule: the loss, not the rate, grows with the images of an update; 4 of them here."""
    work = Work("yolov5n", 64, OBJECTS, SHARES[world])
    for error, total, expected in run_world(multiplied_gradient, world, work, 4.0, folder=tmp_path):
        assert error <= 1e-12
        assert total == pytest.approx(expected, rel=1e-12)


class Wrapping(NamedTuple):
    """What a process saw in one phase.

    Attributes:
        error: of the gradient of what is trained, against plain autograd over the images of both processes.
        with_gradient: parts of the network with a gradient.
        wrappings: DistributedDataParallel objects that are alive.
        autocasts: how often the forward pass is wrapped for mixed precision.
    """

    error: float
    with_gradient: set[str]
    wrappings: int
    autocasts: int


def pass_through_phases(work: Work, precision: str | None) -> list[Wrapping]:
    accelerator = make_accelerator(
        RuntimeSection(threads=1, precision=precision),  # type: ignore[arg-type]
        deterministic=False,
        trackers=[],
        folder=".",
    )
    expected = dict(zip(trained_names(work), reference_parts(work), strict=True))
    model = make_model(work)
    optimizer = SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.0)
    sections = [PhaseSection(until=share, freeze=freeze) for share, freeze in FREEZES]
    phases = Phases(sections, total_steps=10, model=model)
    batches = my_batches(work, accelerator.process_index)
    found: list[Wrapping] = []
    alive: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
    wrapped: Any = None
    for number in range(4):
        if wrapped is not None:
            wrapped = prepared = None
            undo_wrapping(accelerator, model, optimizer)
        phases.freeze_for(number)
        wrapped, prepared = accelerator.prepare(model, optimizer)
        alive.add(wrapped)
        set_train_mode(wrapped)
        settle_buckets(accelerator, wrapped, optimizer, batches[0])
        train_step(accelerator, wrapped, prepared, batches, seed=1)
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        difference = sum(float((gradient - expected[name]).square().sum()) for name, gradient in gradients.items())
        scale = sum(float(expected[name].square().sum()) for name in gradients)
        gc.collect()
        found.append(
            Wrapping(
                (difference / scale) ** 0.5,
                {name.split(".")[1] for name in gradients},
                sum(isinstance(module, DistributedDataParallel) for module in alive),
                count_wrappers(model.forward),
            )
        )
    return found


FREEZES = [
    (0.2, ["network.backbone.*", "network.neck.*"]),
    (0.4, ["network.heads.*"]),
    (0.6, ["network.backbone.*"]),
]


def trained_names(work: Work) -> list[str]:
    return [name for name, parameter in make_model(work).named_parameters() if parameter.requires_grad]


def reference_parts(work: Work) -> list[torch.Tensor]:
    model = make_model(work)
    shapes = [parameter.shape for parameter in model.parameters() if parameter.requires_grad]
    flat, _ = reference(work)
    return [part.view(shape) for part, shape in zip(flat.split([s.numel() for s in shapes]), shapes, strict=True)]


def count_wrappers(forward: Any) -> int:
    wrappers = 0
    while hasattr(forward, "__wrapped__"):
        forward, wrappers = forward.__wrapped__, wrappers + 1
    return wrappers


@pytest.mark.parametrize("world", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_each_phase_has_the_gradient_of_plain_autograd_and_leaves_nothing_of_the_wrapping_before(
    tmp_path: Path, world: int
) -> None:
    work = Work("yolov5n", 64, OBJECTS, SHARES[world])
    for process in run_world(pass_through_phases, world, work, None, folder=tmp_path):
        parts = [{"heads"}, {"backbone", "neck"}, {"neck", "heads"}, {"backbone", "neck", "heads"}]
        assert [phase.with_gradient for phase in process] == parts
        assert max(phase.error for phase in process) <= 1e-12
        assert [phase.wrappings for phase in process] == [world - 1] * 4


@pytest.mark.parametrize("world", [2, pytest.param(1, marks=pytest.mark.slow)])
def test_mixed_precision_is_wrapped_around_the_forward_pass_as_often_in_every_phase(tmp_path: Path, world: int) -> None:
    work = Work("yolov5n", 64, OBJECTS, SHARES[world])
    for process in run_world(pass_through_phases, world, work, "bf16", folder=tmp_path):
        counts = [phase.autocasts for phase in process]
        assert counts[0] >= 1
        assert counts == counts[:1] * 4


class Images:
    """A memory that differs between processes: so many images fit."""

    def __init__(self, most: int) -> None:
        self.limit_bytes = most
        self.current = 0

    def begin(self) -> None:
        self.current = 0

    def peak_bytes(self) -> int:
        return self.current


def agreed_micro_batch(most: tuple[int, ...]) -> tuple[int, int]:
    """The micro-batch, and how many passes this process made."""
    accelerator = make_accelerator(RuntimeSection(threads=1), deterministic=False, trackers=[], folder=".")
    work = Work("yolov5n", 64, (2,) * 12, ((12,),), "synchronized")
    model = make_model(work)
    optimizer = SGD(model.parameters(), lr=0.1)
    memory = Images(most[accelerator.process_index])
    passes = 0

    def crowded(count: int) -> Any:
        nonlocal passes
        passes += 1
        memory.current = count
        return my_batches(work._replace(shares=((count,),)), 0)[0]

    memory.begin = lambda: None  # type: ignore[method-assign]
    found = find_micro_batch(accelerator, model, optimizer, crowded, share=12, probe=memory)
    return found.images, passes


def test_processes_of_unlike_memory_agree_on_the_micro_batch_of_the_smallest(tmp_path: Path) -> None:
    """Batch norms of all processes would wait for each other in a trial; divisors of 12 within 5 end with 4."""
    found = run_world(agreed_micro_batch, 2, (100, 5), folder=tmp_path)
    assert [images for images, _ in found] == [4, 4]
    assert found[0][1] == found[1][1]
