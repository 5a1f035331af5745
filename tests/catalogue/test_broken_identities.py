"""Malformed sets of pictures of identities: file names, lists, tables, sequences."""

import json
from pathlib import Path

import pytest
from entries import Entry, Left, assert_outcome, identities_of, names
from small_sets import png, write_files

from accel_det.data.sources import SetSpec

MARKET, VERI, MARS, CUHK, MSMT = "bounding_box_train", "image_train", "bbox_train/0001", "images_labeled", "train/0000"


def pictures(*places: str) -> dict[str, bytes]:
    """A picture of its own at every place."""
    return {place: png(seed, width=12, height=24) for seed, place in enumerate(places, start=1)}


CSV_HEADER = "image,identity,camera\n"
CSV_ROWS = "a.png,0001,1\nb.png,0001,2\n"
TRUTH = "1,1,0,0,10,20,1,1,1\n1,2,20,0,10,20,1,1,1\n2,1,0,0,10,20,1,1,1\n"
NAMED = "0000/0000_000_01_0303morning_0008_0.jpg"
SPLITS = "splits_new_labeled.json"

VALID = {
    "market1501": pictures(f"{MARKET}/0002_c1s1_000451_03.jpg", f"{MARKET}/0002_c2s1_000451_03.jpg"),
    "veri": pictures(f"{VERI}/0001_c001_00016450_0.jpg", f"{VERI}/0001_c002_00016450_0.jpg"),
    "mars": pictures(f"{MARS}/0001C1T0001F001.jpg", f"{MARS}/0001C2T0001F001.jpg"),
    "cuhk03": pictures(f"{CUHK}/1_001_1_01.png", f"{CUHK}/1_001_2_06.png"),
    "msmt17": {
        **pictures(f"train/{NAMED}", f"train/{NAMED.replace('_01_', '_02_')}"),
        "list_train.txt": f"{NAMED} 0\n{NAMED.replace('_01_', '_02_')} 0\n",
    },
    "folders": pictures("train/ann/1.jpg", "train/ann/2.jpg"),
    "table": {**pictures("a.png", "b.png"), "train.csv": CSV_HEADER + CSV_ROWS},
    "hub": {
        **pictures("train/a.png", "train/b.png"),
        "train/metadata.jsonl": '{"file_name": "a.png", "identity": "x"}\n{"file_name": "b.png", "identity": "x"}\n',
    },
    "crops": {
        "train/S1/img1/000001.jpg": png(1),
        "train/S1/img1/000002.jpg": png(2),
        "train/S1/gt/gt.txt": TRUTH,
    },
}
WHOLE = (2, 1)
NAME, RECORD, COPY, LOST = "name_mismatch", "malformed_record", "duplicate_file", "missing_file"


def picture(format_name: str, name: str, place: str, found: str, line: str, left: Left | None = None) -> Entry:
    """A picture more, at a place."""
    return Entry(f"{format_name}: {name}", pictures(place), found, line, left)


def text(
    format_name: str, name: str, place: str, content: str | bytes, found: str, line: str, left: Left | None = None
) -> Entry:
    """Another file of text."""
    return Entry(f"{format_name}: {name}", {place: content}, found, line, left)


def listed(name: str, line: str, found: str, message: str) -> Entry:
    """A line behind a valid one in a list of MSMT17."""
    return text("msmt17", name, "list_train.txt", f"{NAMED} 0\n{line}\n", found, f"list_train.txt, line 2: {message}")


def splits(name: str, content: str, message: str) -> Entry:
    return text("cuhk03", name, SPLITS, content, "", message)


def table(name: str, content: str | bytes, message: str) -> Entry:
    return text("table", name, "train.csv", content, "", rf"train\.csv{message}")


def metadata(name: str, line: str, found: str, message: str) -> Entry:
    """A line behind a valid one of metadata.jsonl."""
    content = f'{{"file_name": "a.png", "identity": 1}}\n{line}\n'
    return text("hub", name, "train/metadata.jsonl", content, found, rf"metadata\.jsonl, line 2: {message}")


def row(name: str, line: str, found: str, message: str, left: Left | None = None) -> Entry:
    """A line behind the valid ones of a table."""
    return text("table", name, "train.csv", f"{CSV_HEADER}{CSV_ROWS}{line}\n", found, message, left)


def box(name: str, line: str, found: str, message: str, left: Left | None = None) -> Entry:
    """A line behind the valid ones of a sequence."""
    return text("crops", name, "train/S1/gt/gt.txt", f"{TRUTH}{line}\n", found, message, left)


BELONGS = r"where identity_c<camera>s<sequence>_<frame>_<box>"

