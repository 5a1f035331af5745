"""A compiled network computes what the plain one does: the smallest of the zoo, because larger ones take minutes to compile."""

import shutil
import warnings

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


def answers(*, compiled: bool) -> tuple[torch.Tensor, torch.Tensor, list[Detections], int]:
    """The loss, its gradient, and the detections after it; and how many parts were compiled."""
    torch.manual_seed(0)
    model = zoo.build("yolov3_tiny", num_classes=3, options={"width": 0.125}).train()
    config = Config.model_validate(
        {
            "name": "a",
            "task": "detection",
            "model": {"name": "yolov3_tiny", "compile": compiled},
            "data": {"sets": {"s": {"format": "street"}}, "train": "s:train", "val": "s:val"},
            "train": {"steps": 1},
        }
    )
    compose.compile_network(model, config)
    losses = model(batch())
    loss = torch.stack([term.sum / term.count.clamp(min=1) for term in losses.values()]).sum()
    loss.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    with torch.no_grad():
        found = model.eval()(batch())
    parts = sum(module._compiled_call_impl is not None for module in model.modules())
    return loss.detach(), gradient, found, parts


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS)), reason=f"torch.compile needs a C++ compiler: none of {COMPILERS}"
)
def test_a_compiled_network_has_the_loss_gradient_and_detections_of_the_plain_one() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (loss, gradient, found, parts), plain = answers(compiled=True), answers(compiled=False)
    assert parts >= 1 and plain[3] == 0
    assert loss.item() == pytest.approx(plain[0].item(), rel=1e-5)
    assert float((gradient - plain[1]).norm() / plain[1].norm()) <= 1e-4
    for one, other in zip(found, plain[2], strict=True):
        assert len(one.scores) == len(other.scores) > 10
        torch.testing.assert_close(one.scores, other.scores, rtol=1e-3, atol=1e-5)
        assert (one.labels == other.labels).float().mean() > 0.9
        torch.testing.assert_close(one.boxes.sum(dim=0), other.boxes.sum(dim=0), rtol=1e-2, atol=1e-2)
