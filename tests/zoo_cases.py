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

_CASES = {
    "yolov5n": Case(quick=True),
    "ssd300_vgg16": Case(size_px=96),
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
