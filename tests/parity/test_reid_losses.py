"""The losses of re-identification against slow references from their papers, and against any sharing out; in float64.

The references are loops over pictures; autograd differentiates them, so gradients are compared too.
"""

import math
from collections.abc import Callable

import pytest
import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from pytorch_metric_learning.reducers import DoNothingReducer
from torch import Tensor
from torch.nn import functional as F

from accel_det.models.reid.losses.build import IdentityLosses
from accel_det.models.reid.losses.settings import LossSettings

CHANNELS, IDENTITIES, GROUP = 5, 6, 6
LABELS = torch.tensor(
    [
        *(0, 0, 1, 1, 2, 2),
        *(3, 0, 3, 1, 3, 2),  # three pictures without a positive
        *(4, 4, 4, 4, 4, 4),  # no negative at all
        *(0, 1, 2, 3, 4, 5),  # no positive at all
    ]
)
ANCHORS, WITH_OTHERS = 6 + 3, 6 + 6 + 6

Reference = Callable[[list[Tensor], list[int]], Tensor]


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def losses_of(settings: LossSettings) -> IdentityLosses:
    torch.manual_seed(0)
    module = IdentityLosses(settings, feature_channels=CHANNELS, num_identities=IDENTITIES).double()
    for parameter in module.parameters():
        if parameter.ndim == 2:  # classifiers begin so small that every loss would look alike
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    return module


def number(value: Tensor) -> float:
    return float(value.detach())


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    return ((x - y) ** 2).sum().sqrt()


