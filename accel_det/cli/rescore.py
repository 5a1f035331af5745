"""`accel-det rescore FILE`: the metrics of saved detections again, without the network that found them."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import torch

from accel_det.cli import compose_detection
from accel_det.cli.failures import DONE, answer
from accel_det.config.detection import DetectionConfig
from accel_det.config.load import load_detection
from accel_det.data.records import DetectionTable
from accel_det.engine.console import Console
from accel_det.metrics.coco_files import TruthFile, read_annotations, read_results
from accel_det.metrics.saved import SavedDetections, read_detections
from accel_det.models.base import Inference, NmsKind
from accel_det.models.layers.nms import Candidates, suppress
from accel_det.tasks.detection import DetectionTask
from accel_det.types import BoxTarget, DetectionRow, Detections

_IMAGES_AT_ONCE = 32
_MAX_DETECTIONS = 100


def run(arguments: Sequence[str]) -> int:
    options, overrides = _parser().parse_known_args(list(arguments))
    if (options.config is None) == (options.truth is None):
        raise ValueError(
            "rescore needs the truth: either --config CONFIG, whose data.val it is, or --truth ANNOTATIONS"
        )
    console = Console(speaks=True, to_stderr=options.json)
    is_parquet = options.file.suffix != ".json"
    saved = read_detections(options.file) if is_parquet else None
    most = options.max_detections
    if options.truth is not None:
        if overrides:
            raise ValueError(f"{overrides[0]}: keys of a configuration go with --config; leave it out")
        truth = read_annotations(options.truth)
    else:
        config = load_detection(options.config, overrides)
        most = most or config.evaluate.max_detections
        truth = _truth_of(compose_detection.open_validation(config, saved.classes if saved else _classes(config)))
    found = _by_image(saved, truth, options.file) if saved else read_results(options.file, truth)
    inference = _inference(options)
    rows = _rows(truth, found if inference is None else _select(found, inference))
    scores = DetectionTask(truth.classes, max_detections=most or _MAX_DETECTIONS).score(rows)
    number = sum(len(row.detections.scores) for row in rows)
    console.headline(f"{options.file}: {number} detections in {len(rows)} images", scores)
    console.per_class(scores, truth.classes)
    if options.json:
        answer({"file": str(options.file), "images": len(rows), "detections": number, "scores": scores})
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="accel-det rescore",
        usage="%(prog)s FILE (--config CONFIG | --truth ANNOTATIONS) [--score_threshold X] [--nms KIND] ...",
        description="Score saved detections: a parquet file of `evaluate --save`, or COCO results as JSON. Without "
        "further options the numbers of the file made by `evaluate` are those that `evaluate` gave.",
        epilog="exit codes: 0 scored; 2 bad input.",
        allow_abbrev=False,
    )
    parser.add_argument("file", type=Path, help="*.parquet, or *.json with COCO results")
    parser.add_argument("--config", type=Path, help="configuration whose data.val is the truth; keys may follow")
    parser.add_argument("--truth", type=Path, help="COCO annotations in place of a configuration; no image is needed")
    parser.add_argument("--score_threshold", type=float, help="detections with a lower score are left out")
    parser.add_argument("--max_detections", type=int, help="the best so many of an image are kept")
    parser.add_argument("--nms", choices=get_args(NmsKind), help="suppress once more; without it nothing is suppressed")
    parser.add_argument("--nms_iou", type=float, default=0.6, help="overlap above which boxes suppress each other")
    parser.add_argument("--soft_nms_sigma", type=float, default=0.5, help="width of soft_gaussian")
    parser.add_argument("--agnostic_nms", action="store_true", help="boxes of different classes suppress each other")
    parser.add_argument("--vote_iou", type=float, help="kept boxes become means of what overlaps them more than this")
    parser.add_argument("--json", action="store_true", help="the scores as JSON on stdout")
    return parser


def _inference(options: argparse.Namespace) -> Inference | None:
    """What is to be done to the detections; None: nothing."""
    for name, least, most in (
        ("score_threshold", 0, 1),
        ("nms_iou", 0, 1),
        ("vote_iou", 0, 1),
        ("soft_nms_sigma", 1e-9, math.inf),
        ("max_detections", 1, math.inf),
    ):
        value = getattr(options, name)
        if value is not None and not least <= value <= most:
            raise ValueError(f"--{name} is {value}, expected {least} to {most}: choose another")
    asked = (options.score_threshold, options.max_detections, options.nms, options.vote_iou)
    if asked == (None, None, None, None):
        return None
    return Inference(
        score_threshold=options.score_threshold or 0.0,
        nms_iou=options.nms_iou,
        max_detections=options.max_detections or torch.iinfo(torch.int32).max,
        nms=options.nms or "none",
        soft_nms_sigma=options.soft_nms_sigma,
        agnostic_nms=options.agnostic_nms,
        vote_iou=options.vote_iou,
    )


def _classes(config: DetectionConfig) -> tuple[str, ...]:
    """The classes of a configuration's data."""
    if config.data.classes is not None:
        return tuple(config.data.classes)
    tables = compose_detection.open_tables(config)
    tables.report.require()
    return tables.train.classes


