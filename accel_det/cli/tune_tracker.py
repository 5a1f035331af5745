"""`accel-det tune-tracker`: search for settings of the tracker on what was found before, so that a trial takes seconds."""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from accel_det.cli.failures import BAD_INPUT, DONE, answer
from accel_det.cli.search_space import read_space, starting_point
from accel_det.cli.track_inputs import open_inputs
from accel_det.cli.tracker_settings import as_yaml, changed, read_settings, require_known, without_appearance
from accel_det.cli.tune import Search, TrialEnd, facts, search, table_of_trials
from accel_det.engine.console import Console
from accel_det.metrics.mot import mot_counts, mot_scores
from accel_det.metrics.mot_files import MotBoxes, MotTruth, boxes_of, read_truth
from accel_det.tracking.settings import PRESETS, TrackerSettings
from accel_det.tracking.tracker import Tracker
from accel_det.video.saved import Findings

if TYPE_CHECKING:
    from accel_det.cli.study import Tried

METRICS = ("HOTA", "MOTA", "IDF1")


class Footage(NamedTuple):
    """What was found in one footage, and who was there."""

    findings: Findings
    truth: MotTruth


def run(arguments: Sequence[str]) -> int:
    options, overrides = _parser().parse_known_args(list(arguments))
    if find_spec("optuna") is None:
        raise ValueError("tune-tracker needs Optuna, which is not installed: pip install 'accel_det[tune]'")
    from accel_det.cli.study import Study

    footages = _open(options)
    settings = read_settings(options.preset, None, overrides)
    if settings.uses_appearance and not any(footage.findings.has_embeddings for footage in footages):
        settings = without_appearance(settings)
    space = read_space(options.space)
    require_known(space, place=options.space)
    text = repr((settings, space, options.seed, options.metric, sorted(options.source)))
    options.out.mkdir(parents=True, exist_ok=True)
    study = Study(
        options.out / "study.db",
        space=space,
        seed=options.seed,
        agreement=hashlib.sha256(text.encode()).hexdigest(),
        start=starting_point(space, asdict(settings)),
    )
    console = Console(speaks=True, to_stderr=options.json)

    def trial(tried: "Tried") -> TrialEnd:
        try:
            scores = score(footages, changed(settings, tried.values))
        except ValueError as error:
            return TrialEnd(None, str(error))
        return TrialEnd(scores[options.metric])

    code = search(study, Search(options.out, options.trials, 1), trial, say=console.say)
    best = study.best()
    if best is None:
        return code if code != DONE else BAD_INPUT
    chosen = changed(settings, best.values)
    (options.out / "best.yaml").write_text(as_yaml(chosen, options.preset), encoding="utf-8")
    before, after = score(footages, settings), score(footages, chosen)
    console.show(table_of_trials(study.trials()))
    for name in METRICS:
        console.say(f"{name}: {before[name]:.4f} -> {after[name]:.4f}")
    console.say(f"best: trial {best.number}; its settings are {options.out / 'best.yaml'}, for `track --settings`")
    if options.json:
        answer(facts(study) | {"folder": str(options.out), "before": before, "after": after})
    return code


def score(footages: Sequence[Footage], settings: TrackerSettings) -> dict[str, float]:
    """The scores of tracking all footages with some settings, as one benchmark.

    Raises:
        ValueError: the tracker refuses a frame.
    """
    return mot_scores([mot_counts(footage.truth, retrack(footage.findings, settings)) for footage in footages])


def retrack(findings: Findings, settings: TrackerSettings) -> MotBoxes:
    """Tracks of what was found before.

    Raises:
        ValueError: the tracker refuses a frame.
    """
    tracker = Tracker(settings)
    tracks = [tracker.update(found.detections, motion=found.motion) for found in findings.found]
    if not tracks:
        return MotBoxes(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0))
    return MotBoxes(
        np.repeat(findings.numbers, [len(one.ids) for one in tracks]),
        np.concatenate([one.ids for one in tracks]),
        boxes_of(np.concatenate([one.boxes for one in tracks])),
        np.concatenate([one.scores for one in tracks]),
    )


def _open(options: argparse.Namespace) -> list[Footage]:
    inputs = open_inputs(options.source, detections=options.detections, has_detector=False, classes=[])
    footages = []
    for one in inputs:
        assert one.findings is not None
        footages.append(Footage(one.findings, read_truth(Path(options.truth.replace("{name}", one.footage.name)))))
    return footages


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="accel-det tune-tracker",
        description="Search for settings of the tracker on saved detections and embeddings; no network runs.",
        epilog="`track --save` writes what this reads. The first trial is the preset as it is. The search can be ended at any "
        "time and goes on where it was. --tracker.KEY VALUE holds for all trials. Exit codes: 0 done; 2 bad input.",
        allow_abbrev=False,
    )
    parser.add_argument("--source", nargs="+", required=True, help="saved detections, or footage with --detections")
    parser.add_argument("--detections", help="saved detections of a footage; {name} is its name")
    parser.add_argument("--truth", required=True, help="gt.txt of a footage; {name} is its name")
    parser.add_argument(
        "--space", required=True, help="YAML file with the settings to search over; search_spaces/tracker.yaml"
    )
    parser.add_argument(
        "--preset", choices=tuple(PRESETS), default="deepsort", help="where the search begins; deepsort"
    )
    parser.add_argument("--metric", choices=METRICS, default="HOTA", help="what is made large; HOTA")
    parser.add_argument("--trials", type=int, default=100, help="trials in all, those of earlier calls included; 100")
    parser.add_argument("--seed", type=int, default=0, help="of what the trials draw; 0")
    parser.add_argument("--out", type=Path, default=Path("tracker-tune"), help="folder for the results; tracker-tune")
    parser.add_argument("--json", action="store_true", help="one machine-readable result on stdout, all else on stderr")
    return parser
