"""Parameters and operations of every network: as counted here, as their cards say, and as they were published."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models
from torchvision.ops import DeformConv2d
from zoo_cases import case

from accel_det.models import zoo
from accel_det.models.cost import _deform_conv_flops, measure

# torchvision's own figures, 10^9 multiply-adds of one image, come with its weights; nothing is downloaded to read them.
TORCHVISION = (
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "retinanet_resnet50_fpn",
    "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn",
    "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
)
# Millions of parameters and 10^9 operations with 80 classes: YOLOv5's readme at 640 pixels, at 1280 four times those that
# its authors gave for 640; YOLOv3's page at 416, and at 608 for SPP. YOLOv5's includes norms and activations, which are
# below 1 % of the whole. Parameters are published with one digit behind the point.
PUBLISHED = {
    "yolov5n": (1.9, 4.5),
    "yolov5s": (7.2, 16.5),
    "yolov5m": (21.2, 49.0),
    "yolov5l": (46.5, 109.1),
    "yolov5x": (86.7, 205.7),
    "yolov5n6": (3.2, 4 * 4.6),
    "yolov5s6": (12.6, 4 * 16.8),
    "yolov5m6": (35.7, 4 * 50.0),
    "yolov5l6": (76.8, 4 * 111.4),
    "yolov5x6": (140.7, 4 * 209.8),
    "yolov3": (61.9, 65.86),
    "yolov3_spp": (63.0, 141.45),
    "yolov3_tiny": (8.8, 5.56),
}
# Checks inside these networks read numbers, so they are computed to be counted.
COMPUTED = ("rtdetr_v2", "dfine")
SWEPT = [
    name if case(name).quick and not name.startswith(COMPUTED) else pytest.param(name, marks=pytest.mark.slow)
    for name in zoo.names("detection")
]


@pytest.mark.parametrize("name", SWEPT)
def test_cards_tell_parameters_and_operations_to_one_percent(name: str) -> None:
    card, found = zoo.card(name), measure(name)
    assert found.parameters / 1e6 == pytest.approx(card.parameters_m, rel=0.01)
    assert found.flops / 1e9 == pytest.approx(card.gflops, rel=0.01)


@pytest.mark.parametrize("name", PUBLISHED)
def test_cards_agree_with_what_was_published(name: str) -> None:
    parameters, operations = PUBLISHED[name]
    card = zoo.card(name)
    assert card.parameters_m == pytest.approx(parameters, rel=0.01, abs=0.05)
    assert card.gflops == pytest.approx(operations, rel=0.01)


# 10^9 operations: Zhao et al., RT-DETR, 2023, table 2; Robinson et al., RF-DETR, 2025. They count answers of inner layers
# otherwise, below 3 %.
PUBLISHED_SETS = {
    "rtdetr_resnet18": 60,
    "rtdetr_resnet34": 92,
    "rtdetr_resnet50": 136,
    "rtdetr_resnet101": 259,
    "rfdetr_nano": 31.9,
    "rfdetr_small": 59.8,
    "rfdetr_medium": 78.8,
}


@pytest.mark.parametrize("name", PUBLISHED_SETS)
def test_cards_of_networks_that_predict_sets_agree_with_what_was_published(name: str) -> None:
    assert zoo.card(name).gflops == pytest.approx(PUBLISHED_SETS[name], rel=0.03)


@pytest.mark.parametrize(
    "name", [name if name.startswith("ssdlite") else pytest.param(name, marks=pytest.mark.slow) for name in TORCHVISION]
)
def test_operations_of_torchvisions_networks_are_twice_its_published_multiply_adds(name: str) -> None:
    weights = models.get_model_weights(name).DEFAULT
    num_background = 0 if name.startswith(("retinanet", "fcos")) else 1
    found = measure(name, num_classes=len(weights.meta["categories"]) - num_background)
    assert found.flops / 2e9 == pytest.approx(weights.meta["_ops"], abs=0.0006)
    # Where its norms are frozen, the published number is without their scales and shifts.
    assert found.parameters == pytest.approx(weights.meta["num_params"], rel=0.002)


@pytest.mark.slow
def test_a_second_stage_counts_with_as_many_regions_as_it_takes_at_most() -> None:
    """torchvision's own figure for this network has no region in it. A region costs two layers of 1024 and the answer."""
    name = "fasterrcnn_mobilenet_v3_large_fpn"
    weights = models.get_model_weights(name).DEFAULT
    num_outputs = len(weights.meta["categories"])
    per_region = 256 * 7 * 7 * 1024 + 1024 * 1024 + 1024 * 5 * num_outputs
    found = measure(name, num_classes=num_outputs - 1)
    assert found.flops / 2e9 == pytest.approx(weights.meta["_ops"] + 1000 * per_region / 1e9, abs=0.0006)


def test_operations_grow_with_the_area_and_counting_draws_nothing() -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    small, large = measure("yolov5n", size_px=64), measure("yolov5n", size_px=128)
    assert large.flops == 4 * small.flops
    assert large.parameters == small.parameters
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="there is no network `yolo`"):
        measure("yolo")


def test_a_deformable_convolution_counts_as_a_plain_one() -> None:
    plain, deformable = nn.Conv2d(8, 12, 3, padding=1, groups=2), DeformConv2d(8, 12, 3, padding=1, groups=2)
    images, offsets = torch.zeros(2, 8, 10, 11), torch.zeros(2, 18, 10, 11)
    with FlopCounterMode(display=False) as expected:
        plain(images)
    mapping = {torch.ops.torchvision.deform_conv2d: _deform_conv_flops}
    with FlopCounterMode(display=False, custom_mapping=mapping) as found:
        deformable(images, offsets)
    assert found.get_total_flops() == expected.get_total_flops() == 2 * (2 * 12 * 10 * 11) * (4 * 9)


def test_every_published_figure_belongs_to_a_network() -> None:
    assert {*PUBLISHED, *PUBLISHED_SETS, *TORCHVISION} <= set(zoo.names())
    assert len(SWEPT) >= 20