def cosine(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum() / (x * x).sum().sqrt() / (y * y).sum().sqrt()


def one_minus_cosine(x: Tensor, y: Tensor) -> Tensor:
    return 1 - cosine(x, y)


def total(terms: list[Tensor]) -> Tensor:
    return torch.stack([*terms, torch.zeros((), dtype=torch.float64)]).sum()


def others_of(anchor: int, labels: list[int]) -> tuple[list[int], list[int]]:
    """The anchor's positives and negatives."""
    positives = [i for i, label in enumerate(labels) if label == labels[anchor] and i != anchor]
    return positives, [i for i, label in enumerate(labels) if label != labels[anchor]]


def slow_triplet(kind: str, apart: Callable[[Tensor, Tensor], Tensor], margin: float = 0.0) -> Reference:
    def of_anchor(x: list[Tensor], anchor: int, positives: list[int], negatives: list[int]) -> Tensor:
        to_positives = [apart(x[anchor], x[i]) for i in positives]
        to_negatives = [apart(x[anchor], x[i]) for i in negatives]
        if kind == "triplet_weighted":
            up, down = [d.exp() for d in to_positives], [(-d).exp() for d in to_negatives]
            far = total([w * d for w, d in zip(up, to_positives, strict=True)]) / total(up)
            near = total([w * d for w, d in zip(down, to_negatives, strict=True)]) / total(down)
            return (1 + (far - near).exp()).log()
        far, near = max(to_positives), min(to_negatives)
        return torch.clamp(far - near + margin, min=0) if kind == "triplet" else (1 + (far - near).exp()).log()

    def of_group(x: list[Tensor], labels: list[int]) -> Tensor:
        pairs = [(anchor, *others_of(anchor, labels)) for anchor in range(len(x))]
        return total([of_anchor(x, a, p, n) for a, p, n in pairs if p and n])

    return of_group


def slow_circle(m: float, gamma: float) -> Reference:
    def of_group(x: list[Tensor], labels: list[int]) -> Tensor:
        terms = []
        for anchor in range(len(x)):
            positives, negatives = others_of(anchor, labels)
            if not positives or not negatives:
                continue
            near = [cosine(x[anchor], x[i]) for i in positives]
            far = [cosine(x[anchor], x[i]) for i in negatives]
            pull = total([(-gamma * max(1 + m - number(s), 0) * (s - (1 - m))).exp() for s in near])
            push = total([(gamma * max(number(s) + m, 0) * (s - m)).exp() for s in far])
            terms.append((1 + pull * push).log())
        return total(terms)

    return of_group


def slow_magnet(margin: float, unit: bool) -> Reference:
    def of_group(x: list[Tensor], labels: list[int]) -> Tensor:
        if unit:
            x = [one / one.square().sum().sqrt() for one in x]
        means = {
            label: torch.stack([x[i] for i, other in enumerate(labels) if other == label]).mean(dim=0)
            for label in sorted(set(labels))
        }
        own = [(x[i] - means[label]).square().sum() for i, label in enumerate(labels)]
        variance = torch.clamp(total(own) / (len(x) - 1), min=1e-6)
        terms = []
        for i, label in enumerate(labels):
            rest = [
                (-(x[i] - mean).square().sum() / (2 * variance)).exp() for key, mean in means.items() if key != label
            ]
            if rest and total(rest) > 0:  # else others are so far that the likelihood overflows: no loss
                likelihood = (-own[i] / (2 * variance) - margin).exp() / total(rest)
                terms.append(torch.clamp(-likelihood.log(), min=0))
        return total(terms)

    return of_group


METRIC_CASES: dict[str, tuple[LossSettings, Reference, int]] = {
    "batch hard": (
        LossSettings("none", metric_loss="triplet", metric_margin=0.3, group_images=GROUP),
        slow_triplet("triplet", euclidean, margin=0.3),
        ANCHORS,
    ),
    "batch hard, cosine": (
        LossSettings(
            "none",
            metric_loss="triplet",
            metric_margin=0.1,
            metric_distance="cosine",
            group_images=GROUP,
            metric_weight=2,
        ),
        slow_triplet("triplet", one_minus_cosine, margin=0.1),
        ANCHORS,
    ),
    "soft margin": (
        LossSettings("none", metric_loss="triplet_soft", group_images=GROUP, metric_weight=0.5),
        slow_triplet("triplet_soft", euclidean),
        ANCHORS,
    ),
    "weighted": (
        LossSettings("none", metric_loss="triplet_weighted", group_images=GROUP),
        slow_triplet("triplet_weighted", euclidean),
        ANCHORS,
    ),
    "weighted, cosine": (
        LossSettings("none", metric_loss="triplet_weighted", metric_distance="cosine", group_images=GROUP),
        slow_triplet("triplet_weighted", one_minus_cosine),
        ANCHORS,
    ),
    "circle": (
        LossSettings("none", metric_loss="circle", metric_margin=0.25, metric_scale=4, group_images=GROUP),
        slow_circle(0.25, 4),  # torch's softplus drops exp(-x) from x = 20 on: below that all digits agree
        ANCHORS,
    ),
    "magnet": (
        LossSettings("none", metric_loss="magnet", metric_margin=1, group_images=GROUP),
        slow_magnet(1, unit=False),
        WITH_OTHERS,
    ),
    "magnet, unit length": (
        LossSettings("none", metric_loss="magnet", metric_margin=0.5, metric_distance="cosine", group_images=GROUP),
        slow_magnet(0.5, unit=True),
        WITH_OTHERS,
    ),
}


@pytest.mark.parametrize("case", METRIC_CASES)
def test_a_metric_loss_and_its_gradient_equal_a_loop_over_the_pictures_of_each_group(case: str) -> None:
    settings, reference, count = METRIC_CASES[case]
    features = drawn(len(LABELS), CHANNELS, seed=3)
    found = losses_of(settings)(features, features, LABELS)["metric"]
    of_groups = zip(features.split(GROUP), LABELS.split(GROUP), strict=True)
    expected = settings.metric_weight * total([reference(list(x), labels.tolist()) for x, labels in of_groups])
    assert number(expected) > 0.1
    assert number(found.sum) == pytest.approx(number(expected), rel=1e-12)
    assert float(found.count) == count
    (gradient,) = torch.autograd.grad(found.sum, features)
    (expected_gradient,) = torch.autograd.grad(expected, features)
    assert float((gradient - expected_gradient).norm() / expected_gradient.norm()) <= 1e-10


@pytest.mark.parametrize("case", METRIC_CASES)
def test_equal_features_give_a_finite_gradient(case: str) -> None:
    """Two pictures alike of one identity, two alike of two identities, and a group all alike."""
    settings, reference, _ = METRIC_CASES[case]
    values = drawn(len(LABELS), CHANNELS, seed=4).detach().clone()
    values[1], values[4], values[6:12] = values[0], values[2], values[6]
    features = values.requires_grad_()
    found = losses_of(settings)(features, features, LABELS)["metric"]
    of_groups = zip(values.detach().split(GROUP), LABELS.split(GROUP), strict=True)
    expected = settings.metric_weight * total([reference(list(x), labels.tolist()) for x, labels in of_groups])
    assert number(found.sum) == pytest.approx(number(expected), rel=1e-7)  # an angle of 0 has a rounded cosine
    (gradient,) = torch.autograd.grad(found.sum, features)
    assert gradient.isfinite().all()
    assert gradient.norm() > 0


@pytest.mark.parametrize("case", METRIC_CASES)
def test_groups_with_nothing_to_compare_count_nothing_and_pull_nowhere(case: str) -> None:
    settings, _, _ = METRIC_CASES[case]
    alone = [[2] * 6, [0] * 6 + [1] * 6]
    if settings.metric_loss != "magnet":  # whose clusters may be single pictures
        alone.append([0, 1, 2, 3, 4, 5])
    for labels in alone:
        features = drawn(len(labels), CHANNELS, seed=5)
        found = losses_of(settings)(features, features, torch.tensor(labels))["metric"]
        assert float(found.count) == 0
        assert number(found.sum) == 0
        (gradient,) = torch.autograd.grad(found.sum, features)
        assert torch.equal(gradient, torch.zeros_like(features))


@pytest.mark.parametrize(("kind", "margin", "smooth"), [("triplet", 0.3, False), ("triplet_soft", 0.0, True)])
def test_triplet_losses_equal_those_of_pytorch_metric_learning(kind: str, margin: float, smooth: bool) -> None:
    """Its loss has one number for every anchor that has both, as its miner finds them."""
    features = drawn(len(LABELS), CHANNELS, seed=6)
    plain = LpDistance(normalize_embeddings=False)
    mined = BatchHardMiner(distance=plain)
    loss = TripletMarginLoss(margin=margin, smooth_loss=smooth, distance=plain, reducer=DoNothingReducer())
    expected, count = torch.zeros((), dtype=torch.float64), 0
    for x, labels in zip(features.split(GROUP), LABELS.split(GROUP), strict=True):
        triplets = mined(x, labels)
        count += len(triplets[0])
        if len(triplets[0]):
            expected = expected + loss(x, labels, triplets)["loss"]["losses"].sum()
    settings = LossSettings("none", metric_loss=kind, metric_margin=margin, group_images=GROUP)  # type: ignore[arg-type]
    found = losses_of(settings)(features, features, LABELS)["metric"]
    assert number(found.sum) == pytest.approx(number(expected), rel=1e-12)
    assert float(found.count) == count == ANCHORS
    (gradient,) = torch.autograd.grad(found.sum, features)
    (expected_gradient,) = torch.autograd.grad(expected, features)
    assert torch.allclose(gradient, expected_gradient, rtol=1e-10, atol=1e-12)


def entropy_of(logits: list[Tensor], truth: int, smoothing: float = 0.0) -> Tensor:
    log_sum = total([one.exp() for one in logits]).log()
    spread = [smoothing / len(logits) + (1 - smoothing) * (i == truth) for i in range(len(logits))]
    return total([share * (log_sum - one) for share, one in zip(spread, logits, strict=True)])


def slow_arcface(cosines: list[Tensor], truth: int, scale: float, margin: float) -> Tensor:
    angle = cosines[truth].acos()
    moved = (angle + margin).cos() if angle <= math.pi - margin else angle.cos() - margin * math.sin(margin)
    return entropy_of([scale * (moved if i == truth else one) for i, one in enumerate(cosines)], truth)


def slow_identity(settings: LossSettings, losses: IdentityLosses, x: Tensor, label: int) -> Tensor:
    parameters = dict(losses.named_parameters())
    kind = settings.identity_loss
    vectors = list(
        parameters["identity.elements.W"].T if kind in ("arcface", "cosface") else parameters["identity.weight"]
    )
    cosines = [cosine(x, vector) for vector in vectors]
    scale, margin = settings.identity_scale, settings.identity_margin
    if kind == "softmax":
        return entropy_of([(x * vector).sum() for vector in vectors], label, settings.label_smoothing)
    if kind == "cosine_softmax":
        raw = parameters["identity.raw_scale"]
        logits = [(1 + raw.exp()).log() * one for one in cosines]
        return entropy_of(logits, label, settings.label_smoothing) + settings.identity_scale_decay / 2 * raw**2
    if kind == "cosface":
        return entropy_of([scale * (one - margin * (i == label)) for i, one in enumerate(cosines)], label)
    return slow_arcface(cosines, label, scale, margin)


IDENTITY_CASES = {
    "softmax": LossSettings("softmax"),
    "label smoothing": LossSettings("softmax", label_smoothing=0.1),
    "cosine softmax": LossSettings("cosine_softmax", identity_scale=4.0),
    "cosine softmax, scale held back": LossSettings(
        "cosine_softmax", identity_scale=4.0, identity_scale_decay=0.1, label_smoothing=0.2
    ),
    "arcface": LossSettings("arcface", identity_scale=8.0, identity_margin=0.5),
    "arcface, beyond pi": LossSettings("arcface", identity_scale=2.0, identity_margin=1.5),
    "cosface": LossSettings("cosface", identity_scale=8.0, identity_margin=0.35),
}


@pytest.mark.parametrize("case", IDENTITY_CASES)
def test_an_identity_loss_and_its_gradients_equal_a_loop_over_pictures(case: str) -> None:
    settings = IDENTITY_CASES[case]
    losses = losses_of(settings)
    features = drawn(len(LABELS), CHANNELS, seed=7)
    found = losses(torch.zeros_like(features), features, LABELS)["identity"]
    expected = total(
        [slow_identity(settings, losses, x, int(label)) for x, label in zip(features, LABELS, strict=True)]
    )
    assert number(found.sum) == pytest.approx(number(expected), rel=1e-12)
    assert float(found.count) == len(LABELS)
    learnt = [features, *losses.parameters()]
    gradients = torch.autograd.grad(found.sum, learnt)
    for gradient, other in zip(gradients, torch.autograd.grad(expected, learnt), strict=True):
        assert float((gradient - other).norm() / other.norm()) <= 1e-10


def test_the_case_of_angles_beyond_pi_is_among_those_that_were_compared() -> None:
    losses, features = losses_of(IDENTITY_CASES["arcface, beyond pi"]), drawn(len(LABELS), CHANNELS, seed=7)
    cosines = F.normalize(features) @ F.normalize(next(losses.parameters()), dim=0)
    angles = cosines[torch.arange(len(LABELS)), LABELS].acos()
    beyond = int((angles > math.pi - 1.5).sum())
    assert 0 < beyond < len(LABELS)


def test_the_center_loss_is_half_of_squared_distances_and_centers_move_without_its_weight() -> None:
    losses = losses_of(LossSettings("none", center_weight=0.01))
    features, centers = drawn(len(LABELS), CHANNELS, seed=8), next(losses.parameters())
    found = losses(features, torch.zeros_like(features), LABELS)["center"]
    away = [[number(x - c) for x, c in zip(f, centers[k], strict=True)] for f, k in zip(features, LABELS, strict=True)]
    assert number(found.sum) == pytest.approx(0.01 * sum(value**2 for row in away for value in row) / 2, rel=1e-12)
    assert float(found.count) == len(LABELS)
    pull, move = torch.autograd.grad(found.sum, [features, centers])
    expected = torch.zeros_like(centers)
    for row, label in zip(away, LABELS, strict=True):
        expected[label] -= torch.tensor(row, dtype=torch.float64)
    assert torch.allclose(pull, 0.01 * torch.tensor(away, dtype=torch.float64), rtol=1e-12, atol=0)
    assert torch.allclose(move, expected, rtol=1e-12, atol=1e-14)


MIXED = [
    *(settings for settings, _, _ in METRIC_CASES.values()),
    *IDENTITY_CASES.values(),
    LossSettings("softmax", 0.1, metric_loss="triplet", group_images=GROUP, center_weight=5e-4),
    LossSettings("cosine_softmax", metric_loss="magnet", group_images=GROUP, metric_weight=0.3),
    LossSettings("arcface", metric_loss="circle", group_images=GROUP, center_weight=0.1),
    LossSettings("none", metric_loss="triplet_weighted", group_images=GROUP, center_weight=0.1),
]


def gradient_over_parts(settings: LossSettings, groups: tuple[int, ...]) -> tuple[Tensor, dict[str, float]]:
    """Of sums over counts of micro-batches with so many groups each: with respect to features and parameters."""
    losses = losses_of(settings)
    before, after = drawn(len(LABELS), CHANNELS, seed=9), drawn(len(LABELS), CHANNELS, seed=10)
    sizes = [GROUP * count for count in groups]
    parts = [losses(b, a, k) for b, a, k in zip(*(v.split(sizes) for v in (before, after, LABELS)), strict=True)]
    counts = {name: sum(float(part[name].count) for part in parts) for name in parts[0]}
    whole = torch.stack([term.sum / counts[name] for part in parts for name, term in part.items()]).sum()
    learnt = [before, after, *losses.parameters()]
    found = torch.autograd.grad(whole, learnt, allow_unused=True, materialize_grads=True)
    return torch.cat([one.flatten() for one in found]), counts


@pytest.mark.parametrize("groups", [(2, 2), (1, 1, 1, 1), (1, 3), (3, 1), (1, 2, 1)])
def test_however_groups_are_shared_out_the_gradient_is_that_of_the_whole(groups: tuple[int, ...]) -> None:
    for settings in MIXED:
        expected, counts = gradient_over_parts(settings, (4,))
        found, of_parts = gradient_over_parts(settings, groups)
        assert of_parts == counts
        assert number(expected.norm()) > 1e-3
        assert float((found - expected).norm() / expected.norm()) <= 1e-12, settings
    assert len(MIXED) == 19


@pytest.mark.parametrize("case", ["soft margin", "weighted", "weighted, cosine", "batch hard", "magnet"])
def test_gradients_of_metric_losses_are_the_slopes_of_their_values(case: str) -> None:
    losses = losses_of(METRIC_CASES[case][0])
    features = drawn(len(LABELS), CHANNELS, seed=11)
    assert torch.autograd.gradcheck(lambda x: losses(x, x, LABELS)["metric"].sum, features)


@pytest.mark.parametrize("case", ["label smoothing", "cosine softmax, scale held back", "arcface", "cosface"])
def test_gradients_of_identity_losses_are_the_slopes_of_their_values(case: str) -> None:
    losses = losses_of(IDENTITY_CASES[case])
    features = drawn(len(LABELS), CHANNELS, seed=12)
    assert torch.autograd.gradcheck(lambda x: losses(x, x, LABELS)["identity"].sum, features)
