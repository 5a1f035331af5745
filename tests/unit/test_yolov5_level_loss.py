"""The vectorised loss of a level against plain loops, values and gradients."""

import math

import pytest
import torch
from torch import Tensor

from accel_det.models.layers.targets import pack_targets
from accel_det.models.yolov5.assignment import LevelMatches, match_level
from accel_det.models.yolov5.loss import LevelGains, Teaching, level_losses
from accel_det.types import BoxTarget

ANCHORS_PX = [(30.0, 61.0), (62.0, 45.0), (59.0, 119.0)]
HEIGHT, WIDTH, STRIDE, CLASSES = 4, 5, 16, 3
GAINS = LevelGains(box=0.05, objectness=0.7, classes=0.3)
EPS = 1e-7  # of accel_det.boxes.complete_iou, in the unit of the boxes, cells


def targets_of(seed: int, counts: tuple[int, ...] = (5, 0, 2)) -> list[BoxTarget]:
    generator = torch.Generator().manual_seed(seed)
    targets = []
    for count in counts:
        corner = torch.rand(count, 2, generator=generator) * 50
        boxes = torch.cat((corner, corner + torch.rand(count, 2, generator=generator) * 30 + 16), dim=1)
        labels = torch.randint(0, CLASSES, (count,), generator=generator)
        crowd = torch.tensor([i == 1 for i in range(count)], dtype=torch.bool)
        targets.append(BoxTarget(boxes, labels, crowd, torch.ones(count)))
    return targets


def match(targets: list[BoxTarget]) -> LevelMatches:
    return match_level(
        pack_targets(targets, device=torch.device("cpu"), dtype=torch.float64),
        torch.tensor(ANCHORS_PX),
        num_images=len(targets),
        height=HEIGHT,
        width=WIDTH,
        stride=STRIDE,
        max_ratio=4.0,
    )


