"""Tables of pictures: CSV, parquet, metadata.jsonl and data sets of the Hub."""

import json
import pickle
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from identity_trees import kinds, opened, picture_bytes, rows, write_pictures
from pyarrow import parquet

from accel_det.data.identity_sources import open_identities
from accel_det.data.sources import SetSpec
from accel_det.types import Role

QUERY, GALLERY, BOTH = int(Role.QUERY), int(Role.GALLERY), int(Role.BOTH)


def write_table(root: Path, text: str, *, name: str = "all.csv") -> SetSpec:
    """A table, and every picture that its first column names."""
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, "utf-8")
    delimiter = "\t" if name.endswith(".tsv") else ","
    write_pictures(root, [line.split(delimiter)[0] for line in text.splitlines()[1:] if line])
    return SetSpec("t", "table", str(root))


def test_a_table_says_identity_camera_and_split_and_identities_stay_texts(tmp_path: Path) -> None:
    spec = write_table(
        tmp_path,
        "path,identity,camera,split\n"
        "x/1.png,0002,1,train\nx/2.png, 02 ,front,train\nx/3.png,7,,train\n"
        "x/4.png,7,2,query\nx/5.png,7,-1,gallery\nx/6.png,-1,3,gallery\n",
    )
    table, defects = opened(spec)
    assert defects == []
    assert rows(table) == [
        ("t/x/1.png", "t/0002", "t/c1", BOTH),
        ("t/x/2.png", "t/02", "t/front", BOTH),
        ("t/x/3.png", "t/7", None, BOTH),
    ]
    assert table.image_bytes(1) == (tmp_path / "x/2.png").read_bytes()
    assert rows(opened(spec, "test")[0]) == [
        ("t/x/4.png", "t/7", "t/c2", QUERY),
        ("t/x/5.png", "t/7", None, GALLERY),
        ("t/x/6.png", None, "t/c3", GALLERY),
    ]


def test_a_table_without_splits_is_train_and_a_file_may_be_named_after_its_split(tmp_path: Path) -> None:
    spec = write_table(tmp_path / "one", "img\tpid\na.png\t1\nb.png\t2\n", name="people.tsv")
    assert opened(spec)[0].identities == ("t/1", "t/2")
    assert opened(spec._replace(holdout=0.5), "val")[0].roles().tolist() == [BOTH]
    with pytest.raises(ValueError, match=r"no split 'val' in .*read: .*people\.tsv.*needs a column of splits"):
        opened(spec, "val")
    write_table(tmp_path / "two", "img,pid\na.png,1\n", name="train.csv")
    spec = write_table(tmp_path / "two", "img,pid\nb.png,2\n", name="valid.csv")
    assert [opened(spec, split)[0].identities for split in ("train", "val")] == [("t/1",), ("t/2",)]
    spec = spec._replace(annotations="{split}.csv")
    assert [opened(spec, split)[0].identities for split in ("train", "val")] == [("t/1",), ("t/2",)]
    with pytest.raises(ValueError, match="no split 'test'"):
        opened(spec, "test")
    alone = write_table(tmp_path / "three", "img,pid\na.png,1\n", name="test.csv")
    assert opened(alone, "test")[0].roles().tolist() == [BOTH]
    with pytest.raises(ValueError, match="no split 'train'"):
        opened(alone)


def test_columns_may_be_called_otherwise(tmp_path: Path) -> None:
    spec = write_table(tmp_path, "shot,who,where,part,identity\na.png,me,hall,train,x\nb.png,you,door,val,y\n")
    names: dict[str, int | float | str] = {"image": "shot", "identity": "who", "camera": "where", "split": "part"}
    table, _ = opened(spec._replace(parameters=names))
    assert rows(table) == [("t/a.png", "t/me", "t/hall", BOTH)]
    for wrong, message in (
        ({"image": "shots"}, "parameters.image: no column 'shots' in .*all.csv, which has"),
        ({"picture": "shot"}, "'picture' is no meaning of a column; known are image, identity, camera, split"),
        ({}, "none of image, img, path.*name that of the image in parameters.image"),
    ):
        with pytest.raises(ValueError, match=message):
            opened(spec._replace(parameters=wrong))


