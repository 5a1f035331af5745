"""Assignment and loss of every variant of YOLOv3 against plain loops over images, boxes and cells, in float64."""

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from accel_det.models.base import Inference
from accel_det.models.yolov3.model import COCO_ANCHORS_PX, YoloV3, YoloV3Options
from accel_det.types import Batch, BoxTarget, Frame

HEIGHT, WIDTH, CLASSES = 64, 96, 3
STRIDES = (8, 16, 32)
ANCHORS = [
    [(COCO_ANCHORS_PX[6 * level + 2 * a], COCO_ANCHORS_PX[6 * level + 2 * a + 1]) for a in range(3)]
    for level in range(3)
]
COUNTS = ((0, 0), (1, 0), (7, 3), (40, 0), (200, 12))

Corners = tuple[float, float, float, float]
Place = tuple[int, int, int, int]  # image, anchor, row, column


class Fixed(nn.Module):
    """In place of the network: the predictions are its parameters."""

    strides = STRIDES
    pretrained_layers = 0
    num_classes = CLASSES

    def __init__(self, num_images: int, *, seed: int) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        shapes = [(num_images, 3, 5 + CLASSES, HEIGHT // s, WIDTH // s) for s in STRIDES]
        self.raw = nn.ParameterList(torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes)

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.raw)


class Truth(NamedTuple):
    box: Corners
    label: int
    crowd: bool


def scene(counts: tuple[int, ...], *, seed: int) -> Batch[BoxTarget]:
    draw = torch.Generator().manual_seed(seed)
    limit = torch.tensor([WIDTH, HEIGHT], dtype=torch.float32)
    targets = []
    for count in counts:
        corner = torch.rand(count, 2, generator=draw) * limit * 0.9
        boxes = torch.cat((corner, torch.minimum(corner + 2 + torch.rand(count, 2, generator=draw) * 70, limit)), dim=1)
        labels = torch.randint(0, CLASSES, (count,), generator=draw)
        targets.append(BoxTarget(boxes, labels, torch.rand(count, generator=draw) < 0.15, torch.ones(count)))
    images = torch.zeros((len(counts), 3, HEIGHT, WIDTH), dtype=torch.uint8)
    frames = [Frame(i, f"image {i}", HEIGHT, WIDTH) for i in range(len(counts))]
    return Batch(images, torch.tensor([[HEIGHT, WIDTH]] * len(counts)), targets, frames)


def model(num_images: int, *, seed: int, options: YoloV3Options) -> YoloV3:
    network = Fixed(num_images, seed=seed)
    return YoloV3(network, inference=Inference(), options=options).train()  # type: ignore[arg-type]


def truths(batch: Batch[BoxTarget]) -> list[list[Truth]]:
    return [
        [
            Truth((box[0], box[1], box[2], box[3]), label, crowd)
            for box, label, crowd in zip(t.boxes.tolist(), t.labels.tolist(), t.crowd.tolist(), strict=True)
        ]
        for t in batch.targets
    ]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def entropy(logit: float, target: float) -> float:
    p = sigmoid(logit)
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


def area(box: Corners) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def common(a: Corners, b: Corners) -> float:
    return max(min(a[2], b[2]) - max(a[0], b[0]), 0.0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)


def iou(a: Corners, b: Corners) -> float:
    return common(a, b) / (area(a) + area(b) - common(a, b))


def giou(a: Corners, b: Corners) -> float:
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    union = area(a) + area(b) - common(a, b)
    return common(a, b) / union - (hull - union) / hull


def shape_iou(box: Corners, anchor: tuple[float, float]) -> float:
    return iou((0.0, 0.0, box[2] - box[0], box[3] - box[1]), (0.0, 0.0, *anchor))


def predicted_box(cell: list[float], level: int, place: Place) -> Corners:
    _, a, row, column = place
    x, y = (sigmoid(cell[0]) + column) * STRIDES[level], (sigmoid(cell[1]) + row) * STRIDES[level]
    w, h = (ANCHORS[level][a][i] * math.exp(cell[2 + i]) for i in range(2))
    return (x - w / 2, y - h / 2, x + w / 2, y + h / 2)


def learned(images: list[list[Truth]], level: int, *, per_level: bool) -> dict[Place, list[Truth]]:
    """Place -> the objects assigned to it, in order."""
    found: dict[Place, list[Truth]] = {}
    for image, objects in enumerate(images):
        for one in objects:
            overlaps = [[shape_iou(one.box, anchor) for anchor in anchors] for anchors in ANCHORS]
            best_level = max(range(3), key=lambda i: max(overlaps[i]))
            if one.crowd or not (per_level or best_level == level):
                continue
            row, column = cell_of(one, level)
            place = (image, overlaps[level].index(max(overlaps[level])), row, column)
            found.setdefault(place, []).append(one)
    return found


def cell_of(one: Truth, level: int) -> tuple[int, int]:
    stride = STRIDES[level]
    row, column = (one.box[1] + one.box[3]) / 2 / stride, (one.box[0] + one.box[2]) / 2 / stride
    return min(int(row), HEIGHT // stride - 1), min(int(column), WIDTH // stride - 1)


def spared(images: list[list[Truth]], level: int, *, above: float) -> set[Place]:
    return {
        (image, a, *cell_of(one, level))
        for image, objects in enumerate(images)
        for one in objects
        for a, anchor in enumerate(ANCHORS[level])
        if not one.crowd and shape_iou(one.box, anchor) > above
    }


def is_ignored(box: Corners, objects: list[Truth], *, above: float, objects_too: bool) -> bool:
    shares = [common(box, one.box) / area(box) if one.crowd else objects_too * iou(box, one.box) for one in objects]
    return max(shares, default=0.0) > above


def targets_of(one: Truth, level: int, place: Place) -> list[float]:
    """Offsets of the center in the cell, and logarithms of the sides over the anchor's."""
    (x1, y1, x2, y2), stride = one.box, STRIDES[level]
    anchor = ANCHORS[level][place[1]]
    return [
        (x1 + x2) / 2 / stride - place[3],
        (y1 + y2) / 2 / stride - place[2],
        math.log((x2 - x1) / anchor[0]),
        math.log((y2 - y1) / anchor[1]),
    ]


def box_loss(name: str, cell: list[float], one: Truth, level: int, place: Place) -> float:
    t = targets_of(one, level, place)
    sizes = sum((cell[i] - t[i]) ** 2 for i in (2, 3))
    if name == "darknet":
        small = 2 - area(one.box) / (HEIGHT * WIDTH)
        return small * (sum(entropy(cell[i], t[i]) for i in (0, 1)) + sizes / 2)
    squares = sum((sigmoid(cell[i]) - t[i]) ** 2 for i in (0, 1)) + sizes
    if name == "paper":
        return squares / 2
    if name == "per_scale":
        return 10 * squares  # its mean is over 4 numbers per match: the count
    return 0.05 * (1 - giou(predicted_box(cell, level, place), one.box))


def reference(
    name: str, raw: list[Tensor], batch: Batch[BoxTarget], *, ignore_iou: float
) -> dict[str, tuple[float, float]]:
    """Term -> (sum, count), as the papers and published facts have them."""
    images, terms = truths(batch), {}
    per_level = name == "per_scale"
    for level, tensor in enumerate(raw):
        found = learned(images, level, per_level=per_level)
        near = spared(images, level, above=ignore_iou) if per_level else set()
        sums = dict.fromkeys(("box", "object", "background", "class"), 0.0)
        size = 5 * HEIGHT * WIDTH / 416**2 * (4.0, 1.0, 0.4)[level] if name == "giou" else 1.0
        num_cells = num_background = 0
        num_images, num_anchors, _, rows, columns = tensor.shape
        for place in (
            (b, a, r, c)
            for b in range(num_images)
            for a in range(num_anchors)
            for r in range(rows)
            for c in range(columns)
        ):
            b, a, r, c = place
            cell = tensor[b, a, :, r, c].tolist()
            num_cells += 1
            if place in found:
                one = found[place][-1]
                labels = {t.label for t in found[place]}
                sums["box"] += box_loss(name, cell, one, level, place)
                overlap = iou(predicted_box(cell, level, place), one.box) if per_level else 0.0
                sums["object"] += (sigmoid(cell[4]) - overlap) ** 2 if per_level else size * entropy(cell[4], 1)
                if per_level:
                    sums["class"] += math.log(sum(math.exp(x) for x in cell[5:])) - cell[5 + one.label]
                else:
                    gain = CLASSES / 80 if name == "giou" else 1.0
                    sums["class"] += gain * sum(entropy(cell[5 + k], float(k in labels)) for k in range(CLASSES))
            elif place not in near:
                num_background += 1
                box = predicted_box(cell, level, place)
                if not is_ignored(box, images[b], above=ignore_iou, objects_too=not per_level):
                    sums["background"] += (10.0 if per_level else size) * entropy(cell[4], 0)
        if name in ("darknet", "paper"):
            counts = dict.fromkeys(sums, num_images)
        elif name == "giou":
            counts = {"box": len(found), "object": num_cells, "background": num_cells, "class": CLASSES * len(found)}
        else:
            counts = {"box": 4 * len(found), "object": len(found), "background": num_background, "class": len(found)}
        terms |= {f"{part}/p{level + 3}": (value, float(counts[part])) for part, value in sums.items()}
    return terms


@pytest.mark.parametrize(("name", "ignore_iou"), [("darknet", 0.7), ("paper", 0.5), ("giou", 0.5), ("per_scale", 0.5)])
def test_sums_and_counts_equal_a_search_over_every_cell(name: str, ignore_iou: float) -> None:
    swept = 0
    for seed, counts in enumerate(COUNTS):
        batch = scene(counts, seed=seed)
        network = model(len(counts), seed=seed, options=YoloV3Options(loss=name))  # type: ignore[arg-type]
        found = network.losses(batch)
        expected = reference(name, [raw.detach() for raw in network.network.raw], batch, ignore_iou=ignore_iou)
        assert list(found) == list(network.counts(batch))
        assert found.keys() == expected.keys()
        for term, (total, count) in expected.items():
            assert found[term].sum.item() == pytest.approx(total, rel=1e-9, abs=1e-12), (counts, term)
            assert found[term].count.item() == count, (counts, term)
            swept += total > 0
    assert swept >= 30


@pytest.mark.parametrize("ignore_iou", [0.3, 0.5, 0.7])
def test_the_overlap_from_which_a_prediction_is_no_background_is_a_setting_of_its_own(ignore_iou: float) -> None:
    batch = scene((30, 5), seed=8)
    network = model(2, seed=8, options=YoloV3Options(loss="darknet", ignore_iou=ignore_iou))
    found = network.losses(batch)
    expected = reference("darknet", [raw.detach() for raw in network.network.raw], batch, ignore_iou=ignore_iou)
    assert {name: term.sum.item() for name, term in found.items()} == pytest.approx(
        {name: total for name, (total, _) in expected.items()}, rel=1e-9
    )


def test_the_gradient_of_the_darknet_loss_is_the_difference_that_darknet_propagates() -> None:
    """Prediction minus truth for x, y, objectness and classes after the sigmoid, and for the logarithms of the sides."""
    batch = scene((9, 2), seed=4)
    images = truths(batch)
    network = model(2, seed=4, options=YoloV3Options())
    torch.stack([term.sum for term in network.losses(batch).values()]).sum().backward()
    swept = 0
    for level, raw in enumerate(network.network.raw):
        for place, objects in learned(images, level, per_level=False).items():
            b, a, row, column = place
            cell, gradient = raw[b, a, :, row, column].tolist(), raw.grad[b, a, :, row, column].tolist()
            t, small = targets_of(objects[-1], level, place), 2 - area(objects[-1].box) / (HEIGHT * WIDTH)
            expected = [small * (sigmoid(cell[i]) - t[i]) for i in (0, 1)]
            expected += [small * (cell[i] - t[i]) for i in (2, 3)]
            expected += [sigmoid(cell[4]) - 1]
            expected += [sigmoid(cell[5 + k]) - (k in {o.label for o in objects}) for k in range(CLASSES)]
            assert gradient == pytest.approx(expected, rel=1e-9)
            swept += 1
    assert swept >= 8


def test_the_overlap_that_objectness_learns_carries_no_gradient_to_the_box() -> None:
    network = model(1, seed=2, options=YoloV3Options(loss="per_scale"))
    losses = network.losses(scene((5,), seed=2))
    torch.stack([losses[f"object/p{i}"].sum for i in (3, 4, 5)]).sum().backward()
    gradients = [raw.grad for raw in network.network.raw]
    assert all(g is not None and not g[:, :, :4].any() for g in gradients)
    assert any(g is not None and g[:, :, 4].any() for g in gradients)


def test_the_loss_of_the_same_predictions_is_the_same_twice_and_changes_neither_them_nor_the_targets() -> None:
    for name in ("darknet", "paper", "giou", "per_scale"):
        batch = scene((6, 1), seed=3)
        network = model(2, seed=3, options=YoloV3Options(loss=name))  # type: ignore[arg-type]
        raw = [tensor.detach().clone() for tensor in network.network.raw]
        given = [(t.boxes.clone(), t.labels.clone()) for t in batch.targets]
        first, second = network.losses(batch), network.losses(batch)
        assert all(torch.equal(first[term].sum, second[term].sum) for term in first)
        assert all(torch.equal(before, after) for before, after in zip(raw, network.network.raw, strict=True))
        for (boxes, labels), target in zip(given, batch.targets, strict=True):
            assert torch.equal(boxes, target.boxes)
            assert torch.equal(labels, target.labels)


def test_an_exponent_of_a_thousand_gives_finite_losses_gradients_and_boxes() -> None:
    for name in ("darknet", "paper", "giou", "per_scale"):
        network = model(1, seed=1, options=YoloV3Options(loss=name)).float()  # type: ignore[arg-type]
        with torch.no_grad():
            for raw in network.network.raw:
                raw[:, :, :4] = 1000.0
        losses = network.losses(scene((4,), seed=1))
        torch.stack([term.sum for term in losses.values()]).sum().backward()
        assert all(term.sum.isfinite() for term in losses.values())
        assert all(raw.grad is not None and raw.grad.isfinite().all() for raw in network.network.raw)
        found = network.eval()(scene((0,), seed=1))
        assert len(found[0].boxes) > 0
        assert found[0].boxes.isfinite().all()
