"""Damaged and odd shards: parquet, read at once or streamed, and tar files of WebDataset."""

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pytest
from entries import Entry, Left, assert_outcome, boxes_of, names
from pyarrow import parquet
from small_sets import png, write_files

from accel_det.data import shards
from accel_det.data.sources import SetSpec

IMAGES = [{"bytes": png(seed), "path": f"{seed}.png"} for seed in (1, 2)]
OBJECTS = [{"bbox": [[1.0, 2.0, 10.0, 12.0]], "category": [0]}] * 2
SIDES = {"height": [30, 30], "width": [40, 40]}
VALID = {"image": IMAGES, "objects": OBJECTS}
WHOLE = (2, 2)


def table(columns: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.table(columns), file)
    return file.getvalue()


def tar(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), kind
            member.linkname = "/etc/passwd" if kind != tarfile.REGTYPE else ""
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def sample(key: str, objects: object = OBJECTS[0], *, seed: int = 1) -> list[tuple[str, bytes]]:
    """The two files of an image in a tar file."""
    return [(f"{key}.png", png(seed)), (f"{key}.json", json.dumps({"objects": objects}).encode())]


PARQUET, TAR = "train-0.parquet", "train-0.tar"
WHOLE_TAR = tar(*sample("a"), *sample("b", seed=2))
WHOLE_TABLE = table(VALID)
LEFT_OUT = "malformed_record unused_class"
EMPTY = table({name: pa.array(column)[:0] for name, column in VALID.items()})
PATH = {"bytes": None, "path": "/etc/passwd"}
OUTSIDE = {"image": [PATH, {"bytes": None, "path": "../x"}]}
OTHERS = {PARQUET: WHOLE_TABLE, "train-1.parquet": table(VALID | {"objects": [{"bbox": ["x"], "category": [0]}] * 2})}


def rows(name: str, content: bytes, found: str, line: str, left: Left | None = None) -> list[Entry]:
    """A parquet file, as both readers of it take it."""
    return [Entry(f"{how}: {name}", {PARQUET: content}, found, line, left) for how in ("parquet", "streamed parquet")]


def changed(name: str, changes: dict[str, Any], found: str, line: str, left: Left | None = None) -> list[Entry]:
    return rows(name, table(VALID | changes), found, line, left)


def archive(name: str, content: bytes, found: str, line: str, left: Left | None = None) -> list[Entry]:
    return [Entry(f"streamed tar: {name}", {TAR: content}, found, line, left)]


def one(how: str, name: str, changes: dict[str, Any], found: str, line: str) -> list[Entry]:
    """What one of the two readers of a parquet file says of it."""
    return [Entry(f"{how}: {name}", {PARQUET: table(VALID | changes)}, found, line)]


def objects(**fields: Sequence[object]) -> dict[str, object]:
    """The first objects with other fields, the second as they are."""
    return {"objects": [OBJECTS[0] | fields, OBJECTS[1]]}


UNREAD = r"train-0\.parquet: cannot be read"
COLUMNS = r"train-0\.parquet has the columns .*, without"
KIND = "a column is of another kind than images and their objects have"
NO_TAR = r"train-0\.tar: cannot be read as shards: "

