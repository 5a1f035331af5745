"""Accumulated micro-batches against one large batch, in float64, with the engine's own step on one process."""

from collections.abc import Callable

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import SGD

from accel_det.engine.step import StepResult, train_step
from accel_det.models import zoo
from accel_det.models.layers.batch_norm import convert_batch_norm
from accel_det.types import Batch, BoxTarget, Frame, Losses, LossTerm

SIZE_PX = 64
OBJECTS = (3, 0, 1, 5, 0, 2)
FASTER = "fasterrcnn_mobilenet_v3_large_320_fpn"


def image(number: int) -> tuple[Tensor, BoxTarget, Frame]:
    draw = torch.Generator().manual_seed(number)
    count = OBJECTS[number]
    corners = torch.rand(count, 2, generator=draw) * 30
    boxes = torch.cat((corners, corners + 10 + torch.rand(count, 2, generator=draw) * 20), dim=1)
    labels = torch.randint(0, 2, (count,), generator=draw)
    target = BoxTarget(boxes, labels, torch.zeros(count, dtype=torch.bool), torch.ones(count))
    pixels = torch.randint(0, 256, (3, SIZE_PX, SIZE_PX), generator=draw, dtype=torch.uint8)
    return pixels, target, Frame(number, f"image {number}", SIZE_PX, SIZE_PX, draw_seed=number + 1)


def batch(numbers: range) -> Batch[BoxTarget]:
    pixels, targets, frames = zip(*map(image, numbers), strict=True)
    return Batch(torch.stack(pixels), torch.tensor([[SIZE_PX, SIZE_PX]] * len(numbers)), list(targets), list(frames))


def gradient(
    name: str, sizes: tuple[int, ...], *, first: int = 0, wrap: Callable[[nn.Module], nn.Module] | None = None
) -> tuple[Tensor, StepResult]:
    """Of one update whose micro-batches have the given numbers of images, from image `first` on; norms are frozen."""
    torch.manual_seed(0)
    model = convert_batch_norm(zoo.build(name, num_classes=2).double(), "frozen").train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    starts = [first + sum(sizes[:number]) for number in range(len(sizes))]
    batches = [batch(range(start, start + size)) for start, size in zip(starts, sizes, strict=True)]
    accelerator = Accelerator(cpu=True)
    wrapped, optimizer = accelerator.prepare(model if wrap is None else wrap(model), SGD(trained, lr=0.0))
    result = train_step(accelerator, wrapped, optimizer, batches, seed=0)
    return torch.cat([p.grad.flatten() for p in trained if p.grad is not None]).clone(), result


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("sizes", [(3, 3), (2, 2, 2), (1, 5), (1,) * 6])
def test_micro_batches_of_known_counts_give_the_gradient_and_the_loss_of_one_batch(sizes: tuple[int, ...]) -> None:
    """Also where one of them holds no object at all."""
    expected, whole = gradient("yolov5n", (6,))
    found, parts = gradient("yolov5n", sizes)
    assert relative_error(found, expected) <= 1e-12
    assert parts.losses == pytest.approx(whole.losses, rel=1e-12)
    assert parts.gradient_norm == pytest.approx(float(expected.norm()), rel=1e-12)


def test_micro_batches_of_unknown_counts_give_the_mean_of_their_own_normalised_gradients() -> None:
    """Which regions Faster R-CNN samples, and so the counts, depends on its predictions."""
    model = zoo.build(FASTER, num_classes=2)
    assert model.counts(batch(range(2))) is None
    found, both = gradient(FASTER, (2, 2))
    first, first_result = gradient(FASTER, (2,))
    second, second_result = gradient(FASTER, (2,), first=2)
    assert relative_error(found, (first + second) / 2) <= 1e-12
    for name, value in both.losses.items():
        assert value == pytest.approx((first_result.losses[name] + second_result.losses[name]) / 2, rel=1e-12)


class _WithWatched(nn.Module):
    """A network that also tells what is no part of its loss: 3 of 4 answers are wrong."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def counts(self, batch: Batch[BoxTarget]) -> dict[str, Tensor]:
        return self.model.counts(batch) | {"error": torch.tensor(4.0)}  # type: ignore[operator]

    def forward(self, batch: Batch[BoxTarget]) -> Losses:
        losses: Losses = self.model(batch)
        return losses | {"error": LossTerm(torch.tensor(3.0), torch.tensor(4.0), watched=True)}


@pytest.mark.parametrize("sizes", [(4,), (2, 2)])
def test_what_is_only_watched_is_told_and_changes_neither_loss_nor_gradient(sizes: tuple[int, ...]) -> None:
    expected, plain = gradient("yolov5n", sizes)
    found, watched = gradient("yolov5n", sizes, wrap=_WithWatched)
    assert torch.equal(found, expected)
    assert watched.losses == plain.losses | {"error": 0.75}
