"""SSD512 against the paper's numbers and torchvision's SSD class; hard negatives against plain loops."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision.models import detection

from accel_det.models.base import Inference
from accel_det.models.layers.matching import Assignment
from accel_det.models.torchvision.build import TorchvisionOptions, build
from accel_det.models.torchvision.geometry import default_boxes, vgg512_grid
from accel_det.models.torchvision.losses import ssd_losses
from accel_det.types import Batch, BoxTarget, Frame

NUM_CLASSES = 3


def make(**options: Any) -> Any:
    torch.manual_seed(0)
    return build("ssd512_vgg16", num_classes=NUM_CLASSES, inference=Inference(), options=TorchvisionOptions(**options))


def boxes_at(network: Any, side_px: int) -> Tensor:
    canvas = (side_px, side_px)
    return default_boxes(
        network.anchor_generator,
        canvas=canvas,
        grid=vgg512_grid(*canvas),
        dtype=torch.float32,
        device=torch.device("cpu"),
    )


def test_the_maps_and_default_boxes_are_as_many_as_in_the_paper() -> None:
    """Liu et al., SSD, 2016, table 7: 24564 boxes at 512x512; 4 or 6 per cell, section 3.3."""
    assert vgg512_grid(512, 512) == [(side, side) for side in (64, 32, 16, 8, 4, 2, 1)]
    assert 4 * 64**2 + 6 * (32**2 + 16**2 + 8**2 + 4**2) + 4 * (2**2 + 1) == 24564
    with torch.device("meta"):
        network = make().network
    assert len(boxes_at(network, 512)) == 24564


@pytest.mark.parametrize("height, width", [(32, 32), (64, 100), (300, 200)])
def test_the_maps_have_the_expected_sizes_on_every_canvas(height: int, width: int) -> None:
    with torch.device("meta"):
        maps = make().network.backbone(torch.empty(1, 3, height, width))
    assert [tuple(one.shape[-2:]) for one in maps.values()] == vgg512_grid(height, width)


def test_default_boxes_at_512_pixels_are_torchvisions_to_the_last_bit() -> None:
    with torch.device("meta"):
        generator = make().network.anchor_generator
    maps = [torch.empty((1, 1, *size)) for size in vgg512_grid(512, 512)]
    expected = generator(detection.image_list.ImageList(torch.empty((1, 3, 512, 512)), [(512, 512)]), maps)[0]
    with torch.device("meta"):
        network = make().network
    assert torch.equal(boxes_at(network, 512), expected)


def test_the_smallest_box_is_a_square_of_7_hundredths_and_settings_change_it() -> None:
    with torch.device("meta"):
        voc, coco = make().network, make(box_scales=(0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 1.06)).network
    for network, scale in ((voc, 0.07), (coco, 0.04)):
        first = boxes_at(network, 512)[0]
        assert (first[2:] - first[:2]).tolist() == pytest.approx([512 * scale] * 2, rel=1e-5)
        assert ((first[:2] + first[2:]) / 2).tolist() == pytest.approx([4.0, 4.0], abs=1e-4)
    for scales in ((0.1, 0.2), (0.04, 0.1, 0.26, 0.42, 0.58, 0.74, 0.9, 0.8)):
        with pytest.raises(ValueError, match="expected 8 rising numbers"), torch.device("meta"):
            make(box_scales=scales)
    with pytest.raises(ValueError, match="fcos_resnet50_fpn has no default boxes"), torch.device("meta"):
        build(
            "fcos_resnet50_fpn", num_classes=2, inference=Inference(), options=TorchvisionOptions(box_scales=(0.1, 0.2))
        )


@pytest.mark.slow
def test_the_loss_at_512_pixels_is_that_of_torchvisions_ssd_class() -> None:
    detector = make().train()
    generator = torch.Generator().manual_seed(5)
    images = torch.randint(0, 256, (1, 3, 512, 512), generator=generator, dtype=torch.uint8)
    corner = torch.rand((9, 2), generator=generator) * 300
    boxes = torch.cat((corner, corner + 20 + 180 * torch.rand((9, 2), generator=generator)), dim=1)
    labels = torch.arange(9) % NUM_CLASSES
    target = BoxTarget(boxes, labels, torch.zeros(9, dtype=torch.bool), torch.ones(9))
    batch = Batch(images, torch.tensor([[512, 512]]), [target], [Frame(0, "image", 512, 512)])
    with torch.no_grad():
        expected = detector.network(list(images / 255), [{"boxes": boxes, "labels": labels + 1}])
        losses = detector.losses(batch)
    assert losses.keys() == expected.keys()
    for key, (total, count, _) in losses.items():
        torch.testing.assert_close(total / count, expected[key], rtol=1e-5, atol=0)


def scene(counts: list[int], *, num_anchors: int, ignored: int) -> tuple[Tensor, Tensor, Tensor, Assignment]:
    """Predictions and assignments of images with so many foreground anchors."""
    generator = torch.Generator().manual_seed(sum(counts))
    num_images = len(counts)
    logits = torch.randn(num_images, num_anchors, 1 + NUM_CLASSES, generator=generator, dtype=torch.float64)
    deltas = torch.randn(num_images, num_anchors, 4, generator=generator, dtype=torch.float64)
    wanted = torch.randn(num_images, num_anchors, 4, generator=generator, dtype=torch.float64)
    foreground = torch.zeros(num_images, num_anchors, dtype=torch.bool)
    is_ignored = torch.zeros_like(foreground)
    for image, count in enumerate(counts):
        order = torch.randperm(num_anchors, generator=generator)
        foreground[image, order[:count]] = True
        is_ignored[image, order[count : count + ignored]] = True
    labels = torch.randint(0, NUM_CLASSES, foreground.shape, generator=generator)
    return logits, deltas, wanted, Assignment(foreground, is_ignored, labels * foreground, wanted)


def reference_sums(logits: Tensor, deltas: Tensor, wanted: Tensor, assigned: Assignment) -> tuple[float, float, int]:
    """Liu et al., SSD, 2016, equations 1 to 3 and section 2.2, image by image: three negatives a positive at most."""
    box_sum = class_sum = 0.0
    matched = 0
    for image in range(len(logits)):
        negatives = []
        positives = 0
        for anchor in range(logits.shape[1]):
            row = [math.exp(value) for value in logits[image, anchor].tolist()]
            if bool(assigned.foreground[image, anchor]):
                positives += 1
                class_sum -= math.log(row[1 + int(assigned.labels[image, anchor])] / sum(row))
                for off in (deltas[image, anchor] - wanted[image, anchor]).abs().tolist():
                    box_sum += 0.5 * off**2 if off < 1 else off - 0.5
            elif not bool(assigned.ignored[image, anchor]):
                negatives.append(-math.log(row[0] / sum(row)))
        class_sum += sum(sorted(negatives, reverse=True)[: 3 * positives])
        matched += positives
    return box_sum, class_sum, matched


@pytest.mark.parametrize("counts", [[4, 0, 9], [0, 0], [30], [200, 1]], ids=str)
def test_hard_negatives_are_three_a_positive_of_each_image_as_plain_loops_choose_them(counts: list[int]) -> None:
    logits, deltas, wanted, assigned = scene(counts, num_anchors=260, ignored=7)
    losses = ssd_losses(logits, deltas, assigned=assigned, delta_targets=wanted, negatives_per_positive=3)
    box_sum, class_sum, matched = reference_sums(logits, deltas, wanted, assigned)
    assert losses["bbox_regression"].sum.item() == pytest.approx(box_sum, rel=1e-12)
    assert losses["classification"].sum.item() == pytest.approx(class_sum, rel=1e-12)
    assert losses["classification"].count.item() == losses["bbox_regression"].count.item() == matched == sum(counts)


def test_images_choose_their_hard_negatives_alike_alone_and_among_others() -> None:
    """So it does not matter which process has which image."""
    logits, deltas, wanted, assigned = scene([4, 0, 9, 2], num_anchors=120, ignored=3)

    def sums(images: slice) -> list[float]:
        part = Assignment(*(column[images] for column in assigned))
        losses = ssd_losses(
            logits[images], deltas[images], assigned=part, delta_targets=wanted[images], negatives_per_positive=3
        )
        return [term.sum.item() for term in losses.values()]

    whole, parts = sums(slice(None)), [sums(slice(image, image + 1)) for image in range(4)]
    assert whole == pytest.approx([sum(values) for values in zip(*parts, strict=True)], rel=1e-12)
