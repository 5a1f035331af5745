"""What the check of pictures of identities finds, and what it says."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from identity_trees import kinds, market_names, opened, picture_bytes, write_pictures
from pyarrow import parquet

from accel_det.data.check import Report
from accel_det.data.defects import DEFECT_KINDS, DataError
from accel_det.data.formats.identity_raw import PictureColumns
from accel_det.data.identities import IdentityTable, build_identity_table
from accel_det.data.identity_check import IdentitySummary, check_identity_tables, num_matches
from accel_det.data.sources import SetSpec
from accel_det.types import Role


def table_of(pictures: Iterable[tuple[str, str, Role]]) -> IdentityTable:
    """Pictures as (identity, camera, role); "" is a distractor, or an unknown camera."""
    columns = PictureColumns()
    for index, (identity, camera, role) in enumerate(pictures):
        columns.add(f"{index}.png", f"/nowhere/{index}.png", identity=identity, camera=camera, role=role)
    return build_identity_table([("s", columns.pictures())])


def slow_matches(table: IdentityTable, *, exclude_same_camera: bool) -> list[int]:
    found = []
    targets = [table.target(index) for index in range(len(table))]
    for query, asked in enumerate(targets):
        count = 0
        for other, seen in enumerate(targets):
            same_camera = asked.camera >= 0 and asked.camera == seen.camera
            if (
                asked.role & Role.QUERY
                and seen.role & Role.GALLERY
                and other != query
                and asked.identity == seen.identity >= 0
                and not (exclude_same_camera and same_camera)
            ):
                count += 1
        found.append(count)
    return found


@pytest.mark.parametrize("exclude_same_camera", [True, False])
def test_matches_are_counted_as_a_slow_loop_counts_them(exclude_same_camera: bool) -> None:
    draws = np.random.default_rng(5)
    seen = set()
    for _ in range(40):
        number = int(draws.integers(1, 40))
        table = table_of(
            (
                ["", "a", "b", "c"][draws.integers(4)],
                ["", "c1", "c2"][draws.integers(3)],
                [Role.QUERY, Role.GALLERY, Role.BOTH][draws.integers(3)],
            )
            for _ in range(number)
        )
        expected = slow_matches(table, exclude_same_camera=exclude_same_camera)
        assert num_matches(table, exclude_same_camera=exclude_same_camera).tolist() == expected
        seen |= set(expected)
    assert {0, 1, 2} <= seen


def test_identities_with_one_picture_are_counted_in_training_and_kept() -> None:
    train = table_of([("a", "", Role.BOTH), ("b", "", Role.BOTH), ("b", "", Role.BOTH), ("c", "", Role.BOTH)])
    report = check_identity_tables(train, None, [], read_images=False)
    assert kinds(report.defects) == {"single_picture": 2} and not report.stops
    assert [defect.file for defect in report.defects] == ["s/0.png", "s/3.png"]
    assert "the only picture of s/a" in report.defects[0].value
    assert report.split_lines() == ["train: 4 pictures of 3 identities, unknown cameras"]


def test_queries_without_a_match_are_counted_and_do_not_stop() -> None:
    val = table_of(
        [
            ("a", "c1", Role.QUERY),
            ("a", "c2", Role.GALLERY),
            ("b", "c1", Role.QUERY),
            ("b", "c1", Role.GALLERY),
            ("c", "c1", Role.QUERY),
            ("", "c1", Role.GALLERY),
        ]
    )
    report = check_identity_tables(None, val, [], read_images=False)
    assert [(defect.kind, defect.file) for defect in report.defects] == [
        ("query_without_match", "s/2.png"),
        ("query_without_match", "s/4.png"),
    ]
    assert "but of the query's own camera" in report.defects[0].value and "but the query" in report.defects[1].value
    assert not report.stops and report.defects[0].repair == "not_scored"
    assert report.split_lines() == [
        "val: 6 pictures of 3 identities, 2 cameras; 3 queries, gallery of 3, 1 of them distractors"
    ]
    included = check_identity_tables(None, val, [], read_images=False, exclude_same_camera=False)
    assert [defect.file for defect in included.defects] == ["s/4.png"]


def test_one_camera_in_an_evaluation_that_excludes_it_is_one_finding_that_says_what_to_set() -> None:
    val = table_of([("a", "c1", Role.BOTH)] * 3 + [("b", "c1", Role.BOTH)] * 2 + [("c", "c1", Role.BOTH)])
    report = check_identity_tables(None, val, [], read_images=False)
    assert kinds(report.defects) == {"one_camera": 1, "query_without_match": 1} and not report.stops
    assert report.defects[0].value == "none of 5 queries has a match of another camera; cameras: 1"
    assert report.defects[0].remedy == "set evaluate.same_camera: include, or name the cameras"
    included = check_identity_tables(None, val, [], read_images=False, exclude_same_camera=False)
    assert kinds(included.defects) == {"query_without_match": 1}
    unknown = table_of([("a", "", Role.BOTH)] * 3)
    assert check_identity_tables(None, unknown, [], read_images=False).defects == ()


def two_folders(root: Path) -> SetSpec:
    write_pictures(root, [f"train/{identity}/{identity}{shot}.png" for identity in "abc" for shot in range(2)])
    write_pictures(root, [f"val/{identity}/{identity}{shot}.png" for identity in "xyz" for shot in range(2)])
    return SetSpec("f", "folders", str(root))


def check_both(
    spec: SetSpec, *, read_images: bool = False, train: str = "train", val: str = "val"
) -> Report[IdentitySummary]:
    first, found = opened(spec, train, training=True)
    second, more = opened(spec, val, training=False)
    return check_identity_tables(first, second, [*found, *more], read_images=read_images)


def test_clean_splits_have_no_findings(tmp_path: Path) -> None:
    report = check_both(two_folders(tmp_path), read_images=True)
    assert report.defects == () and not report.stops and report.summary_lines() == []
    report.require()


def test_identities_in_train_and_val_of_one_set_stop_unless_they_are_accepted(tmp_path: Path) -> None:
    spec = two_folders(tmp_path)
    write_pictures(tmp_path, ["val/b/another.png", "val/b/b_more.png"])
    report = check_both(spec)
    assert kinds(report.defects) == {"shared_identity": 1} and report.stops
    assert report.defects[0].file == "f/b"
    with pytest.raises(DataError, match=r"shared_identity 1\n.*split by identity"):
        report.require()
    assert not check_both(spec._replace(accept=("shared_identity",))).stops


def test_one_file_on_both_sides_is_a_leak_by_its_name_even_across_sets(tmp_path: Path) -> None:
    spec = two_folders(tmp_path)
    report = check_both(spec, val="train")
    assert kinds(report.defects) == {"shared_identity": 3, "leakage": 6} and report.stops
    other = spec._replace(name="g", images="train")
    train, _ = opened(spec)
    val, _ = opened(other, training=False)
    report = check_identity_tables(train, val, [], read_images=False)
    assert kinds(report.defects) == {"leakage": 6}
    assert "the same file as f/train/a/a0.png" in report.defects[0].value
    assert kinds(check_identity_tables(train, val, [], read_images=True).defects) == {"leakage": 6}


def test_copied_pictures_are_a_leak_once_they_are_read(tmp_path: Path) -> None:
    spec = two_folders(tmp_path)
    shutil.copy(tmp_path / "train/a/a0.png", tmp_path / "val/x/renamed.png")
    assert check_both(spec).defects == ()
    report = check_both(spec, read_images=True)
    assert [(defect.kind, defect.file) for defect in report.defects] == [("leakage", "f/val/x/renamed.png")]
    assert report.defects[0].value == "same bytes as f/train/a/a0.png in train" and report.stops
    assert not check_both(spec._replace(accept=("leakage",)), read_images=True).stops


def write_shard(root: Path, split: str, pictures: dict[str, bytes]) -> None:
    """A parquet file that holds pictures under names of their own, each of somebody else in every split."""
    images = [{"bytes": data, "path": name} for name, data in pictures.items()]
    table = pa.table({"image": images, "identity": [f"{split}{index}" for index in range(len(images))]})
    parquet.write_table(table, root / f"{split}.parquet")


def test_pictures_held_as_bytes_leak_by_what_they_show_and_not_by_their_names(tmp_path: Path) -> None:
    spec = SetSpec("h", "hub", str(tmp_path))
    write_shard(tmp_path, "train", {f"{index}.png": picture_bytes(index) for index in range(3)})
    write_shard(tmp_path, "val", {f"{index}.png": picture_bytes(10 + index) for index in range(3)})
    report = check_both(spec, read_images=True)
    assert {kind: n for kind, n in kinds(report.defects).items() if kind not in ("single_picture", "one_camera")} == {
        "query_without_match": 3,
        "same_name": 3,
    }
    assert not report.stops
    write_shard(tmp_path, "val", {"0.png": picture_bytes(0), "9.png": picture_bytes(1), "8.png": picture_bytes(10)})
    report = check_both(spec, read_images=True)
    leaks = [(defect.file, defect.value) for defect in report.defects if defect.kind == "leakage"]
    assert leaks == [
        ("h/0.png", "same bytes as h/0.png in train"),
        ("h/9.png", "same bytes as h/1.png in train"),
    ]


def test_a_name_that_is_unique_in_both_splits_and_in_both_is_noted(tmp_path: Path) -> None:
    spec = two_folders(tmp_path)
    write_pictures(tmp_path, ["val/x/a0.png"])
    report = check_both(spec)
    assert [(defect.kind, defect.file, defect.repair) for defect in report.defects] == [
        ("same_name", "f/val/x/a0.png", "keep")
    ]
    write_pictures(tmp_path, ["val/y/a0.png"])  # names that repeat tell nothing
    assert check_both(spec).defects == ()


def test_damaged_pictures_stop_once_they_are_read(tmp_path: Path) -> None:
    spec = two_folders(tmp_path)
    for name in ("train/a/a0.png", "val/z/z1.png"):
        path = tmp_path / name
        path.write_bytes(path.read_bytes()[:-40])
    (tmp_path / "val/y/y0.png").write_bytes(b"")
    assert not check_both(spec).stops
    report = check_both(spec, read_images=True)
    assert [(defect.kind, defect.file) for defect in report.defects] == [
        ("undecodable_file", "f/train/a/a0.png"),
        ("undecodable_file", "f/val/y/y0.png"),
        ("undecodable_file", "f/val/z/z1.png"),
    ]
    assert report.stops and report.summary_lines()[0].startswith(
        "undecodable_file x 3 (STOPS THE RUN), first: f/train/a"
    )


def test_the_report_is_plain_json_with_counts_and_splits(tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names([1, 2, 3]) + ["bounding_box_train/0004_c1s1_000001_00.jpg"])
    write_pictures(tmp_path, market_names([8, 9], cameras=[1], folder="query"))
    write_pictures(tmp_path, market_names([8, 9, 0], cameras=[2], folder="bounding_box_test"))
    write_pictures(tmp_path, ["bounding_box_test/-1_c1s1_000001_00.jpg"])
    report = check_both(SetSpec("m", "market1501", str(tmp_path)), val="test")
    document = json.loads(json.dumps(report.to_json()))
    assert document["stops"] is False and document["counts"] == {"junk_picture": 1, "single_picture": 1}
    assert document["splits"]["val"] | {"fingerprint": ""} == {
        "pictures": 5,
        "identities": 2,
        "cameras": 2,
        "distractors": 1,
        "queries": 2,
        "gallery": 3,
        "fingerprint": "",
    }
    assert document["splits"]["train"]["identities"] == 4 and len(document["splits"]["train"]["fingerprint"]) == 64
    assert len(report.summary_lines()) == 2


def test_every_new_kind_says_what_to_do() -> None:
    new = [
        *("name_mismatch", "junk_picture", "distractor_in_training", "single_picture", "query_without_match"),
        *("one_camera", "shared_identity", "duplicate_sequence", "unclear_box"),
    ]
    for kind in new:
        about = DEFECT_KINDS[kind]
        assert about.rule and about.remedy and (about.default != "stop" or about.opt_in is not None)
