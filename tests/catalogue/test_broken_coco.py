"""Malformed JSON of COCO."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from entries import Entry, Left, assert_outcome, boxes_of, names
from small_sets import png, write_files

from accel_det.data.sources import SetSpec

FILE = "train/_annotations.coco.json"
IMAGES = {"train/a.png": png(0), "train/b.png": png(1)}

VALID: dict[str, Any] = {
    "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    "images": [
        {"id": 10, "file_name": "a.png", "width": 40, "height": 30},
        {"id": 11, "file_name": "b.png", "width": 40, "height": 30},
    ],
    "annotations": [
        {"id": 1, "image_id": 10, "category_id": 7, "bbox": [1, 2, 10, 12], "area": 100.0, "iscrowd": 0},
        {"id": 2, "image_id": 10, "category_id": 3, "bbox": [5, 5, 20, 20]},
        {"id": 3, "image_id": 11, "category_id": 3, "bbox": [0, 0, 5, 4]},
        {"id": 4, "image_id": 11, "category_id": 7, "bbox": [9, 9, 5, 4]},
    ],
}
TEXT = json.dumps(VALID)
WHOLE = (2, 4)
ABSENT = object()


def file(name: str, content: str | bytes, found: str, line: str) -> Entry:
    return Entry(f"coco: {name}", {FILE: content}, found, line)


def first(
    name: str, records: str, changes: dict[str, object], found: str, line: str, left: Left | None = None
) -> Entry:
    """The first record of a list, with other values."""
    document = copy.deepcopy(VALID)
    changed = document[records][0] | changes
    document[records][0] = {key: value for key, value in changed.items() if value is not ABSENT}
    return Entry(f"coco: {name}", {FILE: json.dumps(document)}, found, line, left)


def one_more(name: str, records: str, record: object, found: str, line: str, left: Left | None = None) -> Entry:
    """A record behind the valid ones."""
    return Entry(f"coco: {name}", {FILE: json.dumps(VALID | {records: [*VALID[records], record]})}, found, line, left)


def without(key: str) -> str:
    return json.dumps({name: value for name, value in VALID.items() if name != key})


NO_JSON = r"_annotations\.coco\.json, line \d+, column \d+: no JSON"
UNREAD = r"_annotations\.coco\.json: cannot be read: ValueError:"
BAD = "malformed_file"

DOCUMENTS = [
    file("an empty file", "", BAD, NO_JSON),
    file("space alone", " \n\n ", BAD, NO_JSON),
    file("cut in the middle", TEXT[: len(TEXT) // 2], BAD, NO_JSON),
    file("without the last bracket", TEXT[:-1], BAD, NO_JSON),
    file("a comma behind the last entry", TEXT[:-2] + ",]}", BAD, NO_JSON),
    file("single quotes", TEXT.replace('"', "'"), BAD, NO_JSON),
    file("a comment", "// boxes\n" + TEXT, BAD, NO_JSON),
    file("two documents", TEXT + TEXT, BAD, f"{NO_JSON}: Extra data"),
    file("a NUL byte", TEXT[:30] + "\0" + TEXT[30:], BAD, NO_JSON),
    file("XML", "<annotation></annotation>", BAD, NO_JSON),
    file("bytes that are no UTF-8", TEXT.replace("dog", "d\xf6g").encode("latin-1"), BAD, f"{UNREAD} no Unicode"),
    file("UTF-16 cut within a character", TEXT.encode("utf-16")[:-1], BAD, f"{UNREAD} no Unicode"),
    file("half of a surrogate pair", TEXT.replace("dog", "\\ud800"), BAD, f"{UNREAD} no Unicode"),
    file("a key twice in the document", TEXT[:-1] + ', "images": []}', BAD, f"{UNREAD} the key 'images' is twice"),
    file("a key twice in a record", TEXT.replace('"id": 1,', '"id": 1, "id": 9,'), BAD, f"{UNREAD} the key 'id' is twice"),
    file("200,000 lists in each other", "[" * 200_000, BAD, f"{UNREAD} nested too deeply"),
    file("200,000 objects in each other", '{"a":' * 200_000, BAD, f"{UNREAD} nested too deeply"),
    file("a number of 5,000 digits", TEXT.replace("100.0", "9" * 5000), BAD, f"{UNREAD} .* digits"),
    file("a list where the object belongs", f"[{TEXT}]", BAD, "coco.json: a list where an object belongs"),
    file("a number where the object belongs", "7", BAD, "coco.json: a int where an object belongs"),
    file("null", "null", BAD, "coco.json: a NoneType where an object belongs"),
    file("no images", without("images"), BAD, "coco.json, images: 'images' is NoneType where a list"),
    file("no annotations", without("annotations"), BAD, "coco.json, annotations: 'annotations' is NoneType where a list"),
    file("no categories", without("categories"), BAD, "coco.json, categories: 'categories' is NoneType where a list"),
    file("images by id", json.dumps(VALID | {"images": {}}), BAD, "json, images: 'images' is dict where a list"),
    file("a text for annotations", json.dumps(VALID | {"annotations": "x"}), BAD, "json, annotations: 'annotations' is str"),
]  # fmt: skip

UNNAMED = r"images\[0\]: .* needs id and file_name"
LOST = "malformed_record orphan_annotation*2"

CATEGORIES_AND_IMAGES = [
    first("a category without name", "categories", {"name": ABSENT}, BAD, "categories: .* has no name"),
    first("a category without id", "categories", {"id": ABSENT}, BAD, "categories: .* has no id"),
    first("a fraction for the id of a category", "categories", {"id": 1.5}, BAD, "has no id that is an integer or a text"),
    first("a list for the id of a category", "categories", {"id": [7]}, BAD, "has no id that is an integer or a text"),
    first("two categories of one id", "categories", {"id": 3}, BAD, "categories: id 3 is that of 'dog' and of 'cat'"),
    first("the id of a category as a text", "categories", {"id": "7"}, "label_out_of_range*2 unused_class", "category_id 7"),
    one_more("two categories of one name", "categories", {"id": 9, "name": "dog"}, "duplicate_class", "name 'dog'", WHOLE),
    one_more("a text for a category", "categories", "owl", BAD, "categories: 'owl' has no name"),
    one_more("a category without objects", "categories", {"id": 9, "name": "owl"}, "unused_class", "owl", WHOLE),
    first("an image without id", "images", {"id": ABSENT}, LOST, UNNAMED),
    first("an image without file_name", "images", {"file_name": ABSENT}, LOST, UNNAMED),
    first("a number for a file_name", "images", {"file_name": 7}, LOST, UNNAMED),
    first("true for the id of an image", "images", {"id": True}, LOST, UNNAMED),
    first("a list for the id of an image", "images", {"id": [10]}, LOST, UNNAMED),
    first("the id of an image as a text", "images", {"id": "10"}, "orphan_annotation*2", "annotation 1: image_id 10"),
    first("two images of one id", "images", {"id": 11}, "duplicate_image_id orphan_annotation*2", r"11 \(b\.png\): id 11 again"),
    first("two images of one file", "images", {"file_name": "b.png"}, "duplicate_file", r"\(b\.png\): the file of image 10"),
    first("width and height swapped", "images", {"width": 30, "height": 40}, "size_mismatch", "30x40, .* 40x30 .* swapped"),
    first("the size of another scale", "images", {"width": 80, "height": 60}, "size_mismatch", "80x60, the file is 40x30"),
    first("an image that is not there", "images", {"file_name": "c.png"}, "missing_file", r"\(c\.png\): no file 'c\.png'"),
    first("an image without a name", "images", {"file_name": ""}, "missing_file", "image 10 .*: no file ''"),
    first("a name in capitals", "images", {"file_name": "A.PNG"}, "case_mismatch", "'A.PNG' is 'a.png' on disk", WHOLE),
    one_more("a number for an image", "images", 5, "malformed_record", r"images\[2\]: 5 needs id and file_name"),
    one_more("null for an image", "images", None, "malformed_record", r"images\[2\]: None needs id and file_name"),
]  # fmt: skip

ORPHAN, LABEL, RECORD = "orphan_annotation", "label_out_of_range", "malformed_record"
BOX = "where \\[left, top, width, height\\] belongs"

ANNOTATIONS = [
    first("an unknown image", "annotations", {"image_id": 99}, ORPHAN, "annotation 1: image_id 99"),
    first("a text for the number of the image", "annotations", {"image_id": "10"}, ORPHAN, "annotation 1: image_id '10'"),
    first("an annotation without image", "annotations", {"image_id": ABSENT}, ORPHAN, "annotation 1: image_id None"),
    first("an object for the id of the image", "annotations", {"image_id": {}}, ORPHAN, "annotation 1: image_id {}"),
    first("an unknown category", "annotations", {"category_id": 99}, LABEL, "annotation 1: category_id 99 is not in"),
    first("no category", "annotations", {"category_id": ABSENT}, LABEL, "annotation 1: category_id None is not in"),
    first("a text for the number of the category", "annotations", {"category_id": "7"}, LABEL, "category_id '7' is not in"),
    first("a list of categories", "annotations", {"category_id": [7]}, LABEL, r"category_id \[7\] is not in"),
    first("two annotations of one id", "annotations", {"id": 2}, "duplicate_annotation_id", "2: id 2 again", WHOLE),
    first("a mask without box", "annotations", {"bbox": ABSENT, "segmentation": [[1, 2, 9, 9]]}, RECORD, f"1: bbox None {BOX}"),
    first("null for a box", "annotations", {"bbox": None}, RECORD, f"annotation 1: bbox None {BOX}"),
    first("a box of three numbers", "annotations", {"bbox": [1, 2, 10]}, RECORD, rf"1: bbox \[1, 2, 10\] {BOX}"),
    first("a box of five numbers", "annotations", {"bbox": [1, 2, 3, 4, 5]}, RECORD, rf"1: bbox \[1, 2, 3, 4, 5\] {BOX}"),
    first("a box of two points", "annotations", {"bbox": [[1, 2], [3, 4]]}, RECORD, rf"bbox \[\[1, 2\], \[3, 4\]\] {BOX}"),
    first("a text for a box", "annotations", {"bbox": "1,2,3,4"}, RECORD, f"1: bbox '1,2,3,4' {BOX}"),
    first("a mask for a box", "annotations", {"bbox": {"counts": "b", "size": [9, 9]}}, RECORD, f"1: bbox {{'counts.* {BOX}"),
    first("null in a box", "annotations", {"bbox": [1, 2, None, 4]}, RECORD, r"1: bbox \[.*\]: None is not a number"),
    first("true in a box", "annotations", {"bbox": [1, 2, True, 4]}, RECORD, r"1: bbox \[.*\]: True is not a number"),
    first("a word in a box", "annotations", {"bbox": [1, 2, "x", 4]}, RECORD, r"1: bbox \[.*\]: .*'x'"),
    first("a decimal comma in a box", "annotations", {"bbox": ["1,5", 2, 3, 4]}, "decimal_comma", r"\['1,5', 2, 3, 4\]", WHOLE),
    first("an area of 0", "annotations", {"area": 0}, "bad_area", "annotation 1: area 0", WHOLE),
    first("a negative area", "annotations", {"area": -5}, "bad_area", "annotation 1: area -5", WHOLE),
    first("an area that is no number", "annotations", {"area": float("nan")}, "bad_area", "annotation 1: area nan", WHOLE),
    first("a text for the area", "annotations", {"area": "100"}, "bad_area", "annotation 1: area '100'", WHOLE),
    one_more("a list for an annotation", "annotations", [], RECORD, r"annotations\[4\]: \[\] is no object"),
    one_more("a text for an annotation", "annotations", "dog", RECORD, r"annotations\[4\]: 'dog' is no object"),
]  # fmt: skip

ENTRIES = [*DOCUMENTS, *CATEGORIES_AND_IMAGES, *ANNOTATIONS]


@pytest.mark.parametrize("entry", ENTRIES, ids=names(ENTRIES))
def test_malformed_coco_has_the_outcome_of_its_entry(entry: Entry, tmp_path: Path) -> None:
    write_files(tmp_path, IMAGES, entry.files)
    assert_outcome(entry, tmp_path, boxes_of(SetSpec("set", "coco", str(tmp_path))))


@pytest.mark.parametrize("text", [TEXT, "\ufeff" + TEXT], ids=["plain", "with a byte order mark"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-be"])
def test_every_encoding_that_json_may_have_is_read(text: str, encoding: str, tmp_path: Path) -> None:
    write_files(tmp_path, IMAGES, {FILE: text.encode(encoding)})
    left, defects = boxes_of(SetSpec("set", "coco", str(tmp_path)))()
    assert (left, list(defects)) == (WHOLE, [])
