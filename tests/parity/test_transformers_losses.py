"""The losses of the DETR family beside transformers' own on random scenes, and beside plain arithmetic."""

import math
from collections import Counter
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from transformers import DFineConfig
from transformers.loss import loss_d_fine, loss_deimv2, loss_utils
from transformers_cases import build_tiny, scene

from accel_det.models.transformers import detector
from accel_det.models.transformers.denoising import NoiseRule, NoisyQueries, attention_mask, noisy_queries
from accel_det.models.transformers.distribution import BinRule, bin_offsets, distill_loss, fine_loss
from accel_det.models.transformers.losses import Matched, look_up
from accel_det.models.transformers.matching import Matches, MatchRule, _union, match
from accel_det.models.transformers.objects import Objects, pack_objects
from accel_det.models.transformers.outputs import Refinement
from accel_det.types import Batch, BoxTarget

WITHOUT_NOISE = (
    "detr_resnet50",
    "table_transformer_resnet18",
    "conditional_detr_resnet50",
    "dab_detr_resnet50",
    "deformable_detr_resnet50",
    "lwdetr_tiny",
    "rfdetr_nano",
    "yolos_tiny",
)
SCENES = ((3, 1), (1, 5, 0), (30, 12), (0, 2), (200, 7))


def labels_of(batch: Batch[BoxTarget]) -> list[dict[str, Tensor]]:
    """As transformers takes them; all images fill the batch image."""
    objects = pack_objects(batch.targets, batch.sizes.float())
    parts = zip(objects.labels.split(objects.per_image), objects.boxes.split(objects.per_image), strict=True)
    return [{"class_labels": labels, "boxes": boxes} for labels, boxes in parts]


def own_loss(model: Any, batch: Batch[BoxTarget]) -> Tensor:
    return torch.stack([term.sum / term.count.clamp(min=1) for term in model.losses(batch).values()]).sum()


def their_loss(model: Any, batch: Batch[BoxTarget]) -> Tensor:
    inputs = {"pixel_values": model._pixels(batch), **model._mask(batch)}
    network = model.network
    network.loss_function = loss_utils.LOSS_MAPPING[network.loss_type]
    found: Tensor = network(**inputs, labels=labels_of(batch)).loss
    network.loss_function = detector.hand_through
    return found


