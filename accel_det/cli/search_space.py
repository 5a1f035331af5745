"""What a hyper-parameter search may change: keys of a configuration with ranges or choices.

A space is YAML, one key a line: `optimizer.lr: {low: 0.001, high: 0.1, log: true}`, or a list of choices,
`data.augment.mosaic: [0.0, 0.5, 1.0]`. Whole numbers as both ends give whole numbers.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from accel_det.config.load import ConfigError, load_config, read_mapping
from accel_det.models import zoo

_RANGE_KEYS = {"low", "high", "log"}
_FEWEST_CHOICES = 2


class Range(NamedTuple):
    """Numbers from low to high, both included; drawn evenly, or evenly in their logarithm. Both whole, or both not."""

    low: float
    high: float
    log: bool

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int)

    def holds(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            return False
        return self.low <= value <= self.high


class Choices(NamedTuple):
    """Values of any kind, each as the text that an override on the command line would have."""

    texts: tuple[str, ...]


Space = dict[str, Range | Choices]


def read_space(path: str | Path) -> Space:
    """A space from its file.

    Raises:
        ValueError: names the file, the key and what was expected.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"{file}: no such file; --space takes a YAML file such as search_spaces/yolov5.yaml")
    tree = read_mapping(file)
    if not tree:
        raise ValueError(
            f"{file}: no key to search over; write lines such as `optimizer.lr: {{low: 0.001, high: 0.1}}`"
        )
    return {str(key): _entry(value, place=f"{file}: `{key}`") for key, value in tree.items()}


def check_space(space: Space, config: str | Path, overrides: Sequence[str]) -> None:
    """Refuse keys that a configuration does not have, and ends and choices that it would not take beside the last of all
    others.

    Raises:
        ConfigError: as for an override on the command line.
    """
    ends = {key: _ends(entry) for key, entry in space.items()}
    last = [word for key, texts in ends.items() for word in (f"--{key}", texts[-1])]
    for key, texts in ends.items():
        for text in texts:
            try:
                load_config(config, [*overrides, *last, f"--{key}", text])
            except ConfigError as error:
                raise ConfigError(f"space: {error}") from None
    model = load_config(config, overrides).config.model.name
    known = () if "model.name" in space else zoo.option_table(model)
    for key in space:
        name = key.removeprefix("model.options.")
        if known and name != key and name not in known:
            raise ConfigError(
                f"space: `{key}`: {model} has no such option; `accel-det models {model}` lists those it has"
            )


def starting_point(space: Space, values: Mapping[str, Any]) -> dict[str, str]:
    """What the configuration itself has for the keys of the space, where the space holds it."""
    found: dict[str, str] = {}
    for key, entry in space.items():
        value: Any = values
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if isinstance(entry, Choices) and as_text(value) in entry.texts:
            found[key] = as_text(value)
        elif isinstance(entry, Range) and entry.holds(value):
            found[key] = as_text(value if entry.whole else float(value))
    return found


def as_text(value: object) -> str:
    """A value as an override on the command line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=math.inf)
    return text.removesuffix("\n").removesuffix("\n...").strip()


def _ends(entry: Range | Choices) -> tuple[str, ...]:
    return entry.texts if isinstance(entry, Choices) else (as_text(entry.low), as_text(entry.high))


def _entry(value: object, *, place: str) -> Range | Choices:
    if isinstance(value, list):
        texts = tuple(as_text(one) for one in value)
        if len(set(texts)) < max(_FEWEST_CHOICES, len(texts)):
            raise ValueError(f"{place} is {value}, expected a list of at least {_FEWEST_CHOICES} different choices")
        return Choices(texts)
    if not isinstance(value, dict) or not {"low", "high"} <= set(value) <= _RANGE_KEYS:
        raise ValueError(f"{place} is {value}, expected {{low: NUMBER, high: NUMBER, log: true or false}} or a list")
    low, high, log = value["low"], value["high"], value.get("log", False)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if not numbers or not isinstance(log, bool) or not -math.inf < low < high < math.inf:
        raise ValueError(f"{place} is {value}, expected numbers with low below high, and log as true or false")
    if log and low <= 0:
        raise ValueError(f"{place} starts at {low}: with log: true it must start above 0")
    whole = isinstance(low, int) and isinstance(high, int)
    return Range(low, high, log) if whole else Range(float(low), float(high), log)
