"""Joining sets, holding out, and the report of the check."""

import json
import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from data_sets import HEIGHT, WIDTH, coco_document, kinds, voc_object, write_coco, write_image, write_voc, write_yolo
from PIL import Image

from accel_det.data import street
from accel_det.data.check import check_tables
from accel_det.data.defects import DEFECT_KINDS, DataError, Findings, stop_message
from accel_det.data.sources import SetSpec, held_out_share, open_split


def three_sets(root: Path) -> dict[str, SetSpec]:
    """Classes (cat, dog), (bird, cat) and (cat, dog), in that order."""
    return {
        "c": write_coco(root / "c", coco_document())._replace(name="c"),
        "v": write_voc(root / "v", voc_object("cat", (1, 2, 9, 9)) + voc_object("bird", (3, 3, 8, 8)))._replace(
            name="v"
        ),
        "y": write_yolo(root / "y", {"a": "1 .5 .5 .1 .1\n0 .2 .2 .1 .1"})._replace(name="y"),
    }


def test_sets_are_joined_by_class_name_and_sample_ids_are_positions(tmp_path: Path) -> None:
    sets = three_sets(tmp_path)
    table, defects = open_split(sets, "v:train + c:train+y:train")
    assert defects == []
    assert table.classes == ("bird", "cat", "dog")
    assert [table.name(i).split("/")[0] for i in range(4)] == ["v", "c", "c", "y"]
    assert [table.truth(i).labels.tolist() for i in range(4)] == [[1, 0], [2, 1], [1, 2], [2, 1]]
    assert table.dataset["image_id"][:] == [0, 1, 2, 3]
    assert table.class_counts() == {"bird": 1, "cat": 3, "dog": 3}  # one of the cats is crowd
    assert table.image_bytes(3) == (tmp_path / "y" / "train" / "images" / "a.png").read_bytes()


