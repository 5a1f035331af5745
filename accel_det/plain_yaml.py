"""YAML as plain values: nothing in it can run code, grow, repeat itself, or mean two things."""

import re
from pathlib import Path
from typing import Any

import yaml

MAX_BYTES = 1_000_000
_MAX_DEPTH = 32


class YamlError(ValueError):
    """What is not read; the message says why, `where` says "line 3, column 4" if that is known."""

    def __init__(self, problem: str, *, where: str = "") -> None:
        super().__init__(problem)
        self.where = where

    def at(self, place: str) -> str:
        """One line: where, and why."""
        return f"{place}, {self.where}: {self}" if self.where else f"{place}: {self}"


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML that refuses duplicate keys, aliases, deep nesting, and texts that are no Unicode.

    As in YAML 1.2, 1e-3 is a number, and of all words only true and false are truth values: `no` is a precision.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (as in the class above it)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _depth = 0

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                problem = "a key must be a plain word; lists, mappings and `<<` are not supported as keys"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key `{key}` is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        try:
            text.encode()
        except UnicodeEncodeError:
            problem = f"{text!a} is half of a surrogate pair, which is no Unicode"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from None
        return text

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "aliases are not supported: write the value out", mark)
        if self._depth == _MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested more than {_MAX_DEPTH} levels deep", mark)
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


EXPONENT = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
"""A number that PyYAML by itself, which reads YAML 1.1, takes for a text."""

_TRUTH = re.compile(r"^([Tt]rue|TRUE|[Ff]alse|FALSE)$")
_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:bool", _TRUTH, list("tTfF"))
_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789."))


def read_yaml(file: Path) -> Any:
    """What a file holds.

    Raises:
        YamlError: it is too large, or not readable.
    """
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise YamlError(f"{size} bytes, expected at most {MAX_BYTES}")
    return parse_yaml(file.read_bytes())


def parse_yaml(text: str | bytes) -> Any:
    """What a text says.

    Raises:
        YamlError: it is not readable.
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)
    except yaml.reader.ReaderError as error:
        raise YamlError(f"not readable as UTF-8 text: {error.reason} at byte {error.position}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise YamlError(" ".join(str(error.problem).split()), where=where) from None
    except Exception as error:  # constructors raise nearly anything where a tag does not fit: !!timestamp x, !!bool x
        raise YamlError(f"not readable as YAML: {' '.join(f'{type(error).__name__}: {error}'.split())}") from None