def test_rows_that_are_wrong_are_noted_with_their_line(tmp_path: Path) -> None:
    spec = write_table(tmp_path, "path,identity\na.png,1\nb.png,2\n")
    outside = write_pictures(tmp_path.parent / f"{tmp_path.name}-outside", ["c.png"]) / "c.png"
    with (tmp_path / "all.csv").open("a") as file:
        (tmp_path / "x").mkdir()
        file.write(f"gone.png,1\n../{outside.parent.name}/c.png,1\n{outside},1\n./x/../a.png,2\nb.png,\n,1\nB.PNG,3\n")
    table, defects = opened(spec)
    assert len(table) == 2
    assert sorted((defect.record, defect.kind, defect.repair) for defect in defects) == [
        ("line 10", "case_mismatch", "match"),
        ("line 10", "duplicate_file", None),
        ("line 4", "missing_file", None),
        ("line 5", "outside_root", None),
        ("line 6", "outside_root", None),
        ("line 7", "duplicate_file", None),
        ("line 8", "malformed_record", None),
        ("line 9", "missing_file", None),
    ]
    followed, _ = opened(spec._replace(accept=("outside_root",)))
    assert len(followed) == 3  # the second way to the same file is a duplicate


@pytest.mark.parametrize("text", ["", "path,identity\n", "\xff\xfe"])
def test_a_file_that_is_no_table_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "all.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"all\.csv: (a table without rows|cannot be read as a table)") as caught:
        opened(SetSpec("t", "table", str(tmp_path)))
    assert "\n" not in str(caught.value)
    (tmp_path / "all.csv").rename(tmp_path / "all.parquet")
    with pytest.raises(ValueError, match=r"all\.parquet: cannot be read as parquet"):
        opened(SetSpec("t", "table", str(tmp_path)))
    with pytest.raises(ValueError, match="annotations: no file"):
        opened(SetSpec("t", "table", str(tmp_path), annotations="other.csv"))


def image_table(first: int = 0) -> pa.Table:
    pictures = [{"bytes": picture_bytes(first + index), "path": f"{first + index}.png"} for index in range(4)]
    return pa.table({"image": pictures, "pid": [1.0, 2.0, 2.0, None], "camid": [0, 1, -1, 2]})


def test_parquet_with_pictures_inside_and_numbers_that_became_floats(tmp_path: Path) -> None:
    parquet.write_table(image_table(), tmp_path / "train.parquet")
    table, defects = opened(SetSpec("t", "table", str(tmp_path)))
    assert [row[1:3] for row in rows(table)] == [("t/1", "t/c0"), ("t/2", "t/c1"), ("t/2", None)]
    assert [table.image_bytes(index) for index in range(3)] == [picture_bytes(index) for index in range(3)]
    assert table.path(0) is None and table.paths() == [None] * 3
    assert [(defect.kind, defect.record) for defect in defects] == [("malformed_record", "row 3")]


def test_shards_are_split_by_identity_and_joined_with_files(tmp_path: Path) -> None:
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for shard in range(2):
        parquet.write_table(
            image_table(10 * shard).slice(0, 3), tmp_path / "hub" / "data" / f"train-{shard:05d}-of-00002.parquet"
        )
    spec = SetSpec("h", "hub", str(tmp_path / "hub"), holdout=0.5)
    train, val = opened(spec)[0], opened(spec, "val")[0]
    assert {*train.identities, *val.identities} == {"h/1", "h/2"} and len(train.identities) == 1
    found = {table.name(i): table.image_bytes(i) for table in (train, val) for i in range(len(table))}
    assert found == {f"h/{10 * shard + i}.png": picture_bytes(10 * shard + i) for shard in range(2) for i in range(3)}
    write_pictures(tmp_path / "files", ["a/1.png", "b/2.png"])
    sets = {"h": spec, "f": SetSpec("f", "folders", str(tmp_path / "files"))}
    joined, _ = open_identities(sets, "f:train + h:val", training=True)
    assert joined.image_bytes(0) == (tmp_path / "files/a/1.png").read_bytes()
    assert [joined.image_bytes(2 + i) for i in range(len(val))] == [val.image_bytes(i) for i in range(len(val))]
    again = pickle.loads(pickle.dumps(joined))
    assert [again.image_bytes(i) for i in range(len(joined))] == [joined.image_bytes(i) for i in range(len(joined))]


