"""The Hub's convention: metadata.jsonl, parquet, tables in memory."""

import json
import socket
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_sets import HEIGHT, WIDTH, kinds, open_set, write_image

from accel_det.data.defects import Findings
from accel_det.data.formats.hub import from_dataset
from accel_det.data.sources import SetSpec

STRUCT_OF_LISTS = {"bbox": [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]], "category": [1, 0]}
LIST_OF_STRUCTS = [{"bbox": [1.0, 2.0, 3.0, 4.0], "category": 1}, {"bbox": [5.0, 6.0, 7.0, 8.0], "category": 0}]
EXPECTED = [[1, 2, 4, 6], [5, 6, 12, 14]]


def write_metadata(root: Path, *objects: object, split: str = "train") -> SetSpec:
    rows = []
    for number, content in enumerate(objects):
        write_image(root / split / f"{number}.png", seed=number)
        rows.append(json.dumps({"file_name": f"{number}.png", "objects": content}))
    (root / split / "metadata.jsonl").write_text("\n".join(rows))
    return SetSpec("set", "hub", str(root))


@pytest.mark.parametrize("content", [STRUCT_OF_LISTS, LIST_OF_STRUCTS], ids=["struct of lists", "list of structs"])
def test_a_folder_with_metadata_is_read_in_both_shapes(content: object, tmp_path: Path) -> None:
    table, defects = open_set(write_metadata(tmp_path, content, {}))
    assert table.truth(0).boxes.tolist() == EXPECTED and table.truth(0).labels.tolist() == [1, 0]
    assert table.classes == ("0", "1") and kinds(defects) == {"image_without_annotations": 1}


def test_class_names_in_metadata_are_sorted(tmp_path: Path) -> None:
    content = {"bbox": [[1, 2, 3, 4], [1, 2, 3, 5]], "categories": ["dog", "cat"], "iscrowd": [0, 1], "area": [9, None]}
    table, defects = open_set(write_metadata(tmp_path, content))
    truth = table.truth(0)
    assert defects == [] and table.classes == ("cat", "dog")
    assert truth.labels.tolist() == [1, 0] and truth.crowd.tolist() == [False, True]
    assert truth.areas.tolist() == [9, 15]


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("malformed_record", "{"),
        ("malformed_record", "[]"),
        ("malformed_record", '{"file_name": "0.png", "objects": {"bbox": [[1, 2, 3, 4]], "category": []}}'),
        ("malformed_record", '{"file_name": "1.png", "objects": {"bbox": [[1, 2, 3]], "category": [0]}}'),
        ("label_out_of_range", '{"file_name": "1.png", "objects": {"bbox": [[1, 2, 3, 4]], "category": [null]}}'),
        ("missing_file", '{"file_name": "2.png"}'),
        ("outside_root", '{"file_name": "../../passwd.png"}'),
        ("duplicate_file", '{"file_name": "0.png"}'),
    ],
)
def test_a_defect_of_metadata_names_the_line(kind: str, line: str, tmp_path: Path) -> None:
    spec = write_metadata(tmp_path / "set", STRUCT_OF_LISTS)
    write_image(tmp_path / "passwd.png")
    write_image(tmp_path / "set" / "train" / "1.png")
    path = tmp_path / "set" / "train" / "metadata.jsonl"
    path.write_text(path.read_text() + "\n" + line)
    _, defects = open_set(spec)
    found = [defect for defect in defects if defect.kind != "image_without_annotations"]
    assert kinds(found) == {kind: 1} and found[0].record == "line 2"


