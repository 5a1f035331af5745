"""Tracking scores against TrackEval on the same files: its reading, its preprocessing, its matching, its sums.

TrackEval is not in the extra `dev`, for it asks for a second OpenCV; `make test` installs it alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detection_cases import data_folder
from mot_cases import TUD, random_sequence, tud

from accel_det.metrics.mot import MotCounts, mot_counts, mot_scores
from accel_det.metrics.mot_files import MotBoxes, MotTruth, read_truth
from accel_det.metrics.mot_sequence import DISTRACTORS, MotRule

trackeval = pytest.importorskip("trackeval", reason="pip install --no-deps trackeval")

Case = tuple[MotTruth, MotBoxes]
SAME_NAMES = "HOTA DetA AssA DetRe DetPr AssRe AssPr LocA MOTA MOTP IDSW Frag MT PT ML IDF1 IDP IDR IDTP IDFP IDFN"
THEIR_NAMES = {"recall": "CLR_Re", "precision": "CLR_Pr", "TP": "CLR_TP", "FP": "CLR_FP", "FN": "CLR_FN"}
SCORES_OF_TRACKEVAL = {name: name for name in SAME_NAMES.split()} | THEIR_NAMES
"""Our name of a number -> TrackEval's."""

PLAIN = {"PRINT_CONFIG": False}


def write_case(folder: Path, name: str, case: Case) -> None:
    """Both files with every digit."""
    truth, found = case
    if truth.classes is None or truth.visibility is None:
        rests = ["-1,-1,-1"] * len(truth.frames)
    else:
        rests = [
            f"{label},{seen!r}" for label, seen in zip(truth.classes.tolist(), truth.visibility.tolist(), strict=True)
        ]
    columns = (truth.frames, truth.ids, truth.boxes, truth.counted.astype(int))
    rows = zip(*(column.tolist() for column in columns), rests, strict=True)
    text = "".join(f"{f},{i},{','.join(map(repr, box))},{flag},{rest}\n" for f, i, box, flag, rest in rows)
    file = folder / "gt" / name / "gt" / "gt.txt"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    rows = zip(*(column.tolist() for column in found), strict=True)
    text = "".join(f"{f},{i},{','.join(map(repr, box))},{score!r},-1,-1,-1\n" for f, i, box, score in rows)
    file = folder / "results" / "ours" / "data" / f"{name}.txt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def scores_of_trackeval(
    folder: Path, cases: Mapping[str, Case], *, benchmark: str = "MOT17", iou: float = 0.5
) -> dict[str, dict[str, float]]:
    """Its numbers of each sequence, and of all under the name `all`."""
    for name, case in cases.items():
        write_case(folder, name, case)
    config = {
        "GT_FOLDER": str(folder / "gt"),
        "TRACKERS_FOLDER": str(folder / "results"),
        "TRACKERS_TO_EVAL": ["ours"],
        "SKIP_SPLIT_FOL": True,
        "BENCHMARK": benchmark,
        "SEQ_INFO": {name: max(*truth.frames, *found.frames) for name, (truth, found) in cases.items()},
    }
    dataset = trackeval.datasets.MotChallenge2DBox(config | PLAIN)
    at_iou = PLAIN | {"THRESHOLD": iou}
    metrics = (trackeval.metrics.HOTA(), trackeval.metrics.CLEAR(at_iou), trackeval.metrics.Identity(at_iou))
    results: list[dict[str, Any]] = [{} for _ in metrics]
    for name in cases:
        data = dataset.get_preprocessed_seq_data(dataset.get_raw_seq_data("ours", name), "pedestrian")
        for metric, of_metric in zip(metrics, results, strict=True):
            of_metric[name] = metric.eval_sequence(data)
    for metric, of_metric in zip(metrics, results, strict=True):
        of_metric["all"] = metric.combine_sequences(dict(of_metric))
    return {
        name: {
            ours: float(np.mean(of_metric[name][theirs]))
            for ours, theirs in SCORES_OF_TRACKEVAL.items()
            for of_metric in results
            if theirs in of_metric[name]
        }
        for name in [*cases, "all"]
    }


def expect_equal_scores(folder: Path, cases: Mapping[str, Case], rule: MotRule, **settings: Any) -> dict[str, float]:
    """Every number of every sequence, and of all together; returns those of all."""
    expected = scores_of_trackeval(folder, cases, **settings)
    counts: dict[str, MotCounts] = {name: mot_counts(*case, rule) for name, case in cases.items()}
    for name, numbers in expected.items():
        scores = mot_scores(list(counts.values()) if name == "all" else [counts[name]])
        found = {ours: scores[ours] for ours in SCORES_OF_TRACKEVAL}
        assert found == pytest.approx(numbers, abs=1e-9), name
    return mot_scores(list(counts.values()))


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_random_crowds_with_distractors_score_as_in_trackeval(tmp_path: Path, first: int) -> None:
    cases = {str(seed): random_sequence(seed) for seed in range(first, first + 50)}
    scores = expect_equal_scores(tmp_path, cases, MotRule())
    assert 0.15 < scores["HOTA"] < 0.7 and scores["IDSW"] > 40 and scores["Frag"] > 40
    assert min(scores[name] for name in ("MT", "PT", "ML", "FP", "FN")) > 15


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"benchmark": "MOT15"}, MotRule(preprocess=False)),
        ({"benchmark": "MOT20"}, MotRule(distractors=(*DISTRACTORS, 6))),
        ({"iou": 0.3}, MotRule(iou=0.3)),
        ({"iou": 0.75}, MotRule(iou=0.75)),
    ],
)
def test_other_rules_score_as_in_trackeval(tmp_path: Path, settings: dict[str, Any], rule: MotRule) -> None:
    cases = {str(seed): random_sequence(seed) for seed in range(1000, 1040)}
    expect_equal_scores(tmp_path, cases, rule, **settings)


def test_truth_without_classes_scores_as_mot15_whatever_the_rule_says(tmp_path: Path) -> None:
    cases = {str(seed): random_sequence(seed, with_classes=False) for seed in range(40)}
    expect_equal_scores(tmp_path, cases, MotRule(), benchmark="MOT15")


def test_long_and_sparse_sequences_score_as_in_trackeval(tmp_path: Path) -> None:
    cases = {
        str(seed): random_sequence(seed, num_frames=150, num_tracks=25, side_px=side)
        for seed, side in ((2001, 90.0), (2002, 400.0), (2003, 3000.0))
    }
    expect_equal_scores(tmp_path, cases, MotRule())


def test_the_trackers_of_tud_score_as_in_trackeval(tmp_path: Path) -> None:
    expect_equal_scores(tmp_path, {name: tud(name) for name in TUD}, MotRule(), benchmark="MOT15")


@pytest.mark.parametrize("benchmark", ["MOT15", "MOT17"])
def test_two_streets_with_every_third_identity_swapped_score_as_in_trackeval(tmp_path: Path, benchmark: str) -> None:
    cases = {}
    for name in ("Crossroad01", "MunichStreet02"):
        truth = read_truth(data_folder("tracking/kit") / name / "gt/gt.txt")
        ids = truth.ids + 1000 * (truth.frames > 9) * (truth.ids % 3 == 0)
        moved = truth.boxes + [4, -3, 1, 2]
        cases[name] = (truth, MotBoxes(truth.frames, ids, moved, truth.boxes[:, 0]))
    scores = expect_equal_scores(tmp_path, cases, MotRule(preprocess=benchmark == "MOT17"), benchmark=benchmark)
    assert 15 < scores["IDSW"] < 30
