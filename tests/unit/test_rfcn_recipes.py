"""The published schedules of R-FCN: all of them obey one rule, 0.0005 times the images per update."""

from pathlib import Path

import pytest
import torch

from accel_det.config.load import load_config
from accel_det.engine.schedule import peak_learning_rate, schedule_factor
from accel_det.models import zoo
from accel_det.models.rfcn.model import RFCN

CONFIGS = Path(__file__).parents[2] / "configs" / "detection"


@pytest.mark.parametrize(
    ("name", "images", "rate", "decays_at", "steps"),
    [
        ("rfcn_resnet50_voc0712", 2, 0.001, 80_000, 110_000),
        ("rfcn_resnet101_voc0712_8gpu", 8, 0.004, 20_000, 30_000),
        ("rfcn_resnet101_coco_8gpu", 16, 0.008, 90_000, 170_000),
        ("rfcn_resnet101_coco", 1, 0.0005, 1_280_000, 1_920_000),
        ("rfcn_resnet50_voc0712_given", 2, 0.001, 80_000, 110_000),
        ("rfcn_resnet101_deformable_voc0712", 8, 0.004, 20_000, 30_000),
    ],
)
def test_rates_and_updates_are_the_published_ones(
    name: str, images: int, rate: float, decays_at: int, steps: int
) -> None:
    config = load_config(CONFIGS / f"{name}.yaml").config
    peak, _ = peak_learning_rate(config.optimizer, config.train.images_per_update)
    assert config.train.images_per_update == images
    assert config.train.steps == steps
    assert peak == pytest.approx(rate, rel=1e-12)
    factors = [
        schedule_factor(step, schedule=config.schedule, total_steps=steps, warmup_steps=0)
        for step in (0, decays_at - 1, decays_at)
    ]
    assert factors == pytest.approx([1.0, 1.0, 0.1])
    optimizer = config.optimizer
    assert (optimizer.momentum, optimizer.weight_decay, optimizer.bias_factor) == (0.9, 0.0005, 2.0)
    with torch.device("meta"):
        model = zoo.build(config.model.name, num_classes=20, options=config.model.options)
    assert sum(parameter.requires_grad for parameter in model.parameters()) > 40


def test_every_recipe_of_the_family_is_held_to_its_numbers() -> None:
    files = {file.stem for file in CONFIGS.glob("rfcn_*.yaml")}
    assert len(files) == 7
    assert "rfcn_resnet50_bccd" in files


def test_whole_numbers_of_a_configuration_stay_whole_where_an_option_counts() -> None:
    section = load_config(CONFIGS / "rfcn_resnet50_bccd.yaml").config.model
    with torch.device("meta"):
        model = zoo.build(section.name, num_classes=3, options=section.options)
    assert isinstance(model, RFCN)
    assert model.options.blocks == (1, 1, 1, 1)
    assert all(isinstance(count, int) for count in model.options.blocks)
    with pytest.raises(ValueError, match=r"model\.options\.blocks is .1\.5, 1, 1, 1"):
        zoo.build(section.name, num_classes=3, options={"blocks": [1.5, 1, 1, 1]})
