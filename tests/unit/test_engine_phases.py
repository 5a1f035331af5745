"""Phases: which updates they cover, what they freeze, and what they refuse."""

import itertools
from collections.abc import Sequence

import pytest
from accelerate.utils import DistributedType
from torch import nn

from accel_det.config.schema import PhaseSection, TrainSection
from accel_det.engine.phases import Phases, set_train_mode


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.BatchNorm2d(2, affine=False))
        self.head = nn.Conv2d(2, 1, 1)
        self.never = nn.Linear(1, 1).requires_grad_(False)


def phases(sections: Sequence[dict[str, object]], *, total: int = 10, model: nn.Module | None = None) -> Phases:
    parts = [PhaseSection.model_validate(section) for section in sections]
    return Phases(parts, total_steps=total, model=model or Network())


def trained(model: nn.Module) -> set[str]:
    return {name.partition(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_without_phases_all_updates_are_of_one_that_trains_what_is_trainable() -> None:
    model = Network()
    found = phases([], model=model)
    assert {found.number(step) for step in range(10)} == {0}
    assert found.lr_factor(7) == 1.0
    assert found.describe() == []
    found.freeze_for(0)
    assert trained(model) == {"backbone", "head"}


def test_each_phase_freezes_its_parameters_and_the_updates_after_the_last_train_everything() -> None:
    model = Network()
    sections = [
        {"until": 0.2, "freeze": ["backbone.*"], "lr_factor": 0.1},
        {"until": 0.5, "freeze": ["head.weight", "head.bias"]},
    ]
    found = phases(sections, model=model)
    assert [found.number(step) for step in range(10)] == [0, 0, 1, 1, 1, 2, 2, 2, 2, 2]
    assert [found.lr_factor(step) for step in (0, 1, 2, 9)] == [0.1, 0.1, 1.0, 1.0]
    for number, expected in ((0, {"head"}), (1, {"backbone"}), (2, {"backbone", "head"}), (0, {"head"})):
        found.freeze_for(number)
        assert trained(model) == expected
    assert found.describe()[0] == "phase 1: updates 1 to 2, 4 parameters frozen, learning rate x 0.1"
    assert found.describe()[2] == "phase 3: updates 6 to the end, 0 parameters frozen, learning rate x 1"


def test_a_share_that_is_a_whole_number_of_updates_ends_exactly_there() -> None:
    """0.07 * 100 is 7.000000000000001 in floating point."""
    swept = 0
    for total, end in itertools.product((10, 100, 300, 5000), range(1, 10)):
        found = phases([{"until": end / total, "freeze": ["head.*"]}], total=total)
        assert [found.number(end - 1), found.number(end)] == [0, 1], (end, total)
        swept += 1
    assert swept == 36


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (
            ["backbon.*"],
            r"train.phases\[0\].freeze: `backbon.\*` matches no parameter; names begin with backbone.0.bias",
        ),
        (["*"], r"train.phases\[0\].freeze: the patterns freeze every parameter"),
        (["head.*", "backbone.*"], r"train.phases\[0\].freeze: the patterns freeze every parameter"),
    ],
)
def test_patterns_that_match_nothing_or_everything_are_refused(freeze: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        phases([{"until": 0.5, "freeze": freeze}])


def test_phases_of_sharded_parameters_are_refused_before_training_begins() -> None:
    section = PhaseSection(until=0.5, freeze=["head.*"])
    with pytest.raises(ValueError, match=r"train.phases needs plain data parallelism, but accelerate was told FSDP"):
        Phases([section], total_steps=10, model=Network(), distributed=DistributedType.FSDP)
    assert Phases([], total_steps=10, model=Network(), distributed=DistributedType.FSDP).number(3) == 0


def test_phases_that_do_not_follow_each_other_are_refused() -> None:
    for ends in ([0.5, 0.5], [0.6, 0.2]):
        with pytest.raises(ValueError, match=r"expected each `until` above the one before"):
            TrainSection(steps=10, phases=[PhaseSection(until=end) for end in ends])


def test_batch_norms_whose_parameters_are_frozen_keep_their_statistics() -> None:
    model = Network()
    set_train_mode(model)
    assert all(module.training for module in model.modules())
    phases([{"until": 0.5, "freeze": ["backbone.*"]}], model=model).freeze_for(0)
    set_train_mode(model)
    modes = {name: module.training for name, module in model.backbone.named_children()}
    assert modes == {"0": True, "1": False, "2": True}, "a norm without parameters cannot be told to be frozen"
    model.backbone[1].bias.requires_grad_(True)
    set_train_mode(model)
    assert model.backbone[1].training, "its shift is trained, so it follows the data"
