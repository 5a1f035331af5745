"""Tracking scores for `evaluate.load(".../accel_det/metrics/mot_tracking")`."""

from collections.abc import Sequence
from typing import Any, TypedDict

import datasets
import evaluate.info
import evaluate.module
import numpy as np

from accel_det.metrics.mot import mot_counts, mot_scores
from accel_det.metrics.mot_files import MotBoxes, MotTruth, boxes_of
from accel_det.metrics.mot_sequence import DISTRACTORS, PEDESTRIAN, MotRule

INPUTS = """
Args:
    predictions: one per frame: ids (R,) of tracks, boxes (R, 4) xyxy in pixels.
    references: one per frame: sequence, its name; frame, a number; ids (T,) of tracks, boxes (T, 4) xyxy in pixels; counted (T,)
        whether a box is to be found; classes (T,) from 1 and visibility (T,) in [0, 1], -1 where it is not known, or both empty
        in every frame where there are no classes. A frame that comes twice counts once.
    iou, preprocess, classes, distractors, min_visibility: see `accel_det.metrics.mot_sequence.MotRule`.
"""
_OF_EACH = ("HOTA", "MOTA", "IDF1")


class PredictionRecord(TypedDict):
    """The tracks of one frame."""

    ids: list[int]
    boxes: list[list[float]]


class ReferenceRecord(TypedDict):
    """The truth of one frame."""

    sequence: str
    frame: int
    ids: list[int]
    boxes: list[list[float]]
    counted: list[bool]
    classes: list[int]
    visibility: list[float]


_Frame = tuple[PredictionRecord, ReferenceRecord]


class MotTracking(evaluate.module.Metric):
    """A shell around `accel_det.metrics.mot.mot_scores`."""

    def _info(self) -> evaluate.info.MetricInfo:
        return evaluate.info.MetricInfo(
            description="HOTA, CLEAR MOT and identity scores of all sequences together, and HOTA/<sequence>, MOTA/<sequence> "
            "and IDF1/<sequence> of each.",
            citation="Luiten et al., HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking, 2021",
            inputs_description=INPUTS,
            features=_columns(),
        )

    def _compute(  # type: ignore[override]  # the base takes any keyword; these are the ones there are
        self,
        predictions: Sequence[PredictionRecord],
        references: Sequence[ReferenceRecord],
        *,
        iou: float = 0.5,
        preprocess: bool = True,
        classes: Sequence[int] = (PEDESTRIAN,),
        distractors: Sequence[int] = DISTRACTORS,
        min_visibility: float = 0.0,
    ) -> dict[str, float]:
        rule = MotRule(iou, preprocess, tuple(classes), tuple(distractors), min_visibility)
        counts = {}
        for name, frames in _by_sequence(predictions, references).items():
            try:
                counts[name] = mot_counts(_truth(frames), _found(frames), rule)
            except ValueError as error:
                raise ValueError(f"sequence {name}: {error}") from None
        scores = mot_scores(list(counts.values()))
        for name, of_sequence in counts.items():
            own = mot_scores([of_sequence])
            scores |= {f"{number}/{name}": own[number] for number in _OF_EACH}
        return scores


def _by_sequence(
    predictions: Sequence[PredictionRecord], references: Sequence[ReferenceRecord]
) -> dict[str, list[_Frame]]:
    """The frames of each sequence, by number, each once.

    Raises:
        ValueError: two that differ have one number.
    """
    known: dict[tuple[str, int], _Frame] = {}
    for frame in zip(predictions, references, strict=True):
        place = (frame[1]["sequence"], frame[1]["frame"])
        if known.setdefault(place, frame) != frame:
            raise ValueError(
                f"sequence {place[0]}, frame {place[1]}: two rows with this number differ, expected copies of one frame; give "
                "every frame of a sequence its own number"
            )
    sequences: dict[str, list[_Frame]] = {}
    for place in sorted(known):
        sequences.setdefault(place[0], []).append(known[place])
    return sequences


def _truth(frames: list[_Frame]) -> MotTruth:
    truth = [reference for _, reference in frames]
    numbers, ids, boxes = _rows([(one["frame"], one["ids"], one["boxes"]) for one in truth])
    counted = [flag for one in truth for flag in one["counted"]]
    classes = [label for one in truth for label in one["classes"]]
    visibility = [share for one in truth for share in one["visibility"]]
    if len(counted) != len(ids) or (len(classes), len(visibility)) not in {(0, 0), (len(ids), len(ids))}:
        raise ValueError(
            f"truth: {len(ids)} ids, {len(counted)} counted, {len(classes)} classes and {len(visibility)} visibility, expected "
            "as many of each, or neither classes nor visibility"
        )
    return MotTruth(
        numbers,
        ids,
        boxes,
        np.array(counted, dtype=np.bool_),
        np.array(classes, dtype=np.int64) if classes else None,
        np.array(visibility, dtype=np.float64) if classes else None,
    )


def _found(frames: list[_Frame]) -> MotBoxes:
    numbers, ids, boxes = _rows([(one["frame"], found["ids"], found["boxes"]) for found, one in frames])
    return MotBoxes(numbers, ids, boxes, np.ones(len(ids)))


def _rows(frames: list[tuple[int, list[int], list[list[float]]]]) -> tuple[Any, Any, Any]:
    """Frames, ids and boxes of all frames as MOTChallenge has them; `compare` sees whether they fit together."""
    corners = np.array([box for _, _, boxes in frames for box in boxes], dtype=np.float64).reshape(-1, 4)
    numbers = np.repeat([number for number, _, _ in frames], [len(ids) for _, ids, _ in frames]).astype(np.int64)
    return numbers, np.array([i for _, ids, _ in frames for i in ids], dtype=np.int64), boxes_of(corners)


def _columns() -> Any:
    """What `evaluate` stores between `add_batch` and `compute`; float64, so that nothing is rounded."""
    features: Any = datasets.Features
    whole, number = datasets.Value("int64"), datasets.Value("float64")
    tracks = {"ids": datasets.List(whole), "boxes": datasets.List(datasets.List(number))}
    return features(
        {
            "predictions": tracks,
            "references": {
                "sequence": datasets.Value("string"),
                "frame": whole,
                **tracks,
                "counted": datasets.List(datasets.Value("bool")),
                "classes": datasets.List(whole),
                "visibility": datasets.List(number),
            },
        }
    )