def _truth_of(table: DetectionTable) -> TruthFile:
    targets = [table.truth(index) for index in range(len(table))]
    double = [target._replace(boxes=target.boxes.double(), areas=target.areas.double()) for target in targets]
    names = [table.name(index) for index in range(len(table))]
    return TruthFile(table.classes, (), names, [], [table.size(index) for index in range(len(table))], double)


def _by_image(saved: SavedDetections, truth: TruthFile, file: Path) -> list[Detections]:
    """Saved detections in the order of the truth's images, with its labels.

    Raises:
        ValueError: the file has an image that the truth does not have, or the other way round, or another class.
    """
    unknown = [name for name in saved.classes if name not in truth.classes]
    if unknown:
        raise ValueError(
            f"{file}: class {unknown[0]!r} is none of the truth's ({', '.join(truth.classes)}); choose its data"
        )
    place = {name: index for index, name in enumerate(saved.names)}
    missing = [name for name in truth.names if name not in place]
    strange = sorted(set(saved.names) - set(truth.names))
    for names, what in ((missing, "has no entry for"), (strange, "holds, but the truth does not,")):
        if names:
            raise ValueError(
                f"{file}: {what} image {names[0]}{f' and {len(names) - 1} more' if len(names) > 1 else ''}, of "
                f"{len(truth.names)} in the truth; choose the data that it was saved from, or save it again"
            )
    label_of = torch.tensor([truth.classes.index(name) for name in saved.classes])
    found = [saved.detections[place[name]] for name in truth.names]
    return [one._replace(labels=label_of[one.labels]) for one in found]


def _select(found: list[Detections], inference: Inference) -> list[Detections]:
    """Threshold, suppression, voting and the best few; boxes of float64 stay so where none of them is moved."""
    kept = []
    for one in found:
        good = one.scores >= inference.score_threshold
        kept.append(Detections(one.boxes[good], one.scores[good], one.labels[good]))
    limit = inference.max_detections
    if inference.nms == "none" and inference.vote_iou is None:
        return [Detections(*(column[:limit] for column in one)) for one in kept]
    selected = []
    for first in range(0, len(kept), _IMAGES_AT_ONCE):
        part = kept[first : first + _IMAGES_AT_ONCE]
        boxes = torch.cat([one.boxes for one in part])
        lengths = torch.tensor([len(one.scores) for one in part])
        image = torch.arange(len(part)).repeat_interleave(lengths)
        scores, labels = torch.cat([one.scores for one in part]), torch.cat([one.labels for one in part])
        side = math.ceil(boxes.max().item()) if len(boxes) else 1
        candidates = Candidates(image, boxes, scores, labels)
        answers = suppress(candidates, inference, num_images=len(part), height=side, width=side)
        selected += [Detections(one.boxes.double(), one.scores.double(), one.labels) for one in answers]
    return selected


def _rows(truth: TruthFile, found: list[Detections]) -> list[DetectionRow]:
    columns: Sequence[tuple[tuple[int, int], BoxTarget, Detections]] = list(
        zip(truth.sizes, truth.targets, found, strict=True)
    )
    return [
        DetectionRow(index, height, width, target, detections)
        for index, ((height, width), target, detections) in enumerate(columns)
    ]
