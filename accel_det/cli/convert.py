"""`accel-det convert CONFIG FOLDER --to FORMAT`: the data of a configuration in another annotation format."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from accel_det.cli import compose_detection
from accel_det.cli.failures import DONE, answer
from accel_det.config.load import load_detection
from accel_det.data.convert import PLAN, WRITERS, convert, require_free
from accel_det.engine.console import Console


def run(arguments: Sequence[str]) -> int:
    options, overrides = _parser().parse_known_args(list(arguments))
    if options.config is None or options.folder is None or options.to is None:
        raise ValueError(
            "convert needs a configuration file, a folder and a format: `accel-det convert "
            "configs/detection/yolov5n_bccd.yaml bccd_coco --to coco`"
        )
    if options.to not in WRITERS:
        raise ValueError(
            f"--to is {options.to}, expected one of {', '.join(WRITERS)}; `accel-det prepare` writes the Hub's convention"
        )
    require_free(options.folder)
    config = load_detection(options.config, overrides)
    console = Console(speaks=True, to_stderr=options.json)
    tables = compose_detection.open_tables(config)
    for line in tables.report.summary_lines():
        console.say(f"data: {line}")
    tables.report.require()
    done = convert({"train": tables.train, "val": tables.val}, options.folder, to=options.to, link=options.link)
    for split, (images, objects) in done.counts.items():
        console.say(f"{split}: {images} images, {objects} objects")
    console.say(f"{options.folder}: read it with format: {options.to}, root: {options.folder}, splits train and val")
    if done.lost:
        console.say(f"{options.to} does not store {'; '.join(done.lost)}")
    if options.json:
        splits = {split: {"images": images, "objects": objects} for split, (images, objects) in done.counts.items()}
        answer({"folder": str(options.folder), "to": options.to, "splits": splits, "lost": done.lost})
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="accel-det convert",
        usage="%(prog)s CONFIG FOLDER --to FORMAT [--link] [--json] [--section.key VALUE ...]",
        description="Write the images and boxes of a configuration, train and val, in another annotation format. Images stay "
        f"as they are, byte for byte; {PLAN} lists whence each came. What was interrupted goes on.",
        epilog="exit codes: 0 done; 2 bad input, also defects of the data.",
        allow_abbrev=False,
    )
    parser.add_argument("config", nargs="?", help="YAML file of the run")
    parser.add_argument("folder", nargs="?", type=Path, help="empty, or left by a conversion that was interrupted")
    parser.add_argument("--to", metavar="FORMAT", help=", ".join(WRITERS))
    parser.add_argument("--link", action="store_true", help="hard links to image files, not copies")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout, all else on stderr")
    return parser
