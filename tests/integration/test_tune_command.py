"""`accel-det tune` with real trainings of a few updates."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

BIN = Path(sys.executable).parent

CONFIG = """
name: tiny
model: {name: yolov5n}
data:
  sets:
    street: {format: street, parameters: {seed: 5, images: 12, height: 64, width: 96}, licence: CC0-1.0}
  train: street:train
  val: street:val
  resize: {mode: letterbox, size_px: 64}
  workers: 0
optimizer: {name: adamw, lr: 0.005}
train: {steps: 3, images_per_update: 4}
evaluate: {every_steps: 3}
journal: {trackers: []}
runtime: {threads: 1}
"""
SPACE = """
optimizer.lr: {low: 0.0001, high: 0.1, log: true}
model.options.box_gain: {low: 0.02, high: 0.2}
data.augment.scale: [[1.0, 1.0], [0.5, 1.5]]
"""


@pytest.mark.slow
def test_two_trials_are_trained_recorded_and_continued_on_two_processes(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "space.yaml").write_text(SPACE, encoding="utf-8")
    environment = os.environ | {
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "ACCELERATE_USE_CPU": "true",
    }

    def tune(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [str(BIN / "accel-det"), "tune", "tiny.yaml", "--space", "space.yaml", "--json", *arguments]
        return subprocess.run(command, cwd=tmp_path, env=environment, text=True, capture_output=True, timeout=280)

    done = tune("--trials", "1")
    assert done.returncode == 0, done.stderr
    first = json.loads(done.stdout)
    assert [one["state"] for one in first["trials"]] == ["done"]
    assert first["trials"][0]["values"] == {
        "optimizer.lr": "0.005",
        "model.options.box_gain": first["trials"][0]["values"]["model.options.box_gain"],
        "data.augment.scale": "[1.0, 1.0]",
    }

    done = tune("--trials", "2", "--processes", "2")
    assert done.returncode == 0, done.stderr
    both = json.loads(done.stdout)
    assert both["trials"][0] == first["trials"][0]
    assert [one["state"] for one in both["trials"]] == ["done", "done"]
    folder = tmp_path / "runs" / "tiny-tune"
    assert json.loads((folder / "tune.json").read_text()) == {key: both[key] for key in ("best", "trials")}
    worlds = [json.loads((folder / f"trial-000{number}" / "run.json").read_text()) for number in (0, 1)]
    assert [found["topology"]["processes"] for found in worlds] == [1, 2]
    best = yaml.safe_load((folder / "best.yaml").read_text())
    assert str(best["optimizer"]["lr"]) == both["best"]["values"]["optimizer.lr"]

    done = tune("--trials", "3", "--seed", "1")
    assert done.returncode == 2
    assert "holds a search with another configuration, space or seed" in done.stderr
