"""COCO JSON, and the rules that every format shares."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from data_sets import HEIGHT, WIDTH, coco_document, kinds, open_set, write_coco, write_image

from accel_det.data.defects import DEFECT_KINDS
from accel_det.data.sources import SetSpec

Change = Callable[[dict[str, Any]], object]


def test_boxes_labels_crowd_and_areas_are_read_as_they_are_written(tmp_path: Path) -> None:
    table, defects = open_set(write_coco(tmp_path, coco_document()))
    assert defects == []
    assert table.classes == ("cat", "dog")  # in the order of the ids, 3 and 7
    assert len(table) == 2 and table.size(0) == (HEIGHT, WIDTH)
    assert table.name(1) == "set/train/b.png"
    first, second = table.truth(0), table.truth(1)
    assert first.boxes.tolist() == [[1, 2, 11, 14], [5, 5, 25, 25]]
    assert first.labels.tolist() == [1, 0] and first.crowd.tolist() == [False, True]
    assert first.areas.tolist() == [100.0, 400.0]  # the second is not annotated: width times height
    assert second.boxes.tolist() == [[0, 0, 4.5, 4], [6, 6, 14, 14]]
    assert second.areas.tolist() == [18.0, 64.0]
    assert [column.dtype for column in first] == [torch.float32, torch.int64, torch.bool, torch.float32]
    assert table.image_bytes(1) == (tmp_path / "train" / "b.png").read_bytes()


def annotation(**fields: object) -> Change:
    def change(document: dict[str, Any]) -> None:
        document["annotations"][0].update(fields)

    return change


def image(**fields: object) -> Change:
    def change(document: dict[str, Any]) -> None:
        document["images"][1].update(fields)

    return change


def add(key: str, **fields: object) -> Change:
    def change(document: dict[str, Any]) -> None:
        document[key].append(document[key][0] | fields)

    return change


def no_annotations_of_b(document: dict[str, Any]) -> None:
    del document["annotations"][2:]


# kind, change, images left, boxes left
DEFECTS: list[tuple[str, Change, int, int]] = [
    ("missing_file", image(file_name="c.png"), 1, 2),
    ("missing_file", image(file_name="nul\0.png"), 1, 2),
    ("missing_file", image(file_name=""), 1, 2),
    ("missing_file", image(file_name="http://example.org/a.png"), 1, 2),
    ("case_mismatch", image(file_name="B.PNG"), 2, 4),
    ("outside_root", image(file_name="../outside.png"), 1, 2),
    ("size_mismatch", image(width=HEIGHT, height=WIDTH), 1, 2),
    ("size_mismatch", image(width=2 * WIDTH, height=2 * HEIGHT), 1, 2),
    ("nan_box", annotation(bbox=[float("nan"), 1, 2, 3]), 2, 3),
    ("nan_box", annotation(bbox=[0, 1, float("inf"), 3]), 2, 3),
    ("negative_side", annotation(bbox=[20, 20, -5, 3]), 2, 3),
    ("zero_side", annotation(bbox=[20, 20, 0, 3]), 2, 3),
    ("zero_side", annotation(bbox=[20, 20, 1e-9, 3]), 2, 3),
    ("outside_image", annotation(bbox=[WIDTH, 3, 5, 5]), 2, 3),
    ("outside_image", annotation(bbox=[3, -9, 5, 9]), 2, 3),
    ("outside_image", annotation(bbox=[1e30, 3, 5, 5]), 2, 3),
    ("partly_outside", annotation(bbox=[WIDTH - 4, 3, 5, 5]), 2, 4),
    ("label_out_of_range", annotation(category_id=4), 2, 3),
    ("label_out_of_range", annotation(category_id=None), 2, 3),
    ("orphan_annotation", annotation(image_id=99), 2, 3),
    ("orphan_annotation", annotation(image_id=[1]), 2, 3),
    ("duplicate_annotation_id", annotation(id=2), 2, 4),
    ("duplicate_image_id", add("images", file_name="b.png"), 2, 4),
    ("duplicate_file", add("images", id=11), 2, 4),
    ("duplicate_box", add("annotations", id=9), 2, 4),
    ("duplicate_class", add("categories", id=8), 2, 4),
    ("unused_class", add("categories", id=8, name="home"), 2, 4),
    ("image_without_annotations", no_annotations_of_b, 2, 2),
    ("bad_area", annotation(area=-1), 2, 4),
    ("decimal_comma", annotation(bbox=["1,5", 2, 3, 4]), 2, 4),
    ("malformed_record", annotation(bbox=["x", 2, 3, 4]), 2, 3),
    ("malformed_record", annotation(bbox=[1, 2, 3]), 2, 3),
    ("malformed_record", annotation(bbox=None), 2, 3),
    ("malformed_record", lambda document: document["annotations"].append(5), 2, 4),
    ("malformed_record", lambda document: document["images"].append({"id": 3}), 2, 4),
]


@pytest.mark.parametrize(("kind", "change", "images", "boxes"), DEFECTS)
def test_each_defect_is_found_alone_with_place_rule_and_remedy(
    kind: str, change: Change, images: int, boxes: int, tmp_path: Path
) -> None:
    write_image(tmp_path / "outside.png")
    document = coco_document()
    change(document)
    spec = write_coco(tmp_path, document)
    table, defects = open_set(spec)
    assert kinds(defects) == {kind: 1}
    found = defects[0]
    about = DEFECT_KINDS[kind]
    assert found.file.endswith("train/_annotations.coco.json") and found.record and found.value
    assert (found.rule, found.remedy) == (about.rule, about.remedy)
    assert found.repair == (None if about.default == "stop" else about.default)
    assert (len(table), int(table.counts().sum())) == (images, boxes)


@pytest.mark.parametrize(("kind", "change"), [(kind, change) for kind, change, _, _ in DEFECTS])
def test_accepting_a_kind_names_its_opt_in_repair_or_says_that_there_is_none(
    kind: str, change: Change, tmp_path: Path
) -> None:
    write_image(tmp_path / "outside.png")
    document = coco_document()
    change(document)
    spec = write_coco(tmp_path, document)
    if DEFECT_KINDS[kind].opt_in is None:
        with pytest.raises(ValueError, match=f"{kind!r} has no repair to accept"):
            open_set(spec, accept=(kind,))
    else:
        assert {defect.repair for defect in open_set(spec, accept=(kind,))[1]} == {DEFECT_KINDS[kind].opt_in}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", "no JSON"),
        ("[]", "list where an object belongs"),
        ('{"images": [],}', "no JSON"),
        ('{"images": [], "annotations": []}', "'categories' is NoneType"),
        ('{"images": {}, "annotations": [], "categories": []}', "'images' is dict"),
        ("[" * 200_000, "nested too deeply"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "has no name"),
        ('{"images": [], "annotations": [], "categories": [{"name": "a"}]}', "has no id"),
        (
            '{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}',
            "id 1 is that of 'a' and of 'b'",
        ),
    ],
)
def test_a_malformed_file_is_one_defect_that_stops_and_leaves_no_image(text: str, value: str, tmp_path: Path) -> None:
    table, defects = open_set(write_coco(tmp_path, text))
    assert kinds(defects) == {"malformed_file": 1}
    assert value in defects[0].value and defects[0].repair is None
    assert len(table) == 0


def test_a_syntax_error_is_found_with_its_line(tmp_path: Path) -> None:
    _, defects = open_set(write_coco(tmp_path, '{\n"images": [\n1,,2]}'))
    assert defects[0].record == "line 3, column 3"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_and_utf_16_are_read(encoding: str, tmp_path: Path) -> None:
    spec = write_coco(tmp_path, coco_document())
    path = tmp_path / "train" / "_annotations.coco.json"
    path.write_text(json.dumps(coco_document()), encoding)
    assert open_set(spec)[1] == []


def test_clipping_keeps_what_is_inside_and_rounding_is_no_defect(tmp_path: Path) -> None:
    document = coco_document()
    document["annotations"][0].update(bbox=[-5, -5, 10, 10])
    document["annotations"][2].update(bbox=[-0.4, 0, WIDTH + 0.8, HEIGHT])
    table, defects = open_set(write_coco(tmp_path, document))
    assert kinds(defects) == {"partly_outside": 1}
    assert table.truth(0).boxes[0].tolist() == [0, 0, 5, 5]
    assert table.truth(1).boxes[0].tolist() == [0, 0, WIDTH, HEIGHT]


def test_an_accepted_link_that_leaves_the_folder_is_followed(tmp_path: Path) -> None:
    outside = write_image(tmp_path / "elsewhere" / "b.png", seed=9)
    spec = write_coco(tmp_path / "set", coco_document())
    link = tmp_path / "set" / "train" / "b.png"
    link.unlink()
    link.symlink_to(outside)
    table, defects = open_set(spec)
    assert kinds(defects) == {"outside_root": 1} and len(table) == 1
    table, defects = open_set(spec, accept=("outside_root",))
    assert defects[0].repair == "follow" and table.image_bytes(1) == outside.read_bytes()


def test_a_link_inside_the_folder_and_a_linked_root_are_nothing_special(tmp_path: Path) -> None:
    write_coco(tmp_path / "set", coco_document())
    image_path = tmp_path / "set" / "train" / "b.png"
    image_path.rename(image_path.with_name("real.png"))
    image_path.symlink_to("real.png")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert open_set(SetSpec("set", "coco", str(tmp_path / "link")))[1] == []


@pytest.mark.parametrize("content", [b"", b"text", b"\x89PNG\r\n\x1a\n"])
def test_a_file_without_a_readable_header_is_found(content: bytes, tmp_path: Path) -> None:
    spec = write_coco(tmp_path, coco_document())
    (tmp_path / "train" / "b.png").write_bytes(content)
    table, defects = open_set(spec)
    assert kinds(defects) == {"unreadable_file": 1}
    assert "b.png" in defects[0].value and len(table) == 1


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_train.json", "train"),
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train.json", "images/train"),
        ("annotations/instances_train.json", "images"),
    ],
)
def test_the_usual_layouts_are_found_by_themselves(annotations: str, images: str, tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / annotations).write_text(json.dumps(coco_document()))
    for name in ("a.png", "b.png"):
        write_image(tmp_path / images / name, seed=ord(name[0]))
    table, defects = open_set(SetSpec("set", "coco", str(tmp_path)))
    assert defects == [] and table.name(0) == f"set/{images}/a.png"


def test_a_set_without_annotations_says_where_they_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"set 'set', split 'val'.*valid/_annotations\.coco\.json.*instances_val\.json"
    ):
        open_set(SetSpec("set", "coco", str(tmp_path)), "val")


def test_leaving_out_an_unused_class_renumbers_the_others(tmp_path: Path) -> None:
    document = coco_document()
    document["categories"].insert(0, {"id": 0, "name": "animals"})
    spec = write_coco(tmp_path, document)
    assert open_set(spec)[0].classes == ("animals", "cat", "dog")
    table, defects = open_set(spec, accept=("unused_class",))
    assert table.classes == ("cat", "dog") and table.truth(0).labels.tolist() == [1, 0]
    assert [defect.repair for defect in defects] == ["drop_class"]


def test_a_pickled_table_answers_as_before(tmp_path: Path) -> None:
    table, _ = open_set(write_coco(tmp_path, coco_document()))
    again = pickle.loads(pickle.dumps(table))
    assert again.fingerprint == table.fingerprint and again.classes == table.classes
    assert all(torch.equal(a, b) for a, b in zip(again.truth(0), table.truth(0), strict=True))
    assert again.image_bytes(0) == table.image_bytes(0)


def test_the_fingerprint_changes_with_a_box_a_label_or_a_class_and_with_nothing_else(tmp_path: Path) -> None:
    changes: list[Change] = [
        lambda document: None,
        annotation(bbox=[1, 2, 10, 12.5]),
        annotation(category_id=3),
        annotation(iscrowd=1),
        add("categories", id=8, name="home"),
    ]
    prints = []
    for number, change in enumerate(changes):
        document = coco_document()
        change(document)
        prints.append(open_set(write_coco(tmp_path / str(number), document))[0].fingerprint)
    assert len(set(prints)) == len(changes)
    same = open_set(write_coco(tmp_path / "elsewhere", coco_document()))[0].fingerprint
    assert same == prints[0]
