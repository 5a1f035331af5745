"""Malformed XML of VOC, CVAT and ImageNet DET."""

from pathlib import Path

import pytest
from entries import Entry, Left, assert_outcome, boxes_of, names
from small_sets import png, write_files

from accel_det.data.sources import SetSpec

OBJECT = "<object><name>dog</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>14</ymax></bndbox></object>"
SIZE = "<size><width>40</width><height>30</height></size>"


def annotation(inside: str, *, name: str = "a") -> str:
    return f"<annotation><filename>{name}.png</filename>{inside}</annotation>"


TEXT = annotation(SIZE + OBJECT)
IMAGE = '<image id="0" name="a.png" width="40" height="30">{}</image>'
CVAT_BOX = '<box label="dog" xtl="1" ytl="2" xbr="11" ybr="14"/>'
CVAT_TEXT = f"<annotations>{IMAGE.format(CVAT_BOX)}</annotations>"

VALID = {
    "voc": {
        "JPEGImages/a.png": png(0),
        "JPEGImages/b.png": png(1),
        "Annotations/a.xml": TEXT,
        "Annotations/b.xml": annotation(SIZE + OBJECT, name="b"),
    },
    "cvat": {"images/a.png": png(0)},
    "imagenet_det": {"Data/DET/train/n0/a.png": png(0), "Annotations/DET/train/n0/a.xml": TEXT},
}
PLACES = {"voc": "Annotations/a.xml", "cvat": "annotations.xml", "imagenet_det": "Annotations/DET/train/n0/a.xml"}

BOMB = '<!DOCTYPE a [<!ENTITY b "x">{}]>'.format(
    "".join(f'<!ENTITY b{level} "{f"&b{level - 1};" if level else "&b;"}{"&b;" * 9}">' for level in range(9))
)
OUTER = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
PARAMETER = '<!DOCTYPE a [<!ENTITY % b SYSTEM "http://127.0.0.1:9/b.dtd"> %b;]>'
QUADRATIC = f'<!DOCTYPE a [<!ENTITY b "{"x" * 50_000}">]>'

BAD, RECORD = "malformed_file", "malformed_record"


def voc(name: str, content: str | bytes, found: str, line: str, left: Left | None = None) -> Entry:
    return Entry(f"voc: {name}", {PLACES["voc"]: content}, found, line, left)


def one(name: str, old: str, new: str, found: str, line: str, left: Left | None = None) -> Entry:
    """A valid file with one piece replaced."""
    assert old in TEXT
    return voc(name, TEXT.replace(old, new), found, line, left)


def cvat(name: str, content: str | bytes, found: str, line: str, left: Left | None = None) -> Entry:
    return Entry(f"cvat: {name}", {PLACES["cvat"]: content}, found, line, left)


def shape(name: str, content: str, found: str, line: str, left: Left | None = None) -> Entry:
    """A valid file with another shape in its image."""
    return cvat(name, f"<annotations>{IMAGE.format(content)}</annotations>", found, line, left)


NO_XML = r"a\.xml, line \d+: no XML: .*; the image is left out"
# Left out, its image is one that nobody described.
LEFT_OUT = RECORD
FORBIDDEN = r"a\.xml: DTDForbidden: .*; the image is left out"

