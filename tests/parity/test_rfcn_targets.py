"""Anchors, proposals and targets of R-FCN against plain loops written from the papers, in float64, 0 to 200 objects."""

import math

import pytest
import torch
from torch import Tensor

from accel_det.models.layers.box_deltas import decode, encode
from accel_det.models.rfcn.proposals import ProposalRule, choose_proposals, make_anchors
from accel_det.models.rfcn.targets import AnchorTargets, anchor_targets, region_targets, sample_regions
from accel_det.types import BoxTarget

Box = list[float]
EVERY = 1_000_000
SPREAD = (0.1, 0.1, 0.2, 0.2)
HEIGHT, WIDTH = 96, 128
OBJECTS = (0, 1, 7, 60, 200)


def scene(count: int, *, num_crowds: int = 0, seed: int = 1) -> BoxTarget:
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor([WIDTH, HEIGHT], dtype=torch.float64)
    corner = torch.rand(count, 2, generator=generator, dtype=torch.float64) * extent * 0.8
    side = (0.02 + 0.3 * torch.rand(count, 2, generator=generator, dtype=torch.float64)) * extent
    labels = torch.randint(0, 20, (count,), generator=generator)
    crowd = torch.arange(count) < num_crowds
    return BoxTarget(torch.cat((corner, corner + side), dim=1), labels, crowd, side.prod(dim=1))


def slow_intersection(a: Box, b: Box) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)


def slow_area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def slow_iou(a: Box, b: Box) -> float:
    common = slow_intersection(a, b)
    return common / (slow_area(a) + slow_area(b) - common)


def slow_encode(box: Box, reference: Box, spread: tuple[float, ...] = SPREAD) -> Box:
    width, height = reference[2] - reference[0], reference[3] - reference[1]
    return [
        ((box[0] + box[2]) / 2 - (reference[0] + reference[2]) / 2) / width / spread[0],
        ((box[1] + box[3]) / 2 - (reference[1] + reference[3]) / 2) / height / spread[1],
        math.log((box[2] - box[0]) / width) / spread[2],
        math.log((box[3] - box[1]) / height) / spread[3],
    ]


def slow_decode(delta: Box, reference: Box, spread: tuple[float, ...] = SPREAD) -> Box:
    width, height = reference[2] - reference[0], reference[3] - reference[1]
    x = (reference[0] + reference[2]) / 2 + delta[0] * spread[0] * width
    y = (reference[1] + reference[3]) / 2 + delta[1] * spread[1] * height
    half_width = width * math.exp(min(delta[2] * spread[2], math.log(1000 / 16))) / 2
    half_height = height * math.exp(min(delta[3] * spread[3], math.log(1000 / 16))) / 2
    return [x - half_width, y - half_height, x + half_width, y + half_height]


def in_crowd(box: Box, target: BoxTarget) -> bool:
    return any(
        slow_intersection(box, other) >= 0.5 * slow_area(box)
        for other, crowd in zip(target.boxes.tolist(), target.crowd.tolist(), strict=True)
        if crowd
    )


def slow_anchor_labels(anchors: list[Box], target: BoxTarget, inside: list[bool]) -> list[int]:
    """Index of the object, -1 for background, -2 for anchors that take no part: Faster R-CNN, section 3.1.2."""
    objects = [
        (i, box)
        for i, (box, crowd) in enumerate(zip(target.boxes.tolist(), target.crowd.tolist(), strict=True))
        if not crowd
    ]
    table = {
        i: [slow_iou(box, anchor) if ok else -1.0 for anchor, ok in zip(anchors, inside, strict=True)]
        for i, box in objects
    }
    row_best = {i: max(row) for i, row in table.items()}
    labels = []
    for a, anchor in enumerate(anchors):
        best = max(((row[a], -i) for i, row in table.items()), default=(0.0, 0))
        label = -1 if best[0] < 0.3 else -2
        if best[0] >= 0.7 or any(row[a] == row_best[i] > 0 for i, row in table.items()):
            label = -best[1] if table else label
        if label == -1 and in_crowd(anchor, target):
            label = -2
        labels.append(label if inside[a] else -2)
    return labels


