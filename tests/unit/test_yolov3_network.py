"""The networks of YOLOv3 against their published numbers, and their decoding against plain arithmetic."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from accel_det.models import zoo
from accel_det.models.base import Inference
from accel_det.models.yolov3.decode import LARGEST_LOG_RATIO, decode_level, level_candidates
from accel_det.models.yolov3.model import YoloV3, YoloV3Options, YoloV3TinyOptions, build
from accel_det.models.yolov3.network import SpatialPooling, TinyBackbone

NAMES = ("yolov3", "yolov3_spp", "yolov3_tiny")
# Of the published configurations, scale and shift of the norms included.
PARAMETERS = {"yolov3": 61_949_149, "yolov3_spp": 62_998_749, "yolov3_tiny": 8_852_366}
# BFLOPs of Darknet's own page, https://pjreddie.com/darknet/yolo: (side in pixels, 10^9).
BILLIONS = {"yolov3": [(416, 65.86), (608, 140.69)], "yolov3_spp": [(608, 141.45)], "yolov3_tiny": [(416, 5.56)]}


def make(name: str, *, num_classes: int = 80, width: float = 1.0) -> YoloV3:
    kind = YoloV3TinyOptions if name == "yolov3_tiny" else YoloV3Options
    return build(name, num_classes=num_classes, inference=Inference(), options=kind(width=width))


@pytest.mark.parametrize("name", NAMES)
def test_parameters_and_operations_are_the_published_ones(name: str) -> None:
    with torch.device("meta"):
        network = make(name).network.eval()
        assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]
        assert zoo.card(name).parameters_m == pytest.approx(PARAMETERS[name] / 1e6, abs=0.06)
        for side, billions in BILLIONS[name]:
            with FlopCounterMode(display=False) as counter:
                raw = network(torch.empty(1, 3, side, side))
            assert counter.get_total_flops() / 1e9 == pytest.approx(billions, abs=0.01)
            expected = [(1, 3, 85, side // stride, side // stride) for stride in network.strides]
            assert [tuple(level.shape) for level in raw] == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_norm_belongs_to_a_convolution_and_the_linear_ones_have_none(name: str) -> None:
    """A convolution without a norm that still owns one has parameters that nothing uses."""
    model = make(name, num_classes=3, width=0.125)
    layers = dict(model.darknet_layers())
    linear = [layer for layer in layers.values() if isinstance(layer, nn.Conv2d)]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert len(linear) == len(model.network.strides)
    assert len(norms) == len(layers) - len(linear) == len(convolutions) - len(linear)
    assert all(layer.bias is not None for layer in linear)


def test_the_layers_of_the_backbone_are_numbered_from_the_image() -> None:
    for name in NAMES:
        model = make(name, num_classes=1, width=0.125)
        layers = [model.layer_of(parameter) for parameter, _ in model.named_parameters()]
        backbone = [layer for layer in layers if layer is not None]
        assert backbone == sorted(backbone)
        assert backbone[-1] == (6 if name == "yolov3_tiny" else 5)


def test_the_last_pool_of_the_tiny_network_keeps_the_size_and_sees_the_next_row_and_column() -> None:
    backbone = TinyBackbone(0.125)
    x = torch.tensor([[5.0, 1.0, 2.0], [0.0, -3.0, -4.0], [9.0, -1.0, -2.0]])[None, None]
    expected = torch.tensor([[5.0, 2.0, 2.0], [9.0, -1.0, -2.0], [9.0, -1.0, -2.0]])
    assert torch.equal(backbone.pool(x)[0, 0, 1:, 1:], expected)


def test_spatial_pooling_gives_the_largest_of_13_9_and_5_cells_and_the_map_itself() -> None:
    x = torch.zeros(1, 1, 15, 15)
    x[0, 0, 7, 7] = 1
    counts = [int(channel.sum()) for channel in SpatialPooling()(x)[0]]
    assert counts == [13 * 13, 9 * 9, 5 * 5, 1]


def reference_boxes(raw: Tensor, anchors: Tensor, *, stride: int) -> list[list[float]]:
    boxes = []
    num_anchors, _, height, width = raw.shape
    for a in range(num_anchors):
        for row in range(height):
            for column in range(width):
                tx, ty, tw, th = raw[a, :4, row, column].tolist()
                x, y = ((1 / (1 + math.exp(-t)) + c) * stride for t, c in ((tx, column), (ty, row)))
                w, h = (float(anchors[a, i]) * min(math.exp(t), 1000.0) for i, t in ((0, tw), (1, th)))
                boxes.append([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
    return boxes


@pytest.mark.parametrize("softmax", [False, True])
def test_decoded_boxes_and_scores_equal_plain_arithmetic(softmax: bool) -> None:
    raw = torch.randn((2, 3, 5 + 4, 3, 5), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    raw[0, 1, 2, 1, 1] = 8.0  # beyond the bound of the exponent
    anchors = torch.tensor([[10.0, 13.0], [16.0, 30.0], [33.0, 23.0]])
    expected = torch.tensor([reference_boxes(one, anchors, stride=16) for one in raw], dtype=torch.float64)
    assert torch.allclose(decode_level(raw, anchors, stride=16), expected, rtol=1e-12)
    found = level_candidates(raw, anchors, stride=16, score_threshold=0.2, softmax=softmax)
    classes = raw[:, :, 5:].softmax(dim=2) if softmax else raw[:, :, 5:].sigmoid()
    scores = (raw[:, :, 4:5].sigmoid() * classes).permute(0, 1, 3, 4, 2).reshape(2, -1, 4)
    assert len(found.boxes) == int((scores > 0.2).sum()) > 20
    for image, box, score, label in zip(*(column.tolist() for column in found), strict=True):
        nearest = (expected[image] - torch.tensor(box, dtype=torch.float64)).abs().amax(dim=1).argmin()
        assert torch.allclose(expected[image, nearest], torch.tensor(box, dtype=torch.float64), rtol=1e-12)
        assert scores[image, nearest, label].item() == pytest.approx(score, rel=1e-12)
    assert math.exp(LARGEST_LOG_RATIO) == pytest.approx(1000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"anchors_px": [1.0, 2.0]}, r"anchors_px: expected 12 positive numbers of pixels"),
        ({"ignore_iou": 0.0}, r"ignore_iou: expected a number in \(0, 1\], got 0.0"),
        ({"width": 0.0}, "width: expected a number above 0"),
        (
            {"loss": "yolo"},
            r"model.options.loss is 'yolo', expected Literal\['darknet', 'paper', 'giou', 'per_scale'\]",
        ),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, zoo.OptionValue], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        zoo.build("yolov3_tiny", num_classes=2, options=options)
