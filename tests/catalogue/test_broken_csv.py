"""Malformed CSV: boxes by named columns, and those of Open Images; and the text of WIDER FACE."""

from pathlib import Path

import pytest
from entries import Entry, Left, assert_outcome, boxes_of, names
from small_sets import png, write_files

from accel_det.data.sources import SetSpec

HEADER = "filename,class,xmin,ymin,xmax,ymax\n"
ROW = "a.png,dog,1,2,11,14\n"
OTHER = "b.png,dog,1,2,11,14\n"
OPEN_HEADER = "ImageID,LabelName,XMin,XMax,YMin,YMax\n"
OPEN_ROW = "a,/m/d,0.1,0.4,0.2,0.6\n"
FACES = "a.png\n1\n1 2 10 12 0 0 0 0 0 0\n"

IMAGES = {"images/a.png": png(0), "images/b.png": png(1)}
PLACES = {
    "csv": "train.csv",
    "openimages": "train-annotations-bbox.csv",
    "widerface": "wider_face_train_bbx_gt.txt",
}
BAD, RECORD = "malformed_file", "malformed_record"


def csv(name: str, content: str | bytes, found: str, line: str, left: Left | None = None) -> Entry:
    return Entry(f"csv: {name}", {PLACES["csv"]: content}, found, line, left)


def row(name: str, first: str, found: str, line: str, left: Left | None = None) -> Entry:
    """Another first row, which is line 2."""
    return csv(name, f"{HEADER}{first}\n{OTHER}", found, line, left)


def openimages(name: str, content: str | bytes, found: str, line: str, left: Left | None = None) -> Entry:
    return Entry(f"openimages: {name}", {PLACES["openimages"]: content}, found, line, left)


def widerface(name: str, content: str | bytes, found: str, line: str, left: Left | None = None) -> Entry:
    return Entry(f"widerface: {name}", {PLACES["widerface"]: content}, found, line, left)


def also(name: str, files: dict[str, str], found: str, line: str, left: Left | None = None) -> Entry:
    """Another file beside a valid one."""
    return Entry(f"csv: {name}", {PLACES["csv"]: HEADER + ROW + OTHER} | files, found, line, left)


COLUMNS = r"train\.csv, line 1: columns .* where image, label and xmin, ymin, xmax, ymax .* belong"

IN_CSV = [
    csv("a header alone", HEADER, "empty_split", "train: no image"),
    csv("an empty file", "", "empty_split", "train: no image"),
    csv("no header and five columns", "a.png,1,2,11,14\n", BAD, COLUMNS),
    csv("unknown columns", "picture,what,a,b,c,d\n" + ROW, BAD, COLUMNS),
    csv("a corner is missing", "filename,class,xmin,ymin,xmax\na.png,dog,1,2,11\n", BAD, COLUMNS),
    csv("no column of classes", "filename,xmin,ymin,xmax,ymax\na.png,1,2,11,14\n", BAD, COLUMNS),
    csv("divided by bars", (HEADER + ROW).replace(",", "|"), BAD, COLUMNS),
    csv("divided by spaces", (HEADER + ROW).replace(",", " "), BAD, COLUMNS),
    csv("the header in quotes as one", f'"{HEADER.strip()}"\n{ROW}', BAD, COLUMNS),
    csv("a header divided by semicolons alone", HEADER.replace(",", ";") + ROW, RECORD, "line 2: 1 columns, where at least 6"),
    csv("a column twice", "filename,class,xmin,ymin,xmax,ymax,class\na.png,dog,1,2,11,14,cat\n", BAD, "'class' is there twice"),
    csv("bytes that are no UTF-8", (HEADER + "\xe4.png,dog,1,2,3,4\n").encode("latin-1"), BAD, r"train\.csv.*: no CSV: .*utf-8"),
    csv("UTF-16", (HEADER + ROW).encode("utf-16"), BAD, r"train\.csv.*: no CSV: .*utf-8"),
    csv("a NUL byte", HEADER + ROW.replace("dog", "d\0g"), BAD, r"train\.csv, after line 1: no CSV: a NUL byte"),
    csv("a quote that is not closed", HEADER + 'a.png,"dog,1,2,11,14\n' + OTHER, BAD, "after line 1: no CSV: .*end of data"),
    csv("a quote within a field", HEADER + 'a.png,"d"og,1,2,11,14\n', BAD, r"train\.csv, after line 1: no CSV"),
    csv("a field of 200,000 letters", HEADER + ROW.replace("dog", "d" * 200_000), BAD, "after line 1: no CSV: field larger"),
    csv("a picture", png(0), BAD, r"train\.csv.*: no CSV"),
    row("a row cut short", "a.png,dog,1,2", RECORD, r"train\.csv, line 2: 4 columns, where at least 6 belong"),
    row("a name alone", "a.png", RECORD, "line 2: 1 columns, where at least 6 belong"),
    row("a word for a corner", "a.png,dog,left,2,11,14", RECORD, "line 2: .*'left'"),
    row("a corner left out", "a.png,dog,,2,11,14", RECORD, "line 2: .*''"),
    row("a box without class", "a.png,,1,2,11,14", RECORD, "line 2: a box without a class"),
    row("a class without box", "a.png,dog,,,,", RECORD, "line 2: .*''"),
    row("two numbers in a field", "a.png,dog,1 2,2,11,14", RECORD, "line 2: .*'1 2'"),
    row("thousands with a comma and a point", 'a.png,dog,"1,000.5",2,11,14', RECORD, "line 2: .*'1,000.5'"),
    row("a hexadecimal number", "a.png,dog,0x1,2,11,14", RECORD, "line 2: .*'0x1'"),
    row("a decimal comma in quotes", 'a.png,dog,"1,5",2,11,14', "decimal_comma", "line 2: .*'1,5'", (2, 2)),
    row("an image that is not there", "c.png,dog,1,2,11,14", "missing_file", r"line 2: no file 'c\.png'"),
    row("no image", ",dog,1,2,11,14", "missing_file", "line 2: no file ''"),
    csv("an image by two names", HEADER + ROW + "A.PNG,dog,1,2,9,9\n", "duplicate_file case_mismatch", r"line 3: .*a\.png again"),
    csv("an area of 0", "filename,class,xmin,ymin,xmax,ymax,area\na.png,dog,1,2,3,4,0\n", "bad_area", "2: area 0", (1, 1)),
    csv("another size", "filename,class,x1,y1,x2,y2,width,height\na.png,dog,1,2,3,4,80,60\n", "size_mismatch", "80x60, the file"),
    also("a class that is not listed", {"classes.csv": "cat,0\n"}, "label_out_of_range*2 unused_class", "line 2: class 'dog'"),
    also("a class listed twice", {"classes.csv": "dog,0\ndog,1\n"}, "duplicate_class", "csv, class 1: name 'dog'", (2, 2)),
    also("classes that are no text", {"classes.csv": "dog\0,1\n"}, BAD, r"classes\.csv: no CSV: a NUL byte"),
    Entry("csv: no column of splits", {"annotations.csv": HEADER + ROW, "train.csv": ""}, "empty_split", "train: no image"),
]  # fmt: skip

