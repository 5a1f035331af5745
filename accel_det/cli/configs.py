"""`accel-det configs`: the configuration files that come with the project."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from accel_det.cli.compose import parts_of
from accel_det.cli.failures import DONE, answer
from accel_det.config.load import load_config
from accel_det.engine.console import Console


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="accel-det configs", description="List the configuration files below a folder."
    )
    parser.add_argument("folder", nargs="?", default="configs", help="where to look; `configs` without it")
    parser.add_argument("--json", action="store_true", help="as JSON on stdout")
    options = parser.parse_args(list(arguments))
    files = sorted(Path(options.folder).rglob("*.yaml"))
    if not files:
        raise ValueError(f"{options.folder}: no .yaml files below it; run this where the project's `configs` folder is")
    found = {str(file): load_config(file).config for file in files}
    if options.json:
        answer({path: {"model": c.model.name, "train": c.data.train, "val": c.data.val} for path, c in found.items()})
        return DONE
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for head in ("file", "model", "trains on", "size", "budget"):
        table.add_column(head, no_wrap=True)
    for path, config in found.items():
        budget = f"{config.train.steps} updates" if config.train.steps else f"{config.train.epochs:g} epochs"
        table.add_row(path, config.model.name, config.data.train, parts_of(config).input_text(), budget)
    Console(speaks=True).show(table, whole=True)
    return DONE
