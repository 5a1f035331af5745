"""`accel-det check CONFIG`: every defect of the data, before a run meets it."""

import argparse
from collections.abc import Sequence

from rich.table import Table

from accel_det.cli.compose import parts_of
from accel_det.cli.failures import CHECK_FAILED, DONE, answer
from accel_det.config.load import load_config
from accel_det.data.defects import DEFECT_KINDS
from accel_det.engine.console import Console


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="accel-det check",
        usage="%(prog)s CONFIG [--images] [--json] [--section.key VALUE ...]",
        description="Look for defects in the annotations and, with --images, in every pixel.",
        epilog="exit codes: 0 nothing stops a run; 3 something does; 2 bad input.",
        allow_abbrev=False,
    )
    parser.add_argument("config", nargs="?", help="YAML file of the run")
    parser.add_argument("--kinds", action="store_true", help="list the kinds of defect, and what is done about each")
    parser.add_argument(
        "--images", action="store_true", help="decode every image; takes as long as reading all of them"
    )
    parser.add_argument("--json", action="store_true", help="the whole report as JSON on stdout")
    parser.add_argument("--all", action="store_true", help="every finding, not one line per kind")
    options, overrides = parser.parse_known_args(list(arguments))
    if options.kinds:
        _list_kinds()
        return DONE
    if options.config is None:
        raise ValueError("check needs a configuration file: `accel-det check configs/smoke/bccd.yaml`")
    config = load_config(options.config, overrides).config
    report = parts_of(config).open_tables(read_images=options.images).report
    console = Console(speaks=True, to_stderr=options.json)
    for line in [*report.split_lines(), *report.summary_lines()]:
        console.say(line)
    if options.all:
        for defect in report.defects:
            console.say(f"  {defect.kind}: {defect.place}: {defect.value}")
    verdict = "stops the run" if report.stops else "nothing stops a run"
    console.say(f"{len(report.defects)} finding(s): {verdict}")
    if options.json:
        answer(report.to_json())
    return CHECK_FAILED if report.stops else DONE


def _list_kinds() -> None:
    table = Table("kind", "what should hold", "done unasked", "done where a set accepts it")
    for name, kind in DEFECT_KINDS.items():
        table.add_row(name, kind.rule, kind.default, kind.opt_in or "-")
    Console(speaks=True).show(table)