IN_OPENIMAGES = [
    openimages("a header alone", OPEN_HEADER, "empty_split unlisted_image*2", "train: no image"),
    openimages("no column of images", OPEN_HEADER.replace("ImageID", "Image") + OPEN_ROW, BAD, "line 1: .* where ImageID"),
    openimages("no header", OPEN_ROW, BAD, "line 1: .* where ImageID, LabelName, XMin, YMin, XMax and YMax belong"),
    openimages("a row cut short", OPEN_HEADER + "a,/m/d,0.1\n" + OPEN_ROW, f"{RECORD} unlisted_image", "line 2: 3 columns: "),
    openimages("a word for a corner", OPEN_HEADER + "a,/m/d,left,0.4,0.2,0.6\n", f"{RECORD} unlisted_image", "line 2: .*'left'"),
    openimages("no label", OPEN_HEADER + "a,,0.1,0.4,0.2,0.6\n", f"{RECORD} unlisted_image", "line 2: no LabelName in"),
    openimages("an image that is not there", OPEN_HEADER + "c,/m/d,0,1,0,1\n", "missing_file unlisted_image*2", "no file 'c"),
    openimages("a decimal comma", OPEN_HEADER + 'a,/m/d,"0,1",0.4,0.2,0.6\n', "decimal_comma unlisted_image", "'0,1'", (1, 1)),
    Entry(
        "openimages: a list without its column",
        {PLACES["openimages"]: OPEN_HEADER + OPEN_ROW, "train-images.csv": "image\na\n"},
        BAD,
        r"train-images\.csv, line 1: no column ImageID",
    ),
]  # fmt: skip

IN_WIDERFACE = [
    widerface("an empty file", "", "empty_split unused_class", "train: no image"),
    widerface("no UTF-8", FACES.encode("utf-16"), f"{BAD} unused_class", "cannot be read as lines of UTF-8"),
    widerface("no name", "1\n1 2 10 12\n", f"{RECORD}*2 unused_class", "line 1: '1' where the name of an image belongs"),
    widerface("no count", "a.png\n1 2 10 12\n", f"{RECORD} unused_class", r"line 2: a\.png: the count is '1 2 10 12', 0"),
    widerface("a count that is too large", FACES.replace("\n1\n", "\n2\n"), RECORD, "line 2: .* count is '2', 1 faces follow"),
    widerface("a count that is too small", FACES + "5 5 6 6\n", RECORD, "line 2: .* the count is '1', 2 faces follow"),
    widerface("a count that is no number", FACES.replace("\n1\n", "\none\n"), RECORD, "line 2: .* the count is 'one'"),
    widerface("a face of three numbers", "a.png\n1\n1 2 10\n", f"{RECORD} unused_class", "line 3: left, top, width and height"),
    widerface("a word for a number", "a.png\n1\n1 2 x 12\n", f"{RECORD} unused_class", "line 3: .*'x'"),
    widerface("an image twice", FACES + FACES, "duplicate_file", r"line 4: .*a\.png again"),
    widerface("an image that is not there", "c.png\n0\n" + FACES, "missing_file", r"line 1: no file 'c\.png'"),
]  # fmt: skip

ENTRIES = [*IN_CSV, *IN_OPENIMAGES, *IN_WIDERFACE]


@pytest.mark.parametrize("entry", ENTRIES, ids=names(ENTRIES))
def test_malformed_rows_have_the_outcome_of_their_entry(entry: Entry, tmp_path: Path) -> None:
    format_name = entry.name.partition(":")[0]
    write_files(tmp_path, IMAGES, entry.files)
    assert_outcome(entry, tmp_path, boxes_of(SetSpec("set", format_name, str(tmp_path))))
