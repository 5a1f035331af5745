"""The tracker's settings as a command takes them: of a preset, then of a file, then of the command line."""

import dataclasses
import inspect
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from accel_det.config.load import ConfigError, override_pairs, read_mapping
from accel_det.tracking.settings import PRESETS, TrackerSettings, settings_from

PREFIX = "--tracker."


def read_settings(preset: str | None, file: Path | None, overrides: Sequence[str]) -> TrackerSettings:
    """Settings of a preset, with those of a YAML file and of `--tracker.KEY VALUE` in their place.

    Args:
        preset: None: the one that the file names as `preset`, or deepsort.

    Raises:
        ConfigError: no such file, setting or preset, or a value that does not fit; says where it was given.
    """
    values: dict[str, Any] = {}
    if file is not None:
        if not file.is_file():
            raise ConfigError(f"{file}: no such file; --settings takes YAML with lines such as `max_age: 30`")
        values = {str(key): _plain(str(key), value) for key, value in read_mapping(file).items()}
    named = values.pop("preset", None)
    chosen = str(preset or named or "deepsort")
    _settings(values, chosen, place=f"{file}: ")
    given = _given(overrides)
    return _settings({**values, **given}, chosen, place=PREFIX)


def changed(settings: TrackerSettings, texts: Mapping[str, str]) -> TrackerSettings:
    """The same with other values of some settings, given as text.

    Raises:
        ValueError: a setting is not known, or a value does not fit.
    """
    return settings_from(dataclasses.asdict(settings) | {key: _value(key, text) for key, text in texts.items()})


def require_known(names: Iterable[str], *, place: str) -> None:
    """Refuse names that are no settings.

    Raises:
        ConfigError: names the place and the first of them.
    """
    for name in names:
        if not hasattr(PRESETS["deepsort"], name):
            raise ConfigError(f"{place}: `{name}` is no setting of the tracker; `accel-det track --keys` lists them")


def without_appearance(settings: TrackerSettings) -> TrackerSettings:
    """The same, by motion and overlap alone."""
    weight = 1.0 if settings.motion_weight > 0 else 0.0
    return dataclasses.replace(
        settings, max_cosine_distance=None, overlap_max_cosine_distance=None, motion_weight=weight
    )


def as_yaml(settings: TrackerSettings, preset: str) -> str:
    """A file of settings: the preset, and what differs from it."""
    plain, own = dataclasses.asdict(PRESETS[preset]), dataclasses.asdict(settings)
    return yaml.safe_dump(
        {"preset": preset, **{key: value for key, value in own.items() if value != plain[key]}}, sort_keys=False
    )


def settings_text() -> str:
    """Every setting with its default and what it means, in lines."""
    text = inspect.cleandoc(TrackerSettings.__doc__ or "").partition("Attributes:")[2].partition("Source:")[0]
    lines = [f"presets: {', '.join(PRESETS)}; defaults are those of deepsort", ""]
    for names, meaning in re.findall(r"^    ([a-z_, ]+): (.+(?:\n        .+)*)", text, flags=re.MULTILINE):
        shown = ", ".join(f"{name} = {_default(name)}" for name in names.split(", "))
        lines.append(f"{PREFIX}{shown}\n    {' '.join(meaning.split())}")
    return "\n".join(lines)


def _default(name: str) -> str:
    value = getattr(PRESETS["deepsort"], name)
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value).lower()


def _settings(values: dict[str, Any], preset: str, *, place: str) -> TrackerSettings:
    try:
        return settings_from(values, preset)
    except ValueError as error:
        raise ConfigError(f"{place}{error}") from None


def _given(overrides: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, text in override_pairs(overrides):
        section, _, name = key.partition(".")
        if section != "tracker" or not name:
            raise ConfigError(
                f"--{key}: no such option; settings are given as `{PREFIX}KEY VALUE`, and `--keys` lists them"
            )
        values[name] = _value(name, text)
    return values


def _value(name: str, text: str) -> Any:
    return _plain(name, yaml.safe_load(text))


def _plain(name: str, value: object) -> object:
    """`none` says so in a file and on the command line, as it does in what `--keys` prints; but it is a gate of that name."""
    return None if value == "none" and not isinstance(getattr(PRESETS["deepsort"], name, None), str) else value
