"""`accel-det models [NAME]`: the zoo."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from accel_det.cli.failures import DONE, answer
from accel_det.engine.console import Console
from accel_det.models import zoo
from accel_det.models.card import ModelCard

_HEADS = ("network", "M parameters", "GFLOPs", "px", "resize", "licence", "source")
_MARKDOWN = """# Networks

Written by `accel-det models --markdown`; a test compares the two. Millions of parameters and 10^9 floating point
operations are those of one image of the given size (squared, or height x width), of a detector with 80 classes, of a
network for re-identification without what classifies identities in training; a multiplication and an addition are two
operations. Counted are convolutions, matrix products and attention, of second stages with as many regions as they take
at most; not normalisation, activation, pooling and what follows the choice of boxes. Parameters are those of training: the
scales and shifts of batch norms count, and none is folded into its convolution. Some published counts are of folded
networks and a little lower, as 46.5 for YOLOv5l and 140.7 for YOLOv5x6. `accel-det models NAME` lists what can be set
under `model.options`.
"""


_TITLES = {"detection": "Detection", "reid": "Re-identification"}


class Listing(NamedTuple):
    """The networks of one task: cells of the table, row by row, and the sources that their last cells count from 1."""

    task: str
    rows: list[tuple[str, ...]]
    sources: list[str]


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="accel-det models", description="List the networks, or the options of one.")
    parser.add_argument("name", nargs="?", help="a network, to see what can be set under model.options")
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--json", action="store_true", help="as JSON on stdout")
    style.add_argument("--markdown", action="store_true", help="as the page docs/models.md on stdout")
    options = parser.parse_args(list(arguments))
    names = [options.name] if options.name else zoo.names()
    cards = [zoo.card(name) for name in names]
    if options.json:
        answer({card.name: dataclasses.asdict(card) | _options_of(card.name, options.name) for card in cards})
    elif options.markdown:
        sys.stdout.write(page(cards))
    else:
        _show(cards, asked=options.name)
    return DONE


def listings(cards: Sequence[ModelCard]) -> list[Listing]:
    """One per task, in the order of the cards."""
    found = []
    for task in dict.fromkeys(card.task for card in cards):
        of_task = [card for card in cards if card.task == task]
        sources = list(dict.fromkeys(card.source for card in of_task))
        found.append(Listing(task, [_row(card, sources) for card in of_task], sources))
    return found


def page(cards: Sequence[ModelCard]) -> str:
    """The networks as Markdown."""
    parts = [_MARKDOWN]
    for listing in listings(cards):
        lines = [f"## {_TITLES[listing.task]}", "", _line(_HEADS), _line(("---", *["---:"] * 3, *["---"] * 3))]
        lines += [_line((f"`{name}`", *cells)) for name, *cells in listing.rows]
        notes = [f"{number}. {source}" for number, source in enumerate(listing.sources, start=1)]
        parts.append("\n".join([*lines, "", "Sources:", "", *notes, ""]))
    return "\n".join(parts)


def _row(card: ModelCard, sources: Sequence[str]) -> tuple[str, ...]:
    return (
        card.name,
        f"{card.parameters_m:.1f}",
        f"{card.gflops:.1f}" if card.gflops else "-",
        str(card.size_px) if card.width_px is None else f"{card.size_px}x{card.width_px}",
        card.resize,
        card.licence,
        f"[{sources.index(card.source) + 1}]",
    )


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _show(cards: Sequence[ModelCard], *, asked: str | None) -> None:
    console = Console(speaks=True)
    for listing in listings(cards):
        table = Table(
            box=SIMPLE_HEAD,
            padding=(0, 1, 0, 0),
            title=_TITLES[listing.task] + (", with 80 classes" if listing.task == "detection" else ""),
        )
        for head, is_number in zip(_HEADS, (False, True, True, True, False, False, False), strict=True):
            table.add_column(
                head.replace("M parameters", "M par."), justify="right" if is_number else "left", no_wrap=True
            )
        for row in listing.rows:
            table.add_row(*(Text(cell) for cell in row))
        console.show(table, whole=True)
        for number, source in enumerate(listing.sources, start=1):
            console.say(f"[{number}] {source}")
    if asked:
        settings = Table("model.options.", "type", "default")
        for key, (kind, default) in zoo.option_table(asked).items():
            settings.add_row(key, Text(kind), Text(str(default)))
        console.show(settings)


def _options_of(name: str, asked: str | None) -> dict[str, object]:
    return {"options": {key: default for key, (_, default) in zoo.option_table(name).items()}} if asked else {}
