"""A network whose weights are laid out otherwise, or that is compiled, computes what the plain one does.

The smallest of the zoo, because larger ones take minutes to compile.
"""

import shutil
import warnings
from typing import NamedTuple

import pytest
import torch

from accel_det.cli import compose
from accel_det.config.schema import Config
from accel_det.models import zoo
from accel_det.types import Batch, BoxTarget, Detections, Frame

COMPILERS = ("c++", "g++", "clang++")
SIZE_PX = 64


def batch() -> Batch[BoxTarget]:
    draw = torch.Generator().manual_seed(0)
    target = BoxTarget(
        torch.tensor([[4.0, 6.0, 40.0, 50.0], [30.0, 10.0, 60.0, 40.0]]),
        torch.tensor([0, 2]),
        torch.zeros(2, dtype=torch.bool),
        torch.ones(2),
    )
    images = torch.randint(0, 256, (2, 3, SIZE_PX, SIZE_PX), dtype=torch.uint8, generator=draw)
    frames = [Frame(index, f"image {index}", SIZE_PX, SIZE_PX) for index in range(2)]
    return Batch(images, torch.tensor([[SIZE_PX, SIZE_PX]] * 2), [target, BoxTarget.empty()], frames)


class Answers(NamedTuple):
    """Of a network after `arrange_network`: the detections are those after the loss; then how it was arranged."""

    loss: torch.Tensor
    gradient: torch.Tensor
    found: list[Detections]
    compiled: int
    channels_last: int


def answers(**arrangement: bool) -> Answers:
    torch.manual_seed(0)
    model = zoo.build("yolov3_tiny", num_classes=3, options={"width": 0.125}).train()
    config = Config.model_validate(
        {
            "name": "a",
            "task": "detection",
            "model": {"name": "yolov3_tiny", **arrangement},
            "data": {"sets": {"s": {"format": "street"}}, "train": "s:train", "val": "s:val"},
            "train": {"steps": 1},
        }
    )
    compose.arrange_network(model, config)
    losses = model(batch())
    loss = torch.stack([term.sum / term.count.clamp(min=1) for term in losses.values()]).sum()
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    with torch.no_grad():
        found = model.eval()(batch())
    compiled = sum(module._compiled_call_impl is not None for module in model.modules())
    wide = [p for p in model.parameters() if p.ndim == 4 and min(p.shape[1:3]) > 1]
    laid_out = sum(not p.is_contiguous() and p.is_contiguous(memory_format=torch.channels_last) for p in wide)
    return Answers(loss.detach(), gradient, found, compiled, laid_out)


def check_same(found: Answers, plain: Answers) -> None:
    assert found.loss.item() == pytest.approx(plain.loss.item(), rel=1e-5)
    assert float((found.gradient - plain.gradient).norm() / plain.gradient.norm()) <= 1e-4
    for one, other in zip(found.found, plain.found, strict=True):
        assert len(one.scores) == len(other.scores) > 10
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-3, atol=1e-5)
        assert (one.labels == other.labels).float().mean() > 0.9
        torch.testing.assert_close(one.boxes.sum(dim=0), other.boxes.sum(dim=0), rtol=1e-2, atol=1e-2)


def test_weights_with_their_channels_last_give_what_the_plain_ones_give() -> None:
    plain, found = answers(), answers(channels_last=True)
    assert found.channels_last > 5 and plain.channels_last == 0
    check_same(found, plain)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason=f"torch.compile needs a C++ compiler: none of {COMPILERS}"
)
def test_a_compiled_network_gives_what_the_plain_one_gives() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain, found = answers(), answers(compile=True)
    assert found.compiled >= 1 and plain.compiled == 0
    check_same(found, plain)
