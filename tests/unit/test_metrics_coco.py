"""COCO numbers against published values, pycocotools and a direct computation."""

import contextlib
import io
import json
import math

import numpy as np
import pytest
from detection_cases import coco_rows, data_folder, make_row, random_rows
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from accel_det.metrics.coco import coco_scores
from accel_det.types import DetectionRow

TWELVE = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def pycocotools_evaluation(rows: list[DetectionRow], *, num_classes: int) -> COCOeval:
    """The reference program on the same rows."""
    truth, found = [], []
    for row in rows:
        for box, label, crowd, area in zip(*(column.tolist() for column in row.truth), strict=True):
            xywh = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            entry = {"id": len(truth) + 1, "image_id": row.sample_id, "category_id": label, "bbox": xywh}
            truth.append({**entry, "area": area, "iscrowd": int(crowd)})
        for box, score, label in zip(*(column.tolist() for column in row.detections), strict=True):
            xywh = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            found.append({"image_id": row.sample_id, "category_id": label, "bbox": xywh, "score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO()
        dataset.dataset = {
            "images": [{"id": row.sample_id, "height": row.height, "width": row.width} for row in rows],
            "categories": [{"id": label, "name": str(label)} for label in range(num_classes)],
            "annotations": truth,
            "info": {},
        }
        dataset.createIndex()
        evaluation = COCOeval(dataset, dataset.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def test_the_published_numbers_of_100_coco_images_come_out() -> None:
    folder = data_folder("metrics/coco")
    rows, classes = coco_rows(
        folder / "instances_val2014_100.json", folder / "instances_val2014_fakebbox100_results.json"
    )
    # cocoapi's results/val2014_fake_eval_res.txt gives three digits; six are from pycocotools 2.0.11 on the same files.
    published = [0.504581, 0.696973, 0.572982, 0.585626, 0.519400, 0.501398]
    published += [0.386813, 0.593680, 0.595353, 0.639811, 0.566421, 0.564291]
    scores = coco_scores(rows, classes=classes)
    assert len(rows) == 100
    assert [scores[name] for name in TWELVE] == pytest.approx(published, abs=1e-6)


def test_ignored_regions_count_as_in_the_published_case() -> None:
    folder = data_folder("metrics/coco")
    rows, classes = coco_rows(folder / "gt_ignore_test.json", folder / "dt_ignore_test.json", min_score=0.1)
    scores = coco_scores(rows, classes=classes)
    assert int(rows[0].truth.crowd.sum()) == 1
    # Source: the test suite of faster-coco-eval.
    assert [scores[name] for name in ("AP", "AP50", "AP75")] == pytest.approx([0.709901, 1.0, 0.841584], abs=1e-6)


def test_classes_found_and_missed_average_as_in_the_published_case() -> None:
    folder = data_folder("metrics/coco")
    rows, classes = coco_rows(folder / "gt_dataset.json", folder / "dt_dataset.json")
    scores = coco_scores(rows, classes=classes)
    assert scores["AP"] == pytest.approx(0.694719, abs=1e-6)  # source: the test suite of faster-coco-eval
    assert scores["APs"] == -1  # the case has no small object


@pytest.mark.parametrize("seed", range(4))
def test_random_rows_score_as_in_pycocotools(seed: int) -> None:
    rows = random_rows(seed, num_images=25, num_classes=4)
    reference = pycocotools_evaluation(rows, num_classes=4)
    scores = coco_scores(rows, classes=["a", "b", "c", "d"])
    # Equal but for the order in which the last mean is summed.
    assert [scores[name] for name in TWELVE] == pytest.approx(reference.stats.tolist(), abs=1e-14)
    assert 0.1 < scores["AP"] < 0.9
    precision = reference.eval["precision"]
    for label, name in enumerate("abcd"):
        assert scores[f"AP/{name}"] == pytest.approx(np.mean(precision[:, :, label, 0, -1]), abs=1e-14)
        assert scores[f"AP50/{name}"] == pytest.approx(np.mean(precision[0, :, label, 0, -1]), abs=1e-14)


def direct_ap50(rows: list[DetectionRow]) -> float:
    """101-point AP of one class without ignored regions, from the definition, one detection after the other."""
    ranked = sorted(
        (-score, row.sample_id, place) for row in rows for place, score in enumerate(row.detections.scores.tolist())
    )
    by_id = {row.sample_id: row for row in rows}
    num_truth = sum(len(row.truth.labels) for row in rows)
    taken: set[tuple[int, int]] = set()
    curve: list[tuple[float, float]] = []
    for rank, (_, sample_id, place) in enumerate(ranked, start=1):
        row = by_id[sample_id]
        box = row.detections.boxes[place].tolist()
        overlaps = [
            (overlap(box, other), index)
            for index, other in enumerate(row.truth.boxes.tolist())
            if (sample_id, index) not in taken
        ]
        if overlaps and max(overlaps)[0] >= 0.5:
            taken.add((sample_id, max(overlaps)[1]))
        curve.append((len(taken) / num_truth, len(taken) / rank))
    # The same floating-point recalls as COCO's, so that a recall of exactly 0.3 falls on the same side.
    levels = np.linspace(0.0, 1.0, 101).tolist()
    return math.fsum(max((p for r, p in curve if r >= level), default=0.0) for level in levels) / 101


def overlap(first: list[float], second: list[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    common = max(0.0, width) * max(0.0, height)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return common / (sum(areas) - common)


@pytest.mark.parametrize("seed", range(10, 18))
def test_ap_of_one_class_is_what_its_definition_says(seed: int) -> None:
    rows = random_rows(seed, num_images=8, num_classes=1, crowd_rate=0.0, score_steps=10**9)
    expected = direct_ap50(rows)
    assert 0.05 < expected < 0.999
    assert coco_scores(rows, classes=["thing"])["AP50"] == pytest.approx(expected, abs=1e-12)


def test_order_and_repetition_of_rows_change_no_bit() -> None:
    rows = random_rows(3, num_images=30, num_classes=3)
    scores = coco_scores(rows, classes=["a", "b", "c"])
    assert coco_scores(rows[::-1], classes=["a", "b", "c"]) == scores
    assert coco_scores([*rows[1::2], *rows[:7], *rows[0::2]], classes=["a", "b", "c"]) == scores


def test_a_split_without_objects_is_undefined_and_says_so_in_json() -> None:
    box: list[float] = [0, 0, 10, 10]
    crowd_only = make_row(1, truth=[(box, 0, True)], found=[(box, 0, 0.9)])
    for rows in ([], [crowd_only]):
        scores = coco_scores(rows, classes=["a"])
        assert scores == dict.fromkeys(TWELVE, -1.0)
        assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_a_model_that_finds_nothing_scores_zero() -> None:
    scores = coco_scores([make_row(1, truth=[([0, 0, 10, 10], 0, False)], found=[])], classes=["a", "b"])
    assert (scores["AP"], scores["AR100"], scores["AP/a"]) == (0.0, 0.0, 0.0)
    assert "AP/b" not in scores


def test_only_so_many_detections_of_a_class_are_judged() -> None:
    near: list[float] = [0, 0, 10, 10]
    far: list[float] = [50, 50, 60, 60]
    row = make_row(1, truth=[(near, 0, False)], found=[*[(far, 0, 0.9)] * 5, (near, 0, 0.1)])
    assert coco_scores([row], classes=["a"], max_detections=5)["AR5"] == 0.0
    assert coco_scores([row], classes=["a"], max_detections=6)["AR6"] == 1.0
    with pytest.raises(ValueError, match="max_detections is 0"):
        coco_scores([row], classes=["a"], max_detections=0)
