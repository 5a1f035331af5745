"""`accel-det anchors CONFIG`: anchors that suit the boxes of a configuration's training data."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from accel_det.cli import compose_detection
from accel_det.cli.auto_anchors import anchors_of, method_of
from accel_det.cli.failures import DONE, answer
from accel_det.config.load import load_detection
from accel_det.data.anchors import find_anchors, fit_of, input_sizes
from accel_det.engine.console import Console
from accel_det.report.anchors import draw_anchors


def run(arguments: Sequence[str]) -> int:
    options, overrides = _parser().parse_known_args(list(arguments))
    if options.config is None:
        raise ValueError(
            "anchors needs a configuration file: `accel-det anchors configs/detection/yolov3_tiny_bccd.yaml`"
        )
    if options.number is not None and options.number < 1:
        raise ValueError(f"--number is {options.number}, expected at least 1")
    config = load_detection(options.config, overrides)
    tables = compose_detection.open_tables(config)
    tables.report.require()
    model = compose_detection.make_network(config, num_classes=len(tables.train.classes), device_type="cpu").model
    own = anchors_of(model).double().view(-1, 2).numpy()
    method = options.method or method_of(model)
    sizes = input_sizes(tables.train, compose_detection.resize_rule(config))
    found = find_anchors(sizes, number=options.number or len(own), method=method, seed=config.train.seed).round(1)
    before, after = fit_of(sizes, own), fit_of(sizes, found)
    console = Console(speaks=True, to_stderr=options.json)
    console.say(f"{len(sizes)} boxes of {config.data.train} at {config.data.resize.size_px} px")
    console.say(f"before: {before.words()}")
    console.say(f"after:  {after.words()} ({method})")
    row = found.flatten().tolist()
    console.say(f"model.options.anchors_px: [{', '.join(f'{side:g}' for side in row)}]")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        title = f"{config.name}: {len(sizes)} boxes of {config.data.train} at {config.data.resize.size_px} px"
        draw_anchors(sizes, found, before=own, title=title).save(options.out)
        console.say(f"plot: {options.out}")
    if options.json:
        facts = {"boxes": len(sizes), "method": method, "before": before._asdict(), "after": after._asdict()}
        answer({**facts, "anchors_px": row, "plot": options.out})
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="accel-det anchors",
        usage="%(prog)s CONFIG [--method kmeans_iou|evolve] [--number N] [--out FILE.png] [--json] [--section.key VALUE ...]",
        description="Find anchors that suit the boxes of the training data, and say how well they and the network's do.",
        epilog="train.seed decides the draws. exit codes: 0 done; 2 bad input.",
        allow_abbrev=False,
    )
    parser.add_argument("config", nargs="?", help="YAML file of the run")
    parser.add_argument(
        "--method",
        choices=["kmeans_iou", "evolve"],
        help="k-means with 1 - IoU as distance, or k-means of whitened sizes with random changes; by default the "
        "network's own",
    )
    parser.add_argument(
        "--number", type=int, metavar="N", help="anchors of all levels; by default as many as the network has"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="draw the sizes of the boxes with the anchors")
    parser.add_argument("--json", action="store_true", help="the result as JSON on stdout")
    return parser
