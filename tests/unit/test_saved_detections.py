"""Detections in a file, and their metrics without the network."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from detection_cases import data_folder, random_rows

from accel_det.cli import evaluate, rescore
from accel_det.metrics.coco_files import TruthFile, read_annotations, read_results
from accel_det.metrics.saved import SavedDetections, read_detections, write_detections
from accel_det.tasks.detection import DetectionTask
from accel_det.types import DetectionRow

CLASSES = ("a", "b", "c")

STREET = """
name: tiny
model: {name: yolov5n}
data:
  sets: {street: {format: street, parameters: {seed: 5, images: 12, height: 64, width: 96}}}
  train: street:train
  val: street:val
train: {steps: 1}
"""


def saved_of(rows: list[DetectionRow]) -> SavedDetections:
    return SavedDetections(CLASSES, [f"set/{row.sample_id}.jpg" for row in rows], [row.detections for row in rows])


def test_what_is_read_is_what_was_written_bit_for_bit(tmp_path: Path) -> None:
    rows = random_rows(1, num_images=30, num_classes=3)
    write_detections(tmp_path / "a.parquet", saved_of(rows))
    write_detections(tmp_path / "b.parquet", saved_of(rows))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    found = read_detections(tmp_path / "a.parquet")
    assert found.classes == CLASSES and found.names[:2] == ["set/1.jpg", "set/4.jpg"]
    back = [row._replace(detections=one) for row, one in zip(rows, found.detections, strict=True)]
    task = DetectionTask(CLASSES)
    assert task.score(back) == task.score(rows)
    assert sum(len(one.scores) for one in found.detections) == sum(len(row.detections.scores) for row in rows) > 100
    write_detections(tmp_path / "none.parquet", SavedDetections(CLASSES, [], []))
    assert read_detections(tmp_path / "none.parquet") == SavedDetections(CLASSES, [], [])


def broken(table: pa.Table, column: str, row: int, value: Any) -> pa.Table:
    values = table.column(column).to_pylist()
    values[row] = value
    place = table.schema.get_field_index(column)
    return table.set_column(place, table.schema.field(column), pa.array(values, table.schema.field(column).type))


NAN = float("nan")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: broken(t, "scores", 2, [NAN] * len(t["scores"][2])), r"image set/7\.jpg: .* score nan"),
        (lambda t: broken(t, "scores", 2, [0.5]), r"image set/7\.jpg: \d+ boxes, 1 scores and"),
        (lambda t: broken(t, "scores", 2, None), r"image set/7\.jpg has an empty field"),
        (lambda t: broken(t, "labels", 2, [3] * len(t["labels"][2])), r"image set/7\.jpg: .* a label from 0 to 2"),
        (lambda t: broken(t, "boxes", 2, [[9, 9, 1, 1]] * len(t["boxes"][2])), "x1 <= x2"),
        (lambda t: broken(t, "name", 2, "set/1.jpg"), r"image set/1\.jpg is in it twice"),
        (lambda t: t.drop_columns(["scores"]), "has columns name, boxes, labels, expected name, boxes, scores, labels"),
        (lambda t: t.set_column(2, "scores", pa.array(["x"] * len(t))), "scores is string, expected list<"),
        (lambda t: t.replace_schema_metadata({}), "does not hold saved detections"),
        (lambda t: t.replace_schema_metadata({"accel_det.detections": '{"format_version": 9}'}), "format_version is 9"),
    ],
)
def test_a_file_that_makes_no_sense_is_one_clear_error(change: Any, said: str, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    write_detections(file, saved_of(random_rows(2, num_images=5, num_classes=3)))
    pq.write_table(change(pq.read_table(file)), file)
    with pytest.raises(ValueError, match=said) as raised:
        read_detections(file)
    assert str(raised.value).startswith(f"{file}: ") and "\n" not in str(raised.value)


def test_a_missing_file_and_another_format_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file; save one with `accel-det evaluate RUN --save"):
        read_detections(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match="no parquet file"):
        read_detections(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="cannot be written"):
        write_detections(tmp_path / "a.parquet" / "b.parquet", SavedDetections(CLASSES, [], []))


def scores_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert rescore.run([*map(str, arguments), "--json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def test_results_of_100_coco_images_score_as_published(capsys: pytest.CaptureFixture[str]) -> None:
    """As pycocotools 2.0.11 gives them for these files."""
    folder = data_folder("metrics/coco")
    files = (folder / "instances_val2014_fakebbox100_results.json", "--truth", folder / "instances_val2014_100.json")
    answer = scores_of(capsys, *files)
    assert (answer["images"], answer["detections"]) == (100, 734)
    assert answer["scores"]["AP"] == pytest.approx(0.504581, abs=1e-6)
    assert answer["scores"]["AP50"] == pytest.approx(0.696973, abs=1e-6)
    assert answer["scores"]["AR100"] == pytest.approx(0.595353, abs=1e-6)
    ignoring = (folder / "dt_ignore_test.json", "--truth", folder / "gt_ignore_test.json", "--score_threshold", 0.1)
    assert scores_of(capsys, *ignoring)["scores"]["AP"] == pytest.approx(0.709901, abs=1e-6)
    fewer = scores_of(capsys, *files, "--score_threshold", 0.5)
    records = json.loads(files[0].read_bytes())
    assert fewer["detections"] == sum(record["score"] >= 0.5 for record in records) < 734
    assert fewer["scores"]["AP"] < answer["scores"]["AP"]


def coco(folder: Path, rows: list[DetectionRow]) -> Path:
    """The truth of rows as COCO annotations with ids that are no positions."""
    objects = [
        {
            "id": 1 + number,
            "image_id": row.sample_id,
            "category_id": 10 * int(label) + 5,
            "bbox": xywh(box),
            "area": area,
        }
        | {"iscrowd": int(crowd)}
        for row in rows
        for number, (box, label, crowd, area) in enumerate(zip(*(column.tolist() for column in row.truth), strict=True))
    ]
    document = {
        "images": [{"id": row.sample_id, "file_name": f"val/{row.sample_id}.jpg"} for row in rows],
        "categories": [{"id": 10 * label + 5, "name": name} for label, name in enumerate(CLASSES)],
        "annotations": objects,
    }
    (folder / "truth.json").write_text(json.dumps(document), encoding="utf-8")
    return folder / "truth.json"


def xywh(box: list[float]) -> list[float]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def results(rows: list[DetectionRow], *, by_name: bool) -> list[dict[str, Any]]:
    return [
        {"bbox": xywh(box), "score": score}
        | (
            {"image_id": f"/data/x/{row.sample_id}.jpg", "category_id": label, "category_name": CLASSES[label]}
            if by_name
            else {"image_id": row.sample_id, "category_id": 10 * label + 5}
        )
        for row in rows
        for box, score, label in zip(*(column.tolist() for column in row.detections), strict=True)
    ]


@pytest.mark.parametrize("by_name", [False, True])
def test_results_are_matched_by_id_or_by_name(
    by_name: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = random_rows(3, num_images=20, num_classes=3)
    (tmp_path / "found.json").write_text(json.dumps(results(rows, by_name=by_name)), encoding="utf-8")
    answer = scores_of(capsys, tmp_path / "found.json", "--truth", coco(tmp_path, rows))
    expected = DetectionTask(CLASSES).score(rows)
    assert answer["scores"] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"image_id": 999}, "result 0: image 999 is none of the truth's 5"),
        ({"category_id": 6}, r"result 0: category 6 is none of the truth's \(a, b, c\)"),
        ({"score": NAN}, "result 0: score is nan"),
        ({"score": "high"}, "result 0: score is 'high'"),
        ({"bbox": [1, 2, NAN, 4]}, "result 0: bbox is .* expected finite numbers"),
        ({"bbox": [1, 2, -3, 4]}, "width and height at least 0"),
        ({"bbox": [1, 2, 3]}, r"expected \[left, top, width, height\]"),
    ],
)
def test_a_result_that_makes_no_sense_is_named(record: dict[str, Any], said: str, tmp_path: Path) -> None:
    rows = random_rows(4, num_images=5, num_classes=3)
    truth = read_annotations(coco(tmp_path, rows))
    first, *others = results(rows, by_name=False)
    (tmp_path / "found.json").write_text(json.dumps([first | record, *others]), encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        read_results(tmp_path / "found.json", truth)
    for text, message in (("{}", "a dict, expected a list"), ("[1]", "result 0: 1, expected"), ("[", "no JSON")):
        (tmp_path / "found.json").write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=message):
            read_results(tmp_path / "found.json", truth)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "no COCO annotations"),
        ({"images": [{}], "annotations": [], "categories": []}, r"images\[0\] needs id"),
        ({"images": [], "annotations": [], "categories": [{"id": 1}]}, r"categories\[0\] needs id and name"),
        (
            {"images": [{"id": 1}], "annotations": [{"image_id": 2, "category_id": 1}], "categories": []},
            r"annotations\[0\]: image_id 2 or category_id 1 is not in the file",
        ),
    ],
)
def test_annotations_that_make_no_sense_are_named(document: object, said: str, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        read_annotations(tmp_path / "truth.json")


def street(folder: Path) -> tuple[Path, TruthFile]:
    from accel_det.cli import compose_detection as compose
    from accel_det.config.load import load_config

    (folder / "tiny.yaml").write_text(STREET, encoding="utf-8")
    config = load_config(folder / "tiny.yaml", []).config
    return folder / "tiny.yaml", rescore._truth_of(compose.open_tables(config).val)


def test_saved_detections_are_matched_to_the_data_by_name_and_class(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, truth = street(tmp_path)
    count = len(truth.names)
    rows = random_rows(6, num_images=count, num_classes=3)
    found = [row.detections._replace(boxes=row.detections.boxes / 8) for row in rows]
    number = len(truth.classes)
    assert count >= 2 and number >= 3
    backwards = SavedDetections(truth.classes, truth.names[::-1], found[::-1])
    write_detections(tmp_path / "a.parquet", backwards)
    answer = scores_of(capsys, tmp_path / "a.parquet", "--config", config)
    expected = DetectionTask(truth.classes).score(rescore._rows(truth, found))
    assert answer["scores"] == expected
    write_detections(tmp_path / "b.parquet", backwards._replace(names=backwards.names[1:], detections=found[1:]))
    with pytest.raises(ValueError, match=f"has no entry for image {truth.names[-1]}, of {count} in the truth"):
        rescore.run([str(tmp_path / "b.parquet"), "--config", str(config)])
    strange = SavedDetections(truth.classes, [*truth.names, "street/other"], [*found, found[0]])
    write_detections(tmp_path / "c.parquet", strange)
    with pytest.raises(ValueError, match="holds, but the truth does not, image street/other"):
        rescore.run([str(tmp_path / "c.parquet"), "--config", str(config)])


def test_a_file_of_another_kind_is_refused_before_anything_is_evaluated(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--save is found\.csv, expected a file that ends in \.parquet"):
        evaluate.run([str(tmp_path / "nowhere"), "--save", "found.csv"])


def test_keys_of_the_network_are_refused_where_it_is_taken_as_it_was_exported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"--model\.options\.width: evaluate takes the network as it was exported"):
        evaluate.run([str(tmp_path / "nowhere"), "--model.options.width", "2"])


def test_thresholds_suppression_and_voting_change_what_is_scored(tmp_path: Path) -> None:
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 8], [30, 30, 40, 40]]).double()
    rows = random_rows(0, num_images=1, num_classes=3)
    one = rows[0].detections._replace(
        boxes=boxes, scores=torch.tensor([0.9, 0.6, 0.3]).double(), labels=torch.tensor([0] * 3)
    )
    options = rescore._parser().parse_args

    def selected(*arguments: str) -> list[float]:
        inference = rescore._inference(options(["x", *arguments]))
        assert inference is not None
        (found,) = rescore._select([one], inference)
        assert found.boxes.dtype == torch.float64
        return [round(score, 4) for score in found.scores.tolist()]

    assert rescore._inference(options(["x"])) is None
    assert selected("--score_threshold", "0.6") == [0.9, 0.6]
    assert selected("--max_detections", "1") == [0.9]
    assert selected("--nms", "hard", "--nms_iou", "0.7") == [0.9, 0.3]
    assert selected("--nms", "soft_linear", "--nms_iou", "0.7") == [0.9, 0.3, round(0.6 * 0.2, 4)]
    inference = rescore._inference(options(["x", "--nms", "hard", "--vote_iou", "0.7"]))
    assert inference is not None
    (voted,) = rescore._select([one], inference)
    assert voted.boxes[0].tolist() == pytest.approx([0, 0, 10, (0.9 * 10 + 0.6 * 8) / 1.5])
    with pytest.raises(ValueError, match=r"--nms_iou is 1\.5, expected 0 to 1"):
        rescore._inference(options(["x", "--nms_iou", "1.5"]))
    for given in ([], ["--config", "a", "--truth", "b"]):
        with pytest.raises(ValueError, match="either --config CONFIG"):
            rescore.run([str(tmp_path / "x.parquet"), *given])
