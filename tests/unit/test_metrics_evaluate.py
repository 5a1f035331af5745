"""The metrics as `evaluate` loads them from their folders, without a network."""

import json
import os
import subprocess
import sys
from pathlib import Path

from detection_cases import ROOT, random_rows

from accel_det.metrics.coco import coco_scores
from accel_det.metrics.voc import voc_scores

PROGRAM = """
import json
import sys

import evaluate

records = json.load(open(sys.argv[1]))
settings_of = {"coco_map": {"max_detections": 50}, "voc_ap": {"iou": 0.4, "interpolation": "eleven_points"}}
for name, settings in settings_of.items():
    metric = evaluate.load(sys.argv[2] + "/" + name)
    for prediction, reference in records:
        metric.add(prediction=prediction, reference=reference)
    print("scores", json.dumps(metric.compute(classes=["a", "b"], **settings)))
"""


def test_both_metrics_load_offline_and_give_the_numbers_of_the_functions(tmp_path: Path) -> None:
    rows = random_rows(5, num_images=10, num_classes=2)
    records = [
        (
            {
                "boxes": row.detections.boxes.tolist(),
                "scores": row.detections.scores.tolist(),
                "labels": row.detections.labels.tolist(),
            },
            {
                "sample_id": row.sample_id,
                "boxes": row.truth.boxes.tolist(),
                "labels": row.truth.labels.tolist(),
                "crowd": row.truth.crowd.tolist(),
                "areas": row.truth.areas.tolist(),
            },
        )
        for row in rows
    ]
    (tmp_path / "records.json").write_text(json.dumps(records))
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "records.json"), str(ROOT / "accel_det" / "metrics")],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    coco, voc = (json.loads(line.removeprefix("scores ")) for line in run.stdout.splitlines() if "scores" in line)
    assert any(len(row.truth.labels) == 0 for row in rows)
    assert coco == coco_scores(rows, classes=["a", "b"], max_detections=50)
    assert voc == voc_scores(rows, classes=["a", "b"], iou=0.4, interpolation="eleven_points")