def test_given_classes_fix_the_labels_and_objects_of_others_are_left_out_and_reported(tmp_path: Path) -> None:
    sets = three_sets(tmp_path)
    table, defects = open_split(sets, "v:train+c:train", classes=("dog", "cat", "horse"))
    assert table.classes == ("dog", "cat", "horse")
    assert [table.truth(i).labels.tolist() for i in range(3)] == [[1], [0, 1], [1, 0]]
    assert kinds(defects) == {"unknown_class": 1} and defects[0].repair is None
    assert "'bird'" in defects[0].value and defects[0].record == "object 2"
    sets["v"] = sets["v"]._replace(accept=("unknown_class",))
    assert open_split(sets, "v:train", classes=("cat",))[1][0].repair == "drop_box"


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ("c", "'c' is not set:split"),
        ("", "is not set:split"),
        ("c:train+", "is not set:split"),
        ("d:train", "no set 'd'; configured are c, v, y"),
        ("c:train + c:train", "c:train is in it twice"),
    ],
)
def test_a_selection_that_is_written_wrongly_is_refused(selection: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        open_split(three_sets(tmp_path), selection)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"format": "tfrecord"},
            r"set 'c', format: 'tfrecord' is none of coco, voc, yolo, csv, createml, cvat, openimages",
        ),
        ({"root": "nowhere"}, r"set 'c', root: no folder 'nowhere'"),
        ({"holdout": 1.5}, r"set 'c', holdout: 1.5 is not a share"),
        ({"accept": ("nan_boxes",)}, r"set 'c', accept: 'nan_boxes' is no kind of defect; did you mean 'nan_box'\?"),
        ({"accept": ("partly_outside",)}, r"'partly_outside' has no repair to accept"),
    ],
)
def test_a_set_that_is_configured_wrongly_is_refused_by_name(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    spec = three_sets(tmp_path)["c"]._replace(**changes)
    with pytest.raises(ValueError, match=message):
        open_split({"c": spec}, "c:train")


def many_images(root: Path, count: int) -> SetSpec:
    write_image(root / "train" / "0.png")
    data = (root / "train" / "0.png").read_bytes()
    document = coco_document()
    document["images"] = [{"id": i, "file_name": f"{i}.png"} for i in range(count)]
    document["annotations"] = [
        {"id": i, "image_id": i, "category_id": 3 + 4 * (i % 2), "bbox": [i % 7, i % 5, 20, 20]} for i in range(count)
    ]
    for i in range(count):
        (root / "train" / f"{i}.png").write_bytes(data + i.to_bytes(4, "big"))
    (root / "train" / "_annotations.coco.json").write_text(json.dumps(document))
    return SetSpec("set", "coco", str(root), holdout=0.2)


def test_holding_out_parts_the_images_by_their_names_alone(tmp_path: Path) -> None:
    spec = many_images(tmp_path, 200)
    train, val = (open_split({"set": spec}, f"set:{split}")[0] for split in ("train", "val"))
    names = [{table.name(i) for i in range(len(table))} for table in (train, val)]
    assert names[0].isdisjoint(names[1]) and len(names[0] | names[1]) == 200
    # Binomial with 200 draws of .2: 40 with a standard deviation of 5.7; within four of them.
    assert 17 <= len(val) <= 63
    assert all(held_out_share(name) < 0.2 for name in names[1])
    with pytest.raises(ValueError, match="there is no 'test'"):
        open_split({"set": spec}, "set:test")


def test_augmented_copies_of_one_picture_are_held_out_together() -> None:
    copies = [f"train/a_jpg.rf.{character * 32}.jpg" for character in "0123456789abcdef"]
    assert len({held_out_share(name) for name in copies}) == 1
    assert held_out_share("b_jpg.rf." + "0" * 32 + ".jpg") != held_out_share(copies[0])


def test_the_same_bytes_in_train_and_val_stop_unless_accepted_and_the_same_name_is_reported(tmp_path: Path) -> None:
    for split in ("train", "val"):
        spec = write_coco(tmp_path, coco_document(), split=split)
    write_image(tmp_path / "val" / "b.png", seed=77)
    sets = {"set": spec}
    train, first = open_split(sets, "set:train")
    val, second = open_split(sets, "set:val", classes=train.classes)
    report = check_tables(train, val, first + second, read_images=False)
    assert kinds(report.defects) == {"leakage": 1, "same_name": 1}
    assert report.stops and "set/val/a.png" in report.defects[0].file
    assert report.defects[0].value == "same bytes as set/train/a.png in train"
    with pytest.raises(DataError, match="1 defects of the data stop the run: leakage 1"):
        report.require()
    sets = {"set": spec._replace(accept=("leakage",))}
    train, val = (open_split(sets, f"set:{split}")[0] for split in ("train", "val"))
    report = check_tables(train, val, [], read_images=False)
    assert not report.stops
    report.require()


def test_damage_behind_the_header_is_found_by_reading_the_images(tmp_path: Path) -> None:
    spec = write_coco(tmp_path, coco_document())
    path = tmp_path / "train" / "b.png"
    path.write_bytes(path.read_bytes()[:-200])
    train, defects = open_split({"set": spec}, "set:train")
    assert not check_tables(train, None, defects, read_images=False).stops
    report = check_tables(train, None, defects, read_images=True)
    assert kinds(report.defects) == {"undecodable_file": 1} and report.stops
    assert "set/train/b.png" in report.defects[0].value


def test_the_report_has_one_line_per_kind_with_count_place_and_remedy_and_is_plain_json(tmp_path: Path) -> None:
    document: dict[str, Any] = coco_document()
    document["annotations"][0]["bbox"] = [float("nan")] * 4
    document["annotations"][1]["bbox"] = [0, 0, float("inf"), 1]
    document["annotations"][2]["bbox"] = [38, 0, 10, 10]
    train, defects = open_split({"set": write_coco(tmp_path, document)}, "set:train")
    report = check_tables(train, None, defects, read_images=False)
    lines = report.summary_lines()
    assert len(lines) == 2
    assert lines[0].startswith("nan_box x 2 (STOPS THE RUN), first: ") and "annotation 1" in lines[0]
    assert lines[1].startswith("partly_outside x 1 (repair: clip)")
    assert DEFECT_KINDS["nan_box"].remedy in lines[0]
    plain = json.loads(json.dumps(report.to_json()))
    assert plain["stops"] is True and plain["counts"] == {"nan_box": 2, "partly_outside": 1}
    assert plain["splits"]["train"]["objects"] == 2 and len(plain["defects"]) == 3
    assert plain["splits"]["train"]["class_counts"] == {"cat": 1, "dog": 1}


def test_a_defect_that_both_splits_report_is_counted_once(tmp_path: Path) -> None:
    document: dict[str, Any] = coco_document()
    document["annotations"][0]["image_id"] = 99
    spec = write_coco(tmp_path, document)._replace(holdout=0.5)
    (train, first), (val, second) = (open_split({"set": spec}, f"set:{split}") for split in ("train", "val"))
    assert kinds(first)["orphan_annotation"] == kinds(second)["orphan_annotation"] == 1
    assert kinds(check_tables(train, val, first + second, read_images=False).defects)["orphan_annotation"] == 1


def test_the_message_shows_the_first_few_and_counts_all() -> None:
    findings = Findings("set")
    for number in range(7):
        findings.add("nan_box", file="a.json", record=f"annotation {number}", value="bbox nan")
    findings.add("partly_outside", file="a.json", value="bbox")
    lines = stop_message(findings.defects, shown=2).splitlines()
    assert lines[0] == "7 defects of the data stop the run: nan_box 7"
    assert "annotation 0" in lines[1] and "annotation 1" in lines[2]
    assert lines[3] == "... and 5 more"


def test_checking_takes_less_than_a_millisecond_per_annotation(tmp_path: Path) -> None:
    spec = many_images(tmp_path, 300)
    start = time.perf_counter()
    train, defects = open_split({"set": spec}, "set:train")
    val, more = open_split({"set": spec}, "set:val", classes=train.classes)
    check_tables(train, val, defects + more, read_images=False)
    assert len(train) + len(val) == 300  # one annotation each: the worst case, for each has a header to read
    assert time.perf_counter() - start < 0.3


def test_objects_of_many_images_are_views_and_not_copies(tmp_path: Path) -> None:
    table, _ = open_split({"set": many_images(tmp_path, 50)._replace(holdout=0.0)}, "set:train")
    for column in (table._objects.boxes, table._objects.labels, table._objects.areas, table._objects.crowd):
        assert not column.flags.owndata and not column.flags.writeable
    assert np.array_equal(table.counts(), np.ones(50))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("known", [True, False], ids=["annotated size", "no size"])
def test_a_turned_image_is_taken_upright_and_doubt_about_its_frame_is_reported(
    orientation: int, known: bool, tmp_path: Path
) -> None:
    """Orientations 5 to 8 swap the sides, so an annotated size tells the frame of the boxes; with 2 to 4 it cannot."""
    document: dict[str, Any] = coco_document()
    if not known:
        document["images"] = [{key: entry[key] for key in ("id", "file_name")} for entry in document["images"]]
    spec = write_coco(tmp_path, document)
    sides = (HEIGHT, WIDTH) if orientation >= 5 else (WIDTH, HEIGHT)
    exif = Image.Exif()
    exif[274] = orientation
    Image.new("RGB", sides, (orientation, 0, 0)).save(tmp_path / "train" / "b.png", exif=exif)
    table, defects = open_split({"set": spec}, "set:train")
    assert table.size(1) == (HEIGHT, WIDTH)
    doubt = orientation in (2, 3, 4) or (orientation >= 5 and not known)
    assert kinds(defects) == ({"exif_orientation": 1} if doubt else {})


def test_the_street_is_read_as_any_table_with_the_parameters_of_its_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def read(split: str, parameters: Any) -> tuple[datasets.Dataset, tuple[str, ...]]:
        asked.append((split, dict(parameters)))
        data = write_image(tmp_path / "a.png").read_bytes()
        rows = {
            "image": [{"bytes": data, "path": None}],
            "objects": [{"bbox": [[1.0, 2.0, 3.0, 4.0]], "category": [1], "area": [12.0], "iscrowd": [False]}],
        }
        return datasets.Dataset.from_dict(rows), ("car", "person")

    monkeypatch.setattr(street, "read", read, raising=False)
    spec = SetSpec("town", "street", "", parameters={"scenes": 1, "seed": 3})
    table, defects = open_split({"town": spec}, "town:val")
    assert asked == [("val", {"scenes": 1, "seed": 3})]
    assert table.classes == ("car", "person") and table.name(0) == "town/row 0 of val"
    assert table.truth(0).boxes.tolist() == [[1, 2, 4, 6]] and table.truth(0).labels.tolist() == [1]
    assert kinds(defects) == {"unused_class": 1}
