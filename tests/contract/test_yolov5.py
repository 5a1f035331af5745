"""What every detector of the zoo promises, asked of YOLOv5."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

from accel_det import boxes as box_ops
from accel_det.models.base import Inference
from accel_det.models.yolov5.model import YoloV5, YoloV5Options, build
from accel_det.types import Batch, BoxTarget, Detections, Frame, Losses

Box = tuple[float, float, float, float]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model(num_classes: int = 3, *, options: YoloV5Options | None = None, inference: Inference | None = None) -> YoloV5:
    torch.manual_seed(0)
    return build(
        "yolov5n",
        num_classes=num_classes,
        inference=inference or Inference(),
        options=options or YoloV5Options(),
    )


def target(boxes: list[Box], labels: list[int]) -> BoxTarget:
    n = len(boxes)
    return BoxTarget(
        torch.tensor(boxes).view(n, 4), torch.tensor(labels, dtype=torch.int64), torch.zeros(n).bool(), torch.ones(n)
    )


def batch(targets: list[BoxTarget], *, height: int = 64, width: int = 96) -> Batch[BoxTarget]:
    n = len(targets)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator)
    frames = [Frame(i, f"image {i}", height, width) for i in range(n)]
    return Batch(images, torch.tensor([[height, width]] * n), targets, frames)


def usual_targets() -> list[BoxTarget]:
    return [target([(4, 5, 40, 50), (30, 10, 60, 60)], [0, 2]), target([], []), target([(50, 8, 70, 40)], [1])]


def total(losses: Losses) -> Tensor:
    return torch.stack([term.sum / term.count.clamp(min=1) for term in losses.values()]).sum()


def train_losses(network: YoloV5, one: Batch[BoxTarget]) -> Losses:
    losses = network.train()(one)
    assert isinstance(losses, dict)
    return losses


def detections(network: YoloV5, one: Batch[BoxTarget]) -> list[Detections]:
    with torch.no_grad():
        answer = network.eval()(one)
    assert isinstance(answer, list)
    return answer


@pytest.mark.parametrize("num_classes", [1, 3])
def test_images_without_objects_give_a_finite_loss_and_a_gradient_to_every_parameter(num_classes: int) -> None:
    network = model(num_classes)
    losses = train_losses(network, batch([BoxTarget.empty(), BoxTarget.empty()]))
    assert losses["box/p3"].sum.item() == losses["class/p5"].sum.item() == losses["box/p3"].count.item() == 0.0
    total(losses).backward()
    swept = 0
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        swept += 1
    assert swept > 150


def test_sums_and_counts_are_scalars_and_counts_carry_no_gradient() -> None:
    losses = train_losses(model(), batch(usual_targets()))
    assert len(losses) == 9
    for term in losses.values():
        assert term.sum.shape == term.count.shape == ()
        assert term.sum.dtype == term.count.dtype == torch.float32
        assert term.sum.requires_grad
        assert not term.count.requires_grad


def test_bfloat16_autocast_gives_finite_float32_losses_close_to_those_of_float32() -> None:
    network, one = model(), batch(usual_targets())
    expected = total(train_losses(network, one)).item()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = train_losses(network, one)
    assert all(term.sum.dtype == torch.float32 for term in losses.values())
    loss = total(losses)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=0.02)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())


def test_predictions_do_not_read_targets_and_keep_to_the_answer_format() -> None:
    network = model(inference=Inference(score_threshold=1e-6, max_detections=7))
    one = batch(usual_targets())
    first = detections(network, one)
    without = one._replace(targets=[])
    for a, b in zip(first, detections(network, without), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
        assert a.boxes.shape == (7, 4)
        assert a.scores.tolist() == sorted(a.scores.tolist(), reverse=True)
        assert (a.boxes.dtype, a.scores.dtype, a.labels.dtype) == (torch.float32, torch.float32, torch.int64)
        assert (a.boxes[:, 2:] > a.boxes[:, :2]).all()
        assert (a.boxes >= 0).all()
        assert (a.boxes <= torch.tensor([96.0, 64.0, 96.0, 64.0])).all()


def test_an_image_is_answered_alike_alone_and_among_others() -> None:
    network = model(inference=Inference(score_threshold=1e-6, max_detections=5)).double()
    together = batch(usual_targets())
    answers = detections(network, together)
    for i, answer in enumerate(answers):
        alone = detections(network, together._replace(images=together.images[i : i + 1]))[0]
        assert torch.equal(alone.labels, answer.labels)
        assert torch.allclose(alone.boxes, answer.boxes, atol=1e-3)


def test_channels_last_images_give_the_same_loss() -> None:
    network, one = model().double(), batch(usual_targets())
    expected = total(train_losses(network, one)).item()
    last = one._replace(images=one.images.contiguous(memory_format=torch.channels_last))
    assert total(train_losses(network, last)).item() == pytest.approx(expected, rel=1e-10)


def test_losses_and_counts_never_read_a_tensor_back_from_the_device() -> None:
    """Fake tensors have no values: any read of one raises. Those of this test pretend to be on a GPU."""
    with FakeTensorMode():
        with torch.device("cuda"):
            network = model().train()
            targets = [
                BoxTarget(torch.empty(n, 4), torch.empty(n).long(), torch.empty(n).bool(), torch.empty(n))
                for n in (3, 0)
            ]
            images = torch.empty(2, 3, 64, 64, dtype=torch.uint8)
        frames = [Frame(i, "image", 64, 64) for i in range(2)]
        one = Batch(images, torch.empty(2, 2, dtype=torch.int64), targets, frames)
        assert network.losses(one).keys() == network.counts(one).keys()
        with pytest.raises(DynamicOutputShapeException):  # the test would notice: predictions do pick boxes out
            network.predict(one)


def test_sizes_that_are_no_multiple_of_32_are_refused() -> None:
    with pytest.raises(ValueError, match=r"64x100.*multiples of 32"):
        model().losses(batch([BoxTarget.empty()], width=100))


def test_a_label_beyond_the_classes_is_refused_by_the_name_of_its_image() -> None:
    wrong = batch([BoxTarget.empty(), target([(1, 1, 20, 20)], [3])])
    with pytest.raises(ValueError, match=r"image 1: class index 3 is not in 0\.\.2"):
        model().losses(wrong)
    negative = batch([target([(1, 1, 20, 20)], [-1])])
    with pytest.raises(ValueError, match="class index -1"):
        model().losses(negative)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
@pytest.mark.parametrize("crowd", [False, True])
def test_a_box_without_a_place_is_refused_by_the_name_of_its_image(wrong: float, crowd: bool) -> None:
    bad = target([(1, 1, 20, 20), (4, wrong, 30, 30)], [0, 1])._replace(crowd=torch.tensor([False, crowd]))
    one = batch([BoxTarget.empty(), bad])
    for compute in (model().losses, model().counts):
        with pytest.raises(
            ValueError, match=r"^image 1: box 1 is \[4.0, (nan|inf), 30.0, 30.0\], expected four finite"
        ):
            compute(one)


def test_anchors_travel_with_the_weights() -> None:
    anchors = tuple(float(side) for side in range(5, 23))
    trained = model(options=YoloV5Options(anchors_px=anchors))
    fresh = model()
    fresh.load_state_dict(trained.state_dict())
    assert fresh.anchors_px.flatten().tolist() == list(anchors)


def colored_scene(side: int) -> Batch[BoxTarget]:
    """Twice the same image: three plain rectangles of three classes on gray."""
    boxes = [(10, 12, 50, 44), (70, 20, 110, 100), (20, 80, 44, 110)]
    colors = torch.tensor([[220, 30, 30], [30, 220, 30], [30, 30, 220]], dtype=torch.uint8)
    image = torch.full((3, side, side), 114, dtype=torch.uint8)
    for (left, top, right, bottom), color in zip(boxes, colors, strict=True):
        image[:, top:bottom, left:right] = color[:, None, None]
    one = target([tuple(map(float, box)) for box in boxes], [0, 1, 2])
    return batch([one, one], height=side, width=side)._replace(images=image.repeat(2, 1, 1, 1))


def test_one_image_is_learnt_by_heart_in_120_steps() -> None:
    network, one, steps = model(), colored_scene(128), 120
    optimizer = torch.optim.Adam(network.parameters())
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 5e-3 * min((step + 1) / 10, 1 - step / steps)
        optimizer.zero_grad()
        total(train_losses(network, one)).backward()
        optimizer.step()
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            # The stored variance is the unbiased one: 32 / 31 of the batch's on the coarsest level of this scene.
            module.train()
    with torch.no_grad():
        answers = network.predict(one)
    for answer, truth in zip(answers, one.targets, strict=True):
        assert sorted(answer.labels[:3].tolist()) == [0, 1, 2]
        overlap = box_ops.pairwise_iou(answer.boxes[:3], truth.boxes[answer.labels[:3]]).diagonal()
        # All objects found before anything else: average precision is 1 at every overlap up to 0.9.
        assert overlap.min().item() > 0.9
        assert answer.scores[:3].min().item() > 0.7
        assert answer.scores[3:].max().item() < 0.3