QUICK = ("detr_resnet50", "deformable_detr_resnet50", "rfdetr_nano")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in WITHOUT_NOISE]
)
def test_the_loss_of_one_process_is_that_of_transformers(name: str) -> None:
    """To 1e-5, with 0 to 200 boxes in an image, and so is its gradient."""
    model = build_tiny(name).train()
    for seed, numbers in enumerate(SCENES):
        batch = scene(numbers, size_px=64, seed=seed)
        gradients = []
        for loss in (own_loss(model, batch), their_loss(model, batch)):
            model.zero_grad(set_to_none=True)
            loss.backward()
            gradients.append(
                (loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
            )
        (own, own_gradient), (theirs, their_gradient) = gradients
        assert own.item() == pytest.approx(theirs.item(), rel=1e-5)
        assert (own_gradient - their_gradient).norm() <= 1e-4 * their_gradient.norm()


@pytest.mark.parametrize("name", ["rtdetr_resnet18", "rtdetr_v2_resnet18"])
def test_the_loss_of_one_image_with_the_same_noise_is_that_of_transformers(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers is given our noise; with one image in the batch, its groups and ours are the same."""
    model: Any = build_tiny(name).train()
    for seed, number in enumerate((1, 3, 40, 200)):
        batch = scene((number,), size_px=64, seed=seed)
        rule = model.criterion.noise
        objects = pack_objects(batch.targets, batch.sizes.float())
        queries = noisy_queries(objects, [frame.draw_seed for frame in batch.frames], rule)
        assert queries is not None
        own = own_loss(model, batch).item()
        with monkeypatch.context() as patch:
            module = type(model.network).__module__
            patch.setattr(f"{module}.get_contrastive_denoising_training_group", _given(queries, rule))
            assert own == pytest.approx(their_loss(model, batch).item(), rel=1e-5)


def _given(queries: NoisyQueries, rule: NoiseRule) -> Any:
    """Our queries in the form of transformers' function that draws them."""

    def group(targets: Any, num_classes: int, num_queries: int, class_embed: Any, **_: Any) -> tuple[Any, ...]:
        length = queries.box.shape[1]
        share = queries.boxes.clamp(1e-5, 1 - 1e-5)
        mask = attention_mask(queries, num_queries=num_queries)[0, 0]
        meta = {
            "dn_positive_idx": [queries.positive[1]],
            "dn_num_group": round(1 / queries.share[0].item()),
            "dn_num_split": [length, num_queries],
        }
        return class_embed(queries.labels), (share / (1 - share)).log(), mask, meta

    return group


def test_denoising_queries_are_as_many_as_published_and_lie_in_their_reach() -> None:
    """RT-DETR: 100 // 3 = 33 groups of 3 positives and 3 negatives; corners move by at most half, or all, of the side."""
    rule = NoiseRule(100, 0.5, 1.0, 3)
    batch = scene((3, 0, 1), size_px=64)
    objects = pack_objects(batch.targets, batch.sizes.double())
    queries = noisy_queries(objects, [5, 6, 7], rule)
    assert queries is not None
    assert queries.box.shape == (3, 2 * 100)
    assert (~queries.void).sum(dim=1).tolist() == [2 * 3 * 33, 0, 200]
    assert queries.share.tolist() == [1 / 33, 1 / 100, 1 / 100]
    for image, query in (~queries.void).nonzero().tolist():
        x, y, width, height = objects.boxes[queries.box[image, query]].tolist()
        found = queries.boxes[image, query].tolist()
        reach = 1.0 if queries.negative[image, query] else 0.5
        pairs = ((x - width / 2, 0, -1, width), (y - height / 2, 1, -1, height), (x + width / 2, 0, 1, width))
        for truth, axis, sign, side in (*pairs, (y + height / 2, 1, 1, height)):
            moved = found[axis] + sign * found[axis + 2] / 2
            assert abs(moved - min(max(truth, 0), 1)) <= reach * side + 1e-9
            outside = moved in (0, 1) or not queries.negative[image, query]
            assert outside or abs(moved - truth) >= 0.5 * side - 1e-9
    changed = (queries.labels != objects.labels[queries.box])[~queries.void].double().mean()
    assert 0.10 <= changed <= 0.24  # a quarter is drawn anew, a third of which falls on the same of 3 classes: 1/6


def test_noise_depends_on_the_image_alone() -> None:
    rule = NoiseRule(20, 0.5, 1.0, 3)
    batch = scene((2, 5), size_px=64)
    both = noisy_queries(pack_objects(batch.targets, batch.sizes.double()), [8, 9], rule)
    alone = noisy_queries(pack_objects(batch.targets[1:], batch.sizes[1:].double()), [9], rule)
    assert both is not None
    assert alone is not None
    length = alone.box.shape[1]
    assert torch.equal(both.boxes[1, :length], alone.boxes[0])
    assert torch.equal(both.labels[1, :length], alone.labels[0])


@pytest.mark.parametrize("score", ["softmax", "focal"])
def test_matches_are_the_cheapest_by_plain_arithmetic(score: Any) -> None:
    draw = torch.Generator().manual_seed(1)
    batch = scene((0, 4, 17), size_px=64)
    objects = pack_objects(batch.targets, batch.sizes.double())
    logits = torch.randn(2, 3, 12, 3, generator=draw, dtype=torch.float64)
    boxes = torch.rand(2, 3, 12, 4, generator=draw, dtype=torch.float64) * 0.5 + 0.1
    rule = MatchRule(score, label=2.0, box=5.0, giou=2.0, groups=2)
    matches, again = match(logits, boxes, objects, rule, union=False)
    found = set(zip(*(column.tolist() for column in matches), strict=True))
    assert again is matches
    expected = set()
    for stage in range(2):
        for image, first, number in ((0, 0, 0), (1, 0, 4), (2, 4, 17)):
            for group in (range(6), range(6, 12)):
                costs = [
                    [_plain_cost(logits[stage, image, q], boxes[stage, image, q], objects, t, score) for q in group]
                    for t in range(first, first + number)
                ]
                if costs:
                    rows, columns = linear_sum_assignment(costs)
                    expected |= {(stage, image, group[q], first + t) for t, q in zip(rows, columns, strict=True)}
    assert found == expected
    assert len(found) == 2 * 2 * (4 + 6)


def _plain_cost(logits: Tensor, box: Tensor, objects: Objects, index: int, score: str) -> float:
    values, label = logits.tolist(), int(objects.labels[index])
    if score == "softmax":
        part = -math.exp(values[label]) / sum(map(math.exp, values))
    else:
        p = 1 / (1 + math.exp(-values[label]))
        part = 0.25 * (1 - p) ** 2 * -math.log(p + 1e-8) - 0.75 * p**2 * -math.log(1 - p + 1e-8)
    a, b = box.tolist(), objects.boxes[index].tolist()
    distance = sum(abs(x - y) for x, y in zip(a, b, strict=True))
    sides = []
    for axis in (0, 1):
        low = (a[axis] - a[axis + 2] / 2, b[axis] - b[axis + 2] / 2)
        high = (a[axis] + a[axis + 2] / 2, b[axis] + b[axis + 2] / 2)
        sides.append((max(0.0, min(high) - max(low)), max(high) - min(low)))
    overlap, hull = sides[0][0] * sides[1][0], sides[0][1] * sides[1][1]
    union = a[2] * a[3] + b[2] * b[3] - overlap
    return 5 * distance + 2 * part - 2 * (overlap / union - (hull - union) / hull)


def test_the_union_of_matches_is_that_of_the_original() -> None:
    """As `_get_dense_o2o_indices` of transformers' DEIMv2, which D-FINE's authors wrote."""
    draw = torch.Generator().manual_seed(2)
    stages = [torch.stack((torch.randperm(9, generator=draw)[:6], torch.randperm(6, generator=draw))) for _ in range(5)]
    indices = [[(stage[0], stage[1])] for stage in stages]
    theirs = loss_deimv2.Deimv2Loss._get_dense_o2o_indices(None, indices[0], indices[1:])[0]  # type: ignore[arg-type]
    rows = [
        torch.cat((torch.full((1, 6), s), torch.zeros(1, 6, dtype=torch.int64), part)) for s, part in enumerate(stages)
    ]
    union = _union(torch.cat(rows, dim=1).numpy(), num_stages=5)
    own = {(query, box) for stage, _, query, box in union.T.tolist() if stage == 3}
    votes = Counter((query, box) for stage in stages for query, box in stage.T.tolist())
    most = {query: max(number for (other, _), number in votes.items() if other == query) for query, _ in own}
    # Which of two boxes with equally many votes is taken is left open there.
    assert {query for query, _ in own} == set(theirs[0].tolist())
    assert len(own) == len(theirs[0]) > 6
    assert all(votes[pair] == most[pair[0]] for pair in own)
    assert all(votes[pair] == most[pair[0]] for pair in zip(theirs[0].tolist(), theirs[1].tolist(), strict=True))
    assert union.shape[1] == 5 * len(own)


def test_losses_of_distributions_are_those_of_d_fine() -> None:
    """Each layer beside transformers' `loss_local`, for two images with equally many objects."""
    config = DFineConfig(num_labels=3)
    criterion = loss_d_fine.DFineLoss(config)
    rule = BinRule(config.max_num_bins, config.up, config.reg_scale, fine=1.0, distill=1.0)
    offsets = loss_d_fine.weighting_function(32, torch.tensor([0.5]), 4)
    torch.testing.assert_close(torch.tensor(bin_offsets(rule)), offsets)
    draw = torch.Generator().manual_seed(4)
    batch = scene((4, 4), size_px=64)
    objects = pack_objects(batch.targets, batch.sizes.float())
    corners = torch.randn(2, 2, 10, 4 * 33, generator=draw)
    start, boxes = (torch.rand(2, 2, 10, 4, generator=draw) * 0.4 + 0.2 for _ in range(2))
    logits = torch.randn(2, 2, 10, 3, generator=draw)
    query = torch.stack([torch.randperm(10, generator=draw)[:4] for _ in range(2)])
    image = torch.tensor([0] * 4 + [1] * 4).repeat(2)
    stage = torch.tensor([0] * 8 + [1] * 8)
    matches = Matches(stage, image, query.flatten().repeat(2), torch.arange(8).repeat(2))
    refinement = Refinement(corners, start, logits, boxes)
    matched: Matched = look_up(boxes, objects, matches)
    fine = fine_loss(refinement, matched, matches, rule)
    distill = distill_loss(
        refinement,
        matched,
        matches,
        rule,
        counted=torch.ones(2, 10, dtype=torch.bool),
        positives=torch.tensor([4.0, 4.0]),
    )
    indices = [(query[i], torch.arange(4)) for i in range(2)]
    expected = [
        criterion.loss_local(
            {
                "pred_corners": corners[layer],
                "ref_points": start[layer],
                "pred_boxes": boxes[layer],
                "teacher_corners": corners[1],
                "teacher_logits": logits[1],
            },
            labels_of(batch),
            indices,
            8,
        )
        for layer in range(2)
    ]
    for layer in range(2):
        assert fine[stage == layer].sum().item() / 8 == pytest.approx(expected[layer]["loss_fgl"].item(), rel=1e-5)
    assert distill.item() / 2 == pytest.approx(expected[0]["loss_ddf"].item(), rel=1e-5)
    assert expected[0]["loss_ddf"] > 0
