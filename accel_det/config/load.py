"""YAML file + `--section.key value` overrides -> a validated Config, or one clear line per mistake."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from accel_det.config.detection import DetectionConfig
from accel_det.config.reid import ReidConfig
from accel_det.config.schema import Config
from accel_det.plain_yaml import EXPONENT, YamlError, parse_yaml, read_yaml

TASKS: dict[str, type[Config]] = {"detection": DetectionConfig, "reid": ReidConfig}
"""What `task` may say, and the keys that a run has then; without it, those of the first."""

_UNION_BRANCHES = {"bool", "int", "float", "str", "list[float]"}
_FIRST_UNION_DEPTH = 3
_MOST_SHOWN = 1000
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class ConfigError(ValueError):
    """A configuration that cannot be run; the message has one line per mistake."""


ConfigT = TypeVar("ConfigT", bound=Config)


class Loaded(NamedTuple, Generic[ConfigT]):
    """A configuration, and the environment variables that its file named, with the values that they gave."""

    config: ConfigT
    environment: dict[str, str]


def load_detection(path: str | Path, overrides: Sequence[str] = ()) -> DetectionConfig:
    """`load_config` for what only makes sense for a detector.

    Raises:
        ConfigError: the configuration is of another task, too.
    """
    config = load_config(path, overrides).config
    if not isinstance(config, DetectionConfig):
        raise ConfigError(f"{path}: task is {config.task}, but this command is for detection")
    return config


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Loaded[Config]:
    """Read, override, check.

    Args:
        path: YAML file.
        overrides: as on a command line: `["--optimizer.lr", "0.02", "--train.epochs=3"]`; values are read as YAML.

    Raises:
        ConfigError: names the key, where it stands, and what was expected.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"{file}: no such file; `accel-det configs` lists the ones that come with the project")
    environment: dict[str, str] = {}
    tree = _expand(read_mapping(file), environment, str(file))
    places = {key: str(file) for key in _paths(tree)}
    for key, text in override_pairs(overrides):
        place = f"command line, --{key}"
        _put(tree, key.split("."), _expand(_parse(text, place), environment, place), place=place)
        places = {k: v for k, v in places.items() if not k.startswith(f"{key}.")} | {key: "command line"}
    return Loaded(validate(tree, places=places, default_place=str(file)), environment)


def read_mapping(file: Path) -> dict[Any, Any]:
    """A YAML file with keys at its top, as plain values; variables are not read.

    Raises:
        ConfigError: it is too large, not YAML, or holds something else.
    """
    try:
        tree = read_yaml(file)
    except YamlError as error:
        raise ConfigError(error.at(str(file))) from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{file}: expected keys such as `model:` at the top, found {type(tree).__name__}")
    return tree


def validate(tree: dict[str, Any], *, places: dict[str, str] | None = None, default_place: str = "config") -> Config:
    """Nested plain values -> Config.

    Args:
        places: where each dotted key was given, for messages.

    Raises:
        ConfigError: one line per mistake.
    """
    root = _root(tree, place=(places or {}).get("task", default_place))
    try:
        return root.model_validate(tree)
    except ValidationError as error:
        lines = [_explain(detail, root, places or {}, default_place) for detail in error.errors()]
        raise ConfigError("\n".join(dict.fromkeys(_one_line(line) for line in lines))) from None


def _one_line(text: str) -> str:
    """What a key or a value may have of lines and length is not shown."""
    line = " ".join(text.split())
    return line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}..."


def _root(tree: dict[str, Any], *, place: str) -> type[Config]:
    """The keys of the task that the configuration names."""
    task = tree.get("task", next(iter(TASKS)))
    if not isinstance(task, str) or task not in TASKS:
        raise ConfigError(f"{place}: `task`: expected one of {', '.join(TASKS)}, but it is {str(task)[:80]!r}")
    return TASKS[task]


def dump(config: Config) -> str:
    """The resolved configuration as YAML that loads to the same value."""
    values = config.model_dump(mode="json")
    return yaml.dump(values, Dumper=_StrictDumper, sort_keys=False, allow_unicode=True, width=120)


