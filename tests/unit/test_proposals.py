"""Regions from files: the same from every form, aligned with the table, and one clear line for what is wrong."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import scipy.io
import torch

from accel_det.data.proposals import Proposals, read_proposals

NAMES = ["set/a.jpg", "set/deep/b.png", "set/c.jpg"]
SIZES = np.array([(100, 200), (50, 60), (30, 40)])
BOXES = {
    "c": [],
    "a": [[1.0, 2, 30, 40], [5, 6, 7, 8], [100, 50, 200, 100]],
    "b": [[0, 0, 60, 50]],
    "other": [[1, 1, 2, 2]],
}
SCORES = {"c": [], "a": [0.1, 0.9, 0.5], "b": [1.0], "other": [0.5]}
Records = dict[str, list[list[float]]]


def write_parquet(file: Path, boxes: Records, scores: dict[str, list[float]] | None) -> Path:
    columns: dict[str, Any] = {
        "name": list(boxes),
        "boxes": pa.array(list(boxes.values()), pa.list_(pa.list_(pa.float64()))),
    }
    if scores is not None:
        columns["scores"] = pa.array(list(scores.values()), pa.list_(pa.float64()))
    pq.write_table(pa.table(columns), file.with_suffix(".parquet"))
    return file.with_suffix(".parquet")


def write_lines(file: Path, boxes: Records, scores: dict[str, list[float]] | None) -> Path:
    records = [{"name": n, "boxes": b} | ({} if scores is None else {"scores": scores[n]}) for n, b in boxes.items()]
    file.with_suffix(".jsonl").write_text("\n".join(map(json.dumps, records)) + "\n", "utf-8")
    return file.with_suffix(".jsonl")


def write_matlab(file: Path, boxes: Records, scores: None = None) -> Path:
    """As selective search: y1, x1, y2, x2 of the first and last pixel, counted from 1."""
    cells = np.empty((1, len(boxes)), object)
    images = np.empty((len(boxes), 1), object)
    for k, (name, corners) in enumerate(boxes.items()):
        x1, y1, x2, y2 = np.array(corners, np.float64).reshape(-1, 4).T
        cells[0, k] = np.stack((y1 + 1, x1 + 1, y2, x2), axis=1)
        images[k, 0] = name
    scipy.io.savemat(file.with_suffix(".mat"), {"boxes": cells, "images": images})
    return file.with_suffix(".mat")


def read(file: Path, **others: Any) -> Proposals:
    return read_proposals(file, names=NAMES, sizes=SIZES, **others)


def boxes_of(found: Proposals) -> list[list[list[float]]]:
    return [found.of(index).tolist() for index in range(len(NAMES))]


@pytest.mark.parametrize("write", [write_parquet, write_lines, write_matlab])
def test_every_form_gives_the_same_regions_in_the_order_of_the_table(
    write: Callable[..., Path], tmp_path: Path
) -> None:
    found = read(write(tmp_path / "regions", BOXES, None))
    assert boxes_of(found) == [BOXES["a"], BOXES["b"], []]
    assert found.of(0).dtype == torch.float32
    assert found.of(2).shape == (0, 4)
    assert found.fingerprint() == read(write_lines(tmp_path / "lines", BOXES, None)).fingerprint()


@pytest.mark.parametrize("write", [write_parquet, write_lines])
def test_the_best_by_score_are_kept_best_first(write: Callable[..., Path], tmp_path: Path) -> None:
    a = BOXES["a"]
    assert boxes_of(read(write(tmp_path / "r", BOXES, SCORES)))[0] == [a[1], a[2], a[0]]
    assert boxes_of(read(write(tmp_path / "r", BOXES, SCORES), max_regions=2)) == [[a[1], a[2]], BOXES["b"], []]
    assert boxes_of(read(write(tmp_path / "r", BOXES, None), max_regions=2))[0] == a[:2]


def test_corners_of_selective_search_name_pixels_from_1(tmp_path: Path) -> None:
    """By hand: rows 3 to 8 and columns 1 to 10, counted from 1, are x from 0 to 10 and y from 2 to 8."""
    cells, images = np.empty((1, 3), object), np.empty((3, 1), object)
    for k, name in enumerate("abc"):
        cells[0, k], images[k, 0] = np.array([[3, 1, 8, 10]], np.uint16), name
    scipy.io.savemat(tmp_path / "s.mat", {"boxes": cells, "images": images})
    assert boxes_of(read(tmp_path / "s.mat"))[0] == [[0, 2, 10, 8]]


@pytest.mark.parametrize("flat", [pa.list_(pa.float32()), pa.large_list(pa.float64())])
def test_all_numbers_of_an_image_may_stand_in_one_list(flat: pa.DataType, tmp_path: Path) -> None:
    numbers = [[value for box in boxes for value in box] for boxes in BOXES.values()]
    pq.write_table(pa.table({"name": list(BOXES), "boxes": pa.array(numbers, flat)}), tmp_path / "r.parquet")
    assert boxes_of(read(tmp_path / "r.parquet")) == [BOXES["a"], BOXES["b"], []]


@pytest.mark.parametrize("name", ["set/deep/b.png", "deep/b.png", "b.png", "b"])
def test_an_image_is_found_by_full_name_path_file_name_or_stem(name: str, tmp_path: Path) -> None:
    boxes = {"a": BOXES["a"], "c": [], name: [[1.0, 1, 2, 2]]}
    assert boxes_of(read(write_lines(tmp_path / "r", boxes, None)))[1] == [[1, 1, 2, 2]]


def test_regions_are_cut_to_the_image_and_dropped_without_area(tmp_path: Path) -> None:
    boxes = {"a": [[-5.0, 20, 500, 90], [300, 1, 310, 9], [4, 4, 4, 9]], "b": [[0, 0, 1, 1]], "c": []}
    assert boxes_of(read(write_lines(tmp_path / "r", boxes, None))) == [[[0, 20, 200, 90]], [[0, 0, 1, 1]], []]


Write = Callable[[Path], Path]


def lines(*texts: str) -> Write:
    def write(folder: Path) -> Path:
        (folder / "r.jsonl").write_text("\n".join(texts) + "\n", "utf-8")
        return folder / "r.jsonl"

    return write


def table(**columns: Sequence[object]) -> Write:
    def write(folder: Path) -> Path:
        pq.write_table(pa.table(columns), folder / "r.parquet")
        return folder / "r.parquet"

    return write


def raw(name: str, content: bytes) -> Write:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return write


def matlab(**variables: object) -> Write:
    def write(folder: Path) -> Path:
        scipy.io.savemat(folder / "r.mat", variables)
        return folder / "r.mat"

    return write


OTHERS = ['{"name": "b", "boxes": []}', '{"name": "c", "boxes": []}']
WRONG: dict[str, tuple[Write, str]] = {
    "image missing": (lines(*OTHERS), r"no regions for set/a\.jpg, the file has 2 images, such as b, c"),
    "image twice": (lines(*OTHERS, OTHERS[0]), r"b is in it twice"),
    "not a number": (
        lines('{"name": "a", "boxes": [[1, 2, 3, 4], [1, 2, NaN, 4]]}', *OTHERS),
        r"region 1 of a is \[1\.0, 2\.0, nan, 4\.0\], not a finite number",
    ),
    "infinite score": (
        lines(*(f'{{"name": "{n}", "boxes": [[1, 2, 3, 4]], "scores": [1e999]}}' for n in "abc")),
        r"region 0 of a is .*inf\], not a finite",
    ),
    "corners swapped": (lines('{"name": "a", "boxes": [[5, 2, 3, 4]]}', *OTHERS), r"of a is .* not x1 <= x2"),
    "three numbers": (lines('{"name": "a", "boxes": [[1, 2, 3]]}', *OTHERS), r"line 1: name 'a', boxes of shape"),
    "ragged": (lines('{"name": "a", "boxes": [[1, 2, 3], [1, 2, 3, 4]]}'), r"line 1: "),
    "text": (lines('{"name": "a", "boxes": "all"}'), r"line 1: "),
    "no name": (lines(OTHERS[0], '{"boxes": []}'), r"line 2: 'name'; expected \{\"name\""),
    "not JSON": (lines(OTHERS[0], "{"), r"line 2: "),
    "scores in some": (lines('{"name": "a", "boxes": [], "scores": []}', *OTHERS), r"1 of 3 lines have scores"),
    "too many scores": (
        lines('{"name": "a", "boxes": [], "scores": [1]}'),
        r"line 1: 0 boxes and scores of shape \(1,\)",
    ),
    "column missing": (table(name=["a"], regions=[[]]), r"no column boxes; it has name, regions"),
    "five numbers": (table(name=["a"], boxes=[[[1.0] * 5]]), r"a region has not 4 numbers"),
    "seven numbers in all": (table(name=["a"], boxes=[[1.0] * 7]), r"no multiple of 4"),
    "null number": (table(name=["a"], boxes=[[[1.0, 2.0, 3.0, None]]]), r"a number is null"),
    "text in boxes": (table(name=["a"], boxes=["none"]), r"must be lists of numbers"),
    "scores differ": (
        table(name=["a", "b"], boxes=[[], [[1.0, 1, 2, 2]]], scores=[[], [0.1, 0.2]]),
        r"b has 1 boxes and 2 scores",
    ),
    "names are numbers": (table(name=[1], boxes=[[[1.0, 1, 2, 2]]]), r"column name is int64, expected text"),
    "not parquet": (raw("r.parquet", b"PAR1 no"), r"cannot be read as parquet"),
    "not MATLAB": (raw("r.mat", b"MATLAB nonsense" * 20), r"cannot be read as a MATLAB file"),
    "empty MATLAB": (raw("r.mat", b""), r"cannot be read as a MATLAB file"),
    "other variables": (matlab(images=np.array(["a"], object)), r"no variable boxes"),
    "lengths differ": (
        matlab(images=np.array(["a"], object), boxes=np.array([np.zeros((1, 4)), np.zeros((2, 4))], object)),
        r"2 cells of boxes for 1 images",
    ),
    "MATLAB shape": (
        matlab(images=np.array(["a", "b"], object), boxes=np.array([np.zeros((1, 4)), np.zeros((2, 5))], object)),
        r"boxes of b are float64 of shape \(2, 5\)",
    ),
    "another kind of file": (raw("r.pkl", b""), r"read from \.parquet, \.jsonl, \.mat, not from \.pkl"),
    "no file": (lambda folder: folder / "none.jsonl", r"no such file; correct data\.proposals"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_a_file_is_one_line_that_names_it(case: str, tmp_path: Path) -> None:
    write, message = WRONG[case]
    file = write(tmp_path)
    with pytest.raises(ValueError, match=message) as error:
        read(file)
    assert str(error.value).startswith(str(file))
    assert "\n" not in str(error.value)


def test_a_stem_that_two_images_share_is_refused(tmp_path: Path) -> None:
    file = write_lines(tmp_path / "r", {"a": []}, None)
    with pytest.raises(ValueError, match=r"a may be x/1/a\.jpg or x/2/a\.jpg; write the names with their folders"):
        read_proposals(file, names=["x/1/a.jpg", "x/2/a.jpg"], sizes=SIZES[:2])


def test_a_cut_parquet_file_is_noticed_wherever_it_is_cut(tmp_path: Path) -> None:
    whole = write_parquet(tmp_path / "r", BOXES, SCORES).read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "cut.parquet").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.parquet: cannot be read as parquet"):
            read(tmp_path / "cut.parquet")
