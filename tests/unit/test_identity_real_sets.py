"""Real sets of pictures of identities are read whole, and split by identity, with the known numbers."""

import csv
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from identity_trees import kinds, opened, rows, shared_data

from accel_det.data.identity_check import check_identity_tables
from accel_det.data.sources import SetSpec
from accel_det.types import Role

GROCERY_HELD_OUT = 14


def test_grocery_has_3644_pictures_of_54_identities_of_which_14_are_held_out() -> None:
    root = shared_data("reid/grocery")
    spec = SetSpec("grocery", "market1501", str(root), holdout=0.26)
    (whole, _), (train, found), (val, more) = opened(spec._replace(holdout=0.0)), opened(spec), opened(spec, "val")
    assert (len(whole), len(whole.identities), len(whole.cameras)) == (3644, 54, 3)
    assert (len(train.identities), len(val.identities)) == (54 - GROCERY_HELD_OUT, GROCERY_HELD_OUT)
    assert len(train) + len(val) == 3644 and (len(train), len(val)) == (2577, 1067)
    assert not set(train.identities) & set(val.identities) and (val.roles() == Role.BOTH).all()
    with (root / "manifest.csv").open(newline="") as file:
        listed = {row["file"]: (int(row["pid"]), int(row["camid"])) for row in csv.DictReader(file)}
    named = {name.rpartition("/")[2]: (identity, camera) for name, identity, camera, _ in rows(whole)}
    assert named == {file: (f"grocery/{pid:04d}", f"grocery/c{camera}") for file, (pid, camera) in listed.items()}
    report = check_identity_tables(train, val, [*found, *more], read_images=False)
    assert report.defects == () and not report.stops
    assert report.split_lines() == [
        "train: 2577 pictures of 40 identities, 3 cameras",
        "val: 1067 pictures of 14 identities, 3 cameras; 1067 queries, gallery of 1067",
    ]


def test_grocery_as_a_table_is_the_same_pictures_with_names_for_products() -> None:
    root = shared_data("reid/grocery")
    parameters: dict[str, int | float | str] = {"identity": "class_name", "camera": "camid", "image": "file"}
    spec = SetSpec(
        "g", "table", str(root), images="bounding_box_train", annotations="manifest.csv", parameters=parameters
    )
    table, defects = opened(spec)
    assert defects == [] and len(table) == 3644
    with (root / "manifest.csv").open(newline="") as file:
        expected = Counter(row["class_name"] for row in csv.DictReader(file))
    assert Counter(str(row[1]).partition("/")[2] for row in rows(table)) == expected


def test_omniglot_is_folders_of_two_levels_136_characters_of_20_pictures(tmp_path: Path) -> None:
    with zipfile.ZipFile(shared_data("reid/omniglot/images_background_small1.zip")) as archive:
        archive.extractall(tmp_path)
    spec = SetSpec("omniglot", "folders", str(tmp_path / "images_background_small1"), holdout=0.25)
    whole, defects = opened(spec._replace(holdout=0.0))
    assert defects == [] and (len(whole), len(whole.identities), whole.cameras) == (2720, 136, ())
    assert set(Counter(whole.labels().tolist()).values()) == {20}
    assert whole.identities[0] == "omniglot/Balinese/character01"
    (train, found), (val, more) = opened(spec), opened(spec, "val")
    assert (len(train.identities), len(val.identities), len(val)) == (102, 34, 680)
    report = check_identity_tables(train, val, [*found, *more], read_images=True)
    assert report.defects == ()


def test_the_small_market1501_has_its_three_parts_and_the_same_picture_in_all_of_them() -> None:
    spec = SetSpec("m", "market1501", str(shared_data("formats/market1501_dataset")))
    (train, found), (test, more) = opened(spec), opened(spec, "test")
    assert found == more == []
    assert [row[1:] for row in rows(train)] == [("m/0002", "m/c1", Role.BOTH)]
    assert [row[1:] for row in rows(test)] == [
        ("m/0001", "m/c2", Role.QUERY),
        ("m/0001", "m/c1", Role.GALLERY),
    ]
    report = check_identity_tables(train, test, [], read_images=True)
    assert kinds(report.defects) == {"single_picture": 1, "leakage": 2} and report.stops


def test_the_small_mars_has_a_distractor_in_train_and_junk_alone_in_test() -> None:
    spec = SetSpec("m", "mars", str(shared_data("formats/mars_dataset")))
    table, defects = opened(spec)
    assert [row[1:] for row in rows(table)] == [("m/0001", "m/c1", Role.BOTH)]
    assert kinds(defects) == {"distractor_in_training": 1}
    with pytest.raises(ValueError, match=r"no identity among its 0 pictures.*1 pictures of nobody"):
        opened(spec, "test")


def test_crops_of_the_aerial_sequences_are_all_boxes_of_77_tracks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shared_data("tracking/kit")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    table, defects = opened(SetSpec("kit", "crops", str(root)))
    assert defects == [] and (len(table), len(table.identities)) == (1255, 77)
    assert table.cameras == ("kit/Crossroad01", "kit/MunichStreet02")
    val, found = opened(SetSpec("kit", "crops", str(root), holdout=0.25), "val")
    assert len(val.identities) == 19 and found == []
    excluded = check_identity_tables(None, val, found, read_images=True)
    assert kinds(excluded.defects) == {"one_camera": 1} and not excluded.stops
    assert check_identity_tables(None, val, found, read_images=False, exclude_same_camera=False).defects == ()
