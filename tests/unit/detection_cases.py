"""Rows of detection for tests: drawn at random, or read from files."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from accel_det.types import BoxTarget, DetectionRow, Detections

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("ACCEL_DET_DATA", ROOT.parent / "shared" / "data"))


def data_folder(name: str) -> Path:
    folder = DATA / name
    if not folder.is_dir():
        pytest.skip(f"no {name} in ACCEL_DET_DATA")
    return folder


def make_row(
    sample_id: int,
    *,
    truth: list[tuple[list[float], int, bool]],
    found: list[tuple[list[float], int, float]],
) -> DetectionRow:
    """Truth: box, label, crowd. Found: box, label, score."""
    boxes = torch.tensor([box for box, _, _ in truth], dtype=torch.float64).reshape(-1, 4)
    return DetectionRow(
        sample_id,
        512,
        512,
        BoxTarget(
            boxes,
            torch.tensor([label for _, label, _ in truth], dtype=torch.int64),
            torch.tensor([crowd for _, _, crowd in truth], dtype=torch.bool),
            (boxes[:, 2:] - boxes[:, :2]).prod(dim=1),
        ),
        Detections(
            torch.tensor([box for box, _, _ in found], dtype=torch.float64).reshape(-1, 4),
            torch.tensor([score for _, _, score in found], dtype=torch.float64),
            torch.tensor([label for _, label, _ in found], dtype=torch.int64),
        ),
    )


def random_rows(
    seed: int, *, num_images: int, num_classes: int, crowd_rate: float = 0.1, score_steps: int = 20
) -> list[DetectionRow]:
    """Rows with near misses, false alarms, wrong labels, ties in score, empty images and images without truth."""
    generator = torch.Generator().manual_seed(seed)

    def integers(high: int, number: int) -> Tensor:
        return torch.randint(0, high, (number,), generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    rows = []
    for sample_id in range(num_images):
        num_truth = int(integers(7, 1))
        corner, size = uniform(num_truth, 2) * 300, uniform(num_truth, 2) ** 2 * 200 + 2
        boxes = torch.cat((corner, corner + size), dim=1)
        labels = integers(num_classes, num_truth)
        copies = 2 if sample_id % 5 else 0
        corner, size = uniform(4, 2) * 300, uniform(4, 2) * 100
        moved = boxes.repeat(copies, 1) + (uniform(copies * num_truth, 4) - 0.5) * 0.3 * (
            boxes[:, 2:] - boxes[:, :2]
        ).repeat(copies, 2)
        moved = torch.cat((torch.minimum(moved[:, :2], moved[:, 2:]), torch.maximum(moved[:, :2], moved[:, 2:])), dim=1)
        found = torch.cat((moved, torch.cat((corner, corner + size), dim=1)))
        found_labels = torch.cat((labels.repeat(copies), integers(num_classes, 4)))
        rows.append(
            DetectionRow(
                sample_id * 3 + 1,
                512,
                512,
                BoxTarget(boxes, labels, uniform(num_truth) < crowd_rate, (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)),
                Detections(found, (integers(score_steps, len(found)) + 1).double() / score_steps, found_labels),
            )
        )
    return rows


def coco_rows(truth_file: Path, result_file: Path, *, min_score: float = 0.0) -> tuple[list[DetectionRow], list[str]]:
    """Rows of a COCO annotation and result file, and the names of the classes by ascending category id."""
    truth: dict[str, Any] = json.loads(truth_file.read_text())
    results: list[dict[str, Any]] = json.loads(result_file.read_text())
    categories = sorted(truth["categories"], key=lambda category: category["id"])
    labels = {category["id"]: label for label, category in enumerate(categories)}

    def corners(box: list[float]) -> list[float]:
        return [box[0], box[1], box[0] + box[2], box[1] + box[3]]

    rows = []
    for image in truth["images"]:
        objects = [entry for entry in truth["annotations"] if str(entry["image_id"]) == str(image["id"])]
        found = [
            entry for entry in results if str(entry["image_id"]) == str(image["id"]) and entry["score"] >= min_score
        ]
        row = make_row(
            int(image["id"]),
            truth=[(corners(o["bbox"]), labels[o["category_id"]], bool(o["iscrowd"])) for o in objects],
            found=[(corners(d["bbox"]), labels[d["category_id"]], d["score"]) for d in found],
        )
        areas = torch.tensor([entry["area"] for entry in objects], dtype=torch.float64)
        rows.append(row._replace(truth=row.truth._replace(areas=areas)))
    return rows, [category["name"] for category in categories]
