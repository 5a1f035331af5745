"""The numbers of tracking as `evaluate` loads them from their folder, without a network."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mot_cases import random_sequence

from accel_det.metrics.mot import mot_counts, mot_scores
from accel_det.metrics.mot_files import MotBoxes, MotTruth, corners_of
from accel_det.metrics.mot_sequence import MotRule
from accel_det.metrics.mot_tracking.mot_tracking import MotTracking

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json
import sys

import evaluate

frames = json.load(open(sys.argv[1]))
metric = evaluate.load(sys.argv[2])
for settings in json.loads(sys.argv[3]):
    for prediction, reference in frames:
        metric.add(prediction=prediction, reference=reference)
    print("scores", json.dumps(metric.compute(**settings)))
"""

Frame = tuple[dict[str, Any], dict[str, Any]]


def frames_of(name: str, truth: MotTruth, found: MotBoxes) -> list[Frame]:
    """Records of a sequence, corners in place of sides, frames from 20 backwards."""
    frames = []
    for number in range(20, 0, -1):
        own, other = truth.frames == number, found.frames == number
        assert truth.classes is not None and truth.visibility is not None
        reference = {
            "sequence": name,
            "frame": number,
            "ids": truth.ids[own].tolist(),
            "boxes": corners_of(truth.boxes[own]).tolist(),
            "counted": truth.counted[own].tolist(),
            "classes": truth.classes[own].tolist(),
            "visibility": truth.visibility[own].tolist(),
        }
        frames.append(({"ids": found.ids[other].tolist(), "boxes": corners_of(found.boxes[other]).tolist()}, reference))
    return frames


def test_the_metric_loads_offline_and_gives_the_numbers_of_the_function(tmp_path: Path) -> None:
    cases = {"first": random_sequence(1), "second": random_sequence(2)}
    frames = [frame for name, case in cases.items() for frame in frames_of(name, *case)]
    frames += frames[:5]  # as a last batch that was filled up
    (tmp_path / "frames.json").write_text(json.dumps(frames))
    settings = [{}, {"iou": 0.3, "preprocess": False}, {"classes": [1, 7], "distractors": [], "min_visibility": 0.2}]
    folder = ROOT / "accel_det" / "metrics" / "mot_tracking"
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "frames.json"), str(folder), json.dumps(settings)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    scores = [json.loads(line.removeprefix("scores ")) for line in lines if line.startswith("scores ")]
    rules = [MotRule(), MotRule(0.3, False), MotRule(classes=(1, 7), distractors=(), min_visibility=0.2)]
    assert len(scores) == len(rules)
    for found, rule in zip(scores, rules, strict=True):
        counts = {name: mot_counts(*case, rule) for name, case in cases.items()}
        expected = mot_scores(list(counts.values()))
        for name in cases:
            own = mot_scores([counts[name]])
            expected |= {f"{number}/{name}": own[number] for number in ("HOTA", "MOTA", "IDF1")}
        assert found == pytest.approx(expected, abs=1e-12)
    assert scores[0]["HOTA"] != scores[1]["HOTA"] != scores[2]["HOTA"]


def compute(frames: list[Frame], **settings: Any) -> dict[str, float]:
    predictions, references = zip(*frames, strict=True)
    scores: dict[str, float] = MotTracking()._compute(predictions, references, **settings)
    return scores


def test_frames_without_classes_and_frames_that_make_no_sense() -> None:
    box = [[0.0, 0.0, 10.0, 10.0]]
    found: dict[str, Any] = {"ids": [4], "boxes": box}
    truth = {"sequence": "a", "frame": 0, "counted": [True], "classes": [], "visibility": [], **found}
    assert compute([(found, truth)])["MOTA"] == 1
    with pytest.raises(ValueError, match="sequence a, frame 0: two rows with this number differ"):
        compute([(found, truth), (found | {"ids": [5]}, truth)])
    with pytest.raises(
        ValueError, match="sequence a: truth: 1 ids, 1 counted, 1 classes and 0 visibility, expected as"
    ):
        compute([(found, truth | {"classes": [1]})])
    with pytest.raises(ValueError, match="sequence a: results: id 4 is in frame 0 twice"):
        compute([({"ids": [4, 4], "boxes": box * 2}, truth)])
    with pytest.raises(ValueError, match=r"sequence a: results: frames \(2,\), ids \(2,\), boxes \(1, 4\), expected"):
        compute([({"ids": [4, 5], "boxes": box}, truth)])
    with pytest.raises(ValueError, match="iou is 7, expected above 0"):
        compute([(found, truth)], iou=7)