def describe(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Every key that can be set: (dotted key, type, default, meaning)."""
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from describe(inner, f"{prefix}{name}.")
            continue
        for value_type in get_args(inner) if get_origin(inner) in (dict, Mapping) else ():
            if isinstance(value_type, type) and issubclass(value_type, BaseModel):
                yield from describe(value_type, f"{prefix}{name}.NAME.")
                break
        else:
            yield _describe_leaf(f"{prefix}{name}", field)


def _describe_leaf(key: str, field: FieldInfo) -> tuple[str, str, str, str]:
    plain = yaml.safe_dump(field.default, default_flow_style=True) if not field.is_required() else "required"
    return key, _type_name(field.annotation), plain.removesuffix("\n...\n").strip(), field.description or ""


class _StrictDumper(yaml.SafeDumper):
    """Quotes text that the loader would take for a number."""


_StrictDumper.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789."))


def _parse(text: str, place: str) -> Any:
    try:
        return parse_yaml(text)
    except YamlError as error:
        raise ConfigError(error.at(place)) from None


def _expand(value: Any, environment: dict[str, str], place: str) -> Any:
    """Replace ${NAME} and ${NAME:-default} in text; what was read is remembered, so that no input is silent."""
    if isinstance(value, dict):
        return {key: _expand(inner, environment, place) for key, inner in value.items()}
    if isinstance(value, list):
        return [_expand(inner, environment, place) for inner in value]
    if not isinstance(value, str):
        return value

    def replace(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = os.environ.get(name, default)
        if found is None:
            raise ConfigError(f"{place}: environment variable {name} is not set; set it, or write ${{{name}:-default}}")
        environment[name] = found
        return found

    return _VARIABLE.sub(replace, value)


def override_pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Keys and values of a command line's `--section.key value` or `--section.key=value`.

    Raises:
        ConfigError: a word stands alone, a value is missing, or it is no key.
    """
    remaining = list(arguments)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--"):
            raise ConfigError(f"command line: `{word}` stands alone; overrides are written `--section.key value`")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not remaining:
                raise ConfigError(f"command line: --{key} has no value; write `--{key} value`")
            value = remaining.pop(0)
        if not all(key.split(".")):
            raise ConfigError(f"command line: `--{key}` is no key; write it as `--section.key value`")
        yield key, value


def _put(tree: dict[str, Any], keys: list[str], value: Any, *, place: str) -> None:
    for depth, key in enumerate(keys[:-1], start=1):
        inner = tree.get(key)
        if inner is None:
            inner = tree[key] = {}
        if not isinstance(inner, dict):
            raise ConfigError(f"{place}: `{'.'.join(keys[:depth])}` is {inner!r}, not a section with keys below it")
        tree = inner
    tree[keys[-1]] = value


def _paths(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _paths(value, f"{prefix}{key}.")


def _explain(detail: ErrorDetails, root: type[Config], places: dict[str, str], default_place: str) -> str:
    parts = [str(part) for part in detail["loc"]]
    branch = next((i for i, part in enumerate(parts) if i >= _FIRST_UNION_DEPTH and part in _UNION_BRANCHES), None)
    parts = parts[:branch]
    key = ".".join(parts)
    # A mistake inside a value that was given as a whole stands where that was given.
    above = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    place = next((places[outer] for outer in above if outer in places), default_place)
    if branch is not None:
        kinds = "true or false, a number, text, or a list of numbers" if parts[0] == "model" else "a number or text"
        return f"{place}: `{key}`: expected {kinds}"
    if detail["type"] == "extra_forbidden":
        return f"{place}: unknown key `{key}`{_near_miss(parts, root)}"
    if detail["type"] == "missing":
        return f"{place}: key `{key}` is missing"
    message = detail["msg"].removeprefix("Value error, ")
    given = detail["input"]
    shown = "" if isinstance(given, dict | BaseModel) else f", but it is {given!r}"
    return f"{place}: `{key or 'configuration'}`: {message}{shown}"


def _near_miss(parts: list[str], root: type[Config]) -> str:
    section: type[BaseModel] | None = root
    for part in parts[:-1]:
        section = _inner_section(section, part)
    if section is None:
        return ""
    known = list(section.model_fields)
    # A key of another section is as common a slip as a misspelt one.
    elsewhere = [key for key, *_ in describe(root) if key.rsplit(".", 1)[-1] == parts[-1]]
    close = difflib.get_close_matches(parts[-1], known, n=1) or elsewhere[:1]
    hint = f"; did you mean `{close[0]}`?" if close else ""
    return f"{hint} (known here: {', '.join(known)})"


def _inner_section(section: type[BaseModel] | None, part: str) -> type[BaseModel] | None:
    if section is None:
        return None
    if part not in section.model_fields:
        return section  # the free name of an entry, such as a data set's
    annotation = section.model_fields[part].annotation
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _type_name(annotation: Any) -> str:
    text = re.sub(r"Annotated\[(\w+)[^\]]*\](?:\)\])?", r"\1", str(annotation))
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    text = re.sub(r"typing\.|accel_det\.config\.\w+\.", "", text)
    return re.sub(r"^Optional\[(.*)\]$", r"\1 | None", text)
