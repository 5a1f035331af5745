"""The model zoo: a table of cards, from which every network is listed, built and tested."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from importlib import import_module
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from accel_det.models.base import Inference, ZooModel

OptionValue = bool | int | float | str | list[float]


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """One network.

    Attributes:
        name: what `model.name` says.
        task: "detection" or "reid".
        family: name of the module in `accel_det.models` that builds it; imported when first needed.
        options_class: name of the dataclass in that module with the network's settings.
        parameters_m: millions of parameters with 80 classes.
        size_px: side in pixels that it was designed for.
        resize: the resize mode that it was designed for.
        multiple_px: heights and widths of batch images are multiples of this.
        source: the paper.
    """

    name: str
    task: str
    family: str
    options_class: str
    parameters_m: float
    size_px: int
    resize: str
    multiple_px: int
    source: str

    def options_type(self) -> type:
        """The dataclass of this network's settings."""
        found: type = getattr(import_module(f"accel_det.models.{self.family}"), self.options_class)
        return found


_FASTER = "Ren et al., Faster R-CNN, 2015; Lin et al., Feature Pyramid Networks, 2017"
_FASTER_V2 = f"{_FASTER}; Li et al., Benchmarking Detection Transfer Learning, 2021"
_RETINA = "Lin et al., Focal Loss for Dense Object Detection, 2017"
_RETINA_V2 = f"{_RETINA}; Zhang et al., Bridging the Gap (ATSS), 2020"
_YOLO5 = "YOLOv5 v6.0 architecture, from its published description; CIoU: Zheng et al., 2020"


def _torchvision(
    name: str, parameters_m: float, size_px: int, resize: str, source: str, *, multiple_px: int = 32
) -> ModelCard:
    return ModelCard(
        name, "detection", "torchvision.build", "TorchvisionOptions", parameters_m, size_px, resize, multiple_px, source
    )


def _yolov5(name: str, parameters_m: float) -> ModelCard:
    return ModelCard(name, "detection", "yolov5.model", "YoloV5Options", parameters_m, 640, "letterbox", 32, _YOLO5)


_CARDS = {
    card.name: card
    for card in (
        _torchvision("fasterrcnn_resnet50_fpn", 41.5, 800, "shortest_edge", _FASTER),
        _torchvision("fasterrcnn_resnet50_fpn_v2", 43.5, 800, "shortest_edge", _FASTER_V2),
        _torchvision("fasterrcnn_mobilenet_v3_large_fpn", 19.2, 800, "shortest_edge", _FASTER),
        _torchvision("fasterrcnn_mobilenet_v3_large_320_fpn", 19.2, 320, "shortest_edge", _FASTER),
        _torchvision("retinanet_resnet50_fpn", 33.8, 800, "shortest_edge", _RETINA),
        _torchvision("retinanet_resnet50_fpn_v2", 38.0, 800, "shortest_edge", _RETINA_V2),
        _torchvision("fcos_resnet50_fpn", 32.1, 800, "shortest_edge", "Tian et al., FCOS, 2019"),
        _torchvision("ssd300_vgg16", 35.1, 300, "stretch", "Liu et al., SSD, 2016", multiple_px=1),
        _torchvision(
            "ssdlite320_mobilenet_v3_large", 3.4, 320, "stretch", "Howard et al., MobileNetV3, 2019", multiple_px=1
        ),
        _yolov5("yolov5n", 1.9),
        _yolov5("yolov5s", 7.2),
        _yolov5("yolov5m", 21.2),
        _yolov5("yolov5l", 46.5),
        _yolov5("yolov5x", 86.7),
    )
}


def names(task: str | None = None) -> tuple[str, ...]:
    """All networks, or those of one task."""
    return tuple(name for name, card in _CARDS.items() if task in (None, card.task))


def card(name: str) -> ModelCard:
    """What is known of a network.

    Raises:
        ValueError: no such network; names the nearest.
    """
    if name not in _CARDS:
        close = difflib.get_close_matches(name, _CARDS, n=1)
        hint = f"did you mean `{close[0]}`? " if close else ""
        raise ValueError(f"model.name: there is no network `{name}`; {hint}Known: {', '.join(_CARDS)}")
    return _CARDS[name]


def build(
    name: str,
    *,
    num_classes: int,
    options: Mapping[str, OptionValue] | None = None,
    inference: Inference | None = None,
) -> ZooModel[Any, Any]:
    """A network with fresh weights, drawn from torch's global generator.

    Args:
        num_classes: at least 1; background is not counted.
        options: settings of this network; see `option_table`.

    Raises:
        ValueError: unknown network or option, or a value of the wrong type.
    """
    found = card(name)
    module = import_module(f"accel_det.models.{found.family}")
    builder: Callable[..., ZooModel[Any, Any]] = module.build
    settings = _typed_options(found, options or {})
    return builder(name, num_classes=num_classes, inference=inference or Inference(), options=settings)


def option_table(name: str) -> dict[str, tuple[str, Any]]:
    """The settings of a network: name -> (type, default)."""
    options_type = card(name).options_type()
    kinds = get_type_hints(options_type)
    defaults: dict[str, Any] = {field.name: field.default for field in dataclasses.fields(options_type)}
    return {name: (_kind_text(kinds[name]), default) for name, default in defaults.items()}


def _typed_options(found: ModelCard, options: Mapping[str, OptionValue]) -> Any:
    options_type = found.options_type()
    known = {field.name: field.default for field in dataclasses.fields(options_type)}
    kinds = get_type_hints(options_type)
    values: dict[str, Any] = {}
    for key, value in options.items():
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean `{close[0]}`?" if close else ""
            raise ValueError(
                f"model.options: {found.name} has no option `{key}`{hint} (known: {', '.join(known) or 'none'})"
            )
        values[key] = tuple(value) if isinstance(value, list) else value
        if not _fits(values[key], kinds[key]):
            raise ValueError(
                f"model.options.{key} is {value!r}, expected {_kind_text(kinds[key])}, by default {known[key]!r}, "
                f"for {found.name}"
            )
    try:
        return options_type(**values)
    except ValueError as error:
        raise ValueError(f"model.options of {found.name}: {error}") from None


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is of an annotated kind; a whole number is also a float, and true is not 1."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        each = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        return len(value) == len(each) and all(map(_fits, value, each))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _kind_text(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")
