"""Parameter groups of real networks: which parameter learns at which rate, and state that moves between group layouts."""

import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from accel_det.config.schema import OptimizerSection, ScheduleSection
from accel_det.engine.optimize import make_optimizer, set_rates
from accel_det.engine.schedule import Course
from accel_det.engine.state import optimizer_tensors, restore_optimizer
from accel_det.models import zoo


def make(network: str, **settings: object) -> tuple[nn.Module, Optimizer, Course]:
    options = {"trainable_backbone_layers": 3} if "resnet" in network else {}
    model = zoo.build(network, num_classes=2, options=options)
    section = OptimizerSection.model_validate({"lr": 0.01, **settings})
    course = Course(section, ScheduleSection(name="constant", warmup_start=0.0), 0.01, 100, 10)
    return model, make_optimizer(model, section), course


def rates(model: nn.Module, optimizer: Optimizer) -> dict[str, float]:
    by_parameter = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    return {name: by_parameter[parameter] for name, parameter in model.named_parameters() if parameter in by_parameter}


def test_one_rate_for_all_makes_two_groups_and_every_factor_reaches_every_parameter_once() -> None:
    model, optimizer, _ = make("yolov5n")
    assert len(optimizer.param_groups) == 2
    model, optimizer, course = make(
        "yolov5n", backbone_factor=0.1, layer_decay=0.5, bias_factor=2.0, warmup_bias_lr=0.1
    )
    grouped = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    set_rates(optimizer, course, 50)
    found = rates(model, optimizer)
    # The backbone has the stem and stages 2 to 5: from the last layer to the first 1, 1/2, 1/4, 1/8, 1/16.
    for place, layer in enumerate(("stage5", "stage4", "stage3", "stage2", "stem")):
        names = [name for name in found if name.startswith(f"network.backbone.{layer}.") and name.endswith("weight")]
        assert len(names) >= 2
        assert [found[name] for name in names] == pytest.approx([0.001 * 0.5**place] * len(names), rel=1e-12), layer
    assert found["network.backbone.stem.norm.bias"] == pytest.approx(2 * 0.001 / 16, rel=1e-12)
    assert found["network.heads.0.weight"] == pytest.approx(0.01, rel=1e-12)
    assert found["network.heads.0.bias"] == pytest.approx(0.02, rel=1e-12)


def test_a_resnet_has_five_layers_also_where_the_first_are_frozen_and_what_was_added_learns_like_the_head() -> None:
    """With three trained stages the stem and the first one are frozen."""
    model, optimizer, course = make("retinanet_resnet50_fpn", backbone_factor=0.5, layer_decay=0.5)
    set_rates(optimizer, course, 50)
    found = rates(model, optimizer)
    assert "network.backbone.body.layer1.0.conv1.weight" not in found
    for layer, rate in ((4, 0.005), (3, 0.0025), (2, 0.00125)):
        assert found[f"network.backbone.body.layer{layer}.0.conv1.weight"] == pytest.approx(rate, rel=1e-12)
    assert found["network.backbone.fpn.inner_blocks.0.0.weight"] == pytest.approx(0.01, rel=1e-12)
    assert model.layer_of("network.backbone.body.layer1.0.conv1.weight") == 1  # type: ignore[operator]
    assert model.layer_of("network.backbone.body.conv1.weight") == 0  # type: ignore[operator]


def test_the_layers_of_a_backbone_are_read_from_names_as_torchvision_and_transformers_write_them() -> None:
    layer_of = zoo.build("yolov5n", num_classes=1).layer_of
    names = {
        "network.heads.0.weight": None,
        "model.backbone.embedder.weight": 0,
        "model.backbone.encoder.stages.0.layers.2.weight": 1,
        "model.backbone.encoder.stages.3.layers.0.weight": 4,
        "backbone.layers.11.weight": 12,
        "network.backbone.res5.0.weight": 5,
    }
    assert {name: layer_of(name) for name in names} == names


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_an_update_has_the_momentum_and_the_rates_of_its_step(name: str) -> None:
    _, optimizer, course = make("yolov5n", name=name, momentum=0.9, warmup_momentum=0.5, warmup_bias_lr=0.1)
    for step in (0, 5, 10):
        set_rates(optimizer, course, step, lr_factor=0.5)
        momentum = 0.5 + 0.4 * step / 10
        for group in optimizer.param_groups:
            now = group["momentum"] if name == "sgd" else group["betas"][0]
            assert now == pytest.approx(momentum, rel=1e-12)
            target = 0.005
            expected = 0.1 + (target - 0.1) * step / 10 if group["is_bias"] else target * step / 10
            assert group["lr"] == pytest.approx(expected, rel=1e-12, abs=1e-18)
        assert sum(group["is_bias"] for group in optimizer.param_groups) == 1
    if name != "sgd":
        assert all(group["betas"][1] == 0.999 for group in optimizer.param_groups)


def test_state_saved_with_one_layout_of_groups_is_restored_into_another() -> None:
    model, optimizer, course = make("yolov5n", name="adamw")
    other, regrouped, _ = make("yolov5n", name="adamw", backbone_factor=0.5, layer_decay=0.9, bias_factor=2.0)
    assert len(regrouped.param_groups) > len(optimizer.param_groups)
    set_rates(optimizer, course, 5)
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, float(number + 1))
    optimizer.step()
    saved = {name: tensor.clone() for name, tensor in optimizer_tensors(optimizer, model).items()}
    restore_optimizer(regrouped, other, saved)
    restored = optimizer_tensors(regrouped, other)
    assert saved.keys() == restored.keys()
    assert len(saved) == 3 * len(list(model.parameters()))
    assert all(torch.equal(saved[name], restored[name]) for name in saved)


def test_a_factor_for_a_backbone_that_is_not_there_or_not_trained_is_refused() -> None:
    section = OptimizerSection(backbone_factor=0.1)
    with pytest.raises(
        ValueError, match=r"optimizer.backbone_factor is 0.1, but this network has no backbone that is tra"
    ):
        make_optimizer(nn.Linear(2, 2), section)
    model = zoo.build("yolov5n", num_classes=1)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("backbone" not in name)
    with pytest.raises(ValueError, match=r"optimizer.layer_decay is 0.9"):
        make_optimizer(model, OptimizerSection(layer_decay=0.9))
