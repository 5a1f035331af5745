"""From maps to features: pooling, necks, and norms of a picture's own, against plain Python."""

import math

import pytest
import torch
from torch import Tensor, nn

from accel_det.models.layers.batch_norm import CrossProcessBatchNorm1d, FrozenBatchNorm1d, convert_batch_norm
from accel_det.models.reid.ibn import InstanceBatchNorm
from accel_det.models.reid.neck import make_neck
from accel_det.models.reid.pooling import GEM_EXPONENT, SMALLEST_ACTIVATION, GeneralizedMeanPool, make_pool


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_each_pooling_is_what_plain_python_computes() -> None:
    given = maps(2, 3, 4, 5)
    for kind in ("avg", "max", "gem"):
        pool = make_pool(kind).double()
        found = pool(given)
        assert found.shape == (2, 3)
        for picture in range(2):
            for channel in range(3):
                values = given[picture, channel].flatten().tolist()
                expected = {
                    "avg": sum(values) / 20,
                    "max": max(values),
                    "gem": (sum(max(value, SMALLEST_ACTIVATION) ** 3 for value in values) / 20) ** (1 / 3),
                }[kind]
                assert found[picture, channel].item() == pytest.approx(expected, rel=1e-12)


def test_the_generalized_mean_lies_between_mean_and_maximum_and_learns_its_exponent() -> None:
    given = maps(2, 3, 4, 5).abs() + 0.1
    pool = GeneralizedMeanPool().double()
    assert pool.p.item() == GEM_EXPONENT == 3.0
    for exponent, expected in ((1.0, given.mean((2, 3))), (500.0, given.amax((2, 3)))):
        with torch.no_grad():
            pool.p.fill_(exponent)
        assert torch.allclose(pool(given), expected, rtol=1e-2 if exponent > 1 else 1e-12)
    with torch.no_grad():
        pool.p.fill_(GEM_EXPONENT)
    given.requires_grad_()
    assert torch.autograd.gradcheck(lambda x, p: torch.func.functional_call(pool, {"p": p}, (x,)), (given, pool.p))


def test_the_generalized_mean_of_a_map_without_activation_has_a_finite_gradient() -> None:
    for exponent in (3.0, 9.0):
        given = torch.zeros(1, 2, 3, 3, requires_grad=True)
        pool = GeneralizedMeanPool()
        with torch.no_grad():
            pool.p.fill_(exponent)
        pool(given).sum().backward()
        assert given.grad is not None and given.grad.isfinite().all()
        assert pool.p.grad is not None and pool.p.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["avg", "max", "gem"])
def test_features_are_pooled_in_float32_whatever_the_map_is_in(kind: str) -> None:
    given = maps(1, 2, 16, 8).abs()
    pool = make_pool(kind)  # type: ignore[arg-type]
    found = pool(given.bfloat16())
    assert found.dtype == torch.float32
    assert torch.allclose(found, pool(given.bfloat16().float()), rtol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert pool(given.bfloat16()).dtype == torch.float32


def test_a_neck_normalises_over_the_batch_and_never_shifts() -> None:
    neck = make_neck("bn", channels=3).double()
    given = maps(5, 3)
    with torch.no_grad():
        neck.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
    found = neck.train()(given)
    for channel, scale in enumerate((0.5, 1.0, 2.0)):
        values = given[:, channel].tolist()
        mean = sum(values) / 5
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / 5 + 1e-5)
        assert found[:, channel].tolist() == pytest.approx([scale * (value - mean) / spread for value in values])
    trained = [name for name, parameter in neck.named_parameters() if parameter.requires_grad]
    assert trained == ["weight"]
    assert not neck.bias.any()


def test_a_network_may_have_no_neck() -> None:
    given = maps(2, 3)
    assert make_neck("none", channels=3)(given) is given


def test_a_converted_neck_still_never_shifts() -> None:
    synchronized = convert_batch_norm(make_neck("bn", channels=3), "synchronized")
    frozen = convert_batch_norm(make_neck("bn", channels=3), "frozen")
    assert isinstance(synchronized, CrossProcessBatchNorm1d) and isinstance(frozen, FrozenBatchNorm1d)
    assert [name for name, p in synchronized.named_parameters() if p.requires_grad] == ["weight"]
    assert [name for name, p in frozen.named_parameters() if p.requires_grad] == []


def test_half_of_the_channels_are_normalised_by_their_own_picture_and_the_rest_by_the_batch() -> None:
    norm = InstanceBatchNorm(5).double().train()
    given = maps(3, 5, 4, 2)
    found = norm(given)
    for channel in range(5):
        for picture in range(3):
            own = given[picture, channel] if channel < 2 else given[:, channel]
            mean, variance = own.mean(), own.var(correction=0)
            expected = (given[picture, channel] - mean) / (variance + 1e-5).sqrt()
            assert torch.allclose(found[picture, channel], expected, rtol=1e-10)
    assert sum(parameter.numel() for parameter in norm.parameters()) == 2 * 5
    assert {name for name, _ in norm.named_parameters()} == {"IN.weight", "IN.bias", "BN.weight", "BN.bias"}


@pytest.mark.parametrize("images", [1, 3])
def test_the_gradient_through_such_a_norm_is_that_of_plain_arithmetic_in_any_layout(images: int) -> None:
    """Batch normalisation of one picture on a CPU is the case that torch gets wrong: tests/canary."""
    norm = InstanceBatchNorm(4).double().train()
    given = maps(images, 4, 3, 2).to(memory_format=torch.channels_last).requires_grad_()
    weights = maps(images, 6, 4, seed=1)

    def loss(normalize: nn.Module | None) -> Tensor:
        if normalize is not None:
            return (normalize(given).flatten(2).transpose(1, 2) * weights).sum()
        own, common = given[:, :2], given[:, 2:]
        parts = [
            (part - part.mean(over, keepdim=True)) / (part.var(over, correction=0, keepdim=True) + 1e-5).sqrt()
            for part, over in ((own, (2, 3)), (common, (0, 2, 3)))
        ]
        return (torch.cat(parts, dim=1).flatten(2).transpose(1, 2) * weights).sum()

    (found,), (expected,) = (torch.autograd.grad(loss(one), given) for one in (norm, None))
    assert torch.allclose(found, expected, atol=1e-12)
