"""Proposals as files: written by one network, read by another, and alternating training as the documented commands."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from accel_det.cli import compose_detection as compose
from accel_det.cli.proposals import Proposer, proposed, write_proposals
from accel_det.config.load import load_config
from accel_det.data.proposals import read_proposals
from accel_det.models import zoo
from accel_det.models.rfcn.model import RFCN
from accel_det.types import Batch, BoxTarget, Frame

CONFIG = """
name: tiny
model:
  name: rfcn_resnet50
  options:
    norm: live
    frozen_stages: 0
    blocks: [1, 1, 1, 1]
    width: 8
    scales: [0.5, 1.0, 2.0]
    rpn_channels: 16
    head_channels: 16
    bins: 3
    proposal_min_px: 2.0
    proposals_after_nms: 30
    test_proposals_after_nms: 30
data:
  sets:
    street: {format: street, parameters: {seed: 5, images: 8, height: 64, width: 96}, licence: CC0-1.0}
  train: street:train
  val: street:val
  resize: {mode: shortest_edge, size_px: 96, max_size_px: 144}
  workers: 0
optimizer: {name: adamw, lr: 0.001, max_grad_norm: 10.0}
train: {steps: 4, images_per_update: 2}
ema: {enabled: false}
evaluate: {every_steps: 4}
journal: {every_steps: 2, trackers: []}
runtime: {threads: 1}
"""


def test_what_a_network_proposes_is_read_back_for_the_same_images_in_pixels_of_their_files(tmp_path: Path) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(CONFIG, encoding="utf-8")
    config = load_config(file).config
    table = compose.open_tables(config).train
    torch.manual_seed(0)
    network = zoo.build(config.model.name, num_classes=len(table.classes), options=config.model.options)
    assert isinstance(network, RFCN)
    rows = proposed(network.eval(), config, table, device=torch.device("cpu"))
    write_proposals(tmp_path / "regions.parquet", table, rows)
    found = read_proposals(tmp_path / "regions.parquet", names=table.names(), sizes=table.sizes())
    assert len(rows) == len(table) >= 4
    for index, row in enumerate(rows):
        assert row.sample_id == index
        assert 0 < len(row.detections.boxes) <= 30
        torch.testing.assert_close(found.of(index), row.detections.boxes.float())
        height, width = table.size(index)
        assert (row.detections.boxes <= torch.tensor([width, height, width, height])).all()
    # The network saw images of 96 x 144 pixels, the files have 64 x 96.
    assert max(row.detections.boxes[:, 3].max().item() for row in rows) == 64


def test_a_faster_rcnn_of_torchvision_proposes_too_and_a_detector_without_a_first_stage_does_not() -> None:
    torch.manual_seed(0)
    network = zoo.build("fasterrcnn_mobilenet_v3_large_320_fpn", num_classes=2).eval()
    assert isinstance(network, Proposer)
    assert not isinstance(zoo.build("yolov5n", num_classes=2), Proposer)
    frames = [Frame(0, "image 0", 64, 96)]
    batch = Batch(torch.zeros(1, 3, 64, 96, dtype=torch.uint8), torch.tensor([[60, 90]]), [BoxTarget.empty()], frames)
    with torch.no_grad():
        (found,) = network.propose(batch)
    assert len(found.boxes) == len(found.scores) == len(found.labels) > 0
    assert (found.scores.diff() <= 0).all()
    assert (found.labels == 0).all()
    assert (found.boxes <= torch.tensor([90, 60, 90, 60])).all()


def accel_det(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "accel-det"), *command],
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_alternating_training_runs_as_the_documented_commands(tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(CONFIG, encoding="utf-8")
    rpn, head = ("--model.options.train_part", "rpn"), ("--model.options.train_part", "head")
    given = ("--model.options.proposals", "given")
    files = ("--data.proposals.train", "train.parquet", "--data.proposals.val", "val.parquet")
    fixed = ("--model.freeze", '["network.backbone.*"]')
    accel_det(tmp_path, "train", "tiny.yaml", "--name", "step1", *rpn)
    for split in ("train", "val"):
        said = accel_det(
            tmp_path,
            "proposals",
            "runs/step1",
            "--which",
            "last",
            "--split",
            split,
            "--out",
            f"{split}.parquet",
            "--json",
        )
        assert 0 <= json.loads(said)["recall"]["R50@100"] <= 1
    accel_det(tmp_path, "train", "tiny.yaml", "--name", "step3", *head, *given, *files)
    accel_det(
        tmp_path, "train", "tiny.yaml", "--name", "step4", *rpn, *fixed, "--model.weights", "runs/step3/export/last"
    )
    accel_det(
        tmp_path, "train", "tiny.yaml", "--name", "step5", *head, *fixed, "--model.weights", "runs/step4/export/last"
    )
    lines = (tmp_path / "runs/step5/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines
    assert "AP" in accel_det(tmp_path, "evaluate", "runs/step5", "--which", "last")
