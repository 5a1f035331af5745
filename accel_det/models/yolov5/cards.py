"""The YOLOv5 networks of the zoo."""

from accel_det.models.card import ModelCard

_SOURCE = "YOLOv5 v6.0 architecture, from its published description; CIoU: Zheng et al., 2020"


def _card(name: str, parameters_m: float) -> ModelCard:
    return ModelCard(name, "detection", "yolov5.model", "YoloV5Options", parameters_m, 640, "letterbox", 32, _SOURCE)


CARDS = (
    _card("yolov5n", 1.9),
    _card("yolov5s", 7.2),
    _card("yolov5m", 21.2),
    _card("yolov5l", 46.5),
    _card("yolov5x", 86.7),
)
