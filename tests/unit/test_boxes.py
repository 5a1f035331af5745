"""Geometry of boxes against plain loops over plain numbers."""

import math
import random

import pytest
import torch
from torch import Tensor

from accel_det import boxes
from accel_det.types import Placement

Box = tuple[float, float, float, float]


def random_boxes(count: int, *, seed: int) -> Tensor:
    """(count, 4) float64 xyxy, some of them without extent, many overlapping."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        x, y = rng.uniform(-20, 80), rng.uniform(-20, 80)
        rows.append(
            (x, y, x + rng.choice((0, 30, 60, 60)) * rng.random(), y + rng.choice((0, 30, 60, 60)) * rng.random())
        )
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)


def scalar_iou(a: Box, b: Box) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def scalar_complete_iou(p: Box, t: Box, eps: float) -> float:
    """Zheng et al., Distance-IoU Loss, 2020, equations 10 to 12, as written there but for `eps`."""
    width = max(0.0, min(p[2], t[2]) - max(p[0], t[0]))
    height = max(0.0, min(p[3], t[3]) - max(p[1], t[1]))
    inter = width * height
    iou = inter / ((p[2] - p[0]) * (p[3] - p[1]) + (t[2] - t[0]) * (t[3] - t[1]) - inter + eps)
    rho2 = ((p[0] + p[2]) / 2 - (t[0] + t[2]) / 2) ** 2 + ((p[1] + p[3]) / 2 - (t[1] + t[3]) / 2) ** 2
    c2 = (max(p[2], t[2]) - min(p[0], t[0])) ** 2 + (max(p[3], t[3]) - min(p[1], t[1])) ** 2 + eps
    difference = math.atan((t[2] - t[0]) / (t[3] - t[1] + eps)) - math.atan((p[2] - p[0]) / (p[3] - p[1] + eps))
    v = 4 / math.pi**2 * difference**2
    return iou - rho2 / c2 - v / (1 - iou + v + eps) * v


def scalar_generalized_iou(a: Box, b: Box) -> float:
    """Rezatofighi et al., Generalized IoU, 2019, algorithm 1."""
    inter = max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return (inter / union if union else 0.0) - ((hull - union) / hull if hull else 0.0)


def rows(tensor: Tensor) -> list[Box]:
    return [(a, b, c, d) for a, b, c, d in tensor.tolist()]


def test_formats_turn_into_each_other_and_back() -> None:
    corners = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    assert boxes.xyxy_to_xywh(corners).tolist() == [[1, 2, 3, 6]]
    assert boxes.xyxy_to_cxcywh(corners).tolist() == [[2.5, 5, 3, 6]]
    for one in (random_boxes(50, seed=1), torch.zeros((0, 4)), torch.zeros((2, 3, 4))):
        assert torch.allclose(boxes.xywh_to_xyxy(boxes.xyxy_to_xywh(one)), one, atol=1e-12)
        assert torch.allclose(boxes.cxcywh_to_xyxy(boxes.xyxy_to_cxcywh(one)), one, atol=1e-12)
        assert boxes.cxcywh_to_xyxy(one).shape == one.shape


def test_areas_of_inverted_boxes_are_zero() -> None:
    given = torch.tensor([[0.0, 0, 2, 3], [1, 1, 1, 5], [4, 4, 2, 8], [4, 4, 2, 2]])
    assert boxes.area(given).tolist() == [6, 0, 0, 0]
    assert boxes.area(torch.zeros((0, 4))).shape == (0,)


def test_pairwise_iou_equals_a_plain_loop() -> None:
    first, second = random_boxes(40, seed=2), random_boxes(60, seed=3)
    second[:10] = first[:10]
    found = boxes.pairwise_iou(first, second)
    expected = [[scalar_iou(a, b) for b in rows(second)] for a in rows(first)]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), atol=1e-14, rtol=0)
    assert float(found.max()) == 1.0
    assert 0.02 < float((found > 0).double().mean()) < 0.9


def test_pairwise_iou_of_nothing_is_an_empty_table() -> None:
    some, none = random_boxes(3, seed=4), torch.zeros((0, 4), dtype=torch.float64)
    assert boxes.pairwise_iou(some, none).shape == (3, 0)
    assert boxes.pairwise_iou(none, some).shape == (0, 3)
    point = torch.tensor([[5.0, 5.0, 5.0, 5.0]])
    assert boxes.pairwise_iou(point, point).tolist() == [[0.0]]


def test_generalized_iou_equals_a_plain_loop_pair_by_pair_and_broadcast_and_is_finite_for_empty_boxes() -> None:
    first, second = random_boxes(40, seed=2), random_boxes(60, seed=3)
    second[:10] = first[:10]
    found = boxes.generalized_iou(first[:, None], second[None])
    expected = [[scalar_generalized_iou(a, b) for b in rows(second)] for a in rows(first)]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), atol=1e-14, rtol=0)
    assert torch.equal(boxes.generalized_iou(first, second[:40]), found.diagonal())
    assert float(found.max()) == 1.0
    assert -1 <= float(found.min()) < -0.8
    point = torch.tensor([[5.0, 5.0, 5.0, 5.0]], requires_grad=True)
    value = boxes.generalized_iou(point, point.detach())
    value.sum().backward()  # type: ignore[no-untyped-call]
    assert value.tolist() == [0.0]
    assert point.grad is not None and bool(point.grad.isfinite().all())


@pytest.mark.parametrize("eps", [1e-7, 1e-9])
def test_complete_iou_equals_the_scalar_formula(eps: float) -> None:
    predicted, truth = random_boxes(300, seed=5), random_boxes(300, seed=6)
    truth[:50] = predicted[:50]
    truth[50:150] = predicted[50:150] + torch.rand((100, 1), dtype=torch.float64, generator=torch.Generator())
    found = boxes.complete_iou(predicted, truth, eps=eps)
    expected = [scalar_complete_iou(p, t, eps) for p, t in zip(rows(predicted), rows(truth), strict=True)]
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0)
    assert -2.5 < float(found.min()) < -0.5
    assert float(found.max()) <= 1 + 1e-9


def test_the_gradient_of_complete_iou_is_that_of_finite_differences_with_a_constant_trade_off() -> None:
    predicted = torch.tensor([[1.0, 2, 7, 9], [30, 5, 41, 9], [0, 0, 3, 3]], dtype=torch.float64)
    truth = torch.tensor([[2.0, 1, 8, 7], [33, 4, 40, 12], [10, 10, 14, 12]], dtype=torch.float64)
    given = predicted.clone().requires_grad_()
    boxes.complete_iou(given, truth).sum().backward()
    assert given.grad is not None
    for row, (p, t) in enumerate(zip(rows(predicted), rows(truth), strict=True)):
        for column in range(4):
            ends = []
            for sign in (1, -1):
                moved = list(p)
                moved[column] += sign * 1e-6
                ends.append(_complete_iou_with_alpha_of(p, (moved[0], moved[1], moved[2], moved[3]), t))
            assert float(given.grad[row, column]) == pytest.approx((ends[0] - ends[1]) / 2e-6, abs=1e-7)


def _complete_iou_with_alpha_of(origin: Box, p: Box, t: Box) -> float:
    """The scalar formula at p, its weight alpha taken at `origin`: what a gradient without alpha belongs to."""
    eps = 1e-7
    angle_t = math.atan((t[2] - t[0]) / (t[3] - t[1] + eps))
    v = 4 / math.pi**2 * (angle_t - math.atan((p[2] - p[0]) / (p[3] - p[1] + eps))) ** 2
    v0 = 4 / math.pi**2 * (angle_t - math.atan((origin[2] - origin[0]) / (origin[3] - origin[1] + eps))) ** 2
    iou, iou0 = scalar_iou(p, t), scalar_iou(origin, t)
    return scalar_complete_iou(p, t, eps) + v / (1 - iou + v + eps) * v - v0 / (1 - iou0 + v0 + eps) * v


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_degenerate_boxes_have_a_finite_complete_iou_and_gradient(dtype: torch.dtype) -> None:
    odd = [(5, 5, 5, 5), (5, 5, 9, 5), (5, 5, 5, 9), (5, 5, 9, 9), (0, 0, 1e4, 1e-4), (1e5, 0, 1e5, 1e4), (0, 0, 0, 0)]
    predicted = torch.tensor([p for p in odd for _ in odd], dtype=dtype, requires_grad=True)
    truth = torch.tensor([t for _ in odd for t in odd], dtype=dtype)
    found = boxes.complete_iou(predicted, truth)
    found.sum().backward()
    assert predicted.grad is not None
    assert bool(torch.isfinite(found).all())
    assert bool(torch.isfinite(predicted.grad).all())


def test_complete_iou_of_no_boxes_is_empty_and_differentiable() -> None:
    none = torch.zeros((0, 4), requires_grad=True)
    found = boxes.complete_iou(none, torch.zeros((0, 4)))
    found.sum().backward()
    assert found.shape == (0,)
    assert none.grad is not None


def test_clipping_keeps_what_is_inside() -> None:
    given = torch.tensor([[-5.0, -5, 50, 50], [1, 2, 3, 4], [30, 30, 40, 40], [-9, 3, -1, 5]])
    assert boxes.clip(given, height=20, width=10).tolist() == [
        [0, 0, 10, 20],
        [1, 2, 3, 4],
        [10, 20, 10, 20],
        [0, 3, 0, 5],
    ]


def test_a_letterboxed_image_fits_touches_two_sides_and_keeps_its_aspect() -> None:
    rng = random.Random(7)
    for _ in range(2000):
        height, width = rng.randint(1, 3000), rng.randint(1, 3000)
        canvas_height, canvas_width = rng.randint(1, 1500), rng.randint(1, 1500)
        new_height, new_width, placement = boxes.letterbox(
            height=height, width=width, canvas_height=canvas_height, canvas_width=canvas_width
        )
        assert 1 <= new_height <= canvas_height
        assert 1 <= new_width <= canvas_width
        assert new_height == canvas_height or new_width == canvas_width
        scale = min(canvas_height / height, canvas_width / width)
        assert abs(new_height - max(1, height * scale)) <= 0.5 + 1e-9
        assert abs(new_width - max(1, width * scale)) <= 0.5 + 1e-9
        whole = boxes.place(torch.tensor([[0.0, 0, width, height]], dtype=torch.float64), placement)
        left, top, right, bottom = whole[0].tolist()
        assert (right - left, bottom - top) == (pytest.approx(new_width), pytest.approx(new_height))
        assert -1e-9 <= (canvas_width - right) - left <= 1 + 1e-9
        assert -1e-9 <= (canvas_height - bottom) - top <= 1 + 1e-9


def random_placement(rng: random.Random) -> Placement:
    scale_x = rng.choice((-1, 1)) * math.exp(rng.uniform(-4, 4))
    return Placement(scale_x, math.exp(rng.uniform(-4, 4)), rng.uniform(-900, 900), rng.uniform(-900, 900))


def test_placing_and_taking_back_is_the_identity() -> None:
    rng = random.Random(8)
    for seed in range(200):
        placement, given = random_placement(rng), random_boxes(20, seed=seed)
        placed = boxes.place(given, placement)
        assert bool((placed[:, 2:] >= placed[:, :2]).all())
        assert torch.allclose(boxes.unplace(placed, placement), given, atol=1e-9)
        assert torch.allclose(boxes.place(boxes.unplace(given, placement), placement), given, atol=1e-9)


def test_a_composed_placement_does_one_after_the_other() -> None:
    rng = random.Random(9)
    for seed in range(200):
        first, second, given = random_placement(rng), random_placement(rng), random_boxes(20, seed=seed)
        stepwise = boxes.place(boxes.place(given, first), second)
        assert torch.allclose(boxes.place(given, boxes.compose(first, second)), stepwise, rtol=1e-10, atol=1e-8)
    assert boxes.compose(first, Placement()) == first
    assert boxes.compose(Placement(), second) == second


def test_a_mirrored_box_swaps_its_left_and_right() -> None:
    placed = boxes.place(torch.tensor([[1.0, 2, 4, 6]]), Placement(-1.0, 1.0, 10.0, 0.0))
    assert placed.tolist() == [[6, 2, 9, 6]]
    assert boxes.place(torch.zeros((0, 4)), Placement(-1.0)).shape == (0, 4)
