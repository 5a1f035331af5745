"""Text that Markdown and YAML read back as it was meant: for the cards of models and of data."""

import re
from collections.abc import Iterable, Mapping, Sequence

import yaml

_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~$!])")


class _Dumper(yaml.SafeDumper):
    """Quotes text with line breaks and control characters: written plainly, NEL for one is read back as a blank."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=None if data.isprintable() else '"')


_Dumper.add_representer(str, _Dumper.represent_str)


def to_yaml(values: Mapping[str, object]) -> str:
    """A front matter for the Hub, without the lines of dashes around it."""
    text: str = yaml.dump(
        dict(values), Dumper=_Dumper, allow_unicode=True, sort_keys=False, default_flow_style=False, width=120
    )
    return text


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are taken as they are."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape(text: str) -> str:
    """Text that Markdown leaves as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def fenced(code: str, language: str) -> str:
    """A block of code, also where that holds fences itself."""
    longest = max((len(run) for run in re.findall(r"`+", code)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"
