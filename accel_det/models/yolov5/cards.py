"""The YOLOv5 networks of the zoo."""

from accel_det.models.card import ModelCard

_SOURCE = "YOLOv5 v6.0 architecture, from its published description; CIoU: Zheng et al., 2020"


def _card(name: str, parameters_m: float, gflops: float, *, four_levels: bool = False) -> ModelCard:
    return ModelCard(
        name,
        "detection",
        "yolov5.model",
        "YoloV5P6Options" if four_levels else "YoloV5Options",
        parameters_m,
        1280 if four_levels else 640,
        "letterbox",
        64 if four_levels else 32,
        _SOURCE,
        gflops=gflops,
    )


CARDS = (
    _card("yolov5n", 1.872, 4.47),
    _card("yolov5s", 7.235, 16.43),
    _card("yolov5m", 21.191, 48.87),
    _card("yolov5l", 46.564, 109.0),
    _card("yolov5x", 86.749, 205.4),
    _card("yolov5n6", 3.247, 18.24, four_levels=True),
    _card("yolov5s6", 12.627, 67.19, four_levels=True),
    _card("yolov5m6", 35.732, 199.6, four_levels=True),
    _card("yolov5l6", 76.770, 444.9, four_levels=True),
    _card("yolov5x6", 140.795, 838.3, four_levels=True),
)
