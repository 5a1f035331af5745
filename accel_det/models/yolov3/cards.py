"""The YOLOv3 networks of the zoo."""

from accel_det.models.card import ModelCard

_SOURCE = "Redmon and Farhadi, YOLOv3: An Incremental Improvement, 2018"


def _card(name: str, parameters_m: float, gflops: float, size_px: int, options: str = "YoloV3Options") -> ModelCard:
    return ModelCard(
        name, "detection", "yolov3.model", options, parameters_m, size_px, "letterbox", 32, _SOURCE, gflops=gflops
    )


CARDS = (
    _card("yolov3", 61.9, 65.86, 416),
    _card("yolov3_spp", 63.0, 141.4, 608),
    _card("yolov3_tiny", 8.852, 5.565, 416, "YoloV3TinyOptions"),
)