IN_VOC = [
    voc("an empty file", "", RECORD, NO_XML),
    voc("cut in the middle", TEXT[:60], RECORD, NO_XML),
    voc("without the last tag", TEXT.removesuffix("</annotation>"), RECORD, NO_XML),
    voc("tags crossed", TEXT.replace("</xmin><ymin>", "<ymin></xmin>"), RECORD, NO_XML),
    voc("an ampersand in a name", TEXT.replace("dog", "cat & dog"), RECORD, NO_XML),
    voc("a NUL byte", TEXT.replace("dog", "d\0g"), RECORD, NO_XML),
    voc("JSON", "{}", RECORD, NO_XML),
    voc("two roots", TEXT + TEXT, RECORD, NO_XML),
    voc("bytes that are no UTF-8", TEXT.replace("dog", "d\xf6g").encode("latin-1"), RECORD, NO_XML),
    voc("an unknown encoding", '<?xml version="1.0" encoding="klingon"?>' + TEXT, RECORD, r"a\.xml.*left out"),
    voc("an encoding that it is not in", '<?xml version="1.0" encoding="utf-16"?>' + TEXT, RECORD, r"a\.xml.*left out"),
    voc("entities that multiply", BOMB + TEXT.replace("dog", "&b8;"), RECORD, FORBIDDEN),
    voc("a long entity many times", QUADRATIC + TEXT.replace("dog", "&b;" * 5000), RECORD, FORBIDDEN),
    voc("an entity that is a file", OUTER + TEXT.replace("dog", "&b;"), RECORD, FORBIDDEN),
    voc("a parameter entity from a server", PARAMETER + TEXT, RECORD, FORBIDDEN),
    voc("an outer document type", '<!DOCTYPE a SYSTEM "file:///etc/passwd">' + TEXT, RECORD, FORBIDDEN),
    voc("100,000 elements in each other", "<annotation>" + "<a>" * 100_000, RECORD, r"a\.xml.*left out"),
    voc("another root", f"<annotations>{SIZE}{OBJECT}</annotations>", RECORD, "root element 'annotations' where 'annotation'"),
    voc("the root in capitals", f"<Annotation>{SIZE}{OBJECT}</Annotation>", RECORD, "'Annotation' where 'annotation' belongs"),
    voc("a namespace", TEXT.replace("<annotation>", '<annotation xmlns="urn:x">'), RECORD, "root element '{urn:x}annotation'"),
    one("no name", "<name>dog</name>", "", RECORD, r"a\.xml, object 1: name ''"),
    one("an empty name", "dog", " ", RECORD, r"a\.xml, object 1: name ''"),
    one("no bndbox", "bndbox", "polygon", RECORD, r"a\.xml, object 1: name 'dog', bndbox {'xmin': None"),
    one("no ymax", "<ymax>14</ymax>", "", RECORD, r"object 1: .*'ymax': None"),
    one("corners in capitals", "ymax", "YMAX", RECORD, r"object 1: .*'ymax': None"),
    one("an empty corner", "14", "", RECORD, "object 1: bndbox: .*''"),
    one("a word for a corner", "14", "bottom", RECORD, "object 1: bndbox: .*'bottom'"),
    one("two numbers for a corner", "14", "14 15", RECORD, "object 1: bndbox: .*'14 15'"),
    one("elements in a corner", "14", "<b>14</b>", RECORD, "object 1: bndbox: .*''"),
    one("a decimal comma", "14", "13,5", "decimal_comma", r"a\.xml, object 1: bndbox \['1', '2', '11', '13,5'\]", (2, 2)),
    one("width and height swapped", SIZE, "<size><width>30</width><height>40</height></size>", "size_mismatch", "swapped"),
    one("another size", "<width>40<", "<width>41<", "size_mismatch", r"a\.png: annotated 41x30, the file is 40x30"),
    Entry("voc: no image", {"Annotations/c.xml": annotation(OBJECT, name="c")}, "missing_file", r"c\.xml, filename: no file 'c"),
    Entry("voc: no XML", {"JPEGImages/c.png": png(2)}, "unlisted_image", r"c\.png: no XML file of this name", (2, 2)),
    Entry(
        "voc: two files of one image",
        {"Annotations/a.png.xml": annotation(OBJECT), "Annotations/z.xml": annotation(OBJECT)},
        "duplicate_file*2",
        r"\.xml, filename: .*a\.png again",
    ),
    Entry("voc: a list of what is not there", {"ImageSets/Main/train.txt": "a\nc\n"}, RECORD, r"c\.xml: 'c' is listed, its ann"),
    Entry("voc: a list that is no UTF-8", {"ImageSets/Main/train.txt": b"\xff\xfe\0"}, BAD, "txt: .*cannot be read as lines"),
    Entry("voc: a list that leads out", {"ImageSets/Main/train.txt": "a\n../../z\n"}, RECORD, r"train\.txt, line 2: .*leads out"),
    Entry("voc: no list of the split", {"ImageSets/Main/val.txt": "a\n"}, "", "no split 'train' in .*; there are val"),
]  # fmt: skip

HERE = r"image 0 \(a\.png\), object 1"

