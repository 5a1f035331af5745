"""YOLOv5's architecture against the published numbers, and what its builder refuses."""

import math

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from accel_det.models import zoo
from accel_det.models.base import Inference
from accel_det.models.yolov5.model import YoloV5Options, YoloV5P6Options, build
from accel_det.models.yolov5.network import SCALES, YoloV5Network, scaled_channels, scaled_repeats
from accel_det.types import Batch, BoxTarget

# Millions of parameters and 1e9 operations (multiply and add) at 640x640 and 80 classes: the table of YOLOv5's readme.
# The networks of four levels: parameters of the same table; operations as its authors gave them for 640 pixels.
PUBLISHED = {
    "yolov5n": (1.9, 4.5),
    "yolov5s": (7.2, 16.5),
    "yolov5m": (21.2, 49.0),
    "yolov5l": (46.5, 109.1),
    "yolov5x": (86.7, 205.7),
    "yolov5n6": (3.2, 4.6),
    "yolov5s6": (12.6, 16.8),
    "yolov5m6": (35.7, 50.0),
    "yolov5l6": (76.8, 111.4),
    "yolov5x6": (140.7, 209.8),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_size_and_cost_match_the_published_table(name: str) -> None:
    parameters, operations = PUBLISHED[name]
    with torch.device("meta"):
        network = YoloV5Network(80, scale=SCALES[name.removesuffix("6")], levels=4 if name.endswith("6") else 3)
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, 640, 640))
    # The table counts networks whose norms are folded into the convolutions: one number per channel in place of two.
    folded = sum(m.num_features for m in network.modules() if isinstance(m, nn.BatchNorm2d))
    whole = sum(p.numel() for p in network.parameters())
    assert zoo.card(name).parameters_m == pytest.approx(whole / 1e6, abs=0.0006)
    found = whole - folded
    assert found / 1e6 == pytest.approx(parameters, abs=0.08)
    # Convolutions alone are counted here; the table includes norms and activations, below 1 % of the whole.
    assert 0.99 * operations <= counter.get_total_flops() / 1e9 <= operations


def test_the_published_table_has_every_scale() -> None:
    assert set(PUBLISHED) == {scale + levels for scale in SCALES for levels in ("", "6")}
    assert set(PUBLISHED) == {name for name in zoo.names() if name.startswith("yolov5")}


@pytest.mark.parametrize("num_classes", [1, 7])
def test_levels_have_the_strides_8_16_32_for_any_multiple_of_32(num_classes: int) -> None:
    network = YoloV5Network(num_classes, scale=SCALES["yolov5n"]).eval()
    shapes = [tuple(level.shape) for level in network(torch.zeros(2, 3, 64, 96))]
    assert shapes == [(2, 3, 5 + num_classes, 64 // s, 96 // s) for s in (8, 16, 32)]


def test_the_networks_of_four_levels_have_the_strides_8_16_32_64() -> None:
    network = YoloV5Network(7, scale=SCALES["yolov5n"], levels=4).eval()
    shapes = [tuple(level.shape) for level in network(torch.zeros(2, 3, 64, 128))]
    assert shapes == [(2, 3, 12, 64 // s, 128 // s) for s in (8, 16, 32, 64)]
    with torch.no_grad():
        for head, stride in zip(network.heads, (8, 16, 32, 64), strict=True):
            assert head.bias.view(3, 12)[:, 4].exp().tolist() == pytest.approx([8 * (stride / 640) ** 2] * 3)


def test_four_levels_come_with_their_anchors_balance_and_multiple_of_64() -> None:
    options = YoloV5P6Options()
    assert options.strides == (8, 16, 32, 64)
    assert len(options.anchors_px) == 24
    assert options.level_balance == (4.0, 1.0, 0.25, 0.06)
    network = build("yolov5n6", num_classes=3, inference=Inference(), options=options)
    assert network.anchors_px.shape == (4, 3, 2)
    # 3 / 4 of the weights at three levels, and 64x64 pixels are 1 / 100 of 640x640.
    assert network._gains(3, pixels=64 * 64) == pytest.approx((0.05 * 0.75, 0.75 * 0.01 * 0.06, 0.5 * 0.75 * 3 / 80))
    images = Batch(torch.zeros(1, 3, 96, 96, dtype=torch.uint8), torch.tensor([[96, 96]]), [BoxTarget.empty()], [])
    with pytest.raises(ValueError, match=r"96x96.*multiples of 64"):
        network.predict(images)


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
    with pytest.raises(ValueError, match="yolov5n6 has 4 levels, its options are for 3"):
        build("yolov5n6", num_classes=3, inference=Inference(), options=YoloV5Options())
    with pytest.raises(ValueError, match=r"num_classes.*0"):
        build("yolov5n", num_classes=0, inference=Inference(), options=YoloV5Options())
    with pytest.raises(ValueError, match=r"anchors_px.*18"):
        YoloV5Options(anchors_px=(10.0, 13.0))
    with pytest.raises(ValueError, match="anchors_px"):
        YoloV5Options(anchors_px=(*YoloV5Options().anchors_px[:-1], 0.0))
    with pytest.raises(ValueError, match="label_smoothing"):
        YoloV5Options(label_smoothing=1.0)
    for gamma in (-1.0, 0.5, math.nan):
        with pytest.raises(ValueError, match="focal_gamma: expected 0 or a number from 1 on"):
            YoloV5Options(focal_gamma=gamma)
    with pytest.raises(ValueError, match="level_balance: expected 4 numbers"):
        YoloV5P6Options(level_balance=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="objectness_by_overlap"):
        YoloV5Options(objectness_by_overlap=1.1)
    with pytest.raises(ValueError, match="class_positive_weight"):
        YoloV5Options(class_positive_weight=0.0)
    with pytest.raises(ValueError, match="anchor_ratio"):
        YoloV5Options(anchor_ratio=1.0)