def table_of(
    rows: list[Any], tmp_path: Path, *, names: list[str] | None = None, listed: bool = False
) -> datasets.Dataset:
    """A table with image bytes, its objects as struct of lists or as list of structs."""
    label = datasets.ClassLabel(names=names) if names else datasets.Value("int64")
    fields = {"bbox": datasets.List(datasets.Value("float32")), "category": label}
    feature = datasets.List(fields) if listed else {name: datasets.List(field) for name, field in fields.items()}
    images = [
        {"bytes": write_image(tmp_path / f"{i}.png", seed=i).read_bytes(), "path": None} for i in range(len(rows))
    ]
    features = datasets.Features({"image": datasets.Image(), "objects": feature, "width": datasets.Value("int32")})
    columns = {"image": images, "objects": rows, "width": [WIDTH] * len(rows)}
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.mark.parametrize("listed", [False, True])
def test_parquet_files_are_read_with_their_class_names(
    listed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    empty: Any = [] if listed else {"bbox": [], "category": []}
    content: Any = LIST_OF_STRUCTS if listed else STRUCT_OF_LISTS
    table = table_of([empty, content, empty, content], tmp_path, names=["cat", "dog"], listed=listed)
    (tmp_path / "set" / "data").mkdir(parents=True)
    table.to_parquet(tmp_path / "set" / "data" / "train-00000-of-00001.parquet")
    opened, defects = open_set(SetSpec("set", "hub", str(tmp_path / "set")))
    assert opened.classes == ("cat", "dog") and opened.counts().tolist() == [0, 2, 0, 2]
    assert opened.truth(3).boxes.tolist() == EXPECTED and opened.truth(3).labels.tolist() == [1, 0]
    assert opened.size(0) == (HEIGHT, WIDTH) and opened.name(2) == "set/row 2 of train"
    assert opened.image_bytes(3) == (tmp_path / "3.png").read_bytes()
    assert kinds(defects) == {"image_without_annotations": 2}


def read_table(table: datasets.Dataset, root: Path) -> tuple[Any, Findings]:
    findings = Findings("set")
    raw = from_dataset(table, (), source_name="set", split="train", root=root, where="table", findings=findings)
    return raw, findings


def test_a_selection_of_rows_is_read_as_selected(tmp_path: Path) -> None:
    rows = [{"bbox": [[i, 0, 1, 1]] * i, "category": [0] * i} for i in range(4)]
    raw, findings = read_table(table_of(rows, tmp_path).select([3, 1]), tmp_path)
    assert raw.objects.owner.tolist() == [0, 0, 0, 1]
    assert raw.objects.boxes[:, 0].tolist() == [3, 3, 3, 1]
    assert findings.defects == []


def test_rows_whose_lists_disagree_and_boxes_without_four_numbers_are_found(tmp_path: Path) -> None:
    rows = [
        {"bbox": [[1, 2, 3, 4]], "category": [0, 0]},
        {"bbox": [[1, 2, 3], [1, 2, 3, 4]], "category": [0, 1]},
        {"bbox": [[5, 6, None, 8]], "category": [None]},
    ]
    raw, findings = read_table(table_of(rows, tmp_path), tmp_path)
    assert [(defect.kind, defect.record) for defect in findings.defects] == [
        ("malformed_record", "row 0"),
        ("malformed_record", "row 1"),
    ]
    assert raw.objects.owner.tolist() == [1, 2] and raw.objects.labels.tolist() == [1, -1]
    assert np.isnan(raw.objects.boxes[1]).tolist() == [False, False, True, False]


def test_image_paths_in_a_table_must_lie_under_its_root(tmp_path: Path) -> None:
    write_image(tmp_path / "set" / "in.png")
    write_image(tmp_path / "out.png")
    paths = ["in.png", str(tmp_path / "set" / "in.png"), str(tmp_path / "out.png"), "../out.png", "http://host/a.png"]
    table = datasets.Dataset.from_dict(
        {
            "image": [{"bytes": None, "path": path} for path in paths],
            "objects": [{"bbox": [[1.0, 2.0, 3.0, 4.0]], "category": [index]} for index in range(len(paths))],
        },
        features=datasets.Features(
            {
                "image": datasets.Image(decode=False),
                "objects": {
                    "bbox": datasets.List(datasets.List(datasets.Value("float32"))),
                    "category": datasets.List(datasets.Value("int64")),
                },
            }
        ),
    )
    raw, findings = read_table(table, tmp_path / "set")
    assert raw.names == ["in.png", "in.png"] and raw.objects.labels.tolist() == [0, 1]
    assert kinds(findings.defects) == {"outside_root": 2, "missing_file": 1}


def test_a_table_without_the_columns_says_which_it_has(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"columns \['text'\], without \['image', 'objects'\]"):
        read_table(datasets.Dataset.from_dict({"text": ["a"]}), tmp_path)


def test_a_folder_without_metadata_or_parquet_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"neither metadata\.jsonl nor parquet files.*train/metadata\.jsonl"):
        open_set(SetSpec("set", "hub", str(tmp_path)))


@pytest.mark.parametrize("streaming", [False, True])
def test_files_of_this_machine_are_read_without_asking_any_server(
    streaming: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    asked: list[object] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *place, **more: asked.append(place) or [])
    (tmp_path / "set").mkdir()
    image = {"bytes": (write_image(tmp_path / "a.png")).read_bytes(), "path": "a.png"}
    pq.write_table(pa.table({"image": [image], "objects": [STRUCT_OF_LISTS]}), tmp_path / "set" / "train.parquet")
    table, _ = open_set(SetSpec("set", "hub", str(tmp_path / "set"), streaming=streaming))
    assert len(table) == 1 and asked == []