IN_NAMES = [
    picture("market1501", "no camera", f"{MARKET}/0002_s1_000451_03.jpg", NAME, f"'0002_s1_000451_03.jpg' {BELONGS}"),
    picture("market1501", "no identity", f"{MARKET}/_c1s1_000451_03.jpg", NAME, f"'_c1s1_000451_03.jpg' {BELONGS}"),
    picture("market1501", "a word for the identity", f"{MARKET}/ann_c1s1_000451_03.jpg", NAME, BELONGS),
    picture("market1501", "the camera in capitals", f"{MARKET}/0002_C1S1_000451_03.jpg", NAME, BELONGS),
    picture("market1501", "space in front", f"{MARKET}/ 0002_c1s1_000451_03.jpg", NAME, BELONGS),
    picture("market1501", "a copy's number", f"{MARKET}/0002_c1s1_000451_03 (1).jpg", NAME, BELONGS),
    picture("market1501", "Arabic digits", f"{MARKET}/\u0660\u0660_c1s1_000451_03.jpg", NAME, BELONGS),
    picture("market1501", "a line break in a name", f"{MARKET}/0002\n_c1s1.jpg", NAME, rf"0002\\n_c1s1\.jpg.*{BELONGS}"),
    picture("market1501", "MARS's names", f"{MARKET}/0001C1T0001F001.jpg", NAME, BELONGS),
    picture("market1501", "a suffix twice", f"{MARKET}/0002_c1s1_000451_03.jpg.jpg", NAME, BELONGS),
    picture("market1501", "identity -1", f"{MARKET}/-1_c1s1_000451_03.jpg", "junk_picture", "1 pictures of nobody", WHOLE),
    picture("market1501", "identity 0", f"{MARKET}/0000_c1s1_0_0.jpg", "distractor_in_training", "1 pictures of distr", WHOLE),
    picture("veri", "a camera without number", f"{VERI}/0001_cam_00016450_0.jpg", NAME, r"'0001_cam.* where identity_c<camera>"),
    picture("veri", "three parts", f"{VERI}/0001_c001_00016450.jpg", NAME, "where identity_c<camera>_<frame>_<box>"),
    picture("mars", "another folder", f"{MARS}/0002C1T0001F001.jpg", NAME, "where 0002/0002C.* belongs: the folder is the id"),
    picture("mars", "a camera of two digits", f"{MARS}/0001C12T0001F001.jpg", NAME, "where <identity>C<camera>T<tracklet>F"),
    picture("mars", "small letters", f"{MARS}/0001c1t0001f001.jpg", NAME, "where <identity>C<camera>T<tracklet>F"),
    picture("mars", "junk", "bbox_train/00-1/00-1C1T0001F001.jpg", "junk_picture", "1 pictures of nobody", WHOLE),
    picture("cuhk03", "three parts", f"{CUHK}/1_001_1.png", NAME, "'1_001_1.png' where <pair>_<person>_<view>_<shot>"),
    picture("cuhk03", "a word", f"{CUHK}/labeled.png", NAME, "'labeled.png' where <pair>_<person>_<view>_<shot>"),
    picture("folders", "a picture of no folder", "train/3.jpg", NAME, "'3.jpg' beside the folders .* where <identity>/3.jpg"),
]  # fmt: skip

NO_SPLITS = rf"{SPLITS} is no file of splits: .* the lists train, query, gallery"
OTHER_FILES = json.dumps([{"train": [["9_009_1_01.png", 9, 1]], "query": [], "gallery": []}])

IN_LISTS = [
    listed("no number", f"1{NAMED}", RECORD, ".* where 'path number' belongs"),
    listed("a number alone", "7", RECORD, "'7' where 'path number' belongs"),
    listed("a negative number", f"{NAMED} -1", RECORD, ".* -1' where 'path number' belongs"),
    listed("a fraction", f"{NAMED} 0.5", RECORD, ".* where 'path number' belongs"),
    listed("a digit that is none", f"{NAMED} \u00b2", RECORD, ".* where 'path number' belongs"),
    listed("a name of another form", "0000/a.jpg 0", NAME, "'0000/a.jpg' where <identity>"),
    listed("a picture that is not there", f"1{NAMED} 1", LOST, "no file '10000/0000_"),
    listed("a picture twice", f"{NAMED} 0", COPY, f"{NAMED} again"),
    text("msmt17", "no UTF-8", "list_train.txt", NAMED.encode("utf-16"), "", "train.txt: cannot be read as lines of UTF-8"),
    text("msmt17", "an empty list", "list_train.txt", "", "", "has no identity among its 0 pictures"),
    splits("splits cut in the middle", '[{"train": ["a', NO_SPLITS),
    splits("splits without query", '[{"train": [], "gallery": []}]', NO_SPLITS),
    splits("an empty list of splits", "[]", NO_SPLITS),
    splits("a number for a name", '[{"train": [5], "query": [], "gallery": []}]', NO_SPLITS),
    splits("splits of other files", OTHER_FILES, "no identity among its 0 .* train 0: no file '9_009_1_01.png'"),
]  # fmt: skip

