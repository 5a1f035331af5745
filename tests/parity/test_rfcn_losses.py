"""The losses of R-FCN against plain loops written from the papers, in float64."""

import math

import pytest
import torch
from torch import Tensor

from accel_det.models.rfcn.losses import anchor_losses, region_losses
from accel_det.models.rfcn.network import ScoredAnchors
from accel_det.models.rfcn.targets import AnchorTargets
from accel_det.types import Losses

NUM_CLASSES = 5  # with background


class Regions:
    """Predictions and targets of regions, image after image; some take no part."""

    def __init__(self, *per_image: int, class_aware: bool = False, seed: int = 0) -> None:
        total = sum(per_image)
        generator = torch.Generator().manual_seed(seed)
        self.per_image = list(per_image)
        columns = NUM_CLASSES if class_aware else 2
        self.logits = 3 * torch.randn(total, NUM_CLASSES, generator=generator, dtype=torch.float64)
        self.deltas = 2 * torch.randn(total, columns, 4, generator=generator, dtype=torch.float64)
        self.classes = torch.randint(-1, NUM_CLASSES, (total,), generator=generator)
        self.wanted = torch.randn(total, 4, generator=generator, dtype=torch.float64)
        for tensor in (self.logits, self.deltas):
            tensor.requires_grad_()

    def losses(self, *, hardest: int | None, box_weight: float = 1.0) -> Losses:
        return region_losses(
            self.logits,
            self.deltas,
            classes=self.classes,
            delta_targets=self.wanted,
            per_image=self.per_image,
            hardest=hardest,
            box_weight=box_weight,
        )

    def slow_losses(self, *, hardest: int | None, box_weight: float = 1.0) -> tuple[float, float, list[int]]:
        """Sum of the class loss, sum of the box loss, and the regions that are learnt from."""
        class_sum, box_sum, learnt = 0.0, 0.0, []
        first = 0
        for number in self.per_image:
            of_image = [r for r in range(first, first + number) if self.classes[r] >= 0]
            if hardest is not None:
                of_image = sorted(of_image, key=lambda r: -sum(self.slow_loss(r, box_weight)))[:hardest]
            learnt += sorted(of_image)
            class_sum += sum(self.slow_loss(r, box_weight)[0] for r in of_image)
            box_sum += sum(self.slow_loss(r, box_weight)[1] for r in of_image)
            first += number
        return class_sum, box_sum, learnt

    def slow_loss(self, region: int, box_weight: float) -> tuple[float, float]:
        logits, label = self.logits[region].tolist(), int(self.classes[region])
        entropy = math.log(sum(math.exp(logit) for logit in logits)) - logits[label]
        if label == 0:
            return entropy, 0.0
        column = label if self.deltas.shape[1] > 2 else 1
        pairs = zip(self.deltas[region, column].tolist(), self.wanted[region].tolist(), strict=True)
        return entropy, box_weight * sum(smooth_l1(found - wanted) for found, wanted in pairs)


def smooth_l1(x: float, sigma: float = 1.0) -> float:
    """Fast R-CNN, section 2.3, with Faster R-CNN's sigma."""
    return 0.5 * (sigma * x) ** 2 if abs(x) < 1 / sigma**2 else abs(x) - 0.5 / sigma**2


@pytest.mark.parametrize("class_aware", [False, True])
@pytest.mark.parametrize("hardest", [None, 16, 128])
@pytest.mark.parametrize("per_image", [(200, 0, 60), (5,), (0, 0)])
def test_region_losses_are_those_of_the_papers(
    per_image: tuple[int, ...], hardest: int | None, class_aware: bool
) -> None:
    regions = Regions(*per_image, class_aware=class_aware)
    losses = regions.losses(hardest=hardest, box_weight=2.0)
    class_sum, box_sum, learnt = regions.slow_losses(hardest=hardest, box_weight=2.0)
    assert losses["class"].sum.item() == pytest.approx(class_sum, rel=1e-12)
    assert losses["box"].sum.item() == pytest.approx(box_sum, rel=1e-12)
    assert losses["class"].count.item() == len(learnt)
    assert losses["box"].count.item() == (len(learnt) if hardest is None else hardest * len(per_image))
    (losses["class"].sum + losses["box"].sum).backward()  # type: ignore[no-untyped-call]
    assert regions.logits.grad is not None
    assert regions.logits.grad.abs().sum(dim=1).nonzero().flatten().tolist() == learnt


