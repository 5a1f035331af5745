"""The gradient that the engine's own training step computes, on any number of processes and micro-batches."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import SGD
from zoo_cases import case

from accel_det.config.schema import RuntimeSection
from accel_det.engine.runtime import Accelerator, make_accelerator
from accel_det.engine.step import settle_buckets, train_step
from accel_det.models import zoo
from accel_det.models.base import ZooModel
from accel_det.models.layers.batch_norm import convert_batch_norm
from accel_det.models.zoo import OptionValue
from accel_det.types import Batch, BoxTarget, Frame, IdentityTarget

NUM_CLASSES = 3


class Work(NamedTuple):
    """One gradient to compute.

    Attributes:
        objects: of each image of the update: the number of its objects, or the identity that it shows.
        shares: images of each process, each divided into micro-batches: [[2, 2]] is one process that accumulates twice,
            [[1], [3]] two processes.
        batch_norm: "frozen", "synchronized", or "joint" for torch's own.
        options: of the network, beside those of its case.
    """

    model: str
    size_px: int
    objects: tuple[int, ...]
    shares: tuple[tuple[int, ...], ...]
    batch_norm: str = "frozen"
    options: Mapping[str, OptionValue] = {}


class Comparison(NamedTuple):
    """The gradient that one process has after the engine's step, against plain autograd over all images.

    Attributes:
        error: L2 norm of the difference, relative to that of the reference.
        without: names of trained parameters that got no gradient.
        digest: sha256 of the gradient.
        values: the loss terms that the step reports; reference_values: as plain arithmetic has them.
        all_reduces: calls of `torch.distributed.all_reduce` during the step.
    """

    error: float
    without: list[str]
    digest: str
    values: dict[str, float]
    reference_values: dict[str, float]
    all_reduces: int


def make_batch(numbers: Sequence[int], work: Work) -> Batch[Any]:
    """The images with these numbers; what an image looks like and how random draws about it fall follows from its number."""
    objects, size_px = work.objects, work.size_px
    of_boxes = zoo.card(work.model).task == "detection"
    images, frames = [], []
    targets: list[BoxTarget | IdentityTarget] = []
    for number in numbers:
        draw = torch.Generator().manual_seed(1000 + number)
        images.append(torch.randint(0, 256, (3, size_px, size_px), generator=draw, dtype=torch.uint8))
        frames.append(Frame(number, f"image {number}", size_px, size_px, draw_seed=7919 * number + 1))
        if not of_boxes:
            targets.append(IdentityTarget(objects[number], camera=number % 2))
            continue
        corners = torch.rand(objects[number], 2, generator=draw) * 0.5 * size_px
        sides = (0.15 + 0.3 * torch.rand(objects[number], 2, generator=draw)) * size_px
        boxes = torch.cat((corners, corners + sides), dim=1)
        labels = torch.randint(0, NUM_CLASSES, (objects[number],), generator=draw)
        targets.append(BoxTarget(boxes, labels, torch.zeros_like(labels, dtype=torch.bool), sides.prod(dim=1)))
    sizes = torch.tensor([[size_px, size_px]] * len(images), dtype=torch.int64)
    return Batch(torch.stack(images), sizes, targets, frames)


def make_model(work: Work) -> ZooModel[Any, Any]:
    torch.manual_seed(3)
    model = zoo.build(
        work.model, num_classes=NUM_CLASSES, options={**case(work.model).options, **work.options}
    ).double()
    _spread_statistics(model)
    if work.batch_norm in ("frozen", "synchronized"):
        convert_batch_norm(model, work.batch_norm)  # type: ignore[arg-type]
    return model.train()


def compare(works: Sequence[Work]) -> list[Comparison]:
    """Called in every process; each work must have one share per process."""
    accelerator = make_accelerator(RuntimeSection(threads=1), deterministic=False, trackers=[], folder=".")
    return [_compare(accelerator, work) for work in works]


def _compare(accelerator: Accelerator, work: Work) -> Comparison:
    expected, reference_values = reference(work)
    model = make_model(work)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    optimizer = SGD(trained.values(), lr=0.0)
    wrapped, prepared = accelerator.prepare(model, optimizer)
    batches = my_batches(work, accelerator.process_index)
    settle_buckets(accelerator, wrapped, optimizer, batches[0])
    with _CountedAllReduce() as counted:
        result = train_step(accelerator, wrapped, prepared, batches, seed=1)
    gradient = _flat(trained)
    difference, scale = float((gradient - expected).norm()), float(expected.norm())
    error = difference / scale if scale else difference
    without = [name for name, parameter in trained.items() if parameter.grad is None]
    digest = hashlib.sha256(gradient.numpy().tobytes()).hexdigest()
    accelerator.free_memory()
    return Comparison(error, without, digest, result.losses, reference_values, counted.calls)


def reference(work: Work) -> tuple[Tensor, dict[str, float]]:
    """Plain autograd over the images of all processes: the gradient, and the terms of the loss.

    Micro-batch j holds those of every process. Where counts are known beforehand, the loss is the sum over all
    micro-batches divided by the count of all; else the mean of the micro-batches' losses.
    """
    model = make_model(work._replace(batch_norm="joint" if work.batch_norm == "synchronized" else work.batch_norm))
    parts = [[my_batches(work, rank)[j] for rank in range(len(work.shares))] for j in range(len(work.shares[0]))]
    whole = [_joined(part) for part in parts]
    known = [model.counts(batch) for batch in whole]
    terms: list[dict[str, Tensor]] = []
    for batch, counts in zip(whole, known, strict=True):
        losses = model.losses(batch)
        if counts is None or len(whole) == 1:
            divisors = {name: term.count * len(whole) for name, term in losses.items()}
        else:
            divisors = {name: torch.stack([c[name] for c in known if c is not None]).sum() for name in losses}
        # What nothing counted for is 0.
        terms.append({name: t.sum / divisors[name] if divisors[name] > 0 else t.sum * 0 for name, t in losses.items()})
    values = {name: sum(part[name].item() for part in terms) for name in losses}
    watched = {name for name, term in losses.items() if term.watched}
    total = torch.stack([value for part in terms for name, value in part.items() if name not in watched]).sum()
    total.backward()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    return _flat(trained), values | {"total": total.item()}


def _flat(parameters: Mapping[str, Tensor]) -> Tensor:
    """Gradients one after the other, 0 where there is none."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters.values()])


