"""How the tests build each network of the zoo: small enough to run many times on a CPU."""

from collections.abc import Mapping
from typing import NamedTuple

from accel_det.models import zoo
from accel_det.models.zoo import OptionValue


class Case(NamedTuple):
    """One network in the tests.

    Attributes:
        size_px: side of the images.
        options: settings that make it small; what it computes stays the same.
        quick: tested by default; others are marked slow. Each family has one.
    """

    size_px: int = 64
    options: Mapping[str, OptionValue] = {}
    quick: bool = False


# Few sampled regions: the head of the larger Faster R-CNN takes a minute for 512 of them in float64.
_FEW_REGIONS = {"anchors_per_image": 64, "rois_per_image": 32}
# Anchors that fit into the image, shallow stages and few channels, so that double precision takes seconds.
_SMALL_RFCN = {
    "blocks": [1, 1, 1, 1],
    "width": 8,
    "scales": [1.0, 2.0],
    "rpn_channels": 32,
    "head_channels": 32,
    "bins": 3,
    "anchors_per_image": 32,
    "rois_per_image": 16,
    "proposals_after_nms": 40,
}

# Narrow, with few layers, and without dropout, which each process draws for itself.
_TINY_SET: Mapping[str, OptionValue] = {"scale": "tiny", "dropout": 0.0}

_CASES = {
    **{name: Case(options=_TINY_SET) for name in zoo.names() if zoo.card(name).family == "transformers.build"},
    "rtdetr_v2_resnet18": Case(options=_TINY_SET, quick=True),
    "rfcn_resnet50": Case(options=_SMALL_RFCN, quick=True),
    "rfcn_resnet101": Case(options=_SMALL_RFCN | {"blocks": [1, 1, 2, 1], "sampling": "balanced", "class_aware": True}),
    "rfcn_resnet50_deformable": Case(options=_SMALL_RFCN),
    "rfcn_resnet101_deformable": Case(options=_SMALL_RFCN | {"pooling": "align", "pool_operations": "tensor"}),
    "yolov3": Case(options={"width": 0.125}),
    "yolov3_spp": Case(options={"width": 0.125, "loss": "giou"}),
    "yolov3_tiny": Case(options={"width": 0.25}, quick=True),
    "yolov5n": Case(quick=True),
    "ssd300_vgg16": Case(size_px=96),
    "ssd512_vgg16": Case(size_px=96),
    "ssdlite320_mobilenet_v3_large": Case(size_px=96, quick=True),
    "fasterrcnn_resnet50_fpn": Case(options=_FEW_REGIONS),
    "fasterrcnn_resnet50_fpn_v2": Case(options=_FEW_REGIONS),
    "fasterrcnn_mobilenet_v3_large_fpn": Case(options=_FEW_REGIONS),
    "fasterrcnn_mobilenet_v3_large_320_fpn": Case(options=_FEW_REGIONS),
}


def case(name: str) -> Case:
    """The case of a network; one that is not in the table is built as it is."""
    zoo.card(name)
    return _CASES.get(name, Case())
