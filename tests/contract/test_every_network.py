"""What every network of the zoo promises."""

from typing import Any

import pytest
import torch
from zoo_cases import case

from accel_det.models import zoo
from accel_det.models.base import Inference, ZooModel
from accel_det.types import Batch, BoxTarget, Frame

NUM_CLASSES = 3
INFERENCE = Inference(score_threshold=0.001, nms_iou=0.6, max_detections=7)
NETWORKS = [name if case(name).quick else pytest.param(name, marks=pytest.mark.slow) for name in zoo.names("detection")]


def batch_of(*num_boxes: int, size_px: int) -> Batch[BoxTarget]:
    """Random pixels and boxes, square images."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (len(num_boxes), 3, size_px, size_px), generator=generator, dtype=torch.uint8)
    targets = []
    for count in num_boxes:
        corner = torch.rand((count, 2), generator=generator) * size_px * 0.6
        side = (0.1 + 0.3 * torch.rand((count, 2), generator=generator)) * size_px
        labels = torch.arange(count) % NUM_CLASSES
        boxes = torch.cat((corner, corner + side), dim=1)
        targets.append(BoxTarget(boxes, labels, torch.zeros_like(labels, dtype=torch.bool), side.prod(dim=1)))
    frames = [Frame(i, f"image {i}", size_px, size_px, draw_seed=1000 + i) for i in range(len(num_boxes))]
    return Batch(images, torch.tensor([[size_px, size_px]] * len(num_boxes)), targets, frames)


@pytest.fixture(scope="module", params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(name: str) -> ZooModel[Any, Any]:
    torch.manual_seed(0)
    return zoo.build(name, num_classes=NUM_CLASSES, options=case(name).options, inference=INFERENCE)


def test_the_quick_networks_cover_every_family() -> None:
    quick = {zoo.card(name).family for name in zoo.names("detection") if case(name).quick}
    assert quick == {zoo.card(name).family for name in zoo.names("detection")}


def test_images_without_objects_give_finite_losses_and_a_gradient_to_every_parameter(
    name: str, network: ZooModel[Any, Any]
) -> None:
    network.train()
    for counts in ((2, 0), (0, 0)):
        network.zero_grad(set_to_none=True)
        losses = network(batch_of(*counts, size_px=case(name).size_px))
        assert losses
        torch.stack([term.sum for term in losses.values()]).sum().backward()
        assert all(term.sum.isfinite() and not term.count.requires_grad for term in losses.values())
        trained = {key: parameter for key, parameter in network.named_parameters() if parameter.requires_grad}
        assert [key for key, parameter in trained.items() if parameter.grad is None] == []
        assert [key for key, p in trained.items() if p.grad is not None and not p.grad.isfinite().all()] == []


def test_counts_that_are_known_beforehand_are_those_of_the_losses(name: str, network: ZooModel[Any, Any]) -> None:
    network.train()
    for numbers in ((3, 1), (0, 0)):
        batch = batch_of(*numbers, size_px=case(name).size_px)
        known = network.counts(batch)
        with torch.no_grad():
            found = network.losses(batch)
        if known is not None:
            assert {key: count.item() for key, count in known.items()} == {
                key: term.count.item() for key, term in found.items()
            }


def test_predictions_are_sorted_inside_the_image_few_and_independent_of_targets(
    name: str, network: ZooModel[Any, Any]
) -> None:
    size_px = case(name).size_px
    batch = batch_of(3, 0, size_px=size_px)
    network.eval()
    with torch.no_grad():
        found = network(batch)
        again = network(batch._replace(targets=[BoxTarget.empty()] * 2))
    assert len(found) == 2
    for one, same in zip(found, again, strict=True):
        assert all(torch.equal(first, second) for first, second in zip(one, same, strict=True))
        assert len(one.boxes) == len(one.scores) == len(one.labels) <= INFERENCE.max_detections
        assert (one.scores.diff() <= 0).all()
        assert ((one.scores >= INFERENCE.score_threshold) & (one.scores <= 1)).all()
        assert ((one.labels >= 0) & (one.labels < NUM_CLASSES)).all()
        assert one.labels.dtype == torch.int64
        assert ((one.boxes >= 0) & (one.boxes <= size_px)).all()
        assert one.boxes.dtype == one.scores.dtype == torch.float32


def test_losses_and_boxes_are_float32_and_finite_under_bfloat16_autocast(
    name: str, network: ZooModel[Any, Any]
) -> None:
    batch = batch_of(3, 0, size_px=case(name).size_px)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = network.train()(batch)
        with torch.no_grad():
            found = network.eval()(batch)
    assert all(term.sum.dtype == torch.float32 and term.sum.isfinite() for term in losses.values())
    assert all(one.boxes.dtype == torch.float32 and one.boxes.isfinite().all() for one in found)


def test_a_network_built_again_from_its_state_predicts_the_same(name: str, network: ZooModel[Any, Any]) -> None:
    torch.manual_seed(9)
    other = zoo.build(name, num_classes=NUM_CLASSES, options=case(name).options, inference=INFERENCE)
    other.load_state_dict(network.state_dict())
    batch = batch_of(1, 0, size_px=case(name).size_px)
    with torch.no_grad():
        first, second = network.eval()(batch), other.eval()(batch)
    for one, same in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))


def test_the_gradient_of_one_image_through_live_batch_norm_is_that_of_plain_arithmetic(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU, torch's own is wrong where the layouts of map and gradient differ: see tests/canary."""
    with monkeypatch.context() as patched:
        expected = _gradient_of_one_image(name)
        patched.setattr(torch.nn.functional, "batch_norm", _plain_batch_norm)
        plain = _gradient_of_one_image(name)
    assert float((expected - plain).norm()) <= 1e-8 * float(plain.norm())


def _gradient_of_one_image(name: str) -> torch.Tensor:
    torch.manual_seed(0)
    network = zoo.build(name, num_classes=NUM_CLASSES, options=case(name).options).double().train()
    torch.manual_seed(1)
    try:
        losses = network(batch_of(3, size_px=case(name).size_px))
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        pytest.skip("its smallest map has one pixel, of which there is no variance")
    torch.stack([term.sum / term.count.clamp(min=1) for term in losses.values()]).sum().backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


def _plain_batch_norm(
    x: torch.Tensor,
    mean: torch.Tensor,
    variance: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> torch.Tensor:
    if training:
        mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0)
    scale = weight / (variance + eps).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + bias[:, None, None]