GROUPS = [
    rows("an empty file", b"", "", UNREAD),
    rows("a text", b"PAR1 this is none PAR1", "", UNREAD),
    rows("cut in the middle", WHOLE_TABLE[: len(WHOLE_TABLE) // 2], "", UNREAD),
    rows("without its last byte", WHOLE_TABLE[:-1], "", UNREAD),
    rows("its last half alone", WHOLE_TABLE[len(WHOLE_TABLE) // 2 :], "", UNREAD),
    rows("a footer of zeros", WHOLE_TABLE[:-200] + bytes(192) + WHOLE_TABLE[-8:], "", UNREAD),
    rows("no objects", table({"image": IMAGES}), "", rf"{COLUMNS} \['objects'\]"),
    rows("no image", table({"objects": OBJECTS}), "", rf"{COLUMNS} \['image'\]"),
    rows("no row", EMPTY, "empty_split", "train: no image"),
    changed("numbers for images", {"image": [1, 2]}, "", f"{KIND}|int64 in the column image"),
    changed("numbers for objects", {"objects": [1, 2]}, "", "none of bbox, bboxes, boxes"),
    changed("objects without box", {"objects": [{"category": [0]}] * 2}, "", "fields category, none of bbox, bboxes, boxes"),
    changed("objects without class", {"objects": [{"bbox": [[1.0] * 4]}] * 2}, "", "fields bbox, none of category"),
    changed("texts for boxes", {"objects": [{"bbox": ["1 2 3 4"], "category": [0]}] * 2}, "", KIND),
    changed("numbers for boxes", {"objects": [{"bbox": [1.0], "category": [0]}] * 2}, "", KIND),
    changed("a box of three numbers", objects(bbox=[[1.0, 2.0, 3.0]]), "malformed_record", "row 0: a bbox without 4 numbers"),
    changed("two boxes and a class", objects(bbox=[[1.0, 2.0, 3.0, 4.0]] * 2), "malformed_record", "2 boxes and 1 classes"),
    changed("nan in a box", objects(bbox=[[float("nan"), 2.0, 3.0, 4.0]]), "nan_box", "row 0: .*nan, 2, 3, 4"),
    changed("null in a box", objects(bbox=[[None, 2.0, 3.0, 4.0]]), "nan_box", "row 0: .*nan, 2, 3, 4"),
    changed("a negative width", objects(bbox=[[9.0, 2.0, -3.0, 4.0]]), "negative_side", "row 0: .*9, 2, -3, 4"),
    changed("a box outside", objects(bbox=[[90.0, 2.0, 3.0, 4.0]]), "outside_image", "row 0: .*90, 2, 3, 4"),
    changed("no width", objects(bbox=[[9.0, 2.0, 0.0, 4.0]]), "zero_side", "row 0: .*9, 2, 0, 4", (2, 1)),
    changed("null for a class", objects(category=[None]), "label_out_of_range", "row 0: .*class -1"),
    changed("a negative class", objects(category=[-1]), "label_out_of_range", "row 0: .*class -1"),
    changed("class 10,000,000,000", objects(category=[10**10]), "label_out_of_range", "row 0: .*class 10000000000"),
    changed("a text for an image", {"image": [{"bytes": b"text", "path": "a.png"}, IMAGES[1]]}, "unreadable_file", "not an im"),
    changed("an empty image", {"image": [{"bytes": b"", "path": "a.png"}, IMAGES[1]]}, "unreadable_file", "the file is empty"),
    one("parquet", "another size", SIDES | {"width": [41, 40]}, "size_mismatch", "41x30, the file is 40x30"),
    one("parquet", "texts for images", {"image": ["a.png", "b.png"]}, "missing_file*2 unused_class", r"row 0: no file 'a\.png'"),
    one("parquet", "paths that lead out", OUTSIDE, "outside_root missing_file unused_class", "row 0: '/etc/passwd' leads out of"),
    one("parquet", "a path among bytes", {"image": [IMAGES[0], PATH]}, f"{LEFT_OUT} outside_root", "row 0: bytes in"),
    one("streamed parquet", "a path for an image", {"image": [PATH, IMAGES[1]]}, "unreadable_file", "the file is empty"),
    one("streamed parquet", "texts for images", {"image": ["a.png", "b.png"]}, "", "string in the column image, where"),
    [Entry("parquet: two files of other columns", OTHERS, "", "expected parquet files of the same columns")],
    [Entry("streamed parquet: two files of other columns", OTHERS, "", "/set: a column is of another kind")],
    archive("an empty file", b"", "", f"{NO_TAR}ReadError: empty file"),
    archive("a text", b"this is no tar file" * 100, "", f"{NO_TAR}ReadError: invalid header"),
    archive("cut in the middle", WHOLE_TAR[:1000], "", f"{NO_TAR}ReadError: unexpected end of data"),
    archive("zeros alone", bytes(10_240), "", NO_TAR),
    archive("images without annotations", tar(("a.png", png(1)), ("b.png", png(2))), "", "expected one of images, and objects"),
    archive("annotations without images", tar(("a.json", b"{}")), "", "expected one of images; name other shards"),
    archive("JSON cut in the middle", tar(("a.png", png(1)), ("a.json", b'{"obj')), "", f"{NO_TAR}JSONDecodeError"),
    archive("links", tar(("a.png", b""), ("a.json", b""), kind=tarfile.SYMTYPE), "", NO_TAR),
    archive("a text for an image", tar(("a.png", b"text"), sample("a")[1], *sample("b")), "unreadable_file", "not an image"),
]  # fmt: skip

ENTRIES = [entry for group in GROUPS for entry in group]


def test_files_without_rows_are_passed_over(tmp_path: Path) -> None:
    write_files(tmp_path / "set", {"train-0.parquet": EMPTY, "train-1.parquet": WHOLE_TABLE, "train-2.parquet": EMPTY})
    for streaming in (False, True):
        left, defects = boxes_of(SetSpec("set", "hub", str(tmp_path / "set"), streaming=streaming))()
        assert (left, list(defects)) == (WHOLE, [])


@pytest.mark.parametrize("streaming", [False, True])
def test_a_shard_that_is_missing_is_named(streaming: bool, tmp_path: Path) -> None:
    write_files(tmp_path / "set", {PARQUET: WHOLE_TABLE})
    pattern = "{split}-{0..1}.parquet" if streaming else "{split}-1.parquet"
    spec = SetSpec("set", "hub", str(tmp_path / "set"), annotations=pattern, streaming=streaming)
    entry = Entry("a missing shard", {}, "", r"train-1\.parquet")
    assert_outcome(entry, tmp_path, boxes_of(spec))


def test_names_in_a_tar_file_that_lead_out_are_names_and_nothing_is_written(tmp_path: Path) -> None:
    write_files(tmp_path / "set", {TAR: tar(*sample("../../evil"), *sample("/etc/evil", seed=2))})
    left, _ = boxes_of(SetSpec("set", "hub", str(tmp_path / "set"), streaming=True))()
    assert left == WHOLE
    assert [str(file) for file in tmp_path.rglob("*evil*")] == [] and not Path("/etc/evil.png").exists()


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(shards, "_PAUSES_S", (0.0, 0.0, 0.0))
    monkeypatch.setattr(datasets.config, "STREAMING_READ_RETRY_INTERVAL", 0)
    monkeypatch.setattr(datasets.config, "STREAMING_OPEN_RETRY_INTERVAL", 0)


@pytest.mark.parametrize("entry", ENTRIES, ids=names(ENTRIES))
def test_a_broken_shard_has_the_outcome_of_its_entry(entry: Entry, tmp_path: Path) -> None:
    write_files(tmp_path / "set", entry.files)
    streaming = entry.name.startswith("streamed")
    assert_outcome(entry, tmp_path, boxes_of(SetSpec("set", "hub", str(tmp_path / "set"), streaming=streaming)))
