"""What the losses of re-identification refuse, report and compute in."""

import itertools
from typing import Any

import pytest
import torch

from accel_det.models.reid.losses.build import IdentityLosses
from accel_det.models.reid.losses.metric_learning import MarginSoftmax
from accel_det.models.reid.losses.settings import LossSettings

CHANNELS, IDENTITIES = 8, 5
IDENTITY_LOSSES = ("none", "softmax", "cosine_softmax", "arcface", "cosface")
METRIC_LOSSES = ("none", "triplet", "triplet_soft", "triplet_weighted", "circle", "magnet")
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 2, 3])  # of the second group, all but one are anchors


def made(**settings: Any) -> IdentityLosses:
    torch.manual_seed(0)
    return IdentityLosses(LossSettings(**settings), feature_channels=CHANNELS, num_identities=IDENTITIES)


def features(seed: int = 0) -> torch.Tensor:
    return torch.randn(len(LABELS), CHANNELS, generator=torch.Generator().manual_seed(seed)).requires_grad_()


def combinations() -> list[dict[str, Any]]:
    """Every identity loss with every metric loss, with a center loss and without."""
    chosen = [
        {"identity_loss": identity, "metric_loss": metric, "center_weight": center, "group_images": 4}
        for identity, metric, center in itertools.product(IDENTITY_LOSSES, METRIC_LOSSES, (0.0, 5e-4))
    ]
    return [
        one
        for one in chosen
        if (one["identity_loss"], one["metric_loss"], one["center_weight"]) != ("none",) * 2 + (0,)
    ]


def test_every_combination_reaches_every_parameter_and_counts_what_the_labels_say() -> None:
    for settings in combinations():
        losses = made(**settings)
        found = losses(features(0), features(1), LABELS)
        expected: dict[str, float] = {}
        if settings["identity_loss"] != "none":
            expected["identity"] = expected["error"] = 8
        if settings["metric_loss"] != "none":
            expected["metric"] = 8 if settings["metric_loss"] == "magnet" else 7
        if settings["center_weight"]:
            expected["center"] = 8
        assert {name: float(count) for name, count in losses.counts(LABELS).items()} == expected, settings
        assert {name: float(term.count) for name, term in found.items()} == expected, settings
        torch.stack([term.sum for term in found.values()]).sum().backward()
        for name, parameter in losses.named_parameters():
            assert parameter.grad is not None, f"{name} of {settings}"
            assert parameter.grad.isfinite().all(), f"{name} of {settings}"
            assert parameter.grad.any(), f"{name} of {settings}"
    assert len(combinations()) == 5 * 6 * 2 - 1


def test_a_loss_that_is_not_chosen_has_no_parameters() -> None:
    assert [name for name, _ in made(metric_loss="circle", identity_loss="none").named_parameters()] == []
    assert [name for name, _ in made(identity_loss="softmax").named_parameters()] == ["identity.weight"]
    assert [name for name, _ in made(identity_loss="none", center_weight=1).named_parameters()] == ["center.centers"]
    arcface = dict(made(identity_loss="arcface").named_parameters())
    assert {name: tuple(weight.shape) for name, weight in arcface.items()} == {
        "identity.elements.W": (CHANNELS, IDENTITIES)
    }


def test_identity_losses_see_features_after_the_neck_and_the_others_those_before() -> None:
    losses = made(identity_loss="cosface", metric_loss="triplet", center_weight=1)
    before, after = features(0), features(1)
    found = losses(before, after, LABELS)
    assert [name for name, term in found.items() if _depends(term.sum, before)] == ["metric", "center"]
    assert [name for name, term in found.items() if _depends(term.sum, after)] == ["identity"]


def _depends(total: torch.Tensor, on: torch.Tensor) -> bool:
    return total.requires_grad and torch.autograd.grad(total, on, retain_graph=True, allow_unused=True)[0] is not None


@pytest.mark.parametrize("kind", [kind for kind in IDENTITY_LOSSES if kind != "none"])
def test_the_error_is_how_many_pictures_are_nearest_to_another_identity(kind: str) -> None:
    """Whatever margin the loss gives to the truth, and it is watched: no gradient, no part of the loss."""
    losses = made(identity_loss=kind)
    by_library = kind in ("arcface", "cosface")
    vectors = dict(losses.named_parameters())["identity.elements.W" if by_library else "identity.weight"]
    axes = torch.eye(IDENTITIES, CHANNELS)
    with torch.no_grad():
        vectors.copy_(axes.T if by_library else axes)
    shown = torch.tensor([0, 1, 2, 3, 3, 3])
    found = losses(features()[:6], 10 * axes[shown], torch.tensor([0, 1, 2, 0, 1, 3]))["error"]
    assert (found.sum.item(), found.count.item(), found.watched, found.sum.requires_grad) == (2, 6, True, False)


def test_autocast_changes_no_number_and_weights_stay_in_float32() -> None:
    for settings in combinations():
        losses = made(**settings)
        before, after = features(0).detach().bfloat16(), features(1).detach().bfloat16()
        expected = losses(before.float(), after.float(), LABELS)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = losses(before, after, LABELS)
        for name, term in found.items():
            assert term.sum.dtype == torch.float32
            assert torch.equal(term.sum, expected[name].sum), f"{name} of {settings}"
        assert all(parameter.dtype == torch.float32 for parameter in losses.parameters())


