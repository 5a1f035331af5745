"""YOLOv5's architecture against the published numbers, and what its builder refuses."""

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from accel_det.models.base import Inference
from accel_det.models.yolov5.model import YoloV5Options, build
from accel_det.models.yolov5.network import SCALES, YoloV5Network, scaled_channels, scaled_repeats

# Millions of parameters and 1e9 operations (multiply and add) at 640x640 and 80 classes: the table of YOLOv5's readme.
PUBLISHED = {
    "yolov5n": (1.9, 4.5),
    "yolov5s": (7.2, 16.5),
    "yolov5m": (21.2, 49.0),
    "yolov5l": (46.5, 109.1),
    "yolov5x": (86.7, 205.7),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_size_and_cost_match_the_published_table(name: str) -> None:
    parameters, operations = PUBLISHED[name]
    with torch.device("meta"):
        network = YoloV5Network(80, scale=SCALES[name])
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, 640, 640))
    # The table counts networks whose norms are folded into the convolutions: one number per channel in place of two.
    folded = sum(m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    found = sum(p.numel() for p in network.parameters()) - folded
    assert round(found / 1e6, 1) == parameters
    # Convolutions alone are counted here; the table includes norms and activations, below 1 % of the whole.
    assert 0.99 * operations <= counter.get_total_flops() / 1e9 <= operations


def test_the_published_table_has_every_scale() -> None:
    assert set(PUBLISHED) == set(SCALES)


@pytest.mark.parametrize("num_classes", [1, 7])
def test_levels_have_the_strides_8_16_32_for_any_multiple_of_32(num_classes: int) -> None:
    network = YoloV5Network(num_classes, scale=SCALES["yolov5n"]).eval()
    shapes = [tuple(level.shape) for level in network(torch.zeros(2, 3, 64, 96))]
    assert shapes == [(2, 3, 5 + num_classes, 64 // s, 96 // s) for s in (8, 16, 32)]


def test_channels_round_up_to_a_multiple_of_8_and_repeats_to_at_least_one() -> None:
    assert scaled_channels(64, SCALES["yolov5n"]) == 16
    assert scaled_channels(64, SCALES["yolov5m"]) == 48
    assert scaled_channels(72, SCALES["yolov5n"]) == 24  # 18 rounded up
    assert [scaled_repeats(n, SCALES["yolov5n"]) for n in (1, 3, 6, 9)] == [1, 1, 2, 3]
    assert [scaled_repeats(n, SCALES["yolov5x"]) for n in (3, 6, 9)] == [4, 8, 12]


def test_heads_start_at_the_published_rates() -> None:
    network = YoloV5Network(20, scale=SCALES["yolov5n"])
    for head, stride in zip(network.heads, (8, 16, 32), strict=True):
        bias = head.bias.view(3, 25)
        cells = (640 / stride) ** 2
        assert bias[:, 4].exp().tolist() == pytest.approx([8 / cells] * 3)
        assert bias[:, 5:].exp().flatten().tolist() == pytest.approx([0.6 / (20 - 0.99999)] * 60)


def test_a_single_class_starts_as_certain() -> None:
    network = YoloV5Network(1, scale=SCALES["yolov5n"])
    logit = network.heads[0].bias.view(3, 6)[0, 5].item()
    assert 1 / (1 + math.exp(-logit)) > 0.9999


def test_unusable_settings_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"yolov5q.*yolov5n"):
        build("yolov5q", num_classes=3, inference=Inference(), options=YoloV5Options())
    with pytest.raises(ValueError, match=r"num_classes.*0"):
        build("yolov5n", num_classes=0, inference=Inference(), options=YoloV5Options())
    with pytest.raises(ValueError, match=r"anchors_px.*18"):
        YoloV5Options(anchors_px=(10.0, 13.0))
    with pytest.raises(ValueError, match="anchors_px"):
        YoloV5Options(anchors_px=(*YoloV5Options().anchors_px[:-1], 0.0))
    with pytest.raises(ValueError, match="label_smoothing"):
        YoloV5Options(label_smoothing=1.0)
    with pytest.raises(ValueError, match="anchor_ratio"):
        YoloV5Options(anchor_ratio=1.0)
