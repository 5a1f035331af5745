"""The networks of the zoo that torchvision builds."""

from accel_det.models.card import ModelCard

_FASTER = "Ren et al., Faster R-CNN, 2015; Lin et al., Feature Pyramid Networks, 2017"
_FASTER_V2 = f"{_FASTER}; Li et al., Benchmarking Detection Transfer Learning, 2021"
_RETINA = "Lin et al., Focal Loss for Dense Object Detection, 2017"
_RETINA_V2 = f"{_RETINA}; Zhang et al., Bridging the Gap (ATSS), 2020"


def _card(
    name: str, parameters_m: float, gflops: float, size_px: int, resize: str, source: str, *, multiple_px: int = 32
) -> ModelCard:
    return ModelCard(
        name,
        "detection",
        "torchvision.build",
        "TorchvisionOptions",
        parameters_m,
        size_px,
        resize,
        multiple_px,
        source,
        gflops=gflops,
        licence="BSD-3-Clause",
    )


CARDS = (
    _card("fasterrcnn_resnet50_fpn", 41.76, 268.7, 800, "shortest_edge", _FASTER),
    _card("fasterrcnn_resnet50_fpn_v2", 43.66, 560.6, 800, "shortest_edge", _FASTER_V2),
    _card("fasterrcnn_mobilenet_v3_large_fpn", 19.36, 37.6, 800, "shortest_edge", _FASTER),
    _card("fasterrcnn_mobilenet_v3_large_320_fpn", 19.36, 5.73, 320, "shortest_edge", _FASTER),
    _card("retinanet_resnet50_fpn", 33.84, 297.0, 800, "shortest_edge", _RETINA),
    _card("retinanet_resnet50_fpn_v2", 37.97, 298.4, 800, "shortest_edge", _RETINA_V2),
    _card("fcos_resnet50_fpn", 32.3, 255.7, 800, "shortest_edge", "Tian et al., FCOS, 2019"),
    _card("ssd300_vgg16", 34.31, 68.72, 300, "stretch", "Liu et al., SSD, 2016", multiple_px=1),
    _card("ssd512_vgg16", 36.04, 197.3, 512, "stretch", "Liu et al., SSD, 2016", multiple_px=1),
    _card(
        "ssdlite320_mobilenet_v3_large", 3.301, 1.126, 320, "stretch", "Howard et al., MobileNetV3, 2019", multiple_px=1
    ),
)
