"""The gradient that the engine's own training step computes, on any number of processes and micro-batches."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import SGD

from accel_det.config.schema import RuntimeSection
from accel_det.engine.runtime import make_accelerator
from accel_det.engine.step import StepResult, settle_buckets, train_step
from accel_det.models import zoo
from accel_det.models.base import ZooModel
from accel_det.models.layers.batch_norm import convert_batch_norm
from accel_det.types import Batch, BoxTarget, Frame

NUM_CLASSES = 3


class Work(NamedTuple):
    """One gradient to compute.

    Attributes:
        objects: number of objects of each image of the update.
        shares: images of each process, each divided into micro-batches: [[2, 2]] is one process that accumulates twice,
            [[1], [3]] two processes.
        batch_norm: "frozen" or "synchronized".
    """

    model: str
    size_px: int
    objects: tuple[int, ...]
    shares: tuple[tuple[int, ...], ...]
    batch_norm: str = "frozen"


class Gradient(NamedTuple):
    """What one process found.

    Attributes:
        flat: all gradients, one after the other, float64.
        without: names of trained parameters that got no gradient.
        all_reduces: calls of `torch.distributed.all_reduce` during the step.
    """

    flat: Tensor
    without: list[str]
    result: StepResult
    all_reduces: int


def make_batch(numbers: Sequence[int], *, objects: Sequence[int], size_px: int) -> Batch[BoxTarget]:
    """The images with these numbers; what an image looks like and how random draws about it fall follows from its number."""
    images, targets, frames = [], [], []
    for number in numbers:
        draw = torch.Generator().manual_seed(1000 + number)
        images.append(torch.randint(0, 256, (3, size_px, size_px), generator=draw, dtype=torch.uint8))
        corners = torch.rand(objects[number], 2, generator=draw) * 0.5 * size_px
        sides = (0.15 + 0.3 * torch.rand(objects[number], 2, generator=draw)) * size_px
        boxes = torch.cat((corners, corners + sides), dim=1)
        labels = torch.randint(0, NUM_CLASSES, (objects[number],), generator=draw)
        targets.append(BoxTarget(boxes, labels, torch.zeros_like(labels, dtype=torch.bool), sides.prod(dim=1)))
        frames.append(Frame(number, f"image {number}", size_px, size_px, draw_seed=7919 * number + 1))
    sizes = torch.tensor([[size_px, size_px]] * len(images), dtype=torch.int64)
    return Batch(torch.stack(images), sizes, targets, frames)


def make_model(work: Work) -> ZooModel[Any, Any]:
    torch.manual_seed(3)
    model = zoo.build(work.model, num_classes=NUM_CLASSES).double()
    _spread_statistics(model)
    convert_batch_norm(model, "frozen" if work.batch_norm == "frozen" else "synchronized")
    return model.train()


def compute(works: Sequence[Work]) -> list[Gradient]:
    """Called in every process; each work must have one share per process."""
    accelerator = make_accelerator(RuntimeSection(threads=1), deterministic=False, trackers=[], folder=".")
    return [_one(accelerator, work) for work in works]


def _one(accelerator: Any, work: Work) -> Gradient:
    model = make_model(work)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = SGD(trained, lr=0.0)
    wrapped, prepared = accelerator.prepare(model, optimizer)
    batches = my_batches(work, accelerator.process_index)
    settle_buckets(accelerator, wrapped, optimizer, batches[0])
    counted = _CountedAllReduce()
    with counted:
        result = train_step(accelerator, wrapped, prepared, batches, seed=1)
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    flat = torch.cat([g.double().flatten() for g in gradients.values() if g is not None]).clone()
    without = [name for name, gradient in gradients.items() if gradient is None]
    accelerator.free_memory()
    return Gradient(flat, without, result, counted.calls)


def my_batches(work: Work, rank: int) -> list[Batch[BoxTarget]]:
    first = sum(sum(share) for share in work.shares[:rank])
    batches = []
    for count in work.shares[rank]:
        batches.append(make_batch(range(first, first + count), objects=work.objects, size_px=work.size_px))
        first += count
    return batches


class _CountedAllReduce:
    """Counts the all-reduces that Python asks for; those of DistributedDataParallel's buckets do not pass here."""

    calls = 0

    def __enter__(self) -> None:
        self._original = dist.all_reduce

        def counted(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            return self._original(*arguments, **options)

        dist.all_reduce = counted

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


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