@pytest.mark.parametrize("spread", [SPREAD, (1.0, 1.0, 1.0, 1.0)])
def test_encoded_boxes_are_those_of_the_paper_and_decode_to_where_they_came_from(
    spread: tuple[float, float, float, float],
) -> None:
    boxes, references = scene(200).boxes, scene(200, seed=2).boxes
    deltas = encode(boxes, reference=references, spread=spread)
    expected = [slow_encode(*pair, spread) for pair in zip(boxes.tolist(), references.tolist(), strict=True)]
    torch.testing.assert_close(deltas, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(decode(deltas, reference=references, spread=spread), boxes, rtol=1e-12, atol=1e-9)
    huge = decode(torch.full((1, 4), 1e6, dtype=torch.float64), reference=references[:1], spread=spread)
    assert huge.isfinite().all()


@pytest.mark.parametrize(("scales", "num_anchors"), [((8.0, 16.0, 32.0), 9), ((2.0, 4.0, 8.0, 16.0, 32.0), 15)])
def test_anchors_have_the_published_areas_and_shapes_around_every_cell(
    scales: tuple[float, ...], num_anchors: int
) -> None:
    ratios = (0.5, 1.0, 2.0)
    anchors = make_anchors(3, 4, scales=scales, ratios=ratios, dtype=torch.float64, device=torch.device("cpu"))
    expected = [
        [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        for y in (8.0, 24.0, 40.0)
        for x in (8.0, 24.0, 40.0, 56.0)
        for ratio in ratios
        for scale in scales
        for w, h in [(16 * scale / math.sqrt(ratio), 16 * scale * math.sqrt(ratio))]
    ]
    assert len(expected) == 12 * num_anchors
    torch.testing.assert_close(anchors, torch.tensor(expected, dtype=torch.float64))


def anchors_of_scene() -> Tensor:
    return make_anchors(
        6, 8, scales=(1.0, 2.0, 4.0), ratios=(0.5, 1.0, 2.0), dtype=torch.float64, device=torch.device("cpu")
    )


@pytest.mark.parametrize("only_inside", [False, True])
@pytest.mark.parametrize("count", OBJECTS)
def test_anchors_are_matched_as_the_paper_says(count: int, only_inside: bool) -> None:
    anchors, target = anchors_of_scene(), scene(count, num_crowds=count // 7)
    within = (anchors[:, :2] >= 0).all(dim=1) & (anchors[:, 2] <= WIDTH) & (anchors[:, 3] <= HEIGHT)
    inside = within if only_inside else torch.ones_like(within)
    labels = slow_anchor_labels(anchors.tolist(), target, inside.tolist())
    found = targets_of(anchors, target, inside=[within] if only_inside else None, per_image=EVERY)
    positive = [a for a, label in enumerate(labels) if label >= 0]
    assert sorted(found.positive.tolist()) == positive
    assert sorted(found.negative.tolist()) == [a for a, label in enumerate(labels) if label == -1]
    assert (count == 0) == (not positive)
    for anchor, deltas in zip(found.positive.tolist(), found.deltas.tolist(), strict=True):
        expected = slow_encode(target.boxes[labels[anchor]].tolist(), anchors[anchor].tolist())
        assert deltas == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_an_object_that_no_anchor_overlaps_is_learnt_by_none() -> None:
    """As one in the corner, where anchors that cross the border take no part: its best overlap is 0, like most others."""
    anchors = anchors_of_scene()
    corner = BoxTarget(torch.tensor([[0.0, 0.0, 0.4, 0.4]], dtype=torch.float64), *scene(1)[1:3], torch.tensor([0.16]))
    inside = (anchors >= 0.5).all(dim=1) & (anchors[:, 2] <= WIDTH) & (anchors[:, 3] <= HEIGHT)
    found = targets_of(anchors, corner, inside=[inside], per_image=EVERY)
    assert found.positive.tolist() == []
    assert sorted(found.negative.tolist()) == inside.nonzero().flatten().tolist()
    assert len(found.negative) > 100


def targets_of(
    anchors: Tensor, target: BoxTarget, *, inside: list[Tensor] | None = None, per_image: int = 256, draw_seed: int = 5
) -> AnchorTargets:
    (found,) = anchor_targets(
        anchors, [target], inside=inside, per_image=per_image, spread=SPREAD, draw_seeds=[draw_seed]
    )
    return found


def test_256_anchors_are_sampled_half_of_them_objects_by_the_draw_of_their_image() -> None:
    anchors, target = anchors_of_scene(), scene(200)
    found = targets_of(anchors, target, per_image=128)
    assert (len(found.positive), len(found.negative)) == (64, 64)
    again, other = targets_of(anchors, target, per_image=128), targets_of(anchors, target, per_image=128, draw_seed=6)
    assert found.positive.tolist() == again.positive.tolist() != other.positive.tolist()
    few = targets_of(anchors, scene(1))
    assert len(few.positive) + len(few.negative) == 256
    assert 1 <= len(few.positive) < 64


@pytest.mark.parametrize("background_iou", [0.0, 0.1])
@pytest.mark.parametrize("count", OBJECTS)
def test_regions_are_matched_as_the_paper_says(count: int, background_iou: float) -> None:
    target = scene(count, num_crowds=count // 7)
    boxes = torch.cat((scene(150, seed=3).boxes, target.boxes))
    found = region_targets(boxes, target, background_iou=background_iou, spread=SPREAD)
    kinds = set()
    for region, box in enumerate(boxes.tolist()):
        overlaps = [
            (slow_iou(other, box), -i)
            for i, (other, crowd) in enumerate(zip(target.boxes.tolist(), target.crowd.tolist(), strict=True))
            if not crowd
        ]
        best, index = max(overlaps, default=(0.0, 0))
        expected, deltas = 0, [0.0] * 4
        if best >= 0.5:
            expected = target.labels[-index].item() + 1
            deltas = slow_encode(target.boxes[-index].tolist(), box)
        elif in_crowd(box, target) or (overlaps and best < background_iou):
            expected = -1
        assert found.classes[region] == expected
        assert found.deltas[region].tolist() == pytest.approx(deltas, rel=1e-9, abs=1e-9)
        kinds.add(min(expected, 1))
    assert kinds >= ({0} if count == 0 else {0, 1})
    assert torch.equal(found.boxes, boxes)


def test_a_balanced_sample_has_128_regions_and_a_quarter_of_objects_at_most() -> None:
    boxes = torch.cat((scene(400, seed=3).boxes, scene(200).boxes))
    regions = region_targets(boxes, scene(200), background_iou=0.1, spread=SPREAD)
    assert (regions.classes < 0).any()
    (found,) = sample_regions([regions], per_image=128, foreground_share=0.25, draw_seeds=[4])
    assert len(found.classes) == 128
    assert (found.classes > 0).sum() == 32
    assert (found.classes == 0).sum() == 96
    (empty,) = sample_regions(
        [region_targets(boxes, scene(0), background_iou=0.1, spread=SPREAD)],
        per_image=128,
        foreground_share=0.25,
        draw_seeds=[4],
    )
    assert empty.classes.tolist() == [0] * 128


def slow_proposals(
    objectness: list[float], deltas: list[Box], anchors: list[Box], size: tuple[int, int], rule: ProposalRule
) -> list[tuple[Box, float]]:
    order = sorted(range(len(objectness)), key=lambda a: -objectness[a])[: rule.before_nms]
    kept: list[tuple[Box, float]] = []
    for a in order:
        x1, y1, x2, y2 = slow_decode(deltas[a], anchors[a])
        box = [min(max(x1, 0), size[1]), min(max(y1, 0), size[0]), min(max(x2, 0), size[1]), min(max(y2, 0), size[0])]
        if box[2] - box[0] < rule.min_px or box[3] - box[1] < rule.min_px:
            continue
        if all(slow_iou(box, other) <= rule.nms_iou for other, _ in kept):
            kept.append((box, 1 / (1 + math.exp(-objectness[a]))))
    return kept[: rule.after_nms]


def test_proposals_are_the_best_regressed_anchors_that_do_not_overlap() -> None:
    anchors = anchors_of_scene()
    generator = torch.Generator().manual_seed(1)
    objectness = torch.randn(2, len(anchors), generator=generator, dtype=torch.float64)
    deltas = 2 * torch.randn(2, len(anchors), 4, generator=generator, dtype=torch.float64)
    rule = ProposalRule(before_nms=300, after_nms=80, nms_iou=0.7, min_px=8.0, spread=SPREAD)
    sizes = [(HEIGHT, WIDTH), (70, 50)]
    found = choose_proposals(objectness, deltas, anchors=anchors, sizes=sizes, rule=rule)
    for one, scores, shift, size in zip(found, objectness, deltas, sizes, strict=True):
        expected = slow_proposals(scores.tolist(), shift.tolist(), anchors.tolist(), size, rule)
        assert 20 < len(expected) == len(one.boxes)
        torch.testing.assert_close(one.boxes, torch.tensor([box for box, _ in expected], dtype=torch.float64))
        torch.testing.assert_close(one.scores, torch.tensor([score for _, score in expected], dtype=torch.float64))
