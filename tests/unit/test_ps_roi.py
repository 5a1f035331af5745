"""Position-sensitive pooling against loops over every sample, and against torchvision's operations, in float64."""

import math
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torchvision.ops import ps_roi_pool

from accel_det.models.layers.ps_roi import Pooling, PoolKind, pool_regions

STRIDE, ROWS, COLUMNS = 16, 6, 9
KINDS: tuple[PoolKind, ...] = get_args(PoolKind)


def scene(*per_image: int, bins: int, outputs: int = 2) -> tuple[Tensor, list[Tensor]]:
    """Random maps, and boxes that also lie on the border, beside the map and within one cell."""
    generator = torch.Generator().manual_seed(7)
    maps = torch.randn(
        len(per_image), outputs * bins * bins, ROWS, COLUMNS, generator=generator, dtype=torch.float64
    ).requires_grad_()
    extent = torch.tensor([COLUMNS, ROWS], dtype=torch.float64) * STRIDE
    boxes = []
    for count in per_image:
        corner = (torch.rand(count, 2, generator=generator, dtype=torch.float64) * 1.2 - 0.2) * extent
        side = torch.rand(count, 2, generator=generator, dtype=torch.float64) ** 2 * extent + 0.5
        boxes.append(torch.cat((corner, corner + side), dim=1))
    return maps, boxes


def slow_pool(map_: Tensor, box: list[float], *, bins: int) -> Tensor:
    """Mean of the cells of each bin: R-FCN, 2016, equation 1, with the rounding of Fast R-CNN's pooling."""
    outputs, (rows, columns) = len(map_) // bins**2, map_.shape[1:]
    x1, y1, x2, y2 = (math.floor(value / STRIDE + 0.5) for value in box)
    width, height = max(x2 - x1, 1), max(y2 - y1, 1)
    pooled = torch.zeros(outputs, bins, bins, dtype=map_.dtype)
    for output in range(outputs):
        for row in range(bins):
            for column in range(bins):
                ys = range(y1 + math.floor(row * height / bins), y1 + math.ceil((row + 1) * height / bins))
                xs = range(x1 + math.floor(column * width / bins), x1 + math.ceil((column + 1) * width / bins))
                cells = [(y, x) for y in ys for x in xs if 0 <= y < rows and 0 <= x < columns]
                channel = map_[(output * bins + row) * bins + column]
                for y, x in cells:
                    pooled[output, row, column] += channel[y, x].item() / len(cells)
    return pooled


def slow_align(
    map_: Tensor, box: list[float], *, bins: int, samples: int, half: float, shift: Tensor | None = None
) -> Tensor:
    """Mean of bilinear samples; a bin is moved by a share of the region's sides."""
    outputs = len(map_) // bins**2
    x1, y1, x2, y2 = (value / STRIDE - half for value in box)
    width, height = x2 - x1, y2 - y1
    pooled = torch.zeros(outputs, bins, bins, dtype=map_.dtype)
    for output in range(outputs):
        for row in range(bins):
            for column in range(bins):
                channel = map_[(output * bins + row) * bins + column]
                left, top = x1 + column * width / bins, y1 + row * height / bins
                if shift is not None:
                    left += shift[0, row, column].item() * width
                    top += shift[1, row, column].item() * height
                values = [
                    bilinear(
                        channel, top + (i + 0.5) / samples * height / bins, left + (j + 0.5) / samples * width / bins
                    )
                    for i in range(samples)
                    for j in range(samples)
                ]
                pooled[output, row, column] = sum(values) / len(values)
    return pooled


def bilinear(channel: Tensor, y: float, x: float) -> float:
    rows, columns = channel.shape
    if not (-1 <= y <= rows and -1 <= x <= columns):
        return 0.0
    y, x = min(max(y, 0.0), rows - 1), min(max(x, 0.0), columns - 1)
    above, left = int(y), int(x)
    below, right = min(above + 1, rows - 1), min(left + 1, columns - 1)
    down, across = y - above, x - left
    return float(
        (1 - down) * ((1 - across) * channel[above, left] + across * channel[above, right])
        + down * ((1 - across) * channel[below, left] + across * channel[below, right])
    )