IN_CVAT = [
    cvat("an empty file", "", BAD, r"annotations\.xml, line 1: no XML"),
    cvat("cut in the middle", CVAT_TEXT[:60], BAD, r"annotations\.xml, line 1: no XML"),
    cvat("another root", TEXT, BAD, "root element 'annotation' where 'annotations' belongs"),
    cvat("entities that multiply", BOMB + CVAT_TEXT.replace("dog", "&b8;"), BAD, "xml: DTDForbidden"),
    cvat("an entity that is a file", OUTER + CVAT_TEXT, BAD, "xml: DTDForbidden"),
    cvat("an unknown encoding", '<?xml version="1.0" encoding="klingon"?>' + CVAT_TEXT, BAD, r"annotations\.xml"),
    cvat("a video's tracks", '<annotations><track id="4"/></annotations>', BAD, "track 4: tracks of a video; export the task"),
    cvat("an image without name", CVAT_TEXT.replace('name="a.png"', ""), "missing_file", r"image 0 \(\): no file ''"),
    cvat("an image twice", f"<annotations>{IMAGE.format(CVAT_BOX) * 2}</annotations>", "duplicate_file", r"\(a\.png\): .* again"),
    cvat("another size", CVAT_TEXT.replace('"40"', '"80"'), "size_mismatch", r"a\.png: annotated 80x30, the file is 40x30"),
    shape("no label", CVAT_BOX.replace('label="dog"', ""), RECORD, f"{HERE}: no label; box with"),
    shape("a box without a corner", CVAT_BOX.replace('xbr="11"', ""), RECORD, f"{HERE}: None is not a number; box with"),
    shape("a word for a corner", CVAT_BOX.replace("11", "far"), RECORD, f"{HERE}: .*'far'.*; box with"),
    shape("a word for the rotation", CVAT_BOX.replace("<box", '<box rotation="up"'), RECORD, f"{HERE}: .*'up'"),
    shape("a polygon of two points", '<polygon label="dog" points="1,2;3,4"/>', RECORD, f"{HERE}: points x,y;.* belong"),
    shape("a polygon without points", '<polygon label="dog"/>', RECORD, f"{HERE}: points x,y;.* belong"),
    shape("points of three numbers", '<polygon label="dog" points="1,2,3;3,4;5,6"/>', RECORD, f"{HERE}: points x,y"),
    shape("an unknown shape", '<star label="dog"/>', RECORD, f"{HERE}: an unknown shape; star with"),
    shape("an ellipse", '<ellipse label="dog" cx="5" cy="5" rx="2" ry="2"/>', "other_shape", f"{HERE}: ellipse of class 'dog'"),
    shape("a line", '<polyline label="dog" points="1,2;3,4"/>', "other_shape", f"{HERE}: polyline of class 'dog'"),
    shape("a decimal comma", CVAT_BOX.replace('"11"', '"10,5"'), "decimal_comma", f"{HERE}: .*'10,5'", (1, 1)),
]  # fmt: skip

LISTING = "ImageSets/DET/train.txt"

IN_IMAGENET = [
    Entry("imagenet_det: cut in the middle", {PLACES["imagenet_det"]: TEXT[:60]}, f"{RECORD}", NO_XML),
    Entry("imagenet_det: a listed file is not there", {LISTING: "n0/a 1\nn0/z 2\n"}, RECORD, r"z\.xml: 'z' is listed"),
    Entry("imagenet_det: a list that leads out", {LISTING: "n0/a 1\n../../z 2\n"}, RECORD, r"train\.txt, line 2: .*leads out"),
    Entry("imagenet_det: an absolute path", {LISTING: "n0/a 1\n/etc/z 2\n"}, RECORD, r"train\.txt, line 2: /etc/z leads out"),
    Entry("imagenet_det: a list of bytes", {LISTING: b"\xff\xfea"}, BAD, r"train\.txt: .*cannot be read as lines of UTF-8"),
]  # fmt: skip

ENTRIES = [*IN_VOC, *IN_CVAT, *IN_IMAGENET]


@pytest.mark.parametrize("entry", ENTRIES, ids=names(ENTRIES))
def test_malformed_xml_has_the_outcome_of_its_entry(entry: Entry, tmp_path: Path) -> None:
    format_name = entry.name.partition(":")[0]
    write_files(tmp_path, VALID[format_name], entry.files)
    assert_outcome(entry, tmp_path, boxes_of(SetSpec("set", format_name, str(tmp_path))))
