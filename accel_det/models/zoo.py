"""The model zoo: a table of cards, from which every network is listed, built and tested."""

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from importlib import import_module
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from accel_det.models.base import Inference, ZooModel
from accel_det.models.card import ModelCard
from accel_det.models.reid import cards as reid
from accel_det.models.rfcn import cards as rfcn
from accel_det.models.torchvision import cards as torchvision
from accel_det.models.transformers import cards as transformers
from accel_det.models.yolov3 import cards as yolov3
from accel_det.models.yolov5 import cards as yolov5

OptionValue = bool | int | float | str | list[float]

_FAMILIES = (torchvision, yolov5, rfcn, yolov3, transformers, reid)
_CARDS: dict[str, ModelCard] = {card.name: card for family in _FAMILIES for card in family.CARDS}


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
        raise ValueError(f"model.name: there is no network `{name}`; {hint}`accel-det models` lists them")
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
        num_classes: at least 1, background is not counted; 0 for a network that embeds and is not trained.
        options: settings of this network; see `option_table`.
        inference: how candidates become detections. Where it asks for several views of an image, the network gives the
            candidates of one, and `test_time.with_views` puts it behind them.

    Raises:
        ValueError: unknown network or option, a value of the wrong type, or box_iterations for a network of one stage.
    """
    found = card(name)
    module = import_module(f"accel_det.models.{found.family}")
    builder: Callable[..., ZooModel[Any, Any]] = module.build
    settings = _typed_options(found, options or {})
    inference = (inference or Inference()).of_one_view
    model = builder(name, num_classes=num_classes, inference=inference, options=settings)
    if inference.box_iterations and not model.has_second_stage:
        raise ValueError(
            f"evaluate.box_iterations is {inference.box_iterations}, but {name} has no second stage to feed boxes to "
            "again: set it to 0, or take a Faster R-CNN or an R-FCN"
        )
    return model


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
        values[key] = _as_tuple(value, kinds[key]) if isinstance(value, list) else value
        if not _fits(values[key], kinds[key]):
            raise ValueError(
                f"model.options.{key} is {value!r}, expected {_kind_text(kinds[key])}, by default {known[key]!r}, "
                f"for {found.name}"
            )
    try:
        return options_type(**values)
    except ValueError as error:
        raise ValueError(f"model.options of {found.name}: {error}") from None


def _as_tuple(value: list[float], kind: Any) -> tuple[float, ...]:
    """A configuration's list holds floats; where the option takes whole numbers, those that are whole become such."""
    is_whole = get_args(kind)[:1] == (int,) and all(float(one).is_integer() for one in value)
    return tuple(int(one) for one in value) if is_whole else tuple(value)


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