@pytest.mark.parametrize("operations", ["torchvision", "tensor"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("bins", "samples"), [(1, 1), (3, 2)])
def test_pooling_is_what_loops_over_bins_and_samples_give(
    kind: PoolKind, operations: Any, bins: int, samples: int
) -> None:
    maps, boxes = scene(9, 0, 7, bins=bins)
    pooled = pool_regions(maps, boxes, Pooling(kind, bins, STRIDE, samples, operations))
    expected = [
        slow_pool(map_, box, bins=bins)
        if kind == "pool"
        else slow_align(map_, box, bins=bins, samples=samples, half=0.5 if kind == "align" else 0.0)
        for map_, of_image in zip(maps.detach(), boxes, strict=True)
        for box in of_image.tolist()
    ]
    assert pooled.shape == (16, 2, bins, bins)
    torch.testing.assert_close(pooled, torch.stack(expected), rtol=0, atol=1e-12)
    assert pooled.abs().max() > 0.3


@pytest.mark.parametrize("kind", ["align", "bilinear"])
@pytest.mark.parametrize("samples", [2, 4])
def test_tensor_arithmetic_equals_torchvisions_operation_forward_and_backward(kind: PoolKind, samples: int) -> None:
    maps, boxes = scene(20, 0, 11, bins=7)
    gradients, pooled = [], []
    for operations in ("torchvision", "tensor"):
        found = pool_regions(maps, boxes, Pooling(kind, 7, STRIDE, samples, operations))  # type: ignore[arg-type]
        upstream = torch.randn(found.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        gradients.append(torch.autograd.grad((found * upstream).sum(), maps)[0])
        pooled.append(found)
    torch.testing.assert_close(pooled[0], pooled[1], rtol=0, atol=1e-12)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=1e-12)
    assert gradients[0].abs().max() > 0.1


def test_integer_bins_equal_torchvisions_operation_away_from_the_border() -> None:
    maps, boxes = scene(120, bins=3)
    inside = boxes[0].clamp(min=0)
    last = torch.tensor([COLUMNS - 1.5, ROWS - 1.5], dtype=torch.float64) * STRIDE
    inside = inside[(inside[:, 2:] < last).all(dim=1) & (inside[:, 2:] > inside[:, :2]).all(dim=1)]
    assert len(inside) >= 20
    found = pool_regions(maps, [inside], Pooling("pool", 3, STRIDE))
    stock = ps_roi_pool(maps, [inside], 3, 1 / STRIDE)  # type: ignore[arg-type]
    torch.testing.assert_close(found, stock, rtol=0, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad(found.square().sum(), maps), torch.autograd.grad(stock.square().sum(), maps), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_torchvisions_integer_bins_still_have_a_wrong_gradient_at_the_border() -> None:
    """The operation is linear in the maps, so <gradient, maps> must be <upstream, pooled>. If torchvision ever keeps to
    that, use its operation for "pool" as well."""
    maps, _ = scene(1, bins=3)
    box = [torch.tensor([[70.0, 60, COLUMNS * STRIDE, ROWS * STRIDE]], dtype=torch.float64)]
    for pooled, is_right in (
        (pool_regions(maps, box, Pooling("pool", 3, STRIDE)), True),
        (ps_roi_pool(maps, box, 3, 1 / STRIDE), False),  # type: ignore[arg-type]
    ):
        (gradient,) = torch.autograd.grad(pooled.sum(), maps)
        assert math.isclose((gradient * maps).sum().item(), pooled.sum().item(), rel_tol=1e-9) == is_right


@pytest.mark.parametrize("kind", ["align", "bilinear"])
def test_bins_that_are_moved_read_where_they_were_moved_to(kind: PoolKind) -> None:
    bins, samples = 3, 2
    maps, boxes = scene(6, 5, bins=bins)
    pooling = Pooling(kind, bins, STRIDE, samples)
    none = torch.zeros(11, 2, bins, bins, dtype=torch.float64)
    torch.testing.assert_close(
        pool_regions(maps, boxes, pooling, shifts=none), pool_regions(maps, boxes, pooling), rtol=0, atol=1e-12
    )
    shifts = 0.2 * torch.randn(none.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    regions = [(map_, box) for map_, rows in zip(maps.detach(), boxes, strict=True) for box in rows.tolist()]
    half = 0.5 if kind == "align" else 0.0
    expected = [
        slow_align(map_, box, bins=bins, samples=samples, half=half, shift=shift)
        for (map_, box), shift in zip(regions, shifts, strict=True)
    ]
    torch.testing.assert_close(
        pool_regions(maps, boxes, pooling, shifts=shifts), torch.stack(expected), rtol=0, atol=1e-12
    )
    few, two = maps.detach()[:1, :4].requires_grad_(), boxes[0][:2]
    moved = shifts[:2, :, :2, :2].clone().requires_grad_()
    smaller = pooling._replace(bins=2)
    assert torch.autograd.gradcheck(lambda x, by: pool_regions(x, [two], smaller, shifts=by), (few, moved))


class _Pooled(nn.Module):
    """Pooling of one image, as a module that can be exported."""

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, maps: Tensor, boxes: Tensor) -> Tensor:
        return pool_regions(maps, [boxes], self.pooling)


@pytest.mark.parametrize("kind", KINDS)
def test_tensor_arithmetic_exports_without_operations_of_its_own_and_for_any_number_of_regions(kind: PoolKind) -> None:
    maps, boxes = scene(5, bins=3)
    module = _Pooled(Pooling(kind, 3, STRIDE, 2, "tensor"))
    regions = torch.export.Dim("regions", min=2, max=1000)
    program = torch.export.export(module, (maps.detach(), boxes[0]), dynamic_shapes=(None, {0: regions}))
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert called
    assert all(name.startswith(("aten.", "<built-in function")) for name in called), called
    more = scene(8, bins=3)[1]
    torch.testing.assert_close(program.module()(maps.detach(), more[0]), module(maps, more[0]))
