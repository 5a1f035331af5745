"""What every detector of the zoo promises, asked of YOLOv3 with each of its losses."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode

from accel_det import boxes as box_ops
from accel_det.models import zoo
from accel_det.models.base import Inference
from accel_det.models.yolov3.model import YoloV3
from accel_det.models.yolov3.rules import RULES
from accel_det.types import Batch, BoxTarget, Detections, Frame, Losses

HEIGHT, WIDTH, CLASSES = 64, 96, 3


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model(loss: str, *, width: float = 0.125, inference: Inference | None = None) -> YoloV3:
    torch.manual_seed(0)
    options = {"loss": loss, "width": width}
    built = zoo.build("yolov3_tiny", num_classes=CLASSES, options=options, inference=inference)
    assert isinstance(built, YoloV3)
    return built


def target(count: int, seed: int) -> BoxTarget:
    draw = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=draw) * torch.tensor([60.0, 30.0])
    boxes = torch.cat((corner, corner + torch.rand(count, 2, generator=draw) * 30 + 4), dim=1)
    crowd = torch.rand(count, generator=draw) < 0.2
    return BoxTarget(boxes, torch.randint(0, CLASSES, (count,), generator=draw), crowd, torch.ones(count))


def batch(counts: list[int]) -> Batch[BoxTarget]:
    n, draw = len(counts), torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (n, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=draw)
    targets = [target(count, seed) for seed, count in enumerate(counts)]
    frames = [Frame(i, f"image {i}", HEIGHT, WIDTH) for i in range(n)]
    return Batch(images, torch.tensor([[HEIGHT, WIDTH]] * n), targets, frames)


def part(whole: Batch[BoxTarget], images: slice) -> Batch[BoxTarget]:
    return Batch(whole.images[images], whole.sizes[images], whole.targets[images], whole.frames[images])


def detections(network: YoloV3, one: Batch[BoxTarget]) -> list[Detections]:
    with torch.no_grad():
        return network.eval().predict(one)


def gradient(network: YoloV3, parts: list[Batch[BoxTarget]]) -> Tensor:
    """Of the sum over terms of (sum over parts) / (count over parts): what the processes compute together."""
    losses: list[Losses] = [network.losses(one) for one in parts]
    total = torch.zeros((), dtype=torch.float64)
    for name in losses[0]:
        count = torch.stack([one[name].count for one in losses]).sum()
        total = total + torch.stack([one[name].sum for one in losses]).sum() / count.clamp(min=1)
    network.zero_grad()
    total.backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize("loss", RULES)
def test_two_parts_give_the_gradient_and_the_counts_of_the_whole_batch(loss: str) -> None:
    network = model(loss).double().train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    swept = 0
    for counts, first in (([5, 2, 7, 1], 1), ([0, 0, 7, 3], 2), ([200, 0, 0, 0], 1)):
        whole = batch(counts)
        parts = [part(whole, slice(0, first)), part(whole, slice(first, None))]
        expected, found = gradient(network, [whole]), gradient(network, parts)
        assert expected.numel() == sum(p.numel() for p in network.parameters())
        assert float((found - expected).norm() / expected.norm()) <= 1e-12
        together, apart = network.counts(whole), [network.counts(one) for one in parts]
        assert all(torch.equal(together[name], apart[0][name] + apart[1][name]) for name in together)
        swept += len(together)
    assert swept == 3 * 8


@pytest.mark.parametrize("loss", RULES)
def test_losses_and_counts_never_read_a_tensor_back_from_the_device(loss: str) -> None:
    """Fake tensors have no values: any read of one raises. Those of this test pretend to be on a GPU."""
    with FakeTensorMode():
        with torch.device("cuda"):
            network = model(loss).train()
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


@pytest.mark.parametrize("loss", RULES)
def test_a_crowd_is_no_object_and_what_lies_in_it_is_no_background(loss: str) -> None:
    network = model(loss).train()
    everywhere = BoxTarget(
        torch.tensor([[-1e4, -1e4, 1e4, 1e4]]), torch.zeros(1).long(), torch.ones(1).bool(), torch.ones(1)
    )
    for crowd, kept in ((everywhere, False), (BoxTarget.empty(), True)):
        losses = network.losses(batch([0])._replace(targets=[crowd]))
        assert all(
            losses[f"{name}/{level}"].sum.item() == 0 for name in ("box", "object", "class") for level in ("p4", "p5")
        )
        assert (losses["background/p4"].sum.item() > 0) == (losses["background/p5"].sum.item() > 0) == kept


def test_of_two_boxes_at_one_place_the_last_is_learned_with_the_classes_of_both() -> None:
    same = torch.tensor([[10.0, 10.0, 40.0, 40.0], [12.0, 12.0, 40.0, 40.0]])
    labels = torch.tensor([0, 2])
    both = BoxTarget(same, labels, torch.zeros(2).bool(), torch.ones(2))
    network = model("giou").train()
    ((_, matches), _) = network._matches(*packed(network, both))
    assert matches.matched.tolist() == [False, True]
    assert matches.classes.tolist() == [[1, 0, 1]] * 2
    assert network.counts(batch([0])._replace(targets=[both]))["box/p4"] == 1


def packed(network: YoloV3, one: BoxTarget) -> tuple[Batch[BoxTarget], object]:
    given = batch([0])._replace(targets=[one])
    return given, network._packed(given)


def test_an_image_is_answered_alike_alone_and_among_others() -> None:
    network = model("darknet", inference=Inference(score_threshold=1e-6, max_detections=5)).double()
    together = batch([2, 0, 1])
    for i, answer in enumerate(detections(network, together)):
        alone = detections(network, together._replace(images=together.images[i : i + 1]))[0]
        assert len(answer.boxes) == 5
        assert torch.equal(alone.labels, answer.labels)
        assert torch.allclose(alone.boxes, answer.boxes, atol=1e-3)


def test_sizes_that_are_no_multiple_of_32_are_refused() -> None:
    with pytest.raises(ValueError, match=r"64x100.*multiples of 32"):
        model("darknet").losses(batch([0])._replace(images=torch.zeros(1, 3, 64, 100, dtype=torch.uint8)))


def colored_scene() -> Batch[BoxTarget]:
    """Twice the same image: three plain rectangles of three classes on gray."""
    boxes = [(10, 12, 50, 44), (70, 20, 110, 100), (20, 80, 44, 110)]
    colors = torch.tensor([[220, 30, 30], [30, 220, 30], [30, 30, 220]], dtype=torch.uint8)
    image = torch.full((3, 128, 128), 114, dtype=torch.uint8)
    for (left, top, right, bottom), color in zip(boxes, colors, strict=True):
        image[:, top:bottom, left:right] = color[:, None, None]
    one = BoxTarget(torch.tensor(boxes).float(), torch.arange(3), torch.zeros(3).bool(), torch.ones(3))
    frames = [Frame(i, f"image {i}", 128, 128) for i in range(2)]
    return Batch(image.repeat(2, 1, 1, 1), torch.tensor([[128, 128]] * 2), [one, one], frames)


@pytest.mark.parametrize(
    "loss", [name if name == "darknet" else pytest.param(name, marks=pytest.mark.slow) for name in RULES]
)
def test_one_image_is_learned_by_heart_in_150_steps(loss: str) -> None:
    # Predictions near an object are not taught to be background, so some repeat it until they are suppressed.
    network = model(loss, width=0.25, inference=Inference(nms_iou=0.3)).train()
    one, steps = colored_scene(), 150
    optimizer = torch.optim.Adam(network.parameters())
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min((step + 1) / 10, 1 - step / steps)
        optimizer.zero_grad()
        losses = network.losses(one)
        torch.stack([term.sum / term.count.clamp(min=1) for term in losses.values()]).sum().backward()
        optimizer.step()
    # In train mode, for the stored variance is the unbiased one: 32 / 31 of the batch's on the coarsest level.
    with torch.no_grad():
        answers = network.predict(one)
    for answer, truth in zip(answers, one.targets, strict=True):
        assert sorted(answer.labels[:3].tolist()) == [0, 1, 2]
        overlap = box_ops.pairwise_iou(answer.boxes[:3], truth.boxes[answer.labels[:3]]).diagonal()
        assert overlap.min().item() > 0.8
        assert answer.scores[:3].min().item() > 2 * answer.scores[3:].max().item()
