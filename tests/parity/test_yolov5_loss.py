"""The loss of a batch is the same however its images are shared out: float64, statistics of batch norms frozen."""

import pytest
import torch
from torch import Tensor, nn

from accel_det.models.base import Inference
from accel_det.models.yolov5.model import YoloV5, YoloV5Options, build
from accel_det.types import Batch, BoxTarget, Frame, Losses

HEIGHT, WIDTH, CLASSES = 64, 96, 3


def model() -> YoloV5:
    torch.manual_seed(0)
    network = build("yolov5n", num_classes=CLASSES, inference=Inference(), options=YoloV5Options()).double().train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    return network


def target(count: int, seed: int) -> BoxTarget:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([60.0, 30.0])
    boxes = torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * 30 + 4), dim=1)
    crowd = torch.rand(count, generator=generator) < 0.2
    return BoxTarget(boxes, torch.randint(0, CLASSES, (count,), generator=generator), crowd, torch.ones(count))


def batch(object_counts: list[int]) -> Batch[BoxTarget]:
    n = len(object_counts)
    images = torch.randint(0, 256, (n, 3, HEIGHT, WIDTH), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch(
        images,
        torch.tensor([[HEIGHT, WIDTH]] * n),
        [target(count, seed) for seed, count in enumerate(object_counts)],
        [Frame(i, f"image {i}", HEIGHT, WIDTH) for i in range(n)],
    )


def part(whole: Batch[BoxTarget], images: slice) -> Batch[BoxTarget]:
    return Batch(whole.images[images], whole.sizes[images], whole.targets[images], whole.frames[images])


def gradient(network: YoloV5, parts: list[Batch[BoxTarget]]) -> Tensor:
    """Of the sum over terms of (sum over parts) / (count over parts): what the processes compute together."""
    losses: list[Losses] = [network.losses(one) for one in parts]
    total = torch.zeros((), dtype=torch.float64)
    for name in losses[0]:
        count = torch.stack([one[name].count for one in losses]).sum()
        total = total + torch.stack([one[name].sum for one in losses]).sum() / count.clamp(min=1)
    network.zero_grad()
    total.backward()
    return torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    ("object_counts", "first"),
    [([5, 2, 7, 1], 2), ([5, 2, 7, 1], 1), ([0, 0, 7, 3], 2), ([6, 0, 0, 0], 1)],
    ids=["2+2", "1+3", "first half empty", "second part empty"],
)
def test_two_parts_give_the_gradient_of_the_whole_batch(object_counts: list[int], first: int) -> None:
    network, whole = model(), batch(object_counts)
    expected = gradient(network, [whole])
    found = gradient(network, [part(whole, slice(0, first)), part(whole, slice(first, None))])
    assert expected.numel() == sum(p.numel() for p in network.parameters())
    assert float((found - expected).norm() / expected.norm()) <= 1e-12


def test_counts_are_additive_and_equal_those_of_the_losses() -> None:
    network, whole = model(), batch([5, 0, 7, 1])
    counts = network.counts(whole)
    losses = network.losses(whole)
    assert list(counts) == list(losses)
    assert all(torch.equal(counts[name], term.count) for name, term in losses.items())
    parts = [network.counts(part(whole, images)) for images in (slice(0, 1), slice(1, None))]
    assert all(torch.equal(counts[name], parts[0][name] + parts[1][name]) for name in counts)
    assert counts["box/p3"] > 0
    assert counts["class/p3"] == CLASSES * counts["box/p3"]


def test_the_total_is_the_published_formula_of_means() -> None:
    """Per level: 0.05 mean(1 - CIoU), 0.5 K / 80 mean(class), (area / 640^2) balance mean(objectness)."""
    options = YoloV5Options(
        box_gain=1.0, objectness_gain=640**2 / (HEIGHT * WIDTH), class_gain=80 / CLASSES, level_balance=(1.0, 1.0, 1.0)
    )
    network, whole = model(), batch([5, 2])
    published = network.losses(whole)
    network.options = options
    plain = network.losses(whole)
    gains = {"box": [0.05] * 3, "class": [0.5 * CLASSES / 80] * 3}
    gains["objectness"] = [HEIGHT * WIDTH / 640**2 * balance for balance in (4.0, 1.0, 0.4)]
    swept = 0
    for part_name, level_gains in gains.items():
        for level, gain in zip(("p3", "p4", "p5"), level_gains, strict=True):
            name = f"{part_name}/{level}"
            assert published[name].sum.item() == pytest.approx(gain * plain[name].sum.item(), rel=1e-12)
            swept += 1
    assert swept == len(published) == 9