IN_TABLES = [
    table("an empty file", "", ": a table without rows; expected a line with names"),
    table("a header alone", CSV_HEADER, ": a table without rows"),
    table("a NUL byte", CSV_HEADER + "a\0.png,1,1\n", ": cannot be read .* a text with NUL bytes"),
    table("no UTF-8", (CSV_HEADER + CSV_ROWS).encode("utf-16"), ": cannot be read as a table"),
    table("a column twice", "image,identity,image\na.png,1,b.png\n", ": cannot be read .* a column is there twice"),
    table("no identity", "image,who\na.png,1\n", r" has the columns \['image', 'who'\], none of identity"),
    table("semicolons", (CSV_HEADER + CSV_ROWS).replace(",", ";"), " has the columns .*, none of image"),
    table("a field of 200,000 letters", f"{CSV_HEADER}{'a' * 200_000},1,1\n", ": cannot be read .* field larger"),
    row("an empty identity", "c.png,,1", RECORD, "train.csv, line 4: c.png: no identity"),
    row("a row cut short", "c.png", RECORD, "train.csv, line 4: c.png: no identity"),
    row("a picture that is not there", "c.png,0002,1", LOST, "train.csv, line 4: no file 'c.png'"),
    row("no picture", ",0002,1", LOST, "train.csv, line 4: no file ''"),
    row("a picture twice", "a.png,0002,1", COPY, "train.csv, line 4: a.png again, after line 2"),
    metadata("a line cut", '{"file', RECORD, "Unterminated"),
    metadata("a list for a line", "[]", RECORD, "an object belongs on every line"),
    metadata("null for an identity", '{"file_name": "b.png", "identity": null}', RECORD, "b.png: no identity"),
    metadata("a list for an identity", '{"file_name": "b.png", "identity": [1]}', RECORD, "b.png: no identity"),
    text("hub", "no identity", "train/metadata.jsonl", '{"file_name": "a.png"}', "", r"the columns \['file_name'\], none of"),
]  # fmt: skip

SEQINFO, INFO = "train/S1/seqinfo.ini", r"seqinfo\.ini: cannot be read"
TWICE = {place.replace("S1", "S2"): content for place, content in VALID["crops"].items()}
FRAME = "train/S1/img1/000002.jpg"

IN_SEQUENCES = [
    box("a line cut short", "2,2,20", RECORD, r"gt\.txt, line 4: '2,2,20': 3 numbers, expected frame, track"),
    box("a word for a frame", "x,2,0,0,10,20,1,1,1", RECORD, "line 4: .*'x'"),
    box("a fraction for a track", "2,2.5,0,0,10,20,1,1,1", RECORD, "line 4: .*'2.5' is not a whole number"),
    box("infinity for a frame", "inf,2,0,0,10,20,1,1,1", RECORD, "line 4: .*infinity|line 4: .*'inf'"),
    box("nan for a track", "2,nan,0,0,10,20,1,1,1", RECORD, "line 4: .*NaN|line 4: .*'nan'"),
    box("frame 0", "0,2,0,0,10,20,1,1,1", RECORD, "line 4: .*frame 0, expected at least 1"),
    box("a frame that is not there", "9,2,0,0,10,20,1,1,1", LOST, "line 4: no file 'img1/000009.jpg'"),
    box("a frame of 300 digits", f"{'9' * 300},2,0,0,10,20,1,1,1", LOST, "line 4: no file"),
    box("a track twice in a frame", "2,1,5,5,10,20,1,1,1", "duplicate_box", "line 4: track 1 is in frame 2 twice", (3, 2)),
    box("nan in a box", "2,2,nan,0,10,20,1,1,1", "nan_box", "line 4: .*left, top, width, height nan"),
    box("no height", "2,2,0,0,10,0,1,1,1", "zero_side", "line 4: .* 0, 0, 10, 0", (3, 2)),
    box("a box outside of its frame", "2,2,90,0,10,20,1,1,1", "outside_image", "line 4: .* 90, 0, 10, 20"),
    box("a box of two pixels", "2,2,0,0,2,2,1,1,1", "unclear_box", r"gt\.txt: 1 boxes have a side below 8 px", (3, 2)),
    text("crops", "no UTF-8", "train/S1/gt/gt.txt", TRUTH.encode("utf-16"), "", r"gt\.txt: cannot be read as lines of UTF-8"),
    text("crops", "seqinfo without section", SEQINFO, "imDir=img1\n", "", f"{INFO}: Missing"),
    text("crops", "a key twice in seqinfo", SEQINFO, "[Sequence]\na=1\na=2\n", "", f"{INFO}: Duplicate"),
    text("crops", "a frame that is no image", FRAME, "text", "unreadable_file", r"line 3: .*2\.jpg: not an image"),
    Entry("crops: a sequence twice", TWICE, "duplicate_sequence", r"S2/gt/gt\.txt: the same truth .*S1", (3, 2)),
]  # fmt: skip

ENTRIES = [*IN_NAMES, *IN_LISTS, *IN_TABLES, *IN_SEQUENCES]


@pytest.mark.parametrize("entry", ENTRIES, ids=names(ENTRIES))
def test_malformed_identities_have_the_outcome_of_their_entry(
    entry: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    format_name = entry.name.partition(":")[0]
    write_files(tmp_path / "set", VALID[format_name], entry.files)
    assert_outcome(entry, tmp_path, identities_of(SetSpec("set", format_name, str(tmp_path / "set"))))