def random_logits(seed: int, num_images: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    shape = (num_images, len(ANCHORS_PX), 5 + CLASSES, HEIGHT, WIDTH)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def reference_ciou(
    center: list[Tensor], size: list[Tensor], true_center: list[float], true_size: list[float]
) -> Tensor:
    """One pair of boxes, from the formulas of Zheng et al., 2020, coordinate by coordinate."""
    overlap, hull, distance = [], [], []
    for axis in range(2):
        low, high = center[axis] - size[axis] / 2, center[axis] + size[axis] / 2
        true_low, true_high = true_center[axis] - true_size[axis] / 2, true_center[axis] + true_size[axis] / 2
        overlap.append((high.clamp(max=true_high) - low.clamp(min=true_low)).clamp(min=0))
        hull.append(high.clamp(min=true_high) - low.clamp(max=true_low))
        distance.append((center[axis] - true_center[axis]) ** 2)
    intersection = overlap[0] * overlap[1]
    iou = intersection / (size[0] * size[1] + true_size[0] * true_size[1] - intersection + EPS)
    angle = math.atan(true_size[0] / (true_size[1] + EPS)) - torch.atan(size[0] / (size[1] + EPS))
    shape = 4 / math.pi**2 * angle**2
    alpha = (shape / (1 - iou + shape + EPS)).detach()
    return iou - (distance[0] + distance[1]) / (hull[0] ** 2 + hull[1] ** 2 + EPS) - alpha * shape


def cross_entropy(logit: Tensor, truth: float, *, positive_weight: float, focal_gamma: float) -> Tensor:
    """Of one logit. Focal: Lin et al., 2017, equation 5, blended in the proportion of a truth between 0 and 1."""
    probability = logit.sigmoid()
    entropy = -positive_weight * truth * probability.log() - (1 - truth) * (1 - probability).log()
    if focal_gamma == 0:
        return entropy
    right = truth * probability + (1 - truth) * (1 - probability)
    alpha = truth * 0.25 + (1 - truth) * 0.75
    return alpha * (1 - right) ** focal_gamma * entropy


def reference_losses(
    raw: Tensor, targets: list[BoxTarget], matches: LevelMatches, teaching: Teaching
) -> dict[str, Tensor]:
    """Sums by loops over matches and cells; which cells match is settled by the tests of the assignment."""
    boxes, classes, objectness = raw.new_zeros(()), raw.new_zeros(()), raw.new_zeros(())
    overlaps: dict[tuple[int, int, int, int], float] = {}
    smoothing, gamma = teaching.label_smoothing, teaching.focal_gamma
    for i in matches.matched.nonzero().flatten().tolist():
        cell = tuple(int(v[i]) for v in (matches.image, matches.anchor, matches.row, matches.column))
        image, anchor, row, column = cell
        logits = raw[image, anchor, :, row, column]
        place = (column, row)
        center = [2 * logits[axis].sigmoid() - 0.5 + place[axis] for axis in range(2)]
        size = [(2 * logits[2 + axis].sigmoid()) ** 2 * ANCHORS_PX[anchor][axis] / STRIDE for axis in range(2)]
        true_center = [float(matches.boxes[i, axis]) + place[axis] for axis in range(2)]
        ciou = reference_ciou(center, size, true_center, [float(v) for v in matches.boxes[i, 2:]])
        boxes = boxes + 1 - ciou
        overlaps[image, anchor, row, column] = max(
            overlaps.get((image, anchor, row, column), 0.0), max(ciou.item(), 0.0)
        )
        for k in range(CLASSES):
            truth = 1 - smoothing / 2 if k == int(matches.labels[i]) else smoothing / 2
            classes = classes + cross_entropy(
                logits[5 + k], truth, positive_weight=teaching.class_positive_weight, focal_gamma=gamma
            )
    for image, anchor, row, column in torch.cartesian_prod(
        *(torch.arange(raw.shape[d]) for d in (0, 1, 3, 4))
    ).tolist():
        inside_crowd = any(
            crowd and box[0] <= (column + 0.5) * STRIDE < box[2] and box[1] <= (row + 0.5) * STRIDE < box[3]
            for box, crowd in zip(targets[image].boxes.tolist(), targets[image].crowd.tolist(), strict=True)
        )
        overlap = overlaps.get((image, anchor, row, column))
        if overlap is not None or not inside_crowd:
            share = teaching.objectness_by_overlap
            truth = 0.0 if overlap is None else 1 - share + share * overlap
            weight = teaching.objectness_positive_weight
            logit = raw[image, anchor, 4, row, column]
            objectness = objectness + cross_entropy(logit, truth, positive_weight=weight, focal_gamma=gamma)
    return {
        "box/p4": GAINS.box * boxes,
        "objectness/p4": GAINS.objectness * objectness,
        "class/p4": GAINS.classes * classes,
    }


TEACHINGS = {
    "published": Teaching(),
    "smoothed": Teaching(label_smoothing=0.1),
    "focal": Teaching(focal_gamma=1.5, label_smoothing=0.05),
    "weighted": Teaching(class_positive_weight=2.0, objectness_positive_weight=0.5, objectness_by_overlap=0.3),
    "all of it": Teaching(0.1, 2.0, 0.7, 1.8, 0.0),
}


def compare_with_loops(raw: Tensor, targets: list[BoxTarget], teaching: Teaching) -> int:
    """Values and gradients to 1e-12; returns the number of matches."""
    matches = match(targets)
    losses = level_losses(raw, matches, level="p4", gains=GAINS, teaching=teaching)
    expected = reference_losses(raw, targets, matches, teaching)
    assert set(losses) == set(expected)
    for name, reference in expected.items():
        assert losses[name].sum.item() == pytest.approx(reference.item(), rel=1e-12)
        (gradient,) = torch.autograd.grad(losses[name].sum, raw, retain_graph=True)
        (reference_gradient,) = torch.autograd.grad(reference, raw, retain_graph=True)
        assert ((gradient - reference_gradient).norm() / reference_gradient.norm()).item() <= 1e-12
    return int(matches.matched.sum())


@pytest.mark.parametrize("teaching", TEACHINGS.values(), ids=TEACHINGS)
def test_sums_and_gradients_equal_loops_over_matches_and_cells(teaching: Teaching) -> None:
    for seed in range(3):
        assert compare_with_loops(random_logits(seed), targets_of(seed), teaching) > 10


def test_sums_and_gradients_equal_loops_in_a_crowded_image() -> None:
    assert compare_with_loops(random_logits(7), targets_of(7, (200, 1, 0)), TEACHINGS["all of it"]) > 1000


def test_a_certain_answer_keeps_the_focal_loss_and_its_slope_finite() -> None:
    for logit in (-200.0, 0.0, 200.0):
        raw = torch.full((3, len(ANCHORS_PX), 5 + CLASSES, HEIGHT, WIDTH), logit, requires_grad=True)
        losses = level_losses(raw, match(targets_of(0)), level="p4", gains=GAINS, teaching=Teaching(focal_gamma=1.0))
        total = torch.stack([term.sum for term in losses.values()]).sum()
        (gradient,) = torch.autograd.grad(total, raw)
        assert total.isfinite()
        assert gradient.isfinite().all()


def test_two_boxes_in_one_cell_teach_it_the_larger_overlap_whatever_their_order() -> None:
    pair = [[20.0, 20.0, 62.0, 60.0], [30.0, 30.0, 50.0, 52.0]]
    raw = random_logits(0, num_images=1)
    sums = []
    for boxes in (pair, pair[::-1]):
        target = BoxTarget(torch.tensor(boxes), torch.zeros(2).long(), torch.zeros(2).bool(), torch.ones(2))
        losses = level_losses(raw, match([target]), level="p4", gains=GAINS, teaching=Teaching())
        sums.append(losses["objectness/p4"].sum.item())
    assert sums[0] == sums[1]


def test_without_boxes_the_box_and_class_terms_are_zero_of_zero_with_a_gradient_path() -> None:
    raw = random_logits(1, num_images=2)
    losses = level_losses(raw, match([BoxTarget.empty()] * 2), level="p4", gains=GAINS, teaching=Teaching())
    for name in ("box/p4", "class/p4"):
        assert (losses[name].sum.item(), losses[name].count.item()) == (0.0, 0.0)
        (gradient,) = torch.autograd.grad(losses[name].sum, raw, retain_graph=True)
        assert gradient.abs().max().item() == 0.0
    assert losses["objectness/p4"].count.item() == 2 * len(ANCHORS_PX) * HEIGHT * WIDTH