def _joined(batches: Sequence[Batch[Any]]) -> Batch[Any]:
    return Batch(
        torch.cat([batch.images for batch in batches]),
        torch.cat([batch.sizes for batch in batches]),
        [target for batch in batches for target in batch.targets],
        [frame for batch in batches for frame in batch.frames],
    )


def my_batches(work: Work, rank: int) -> list[Batch[Any]]:
    first = sum(sum(share) for share in work.shares[:rank])
    batches = []
    for count in work.shares[rank]:
        batches.append(make_batch(range(first, first + count), work))
        first += count
    return batches


class _CountedAllReduce:
    """Counts the all-reduces that Python asks for; those of DistributedDataParallel's buckets do not pass here."""

    def __enter__(self) -> Self:
        self.calls = 0
        self._original = dist.all_reduce

        def counted(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            return self._original(*arguments, **options)

        dist.all_reduce = counted
        return self

    def __exit__(self, *_: object) -> None:
        dist.all_reduce = self._original


def _spread_statistics(model: torch.nn.Module) -> None:
    """Statistics as training leaves them: a frozen norm with mean 0 and variance 1 would hide that they are used."""
    draw = torch.Generator().manual_seed(4)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.add_(0.1 * torch.randn(module.num_features, generator=draw, dtype=torch.float64))
            module.running_var.mul_(0.5 + torch.rand(module.num_features, generator=draw, dtype=torch.float64))
