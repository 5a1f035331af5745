"""What the tests of publishing export: descriptions, tied and tiny networks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from accel_det.data.transforms import ResizeRule
from accel_det.models.base import Inference
from accel_det.publish.info import DetectorInfo, SplitInfo, TrainingInfo

# Each breaks a naive writer of YAML, Markdown or JSON in its own way.
HOSTILE_CLASSES = (
    "red blood cell",
    "yes",
    "null",
    "1e3",
    "- dash",
    "key: value",
    "# comment",
    "a | b",
    "*star* _under_ `tick`",
    "quote \" and ' and \\",
    "---",
    "a\n---\nb",
    "tab\there",
    "Überspülung",
    "白血球",
    "🚗",
    "כדורית",
    "\u2028line separator",
    "\x85next line",
    "%percent",
    "@at",
    "[1, 2]",
    "{{ braces }}",
    "<script>alert(1)</script>",
    " leading and trailing ",
)


def export_info(**changes: Any) -> DetectorInfo:
    """A description in which every field says something."""
    info = DetectorInfo(
        name="blood-1",
        model="yolov5n",
        options={"label_smoothing": 0.0},
        classes=("RBC", "WBC", "Platelets"),
        resize=ResizeRule("letterbox", 64),
        inference=Inference(score_threshold=0.001, nms_iou=0.6, max_detections=100),
        metrics={"AP": 0.5125, "AP50": 0.75, "APs": -1.0, "AP/RBC": 0.5, "AP50/RBC": 0.7, "VOC12/mAP": 0.74},
        data={"train": SplitInfo("bccd:train", "ab" * 32, 205, "MIT"), "val": SplitInfo("bccd:val", "cd" * 32, 87)},
        training=TrainingInfo(400, 7, "accel-det train configs/blood.yaml", {"python": "3.11.9", "torch": "2.15.0"}),
        run_config="name: blood-1\n",
        licence="apache-2.0",
    )
    return replace(info, **changes)


def small_state(fill: float = 1.0) -> dict[str, Tensor]:
    """Tensors of the types that networks have."""
    return {
        "layer.weight": torch.full((4, 3), fill),
        "layer.half": torch.full((2,), fill, dtype=torch.bfloat16),
        "norm.num_batches_tracked": torch.tensor(5),
        "empty": torch.zeros((0, 4)),
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Name -> bytes of the files of a folder."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}
