"""`evaluate --save` and `rescore` as a user types them: the numbers of a run without its network."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from publish_cases import export_info

from accel_det.cli import rescore
from accel_det.data.transforms import ResizeRule
from accel_det.models import zoo
from accel_det.models.base import Inference
from accel_det.publish.export import write_export

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

CONFIG = """
name: tiny
model: {name: yolov5n}
data:
  sets: {street: {format: street, parameters: {seed: 5, images: 26, height: 64, width: 96}}}
  train: street:train
  val: street:val
  resize: {mode: letterbox, size_px: 64}
  workers: 0
optimizer: {name: adamw, lr: 0.005}
train: {steps: 6, images_per_update: 4}
evaluate: {every_steps: 3, images_per_forward: 1, flip: true, scales: [1.0, 1.5], nms: soft_gaussian, vote_iou: 0.5}
journal: {trackers: []}
runtime: {threads: 1}
"""


def run(folder: Path, *command: str, processes: int = 1) -> dict[str, Any]:
    head = [str(BIN / "accel-det")]
    if processes == 2:
        launcher = [str(BIN / "accelerate"), "launch", "--config_file", f"{PROJECT}/accelerate_configs/cpu_2.yaml"]
        head = [*launcher, f"{PROJECT}/scripts/{command[0]}.py"]
        command = command[1:]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*head, *command, "--json"], cwd=folder, env=environment, text=True, capture_output=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def classes_of(folder: Path) -> tuple[str, ...]:
    from accel_det.cli import compose_detection as compose
    from accel_det.config.load import load_config

    (folder / "tiny.yaml").write_text(CONFIG, encoding="utf-8")
    return compose.open_tables(load_config(folder / "tiny.yaml", []).config).train.classes


def test_rescoring_gives_exactly_the_numbers_of_the_evaluation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network with drawn weights whose every candidate counts: thousands of boxes, all of them wrong in some way."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(3)
    classes = classes_of(tmp_path)
    inference = Inference(score_threshold=0.0, max_detections=40)
    model = zoo.build("yolov5n", num_classes=len(classes), inference=inference)
    info = export_info(
        classes=classes, options={}, inference=inference, resize=ResizeRule("letterbox", 64), run_config=CONFIG
    )
    write_export(tmp_path / "export", state=model.state_dict(), info=info)
    keys = ("--evaluate.flip", "false", "--evaluate.scales", "[1.0]", "--evaluate.score_threshold", "0")
    keys += ("--evaluate.max_detections", "40", "--evaluate.nms", "hard")
    first = run(tmp_path, "evaluate", "export", "--save", "found.parquet", *keys)
    assert rescore.run(["found.parquet", "--config", "tiny.yaml", "--json", *keys]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["scores"] == first["scores"]
    assert first["images"] == again["images"] >= 2 and again["detections"] == 40 * again["images"]
    assert rescore.run(["found.parquet", "--config", "tiny.yaml", "--json", "--max_detections", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["detections"] == again["images"]


@pytest.mark.slow
def test_training_evaluates_with_the_views_and_two_processes_save_the_same_file(tmp_path: Path) -> None:
    classes_of(tmp_path)
    trained = run(tmp_path, "train", "tiny.yaml")
    one = run(tmp_path, "evaluate", "runs/tiny", "--which", "last", "--save", "one.parquet")
    assert one["scores"] == trained["scores"]
    two = run(tmp_path, "evaluate", "runs/tiny", "--which", "last", "--save", "two.parquet", processes=2)
    assert two["scores"] == one["scores"] and two["images"] == one["images"] >= 3
    assert (tmp_path / "two.parquet").read_bytes() == (tmp_path / "one.parquet").read_bytes()
    plain = run(
        tmp_path, "evaluate", "runs/tiny", "--which", "last", "--evaluate.flip", "false", "--save", "plain.parquet"
    )
    assert plain["images"] == one["images"]
    assert (tmp_path / "plain.parquet").read_bytes() != (tmp_path / "one.parquet").read_bytes()