@pytest.mark.parametrize("kind", ["arcface", "cosface", "cosine_softmax"])
def test_a_feature_that_lies_on_the_vector_of_an_identity_gives_a_finite_gradient(kind: str) -> None:
    """In float32 and float64, toward its own identity and away from another: there an angle has no bounded slope."""
    for dtype in (torch.float32, torch.float64):
        losses = made(identity_loss=kind, identity_margin=0.3).to(dtype)
        weight = next(p for p in losses.parameters() if p.ndim == 2)
        torch.nn.init.eye_(weight)  # of length 1, so that cosines are exactly 1 and -1
        vectors = (weight.T if kind in ("arcface", "cosface") else weight).detach().clone()
        lying = torch.cat((vectors, -vectors)).requires_grad_()
        if isinstance(losses.identity, MarginSoftmax):
            assert float(losses.identity.elements.distance(vectors, -vectors).abs().max()) < 1
        found = losses(lying, lying, torch.arange(IDENTITIES).repeat(2))["identity"]
        found.sum.backward()
        assert lying.grad is not None
        assert lying.grad.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in losses.parameters())


@pytest.mark.parametrize("kind", ["triplet_soft", "triplet_weighted"])
def test_near_pictures_far_from_zero_keep_their_distances_in_float32(kind: str) -> None:
    """Which products of features would lose: distances of 0.01 at a length of 300."""
    near = (100 + 0.01 * features().detach()).repeat(4, 1)
    labels = torch.arange(len(near)) // 2
    losses = made(identity_loss="none", metric_loss=kind)
    found = losses(near, near, labels)["metric"].sum
    wide = near.double()
    expected = losses(wide, wide, labels)["metric"].sum
    assert expected.dtype == torch.float64
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_zero_features_give_finite_losses_and_gradients() -> None:
    for settings in combinations():
        losses = made(**settings)
        nothing = torch.zeros(len(LABELS), CHANNELS, requires_grad=True)
        total = torch.stack([term.sum for term in losses(nothing, nothing, LABELS).values()]).sum()
        (gradient,) = torch.autograd.grad(total, nothing)
        assert total.isfinite(), settings
        assert gradient.isfinite().all(), settings


def test_group_images_0_takes_the_micro_batch_for_one_group() -> None:
    for kind in METRIC_LOSSES[1:]:
        one = made(identity_loss="none", metric_loss=kind, group_images=0)
        same = made(identity_loss="none", metric_loss=kind, group_images=len(LABELS))
        parted = made(identity_loss="none", metric_loss=kind, group_images=4)
        x = features()
        assert torch.equal(one(x, x, LABELS)["metric"].sum, same(x, x, LABELS)["metric"].sum)
        assert one(x, x, LABELS)["metric"].sum.item() != parted(x, x, LABELS)["metric"].sum.item()


@pytest.mark.parametrize("kind", METRIC_LOSSES[1:])
def test_a_single_picture_has_nothing_to_be_compared_with(kind: str) -> None:
    x = features()[:1]
    found = made(identity_loss="none", metric_loss=kind)(x, x, LABELS[:1])["metric"]
    assert found.sum.item() == 0
    assert float(found.count) == 0
    assert found.sum.requires_grad


def test_a_micro_batch_that_is_no_whole_number_of_groups_is_refused() -> None:
    losses = made(metric_loss="triplet", group_images=3)
    expected = "micro-batch of 8 pictures is no whole number of groups of group_images = 3"
    with pytest.raises(ValueError, match=expected):
        losses(features(), features(), LABELS)
    with pytest.raises(ValueError, match=expected):
        losses.counts(LABELS)
    assert made(group_images=3)(features(), features(), LABELS)["identity"].sum > 0  # nothing is compared


def test_the_learnt_scale_begins_with_the_one_that_was_set() -> None:
    for scale in (1e-3, 0.6931, 30.0, 500.0):
        raw = made(identity_loss="cosine_softmax", identity_scale=scale).get_parameter("identity.raw_scale")
        assert float(torch.nn.functional.softplus(raw.detach())) == pytest.approx(scale, rel=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"identity_loss": "none"}, "identity_loss and metric_loss are none and center_weight is 0"),
        ({"identity_loss": "sphereface"}, "identity_loss is 'sphereface', expected one of none, softmax"),
        ({"metric_loss": "hard"}, "metric_loss is 'hard', expected one of none, triplet"),
        ({"metric_distance": "manhattan"}, "metric_distance is 'manhattan', expected one of euclidean, cosine"),
        ({"label_smoothing": 1.0}, r"label_smoothing is 1.0, expected a number in \[0, 1\)"),
        ({"identity_loss": "arcface", "label_smoothing": 0.1}, "identity_loss arcface knows none: set it to 0"),
        ({"identity_scale": 0.0}, "identity_scale is 0.0, expected a number above 0"),
        ({"identity_scale_decay": -1.0}, "identity_scale_decay is -1.0"),
        (
            {"identity_loss": "arcface", "identity_margin": 28.6},
            r"identity_margin is 28.6, .* \[0, 1.571\) for arcface",
        ),
        ({"identity_loss": "cosface", "identity_margin": 1.0}, r"identity_margin is 1.0, .* \[0, 1\) for cosface"),
        ({"metric_loss": "triplet", "metric_margin": -0.1}, "metric_margin is -0.1"),
        ({"metric_loss": "triplet", "metric_margin": float("nan")}, "metric_margin is nan"),
        ({"metric_loss": "circle", "metric_margin": 1.5}, r"metric_margin is 1.5, .* \[0, 1\) for circle"),
        ({"metric_scale": -1.0}, "metric_scale is -1.0"),
        ({"metric_weight": 0.0}, "metric_weight is 0.0, expected a number above 0"),
        ({"center_weight": float("inf")}, "center_weight is inf"),
        ({"metric_loss": "magnet", "group_images": 1}, "group_images is 1, but metric_loss magnet compares pictures"),
        ({"group_images": -4}, "group_images is -4"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as found:
        LossSettings(**settings)
    assert "\n" not in str(found.value)