def test_the_128_hardest_of_all_regions_are_learnt_from_also_where_an_image_has_fewer() -> None:
    regions = Regions(300, 90)
    losses = regions.losses(hardest=128)
    of_second = int((regions.classes[300:] >= 0).sum())
    assert of_second < 90 < 128
    assert losses["class"].count.item() == 128 + of_second
    kept = regions.slow_losses(hardest=128)[2]
    hardness = [sum(regions.slow_loss(r, 1.0)) for r in range(300) if regions.classes[r] >= 0]
    chosen = [sum(regions.slow_loss(r, 1.0)) for r in kept if r < 300]
    assert len(hardness) > 200
    assert sorted(hardness)[-128:] == sorted(chosen)


def test_of_regions_that_are_equally_hard_the_first_are_learnt_from() -> None:
    regions = Regions(10)
    regions.logits = torch.zeros(10, NUM_CLASSES, dtype=torch.float64, requires_grad=True)
    regions.classes = torch.zeros(10, dtype=torch.int64)
    regions.losses(hardest=4)["class"].sum.backward()  # type: ignore[no-untyped-call]
    assert regions.logits.grad is not None
    assert regions.logits.grad.abs().sum(dim=1).nonzero().flatten().tolist() == [0, 1, 2, 3]


def test_what_an_image_teaches_does_not_depend_on_the_others_of_its_batch() -> None:
    together = Regions(150, 40, 70)
    losses = together.losses(hardest=32)
    parts = []
    for first, number in ((0, 150), (150, 40), (190, 70)):
        alone = Regions(number)
        rows = slice(first, first + number)
        alone.logits, alone.deltas = together.logits[rows], together.deltas[rows]
        alone.classes, alone.wanted = together.classes[rows], together.wanted[rows]
        parts.append(alone.losses(hardest=32))
    for name, term in losses.items():
        assert term.sum.item() == pytest.approx(sum(part[name].sum.item() for part in parts), rel=1e-12)
        assert term.count.item() == sum(part[name].count.item() for part in parts)


def test_the_box_loss_of_one_box_for_all_classes_trains_the_second_column_alone() -> None:
    regions = Regions(50)
    regions.losses(hardest=None)["box"].sum.backward()  # type: ignore[no-untyped-call]
    gradient: Tensor | None = regions.deltas.grad
    assert gradient is not None
    assert gradient[:, 0].abs().max() == 0
    assert (gradient[:, 1].abs().amax(dim=1) > 0).tolist() == (regions.classes > 0).tolist()


def test_anchor_losses_are_means_over_the_sampled_anchors() -> None:
    generator = torch.Generator().manual_seed(0)
    objectness = torch.randn(2, 40, generator=generator, dtype=torch.float64)
    deltas = 0.2 * torch.randn(2, 40, 4, generator=generator, dtype=torch.float64)
    wanted = 0.2 * torch.randn(3, 4, generator=generator, dtype=torch.float64)
    none = torch.zeros(0, dtype=torch.int64)
    targets = [
        AnchorTargets(torch.tensor([3, 9, 30]), torch.tensor([1, 2, 5, 39]), wanted),
        AnchorTargets(none, torch.tensor([0, 7]), torch.zeros(0, 4, dtype=torch.float64)),
    ]
    losses = anchor_losses(ScoredAnchors(objectness, deltas), targets)
    entropy = sum(
        math.log(1 + math.exp(-sign * objectness[image, anchor].item()))
        for image, (positive, negative, _) in enumerate(targets)
        for sign, chosen in ((1, positive), (-1, negative))
        for anchor in chosen.tolist()
    )
    distance = sum(
        smooth_l1(found - want, sigma=3.0)
        for anchor, target in zip((3, 9, 30), wanted.tolist(), strict=True)
        for found, want in zip(deltas[0, anchor].tolist(), target, strict=True)
    )
    assert losses["rpn_objectness"].sum.item() == pytest.approx(entropy, rel=1e-12)
    assert losses["rpn_box"].sum.item() == pytest.approx(distance, rel=1e-12)
    assert {term.count.item() for term in losses.values()} == {9.0}
