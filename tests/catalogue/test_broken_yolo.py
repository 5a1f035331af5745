"""Malformed label files and descriptions of YOLO."""

from pathlib import Path

import pytest
from entries import Entry, Left, assert_outcome, boxes_of, names
from small_sets import png, write_files

from accel_det.data.sources import SetSpec

LABELS, DESCRIPTION = "train/labels/a.txt", "data.yaml"
LINE = "0 0.5 0.5 0.25 0.5\n"
NAMES = "names: [cat, dog]\n"
VALID = {
    DESCRIPTION: f"train: train/images\nnc: 2\n{NAMES}",
    "train/images/a.png": png(0),
    "train/images/b.png": png(1),
    LABELS: LINE + "1 0.2 0.2 0.1 0.1\n",
    "train/labels/b.txt": LINE + "1 0.3 0.3 0.1 0.1\n",
}
WHOLE = (2, 4)
BAD, RECORD = "malformed_file", "malformed_record"


def label(name: str, line: str, found: str, message: str, left: Left | None = None) -> Entry:
    """A line before the valid ones of the first image."""
    return Entry(f"yolo: {name}", {LABELS: f"{line}\n{VALID[LABELS]}"}, found, message, left)


def labels(name: str, content: str | bytes, found: str, message: str, left: Left | None = None) -> Entry:
    return Entry(f"yolo: {name}", {LABELS: content}, found, message, left)


def description(name: str, content: str | bytes, message: str, found: str = BAD, left: Left | None = None) -> Entry:
    return Entry(f"data.yaml: {name}", {DESCRIPTION: content}, found, message, left)


ROWS = r"a\.txt, line 1: "
COLUMNS = "columns, where class and box \\(5\\) or class and polygon \\(7, 9, ...\\) belong"

IN_LABELS = [
    label("one column", "0", RECORD, f"{ROWS}1 {COLUMNS}"),
    label("four columns", "0 0.5 0.5 0.25", RECORD, f"{ROWS}4 {COLUMNS}"),
    label("six columns, as with a score", "0 0.5 0.5 0.25 0.5 0.9", RECORD, f"{ROWS}6 {COLUMNS}"),
    label("a polygon with half a point", "0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", RECORD, f"{ROWS}8 {COLUMNS}"),
    label("commas between the columns", "0,0.5,0.5,0.25,0.5", RECORD, f"{ROWS}.*'0,0.5,0.5,0.25,0.5'"),
    label("a name for the class", "dog 0.5 0.5 0.25 0.5", RECORD, f"{ROWS}.*'dog'"),
    label("a fraction for the class", "0.5 0.5 0.5 0.25 0.5", RECORD, f"{ROWS}class '0.5' is no integer"),
    label("nan for the class", "nan 0.5 0.5 0.25 0.5", RECORD, f"{ROWS}class 'nan' is no integer"),
    label("infinity for the class", "inf 0.5 0.5 0.25 0.5", RECORD, f"{ROWS}class 'inf' is no integer"),
    label("a word for a number", "0 0.5 half 0.25 0.5", RECORD, f"{ROWS}.*'half'"),
    label("a comment", "# boxes", RECORD, f"{ROWS}.*'#'"),
    label("a class too many", "2 0.5 0.5 0.25 0.5", "label_out_of_range", f"{ROWS}class 2 of 2"),
    label("a negative class", "-1 0.5 0.5 0.25 0.5", "label_out_of_range", f"{ROWS}class -1 of 2"),
    label("a class of 300 digits", f"{'9' * 300} 0.5 0.5 0.1 0.1", "label_out_of_range", f"{ROWS}class 10{{15}}.* of 2"),
    label("decimal commas", "0 0,4 0,4 0,25 0,5", "decimal_comma", f"{ROWS}0 0,4 0,4 0,25 0,5", (2, 5)),
    label("pixels for shares", "0 20 15 10 12", "outside_image", f"{ROWS}.*left, top, width, height 15, 9, 10, 12 of the image"),
    label("a polygon along a line", "0 0.1 0.1 0.5 0.1 0.9 0.1", "zero_side", f"{ROWS}.*0.1, 0.1, 0.8, 0", WHOLE),
    labels("no UTF-8", b"\xff\xfe0\0", RECORD, r"a\.txt: .*cannot be read as lines of UTF-8"),
    labels("a picture", png(0), RECORD, r"a\.txt: .*cannot be read as lines of UTF-8"),
    labels("a NUL byte", "0 0.5 0.5\0 0.25 0.5\n", RECORD, f"{ROWS}could not convert"),
    Entry("yolo: a folder for a label file", {"train/labels/c.txt/d": "", "train/images/c.png": png(2)}, RECORD, r"c\.txt"),
    Entry("yolo: no label file", {"train/images/c.png": png(2)}, "missing_label_file", r"c\.txt: no label file", (3, 4)),
]  # fmt: skip

