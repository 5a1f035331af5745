"""Detections as plain lists, for `evaluate`: its columns, and the way to rows."""

from collections.abc import Iterator, Sequence
from typing import Any, TypedDict

import torch
from datasets import Features, List, Value

from accel_det.types import BoxTarget, DetectionRow, Detections


class PredictionRecord(TypedDict):
    """What a detector says about one image: boxes (N, 4) xyxy in pixels of the file, the others (N,)."""

    boxes: list[list[float]]
    scores: list[float]
    labels: list[int]


class ReferenceRecord(TypedDict):
    """The objects of one image, with its own sample_id: boxes (N, 4) xyxy in pixels of the file, the others (N,)."""

    sample_id: int
    boxes: list[list[float]]
    labels: list[int]
    crowd: list[bool]
    areas: list[float]


INPUTS = """
Args:
    predictions: one per image: boxes (N, 4) xyxy in pixels of the file, scores (N,), labels (N,) from 0.
    references: one per image: sample_id, boxes (N, 4), labels (N,), crowd (N,) regions to be ignored, areas (N,) px**2.
    classes: names, by label.
"""


def detection_features() -> Any:
    """The columns that `evaluate` stores between `add_batch` and `compute`; float64, so that nothing is rounded."""
    boxes, numbers, labels = List(List(Value("float64"))), List(Value("float64")), List(Value("int64"))
    features: Any = Features
    return features(
        {
            "predictions": {"boxes": boxes, "scores": numbers, "labels": labels},
            "references": {
                "sample_id": Value("int64"),
                "boxes": boxes,
                "labels": labels,
                "crowd": List(Value("bool")),
                "areas": numbers,
            },
        }
    )


def detection_rows(
    predictions: Sequence[PredictionRecord], references: Sequence[ReferenceRecord]
) -> Iterator[DetectionRow]:
    """Rows of records in pairs; sizes of images are 0, for no metric reads them."""
    for prediction, reference in zip(predictions, references, strict=True):
        yield DetectionRow(
            sample_id=reference["sample_id"],
            height=0,
            width=0,
            truth=BoxTarget(
                boxes=_boxes(reference["boxes"]),
                labels=torch.tensor(reference["labels"], dtype=torch.int64),
                crowd=torch.tensor(reference["crowd"], dtype=torch.bool),
                areas=torch.tensor(reference["areas"], dtype=torch.float64),
            ),
            detections=Detections(
                boxes=_boxes(prediction["boxes"]),
                scores=torch.tensor(prediction["scores"], dtype=torch.float64),
                labels=torch.tensor(prediction["labels"], dtype=torch.int64),
            ),
        )


def _boxes(boxes: list[list[float]]) -> torch.Tensor:
    """(N, 4), with N = 0 too."""
    return torch.tensor(boxes, dtype=torch.float64).reshape(len(boxes), 4)
