"""Malformed JSON of CreateML, a list of images, and of the Hub's metadata.jsonl, an object on every line."""

import json
from pathlib import Path

import pytest
from entries import Entry, Left, assert_outcome, boxes_of, names
from small_sets import png, write_files

from accel_det.data.sources import SetSpec

CREATEML, METADATA = "train/_annotations.createml.json", "train/metadata.jsonl"
IMAGES = {"train/a.png": png(0), "train/b.png": png(1)}

BOX = {"label": "dog", "coordinates": {"x": 6, "y": 8, "width": 10, "height": 12}}
LISTED = [{"image": "a.png", "annotations": [BOX]}, {"image": "b.png", "annotations": [BOX]}]
WHOLE = (2, 2)

LINE = '{"file_name": "a.png", "objects": {"bbox": [[1, 2, 10, 12]], "category": ["dog"]}}'
OTHER = LINE.replace("a.png", "b.png")


def createml(name: str, content: object, found: str, line: str, left: Left | None = None) -> Entry:
    """A whole file; what is no text is written as JSON."""
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    return Entry(f"createml: {name}", {CREATEML: text}, found, line, left)


def entry(name: str, changes: object, found: str, line: str, left: Left | None = None) -> Entry:
    """The first image, with other values."""
    changed = LISTED[0] | changes if isinstance(changes, dict) else changes
    return createml(name, [changed, LISTED[1]], found, line, left)


def box(name: str, changed: object, found: str, line: str, left: Left | None = None) -> Entry:
    """Another first box."""
    return entry(name, {"annotations": [changed]}, found, line, left)


def metadata(name: str, first: str | bytes, found: str, line: str, left: Left | None = None) -> Entry:
    """Another first line."""
    text = first.encode() if isinstance(first, str) else first
    return Entry(f"metadata.jsonl: {name}", {METADATA: text + b"\n" + OTHER.encode()}, found, line, left)


BAD, RECORD = "malformed_file", "malformed_record"
NO_JSON = r"createml\.json, line 1, column \d+: no JSON"
NEEDS = r"entry 0: .* needs a file name in `image` and a list in `annotations`"
BOX_NEEDS = r"entry 0, object 1: .*a text in `label` and a box in `coordinates` belongs"

IN_CREATEML = [
    createml("an empty file", "", BAD, NO_JSON),
    createml("cut in the middle", json.dumps(LISTED)[:100], BAD, NO_JSON),
    createml("an object where the list belongs", {"images": LISTED}, BAD, "a dict where a list of images belongs"),
    createml("null", None, BAD, "a NoneType where a list of images belongs"),
    createml("no UTF-8", b'[{"image": "\xe4"}]', BAD, "cannot be read: ValueError: no Unicode"),
    createml("100,000 lists in each other", "[" * 100_000, BAD, "nested too deeply"),
    createml("a key twice", '[{"image": "a.png", "image": "b.png"}]', BAD, "the key 'image' is twice"),
    entry("a text for an image", "a.png", RECORD, NEEDS),
    entry("an image without name", {"image": ""}, RECORD, NEEDS),
    entry("a list for the name", {"image": ["a.png"]}, RECORD, NEEDS),
    entry("no annotations", {"annotations": None}, RECORD, NEEDS),
    entry("annotations by number", {"annotations": {"0": BOX}}, RECORD, NEEDS),
    entry("an image twice", {"image": "b.png"}, "duplicate_file", r"entry 1: .*b\.png again"),
    entry("an image that is not there", {"image": "c.png"}, "missing_file", r"entry 0: no file 'c\.png'"),
    box("a text for a box", "dog", RECORD, BOX_NEEDS),
    box("a box without label", {"coordinates": BOX["coordinates"]}, RECORD, BOX_NEEDS),
    box("a number for the label", BOX | {"label": 7}, RECORD, BOX_NEEDS),
    box("a box without coordinates", {"label": "dog"}, RECORD, BOX_NEEDS),
    box("a list of coordinates", BOX | {"coordinates": [6, 8, 10, 12]}, RECORD, BOX_NEEDS),
    box("no height", BOX | {"coordinates": {"x": 6, "y": 8, "width": 10}}, RECORD, "object 1: None is not a number"),
    box("a word for x", BOX | {"coordinates": BOX["coordinates"] | {"x": "left"}}, RECORD, "object 1: .*'left'"),
    box("a decimal comma", BOX | {"coordinates": BOX["coordinates"] | {"x": "6,5"}}, "decimal_comma", "'6,5'", WHOLE),
]  # fmt: skip

IN_METADATA = [
    metadata("a line cut", LINE[:40], RECORD, r"metadata\.jsonl, line 1: .*the image is left out"),
    metadata("a list for a line", "[1, 2]", RECORD, "line 1: an object with file_name belongs on every line"),
    metadata("a line without file_name", '{"objects": {}}', RECORD, "line 1: an object with file_name belongs"),
    metadata("a number for file_name", '{"file_name": 5}', RECORD, "line 1: an object with file_name belongs"),
    metadata("a key twice", '{"file_name": "a.png", "file_name": "a.png"}', RECORD, "line 1: the key 'file_name' is twice"),
    metadata("half of a surrogate pair", LINE.replace("dog", "\\udfff"), RECORD, "line 1: no Unicode"),
    metadata("50,000 lists in each other", "[" * 50_000, RECORD, "line 1: nested too deeply"),
    metadata("a text for objects", '{"file_name": "a.png", "objects": "dog"}', RECORD, "line 1: objects is a str, where lists"),
    metadata("lists of two lengths", LINE.replace('["dog"]', "[]"), RECORD, "line 1: the lists of objects differ in length"),
    metadata("texts in objects", '{"file_name": "a.png", "objects": ["dog"]}', RECORD, "line 1: objects holds entries that are"),
    metadata("a box of three numbers", LINE.replace(", 12", ""), RECORD, r"line 1: bbox \[1, 2, 10\] where \[left"),
    metadata("a word in a box", LINE.replace("12]", '"x"]'), RECORD, "line 1: .*'x'"),
    metadata("null for a class", LINE.replace('"dog"', "null"), "label_out_of_range", "line 1: class None"),
    metadata("a list for a class", LINE.replace('"dog"', '["dog"]'), "label_out_of_range", r"line 1: class \['dog'\]"),
    metadata("an image twice", LINE.replace("a.png", "b.png"), "duplicate_file", r"line 2: 'b\.png' again"),
    metadata("an image that is not there", LINE.replace("a.png", "c.png"), "missing_file", r"line 1: no file 'c\.png'"),
    metadata("a decimal comma", LINE.replace("[1, ", '["1,5", '), "decimal_comma", r"line 1: bbox \['1,5'", WHOLE),
    Entry("metadata.jsonl: no UTF-8", {METADATA: LINE.encode("utf-16")}, "", r"jsonl: cannot be read as lines of UTF-8"),
]  # fmt: skip

ENTRIES = [*IN_CREATEML, *IN_METADATA]


@pytest.mark.parametrize("entry", ENTRIES, ids=names(ENTRIES))
def test_malformed_lists_have_the_outcome_of_their_entry(entry: Entry, tmp_path: Path) -> None:
    write_files(tmp_path, IMAGES, entry.files)
    format_name = "createml" if CREATEML in entry.files else "hub"
    assert_outcome(entry, tmp_path, boxes_of(SetSpec("set", format_name, str(tmp_path))))
