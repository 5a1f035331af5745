"""`accel-det models [NAME]`: the zoo."""

import argparse
import dataclasses
from collections.abc import Sequence

from rich.table import Table

from accel_det.cli.failures import DONE, answer
from accel_det.engine.console import Console
from accel_det.models import zoo


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="accel-det models", description="List the networks, or the options of one.")
    parser.add_argument("name", nargs="?", help="a network, to see what can be set under model.options")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    options = parser.parse_args(list(arguments))
    names = [options.name] if options.name else zoo.names()
    cards = [zoo.card(name) for name in names]
    if options.json:
        answer({card.name: dataclasses.asdict(card) | _options_of(card.name, options.name) for card in cards})
        return DONE
    table = Table("name", "task", "M parameters", "designed for", "resize", "source")
    for card in cards:
        table.add_row(card.name, card.task, f"{card.parameters_m:.1f}", f"{card.size_px} px", card.resize, card.source)
    console = Console(speaks=True)
    console.show(table)
    if options.name:
        settings = Table("model.options.", "type", "default")
        for key, (kind, default) in zoo.option_table(options.name).items():
            settings.add_row(key, kind, str(default))
        console.show(settings)
    return DONE


def _options_of(name: str, asked: str | None) -> dict[str, object]:
    return {"options": {key: default for key, (_, default) in zoo.option_table(name).items()}} if asked else {}
