"""Parameter groups, moving average and the normaliser, against plain arithmetic."""

import math

import pytest
import torch
from torch import nn

from accel_det.config.schema import OptimizerSection
from accel_det.engine.ema import MovingAverage
from accel_det.engine.normalize import Agreed, agree, global_loss, reciprocal, window_counts
from accel_det.engine.optimize import gradient_norm, make_optimizer, trained_parameters
from accel_det.engine.state import optimizer_tensors, restore_optimizer
from accel_det.types import LossTerm


class Network(nn.Module):
    """Every kind of parameter, one of them used twice and one frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.layer_norm = nn.LayerNorm((3, 4))
        self.linear = nn.Linear(3, 2)
        self.tied = self.linear
        self.scale = nn.Parameter(torch.ones(4))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_biases_norms_and_vectors_do_not_decay_and_frozen_parameters_are_left_out() -> None:
    found = trained_parameters(Network())
    assert {one.name for one in found if one.decays} == {"convolution.weight", "linear.weight"}
    norms = {f"{layer}.{part}" for layer in ("norm", "layer_norm") for part in ("weight", "bias")}
    assert {one.name for one in found if not one.decays} == {"convolution.bias", "linear.bias", "scale", *norms}
    optimizer = make_optimizer(Network(), OptimizerSection(weight_decay=0.3))
    groups = {group["weight_decay"]: len(group["params"]) for group in optimizer.param_groups}
    assert (groups, len(optimizer.param_groups)) == ({0.3: 2, 0.0: 7}, 2)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_a_restored_optimizer_continues_bit_for_bit(name: str) -> None:
    section = OptimizerSection.model_validate({"name": name, "weight_decay": 0.1})

    def advance(model: nn.Module, optimizer: torch.optim.Optimizer, updates: range) -> None:
        for update in updates:
            for group in optimizer.param_groups:
                group["lr"] = 0.1 / (update + 1)
            for parameter in model.parameters():
                draw = torch.Generator().manual_seed(update)
                parameter.grad = torch.randn(parameter.shape, generator=draw)
            optimizer.step()

    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = make_optimizer(model, section)
    advance(model, optimizer, range(3))
    other = nn.Linear(3, 2)
    other.load_state_dict(model.state_dict())
    restored = make_optimizer(other, section)
    saved = {key: value.clone() for key, value in optimizer_tensors(optimizer, model).items()}
    assert len(saved) == (2 if name == "sgd" else 6)
    restore_optimizer(restored, other, saved)
    advance(model, optimizer, range(3, 6))
    advance(other, restored, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_restored_state_is_laid_out_like_its_parameter() -> None:
    """As the optimizer itself lays it out: sums in another order of the memory would round otherwise."""
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    optimizer = make_optimizer(model, OptimizerSection(name="adamw", lr=0.1))
    model(torch.randn(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    saved = {key: value.contiguous() for key, value in optimizer_tensors(optimizer, model).items()}
    restored = make_optimizer(model, OptimizerSection(name="adamw", lr=0.1))
    restore_optimizer(restored, model, saved)
    for key, value in restored.state[model.weight].items():
        own = optimizer.state[model.weight][key]
        assert torch.equal(value, own) and value.stride() == own.stride(), key
    assert restored.state[model.weight]["exp_avg"].is_contiguous(memory_format=torch.channels_last)


def test_optimizer_state_of_a_parameter_that_is_not_trained_now_is_refused_by_name() -> None:
    model = Network()
    with pytest.raises(ValueError, match=r"optimizer state for `frozen.weight`, which is not trained now"):
        restore_optimizer(
            make_optimizer(model, OptimizerSection()), model, {"frozen.weight:momentum_buffer": torch.ones(1)}
        )


def test_the_moving_average_follows_its_formula_and_copies_counters() -> None:
    model = nn.BatchNorm1d(2)
    average = MovingAverage(model, decay=0.9, ramp_steps=5.0)
    expected = model.weight.detach().clone().double()
    assert model.num_batches_tracked is not None
    for update in range(1, 8):
        with torch.no_grad():
            model.weight.add_(0.1 * update)
            model.num_batches_tracked += 1
        average.update(model, update=update)
        keep = 0.9 * (1 - math.exp(-update / 5.0))
        expected = keep * expected + (1 - keep) * model.weight.detach().double()
    state = average.model.state_dict()
    assert torch.allclose(state["weight"].double(), expected, rtol=1e-6)
    assert int(state["num_batches_tracked"]) == 7
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    assert not average.model.training


def test_the_moving_average_shares_no_memory_with_the_network() -> None:
    model = nn.Linear(2, 2)
    average = MovingAverage(model, decay=0.5, ramp_steps=1.0)
    before = average.model.state_dict()["weight"].clone()
    with torch.no_grad():
        model.weight.fill_(7)
    assert torch.equal(average.model.state_dict()["weight"], before)


def term(value: float, count: float) -> LossTerm:
    return LossTerm(torch.tensor(value, requires_grad=True), torch.tensor(count))


def test_a_term_that_nothing_was_counted_for_is_zero_with_a_zero_gradient() -> None:
    losses = {"box": term(0.0, 0.0), "class": term(6.0, 4.0)}
    agreed = agree(losses, stop=True)
    assert agreed.names == ("box", "class")
    assert agreed.values().tolist() == [0.0, 1.5]
    assert float(agreed.stop) == 1
    total = global_loss(losses, dict(zip(agreed.names, agreed.counts, strict=True)), world=1)
    total.backward()
    assert total.item() == 1.5
    assert (losses["box"].sum.grad, losses["class"].sum.grad) == (torch.tensor(0.0), torch.tensor(0.25))


def test_the_loss_is_multiplied_by_the_processes_that_the_gradient_is_averaged_over() -> None:
    losses = {"box": term(6.0, 1.0)}
    total = global_loss(losses, {"box": torch.tensor(8.0, dtype=torch.float64)}, world=4)
    assert total.item() == 3.0


def test_counts_of_a_window_are_added_up_by_name() -> None:
    window = [{"b": torch.tensor(1.0), "a": torch.tensor(2.0)}, {"a": torch.tensor(0.0), "b": torch.tensor(5.0)}]
    assert {name: float(count) for name, count in window_counts(window).items()} == {"a": 2.0, "b": 6.0}


def test_the_reciprocal_of_nothing_is_zero_also_for_the_smallest_numbers() -> None:
    counts = torch.tensor([0.0, 4.0, 0.5], dtype=torch.float64)
    assert reciprocal(counts).tolist() == [0.0, 0.25, 2.0]
    assert Agreed(
        ("x",), torch.tensor([0.0]), torch.tensor([0.0]), torch.tensor(0.0), torch.tensor(0.0)
    ).values().tolist() == [0.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_the_gradient_norm_is_not_finite_exactly_where_a_gradient_is_not(bad: float) -> None:
    model = nn.Linear(3, 1)
    model.weight.grad, model.bias.grad = torch.full((1, 3), 2.0), torch.full((1,), 2.0)
    assert float(gradient_norm(model)) == pytest.approx(4.0)
    model.bias.grad.fill_(bad)
    assert not math.isfinite(float(gradient_norm(model)))