def test_a_folder_with_metadata(tmp_path: Path) -> None:
    lines = [
        {"file_name": "1.png", "person_id": 7, "cam": 1},
        {"file_name": "2.png", "person_id": 7},
        [1],
        {"file_name": "3.png", "person_id": "x", "cam": "c9", "more": {"a": 1}},
        {"file_name": "4.png"},
    ]
    write_pictures(tmp_path / "train", ["1.png", "2.png", "3.png", "4.png"])
    (tmp_path / "train" / "metadata.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + "\n{\n")
    table, defects = opened(SetSpec("t", "hub", str(tmp_path)))
    assert rows(table) == [
        ("t/train/1.png", "t/7", "t/c1", BOTH),
        ("t/train/2.png", "t/7", None, BOTH),
        ("t/train/3.png", "t/x", "t/c9", BOTH),
    ]
    assert kinds(defects) == {"malformed_record": 3}
    assert [defect.record for defect in defects] == ["line 3", "line 6", "line 5"]
    with pytest.raises(ValueError, match="no split 'test'"):
        opened(SetSpec("t", "hub", str(tmp_path)), "test")
    with pytest.raises(ValueError, match=r"parameters\.split: the format hub has splits of its own"):
        opened(SetSpec("t", "hub", str(tmp_path), parameters={"split": "cam"}))


def write_lines(path: Path, *rows: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_files_of_the_hubs_convention_are_found_as_for_detection(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["1.png", "pictures/train/1.png", "pictures/val/2.png"])
    spec = SetSpec("t", "hub", str(tmp_path))
    write_lines(tmp_path / "metadata.jsonl", {"file_name": "1.png", "identity": "a"})
    assert [row[:2] for row in rows(opened(spec)[0])] == [("t/1.png", "t/a")]
    with pytest.raises(
        ValueError, match=r"no split 'val'.*looked for .*/val/metadata\.jsonl.*name them in `annotations`"
    ):
        opened(spec, "val")
    for split, name in (("train", "1.png"), ("val", "2.png")):
        write_lines(tmp_path / "lists" / f"{split}.jsonl", {"file_name": name, "identity": split})
    named = spec._replace(annotations="lists/{split}.jsonl", images="pictures/{split}")
    assert [row[:2] for row in rows(opened(named)[0])] == [("t/pictures/train/1.png", "t/train")]
    assert [row[:2] for row in rows(opened(named, "val")[0])] == [("t/pictures/val/2.png", "t/val")]
    parquet.write_table(pa.table({"image": ["1.png"], "identity": ["b"]}), tmp_path / "lists" / "train-0.parquet")
    shards = spec._replace(annotations="lists/{split}-*.parquet", images="pictures/{split}")
    assert [row[:2] for row in rows(opened(shards)[0])] == [("t/pictures/train/1.png", "t/b")]


def test_a_record_after_blank_lines_and_lines_of_no_object_has_the_number_of_its_line(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    lines = ["", "[]", '{"file_name": "1.png", "identity": 1}', "", '{"file_name": "gone.png", "identity": 1}']
    write_pictures(tmp_path / "train", ["1.png"])
    (tmp_path / "train" / "metadata.jsonl").write_text("\n".join(lines))
    _, defects = opened(SetSpec("t", "hub", str(tmp_path)))
    assert [(defect.kind, defect.record) for defect in defects] == [
        ("malformed_record", "line 2"),
        ("missing_file", "line 5"),
    ]


def test_metadata_is_not_pickled_for_a_fingerprint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pictures(tmp_path / "train", ["1.png"])
    write_lines(tmp_path / "train" / "metadata.jsonl", {"file_name": "1.png", "identity": "a"})

    def refuse(table: object) -> str:
        raise AssertionError("the whole table was pickled")

    monkeypatch.setattr("datasets.arrow_dataset.generate_fingerprint", refuse)
    assert len(opened(SetSpec("t", "hub", str(tmp_path)))[0]) == 1


def test_metadata_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "metadata.jsonl").write_bytes(b'{"file_name": "\xff.png"}\n')
    with pytest.raises(ValueError, match=r"metadata\.jsonl: cannot be read as lines of UTF-8") as caught:
        opened(SetSpec("t", "hub", str(tmp_path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("held", ["query", "gallery"])
def test_queries_may_be_held_as_bytes_and_the_gallery_as_files_or_the_other_way_round(
    held: str, tmp_path: Path
) -> None:
    named = "gallery" if held == "query" else "query"
    parquet.write_table(image_table().slice(0, 3), tmp_path / f"{held}.parquet")
    write_pictures(tmp_path / named, ["x.png", "y.png"])
    write_lines(
        tmp_path / named / "metadata.jsonl",
        {"file_name": "x.png", "pid": 2, "camid": 5},
        {"file_name": "y.png", "pid": 1, "camid": 6},
    )
    table, defects = opened(SetSpec("h", "hub", str(tmp_path)), "test")
    assert defects == [] and len(table) == 5
    contents = {
        held: [(f"h/{index}.png", picture_bytes(index)) for index in range(3)],
        named: [(f"h/{named}/{name}.png", (tmp_path / named / f"{name}.png").read_bytes()) for name in "xy"],
    }
    assert [(table.name(i), table.image_bytes(i)) for i in range(5)] == [*contents["query"], *contents["gallery"]]
    assert table.roles().tolist() == [QUERY] * len(contents["query"]) + [GALLERY] * len(contents["gallery"])
    assert sorted(path for path in table.paths() if path) == [str(tmp_path / named / f"{name}.png") for name in "xy"]


def test_a_name_of_the_hub_with_class_labels_and_query_and_gallery(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(root: str, *, name: str | None, split: str) -> datasets.Dataset:
        assert root == "someone/people" and name is None
        if split not in ("train", "query", "gallery"):
            raise ValueError(f'Unknown split "{split}". Should be one of [...]')
        first = {"train": 0, "query": 4, "gallery": 8}[split]
        features = datasets.Features(
            {
                "image": datasets.Image(),
                "label": datasets.ClassLabel(names=["ann", "bob"]),
                "camid": datasets.Value("int8"),
            }
        )
        pictures = [{"bytes": picture_bytes(first + i), "path": None} for i in range(4)]
        return datasets.Dataset.from_dict(
            {"image": pictures, "label": [0, 1, 1, -1], "camid": [1, 2, 1, 2]}, features=features
        ).select([3, 1, 0])  # an indexed view

    monkeypatch.setattr(datasets, "load_dataset", load)
    spec = SetSpec("h", "hub", "someone/people")
    train, defects = opened(spec)
    assert train.identities == ("h/ann", "h/bob") and kinds(defects) == {"distractor_in_training": 1}
    assert [train.image_bytes(i) for i in range(2)] == [picture_bytes(1), picture_bytes(0)]
    test, _ = opened(spec, "test")
    assert [row[1:] for row in rows(test)] == [
        *(("h/bob", "h/c2", QUERY), ("h/ann", "h/c1", QUERY)),
        *((None, "h/c2", GALLERY), ("h/bob", "h/c2", GALLERY), ("h/ann", "h/c1", GALLERY)),
    ]
    assert [test.image_bytes(i) for i in range(5)] == [picture_bytes(i) for i in (5, 4, 11, 9, 8)]
    with pytest.raises(ValueError, match="no split 'val' in someone/people"):
        opened(spec, "val")


def test_a_name_that_the_hub_does_not_know_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(root: str, *, name: str | None, split: str) -> datasets.Dataset:
        raise ConnectionError("no network\nat all")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(
        ValueError, match=r"'someone/people' is no folder here.*ConnectionError: no network at all"
    ) as caught:
        opened(SetSpec("h", "hub", "someone/people"))
    assert "\n" not in str(caught.value)


def test_cells_that_hold_lists_are_refused(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"path": ["a.png"], "identity": [[1, 2]]}), tmp_path / "train.parquet")
    with pytest.raises(ValueError, match=r"column 'identity' holds list.*where texts or numbers belong"):
        opened(SetSpec("t", "table", str(tmp_path)))