ALIASES = "a: &a0 [x]\n" + "".join(f"a{n}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(9))

IN_DESCRIPTION = [
    description("not closed", "names: [cat, dog\n", r"data\.yaml, line 2, column 1: no YAML: expected ',' or ']'"),
    description("a tab", f"{NAMES}\ttrain: x\n", r"data\.yaml, line 2, column 1: no YAML: .*'\\t'"),
    description("no UTF-8", b"names: [\xe4]\n", r"data\.yaml: no YAML: not readable as UTF-8 text"),
    description("a NUL byte", "names: [a\0b]\n", r"data\.yaml: no YAML: not readable as UTF-8 text"),
    description("a key twice", f"{NAMES}{NAMES}", r"data\.yaml, line 2, column 1: no YAML: key `names` is given twice"),
    description("aliases that multiply", ALIASES + NAMES, "line 2, column .*: no YAML: aliases are not supported"),
    description("50,000 lists in each other", "names: " + "[" * 50_000, "no YAML: nested more than 32 levels deep"),
    description("two megabytes", NAMES + "# " + "x" * 2_000_000, r"no YAML: 20000\d\d bytes, expected at most 1000000"),
    description("an object of Python", "names: !!python/object/apply:os.system [true]\n", "no YAML: could not determine a con"),
    description("a date that is none", "names: !!timestamp x\n", r"data\.yaml: no YAML: not readable as YAML"),
    description("an empty file", "", r"data\.yaml: no mapping with names, train and val"),
    description("a list", "- cat\n- dog\n", r"data\.yaml: no mapping with names, train and val"),
    description("no names", "train: train/images\n", "names: names is None, where a list of class names"),
    description("a text for names", "names: cat\n", "names: names is 'cat', where a list of class names"),
    description("no name at all", "names: []\n", r"names: names is \[\], where a list of class names"),
    description("fewer names than classes", f"nc: 3\n{NAMES}", "names: nc is 3, but there are 2 names"),
    description("a name twice", "names: [cat, cat]\n", r"names: names has \['cat'\] more than once"),
    description("a number left out", "names: {0: cat, 2: dog}\n", r"names: names has the keys \[0, 2\], where 0 to 1 belong"),
    description("words for numbers", "names: {cat: 0, dog: 1}\n", r"names: names has the keys \['cat', 'dog'\]"),
    description("a folder of another machine", f"train: /data/x/images\n{NAMES}", "not inside", "path_beside", WHOLE),
    description("a folder that is not there", f"train: train/b\n{NAMES}", "'train/b' is not inside", "path_beside", WHOLE),
]  # fmt: skip

ENTRIES = [*IN_LABELS, *IN_DESCRIPTION]


@pytest.mark.parametrize("entry", ENTRIES, ids=names(ENTRIES))
def test_malformed_yolo_has_the_outcome_of_its_entry(entry: Entry, tmp_path: Path) -> None:
    write_files(tmp_path, VALID, entry.files)
    assert_outcome(entry, tmp_path, boxes_of(SetSpec("set", "yolo", str(tmp_path))))
