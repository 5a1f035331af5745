"""`accel-det eval-mot GT RESULTS`: how well tracks were followed: HOTA, CLEAR MOT and identity scores."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from rich.table import Table

from accel_det.cli.failures import DONE, answer
from accel_det.engine.console import Console
from accel_det.metrics.mot import mot_counts, mot_scores
from accel_det.metrics.mot_files import MotTruth
from accel_det.metrics.mot_layout import find_sequences, listed, read_sequence
from accel_det.metrics.mot_sequence import DISTRACTORS, PEDESTRIAN, MotRule

_SHARES = ("HOTA", "DetA", "AssA", "LocA", "MOTA", "MOTP", "IDF1", "IDP", "IDR", "recall", "precision")
_COUNTS = ("IDSW", "Frag", "FP", "FN", "MT", "PT", "ML", "tracks")


def run(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(list(arguments))
    rule = MotRule(
        iou=options.iou,
        preprocess=options.preprocess,
        classes=tuple(options.classes),
        distractors=tuple(options.distractors),
        min_visibility=options.min_visibility,
    )
    console = Console(speaks=True, to_stderr=options.json)
    found = find_sequences(options.gt, options.results, names=options.sequences)
    if found.unused:
        console.say(f"not scored, for there is no truth of it: {listed(found.unused)}")
    counts, truths = [], []
    for files in found.sequences:
        truth, results = read_sequence(files)
        truths.append(truth)
        try:
            counts.append(mot_counts(truth, results, rule))
        except ValueError as error:
            raise ValueError(f"{files.name}: {error}") from None
    names = [files.name for files in found.sequences]
    _require_counted(options.gt, truths, rule, num_counted=sum(c.num_tracks for c in counts))
    scores = {name: mot_scores([one]) for name, one in zip(names, counts, strict=True)}
    together = mot_scores(counts)
    console.say(_told(truths, rule))
    _show(console, scores, together)
    if options.json:
        answer(
            {"gt": str(options.gt), "results": str(options.results), "rule": asdict(rule), "all": together}
            | {"sequences": scores}
        )
    return DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="accel-det eval-mot",
        usage="%(prog)s GT RESULTS [--sequences NAME ...] [--iou X] [--classes N ...] [--no-preprocess] ... [--json]",
        description="Score tracks in MOTChallenge's text format, of each sequence and of all together, as TrackEval does.",
        epilog="exit codes: 0 scored; 2 bad input.",
        allow_abbrev=False,
    )
    parser.add_argument("gt", type=Path, help="truth: a file, a sequence's folder, or a folder of <sequence>/gt/gt.txt")
    parser.add_argument("results", type=Path, help="results: a file, or a folder of <sequence>.txt")
    parser.add_argument("--sequences", nargs="+", default=[], metavar="NAME", help="only these; all that have truth")
    parser.add_argument("--iou", type=float, default=0.5, help="overlap of what is found, for MOTA and IDF1; 0.5")
    parser.add_argument(
        "--preprocess",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="count some classes, and forgive results on distractors, as MOTChallenge does; not where there are no classes",
    )
    parser.add_argument(
        "--classes", type=int, nargs="+", default=[PEDESTRIAN], metavar="N", help="classes that count; 1, pedestrians"
    )
    parser.add_argument(
        "--distractors",
        type=int,
        nargs="*",
        default=list(DISTRACTORS),
        metavar="N",
        help="classes on which results are no mistakes; 2 7 8 12; MOT20 adds 6",
    )
    parser.add_argument(
        "--min_visibility", type=float, default=0.0, metavar="X", help="boxes less in sight are distractors too; 0"
    )
    parser.add_argument("--json", action="store_true", help="the scores as JSON on stdout")
    return parser


def _require_counted(gt: Path, truths: Sequence[MotTruth], rule: MotRule, *, num_counted: int) -> None:
    """Something to find, where the truth is not empty."""
    labels = [truth.classes[truth.counted] for truth in truths if truth.classes is not None]
    known = np.unique(np.concatenate(labels)).tolist() if labels else []
    if known and not num_counted:
        raise ValueError(
            f"{gt}: no box counts: the truth has {_classes(known)}, expected {_classes(rule.classes)}; choose with --classes, "
            "or score all boxes with --no-preprocess"
        )


def _told(truths: Sequence[MotTruth], rule: MotRule) -> str:
    """What counts, in a line."""
    if not rule.preprocess:
        return "boxes of all classes count"
    if all(truth.classes is None for truth in truths):
        return "the truth has no classes: all its boxes count"
    forgiven = [label for label in rule.distractors if label not in rule.classes]
    places = [f"on {_classes(forgiven)}"] if forgiven else []
    places += [f"on boxes less than {rule.min_visibility:g} in sight"] if rule.min_visibility else []
    return f"counted: {_classes(rule.classes)}" + (f"; no mistakes: results {' and '.join(places)}" if places else "")


def _classes(labels: Sequence[int]) -> str:
    return f"class{'es' if len(labels) > 1 else ''} {', '.join(map(str, labels))}"


def _show(console: Console, scores: Mapping[str, Mapping[str, float]], together: Mapping[str, float]) -> None:
    for columns, form in ((_SHARES, "{:.3f}"), (_COUNTS, "{:.0f}")):
        table = Table("sequence")
        for column in columns:
            table.add_column(column, justify="right")
        for name, numbers in scores.items():
            table.add_row(name, *(form.format(numbers[column]) for column in columns))
        if len(scores) > 1:
            table.add_section()
            table.add_row("all", *(form.format(together[column]) for column in columns))
        console.show(table, whole=True)
