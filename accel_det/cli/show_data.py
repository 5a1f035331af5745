"""`accel-det show-data CONFIG`: a page of pictures about the data, before and after augmentation."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from accel_det.cli import compose_detection
from accel_det.cli.data_sections import SECTIONS, Shown
from accel_det.cli.failures import DONE, answer
from accel_det.config.load import load_detection
from accel_det.engine.console import Console
from accel_det.report.page import render_page


def run(arguments: Sequence[str]) -> int:
    options, overrides = _parser().parse_known_args(list(arguments))
    if options.config is None:
        raise ValueError(
            "show-data needs a configuration file: `accel-det show-data configs/detection/yolov5n_bccd.yaml`"
        )
    if options.images < 1 or options.epoch < 0:
        raise ValueError(f"--images is {options.images} and --epoch {options.epoch}, expected at least 1 and 0")
    config = load_detection(options.config, overrides)
    console = Console(speaks=True, to_stderr=options.json)
    tables = compose_detection.open_tables(config)
    for line in tables.report.summary_lines():
        console.say(f"data: {line}")
    tables.report.require()
    folder = options.out or Path("data_pictures") / config.name
    folder.mkdir(parents=True, exist_ok=True)
    shown = Shown(
        config,
        tables,
        folder,
        split=options.split,
        num_images=options.images,
        epoch=options.epoch,
        near_duplicates=not options.skip_duplicates,
    )
    sections = [section for section in (make(shown) for make in SECTIONS) if section is not None]
    resize = config.data.resize
    intro = [
        f"{config.model.name} at {resize.size_px} px ({resize.mode}), trained on {config.data.train}, evaluated on "
        f"{config.data.val}.",
        *(f"Defect: {line}" for line in tables.report.summary_lines()),
    ]
    page = folder / "index.html"
    page.write_text(render_page(f"Data of {config.name}", intro, sections), encoding="utf-8")
    pictures = [picture.file for section in sections for picture in section.pictures]
    console.say(f"{page}, with {', '.join(file.name for file in pictures)} beside it")
    if options.json:
        found = None if shown.twins is None else len(shown.twins.asked)
        answer({"page": str(page), "pictures": [str(file) for file in pictures], "near_duplicates": found})
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="accel-det show-data",
        usage="%(prog)s CONFIG [--out DIR] [--split train|val] [--images N] [--epoch E] [--skip-duplicates] [--json] "
        "[--section.key VALUE ...]",
        description="Show the data of a configuration: classes, sizes, anchors, images of val that look like one of train, "
        "and images before and after augmentation.",
        epilog="writes OUT/index.html, which holds everything, and its pictures. exit codes: 0 done; 2 bad input.",
        allow_abbrev=False,
    )
    parser.add_argument("config", nargs="?", help="YAML file of the run")
    parser.add_argument("--out", type=Path, help="folder for the page; data_pictures/<name of the run>")
    parser.add_argument("--split", choices=("train", "val"), default="train", help="whose images are shown; train")
    parser.add_argument("--images", type=int, default=8, metavar="N", help="how many images are shown; 8")
    parser.add_argument("--epoch", type=int, default=0, metavar="E", help="of which epoch, from 0; training only")
    parser.add_argument(
        "--skip-duplicates",
        action="store_true",
        help="do not look for images of val that look like one of train, for which every image is decoded once",
    )
    parser.add_argument("--json", action="store_true", help="the files as JSON on stdout, all else on stderr")
    return parser
