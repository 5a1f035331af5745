"""Readers of sets whose files say whom a picture shows."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from identity_trees import kinds, market_names, opened, rows, write_pictures
from scipy.io import savemat

from accel_det.data.formats.identity_names import CUHK03, MARKET1501, MARS, VERI, NameForm, camera_in_name
from accel_det.data.sources import SetSpec
from accel_det.types import Role

QUERY, GALLERY, BOTH = int(Role.QUERY), int(Role.GALLERY), int(Role.BOTH)


@pytest.mark.parametrize(
    ("form", "name", "said"),
    [
        (MARKET1501, "0002_c1s1_000451_03.jpg", ("0002", "c1", False)),
        (MARKET1501, "1501_c6s4_001877_02.jpg", ("1501", "c6", False)),
        (MARKET1501, "0000_c3s1_000451_03.jpg", ("", "c3", False)),
        (MARKET1501, "-1_c4s1_000451_03.jpg", ("", "c4", True)),
        (MARKET1501, "0001_c2_f0046182.jpg", ("0001", "c2", False)),
        (VERI, "0001_c001_00016450_0.jpg", ("0001", "c1", False)),
        (VERI, "0776_c020_00084710_0.jpg", ("0776", "c20", False)),
        (MARS, "0001C1T0001F001.jpg", ("0001", "c1", False)),
        (MARS, "0000C6T0101F001.jpg", ("", "c6", False)),
        (MARS, "00-1C2T0081F201.jpg", ("", "c2", True)),
        (CUHK03, "1_001_2_03.png", ("1_001", "c2", False)),
    ],
)
def test_a_name_says_identity_camera_and_whether_it_is_junk(
    form: NameForm, name: str, said: tuple[str, str, bool]
) -> None:
    assert form.parse(name) == said


@pytest.mark.parametrize(
    ("form", "name"),
    [
        (MARKET1501, "0002_s1_000451_03.jpg"),
        (MARKET1501, "0002_c1s1_000451_03"),
        (MARKET1501, "x0002_c1s1_000451_03.jpg"),
        (MARKET1501, "-2_c1s1_000451_03.jpg"),
        (MARKET1501, "٠٠٠٢_c1s1_000451_03.jpg"),
        (VERI, "0001_c2_f0046182.jpg"),
        (MARS, "1C1T0001F001.jpg"),
        (CUHK03, "1_001_1.png"),
    ],
)
def test_a_name_of_another_form_says_nothing(form: NameForm, name: str) -> None:
    assert form.parse(name) is None


def test_a_free_name_says_a_camera_where_a_part_of_it_begins_with_c_and_a_number() -> None:
    names = ["0001_c2_07.jpg", "C12-a.png", "0002_c1s1_000451.jpg", "pic3.jpg", "0108_01.png", "abc.jpg", "7c3.jpg"]
    assert [camera_in_name(name) for name in names] == ["c2", "c12", "c1", "", "", "", ""]


def test_market1501_has_train_query_and_gallery_with_distractors_and_without_junk(tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names([2, 7, 10]))
    write_pictures(tmp_path, market_names([1, 3], cameras=[1], folder="query"))
    write_pictures(tmp_path, market_names([1, 3, 0], cameras=[2, 10], folder="bounding_box_test"))
    write_pictures(tmp_path, [f"bounding_box_test/-1_c{camera}s1_000001_00.jpg" for camera in (1, 2, 3)])
    (tmp_path / "query" / "Thumbs.db").write_bytes(b"x")
    spec = SetSpec("m", "market1501", str(tmp_path))
    train, defects = opened(spec)
    assert defects == []
    assert train.identities == ("m/0002", "m/0007", "m/0010") and train.cameras == ("m/c1", "m/c2")
    assert train.labels().tolist() == [0, 0, 1, 1, 2, 2] and train.camera_numbers().tolist() == [0, 1] * 3
    assert train.roles().tolist() == [BOTH] * 6
    test, defects = opened(spec, "test")
    assert kinds(defects) == {"junk_picture": 1} and defects[0].repair == "drop_image"
    assert defects[0].value == "3 pictures of nobody, first: bounding_box_test/-1_c1s1_000001_00.jpg"
    assert test.cameras == ("m/c1", "m/c2", "m/c10")
    gallery = "m/bounding_box_test/{}_c{}s1_000{}51_00.jpg"
    assert rows(test) == [
        ("m/query/0001_c1s1_000151_00.jpg", "m/0001", "m/c1", QUERY),
        ("m/query/0003_c1s1_000151_00.jpg", "m/0003", "m/c1", QUERY),
        (gallery.format("0000", 10, 10), None, "m/c10", GALLERY),
        (gallery.format("0000", 2, 2), None, "m/c2", GALLERY),
        (gallery.format("0001", 10, 10), "m/0001", "m/c10", GALLERY),
        (gallery.format("0001", 2, 2), "m/0001", "m/c2", GALLERY),
        (gallery.format("0003", 10, 10), "m/0003", "m/c10", GALLERY),
        (gallery.format("0003", 2, 2), "m/0003", "m/c2", GALLERY),
    ]


def test_distractors_are_left_out_of_training_and_counted(tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names([0, 2, 3]))
    table, defects = opened(SetSpec("m", "market1501", str(tmp_path)))
    assert table.identities == ("m/0002", "m/0003") and (table.labels() >= 0).all() and len(table) == 4
    assert kinds(defects) == {"distractor_in_training": 1} and defects[0].value.startswith("2 pictures")


def test_a_query_that_is_a_distractor_is_not_asked(tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names([0, 1], folder="query") + market_names([1], folder="bounding_box_test"))
    table, defects = opened(SetSpec("m", "market1501", str(tmp_path)), "test")
    assert len(table) == 4 and (table.labels() == 0).all()
    assert kinds(defects) == {"query_without_match": 1} and "2 queries are distractors" in defects[0].value


def test_a_name_of_another_form_stops_unless_it_is_accepted(tmp_path: Path) -> None:
    write_pictures(
        tmp_path, [*market_names([1, 2]), "bounding_box_train/me.jpg", "bounding_box_train/._0001_c1s1_1_1.jpg"]
    )
    spec = SetSpec("m", "market1501", str(tmp_path))
    table, defects = opened(spec)
    assert len(table) == 4 and kinds(defects) == {"name_mismatch": 2} and defects[1].repair is None
    assert defects[1].file == str(tmp_path / "bounding_box_train" / "me.jpg")
    assert (
        "'me.jpg' where identity_c<camera>s<sequence>" in defects[1].value
        and "0002_c1s1_000451_03.jpg" in defects[1].value
    )
    assert opened(spec._replace(accept=("name_mismatch",)))[1][0].repair == "drop_image"


def test_duke_and_veri_have_splits_of_their_own_names(tmp_path: Path) -> None:
    write_pictures(
        tmp_path / "duke", ["bounding_box_train/0001_c2_f0046182.jpg", "bounding_box_train/0005_c8_f0000001.jpg"]
    )
    table, defects = opened(SetSpec("d", "market1501", str(tmp_path / "duke")))
    assert defects == [] and table.identities == ("d/0001", "d/0005") and table.cameras == ("d/c2", "d/c8")
    names = {"image_train": "0001_c001_00016450_0.jpg", "image_query": "0002_c002_00030600_0.jpg"}
    write_pictures(tmp_path / "veri", [f"{folder}/{name}" for folder, name in names.items()])
    write_pictures(tmp_path / "veri", ["image_test/0002_c003_00030600_1.jpg"])
    spec = SetSpec("v", "veri", str(tmp_path / "veri"))
    assert opened(spec)[0].identities == ("v/0001",)
    assert [row[1:] for row in rows(opened(spec, "test")[0])] == [
        ("v/0002", "v/c2", QUERY),
        ("v/0002", "v/c3", GALLERY),
    ]


@pytest.mark.parametrize("form", ["market1501", "veri", "mars", "msmt17", "cuhk03", "folders"])
def test_a_split_that_is_not_there_is_named(form: str, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ValueError, match="set 'm'") as caught:
        opened(SetSpec("m", form, str(tmp_path)), "test")
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_val_of_a_format_without_one_says_that_holdout_makes_it(tmp_path: Path) -> None:
    write_pictures(tmp_path, market_names([1, 2]))
    with pytest.raises(ValueError, match=r"no split 'val'.*`holdout` takes a share of the identities"):
        opened(SetSpec("m", "market1501", str(tmp_path)), "val")


def test_mars_reads_tracklets_and_official_queries(tmp_path: Path) -> None:
    train = ["0001/0001C1T0001F001.jpg", "0001/0001C1T0001F002.jpg", "0003/0003C2T0001F001.jpg"]
    test = [
        *("0002/0002C1T0001F001.jpg", "0002/0002C1T0001F002.jpg", "0002/0002C2T0001F001.jpg"),
        *("0000/0000C6T0101F001.jpg", "00-1/00-1C2T0081F201.jpg"),
    ]
    write_pictures(tmp_path, [f"bbox_train/{name}" for name in train] + [f"bbox_test/{name}" for name in test])
    spec = SetSpec("m", "mars", str(tmp_path))
    table, defects = opened(spec)
    assert defects == [] and table.labels().tolist() == [0, 0, 1] and table.cameras == ("m/c1", "m/c2")
    without, defects = opened(spec, "test")
    assert kinds(defects) == {"junk_picture": 1}
    assert without.roles().tolist() == [GALLERY, BOTH, BOTH, BOTH] and without.labels().tolist() == [-1, 0, 0, 0]
    info = tmp_path / "info"
    info.mkdir()
    (info / "test_name.txt").write_text("\n".join(name.partition("/")[2] for name in test))
    # Rows are first line, last line, identity, camera; they and the queries count from 1.
    savemat(
        info / "tracks_test_info.mat", {"track_test_info": [[3, 3, 2, 2], [1, 2, 2, 1], [4, 4, 0, 6], [5, 5, -1, 2]]}
    )
    savemat(info / "query_IDX.mat", {"query_IDX": [[2]]})
    table, _ = opened(spec, "test")
    assert [(row[0][-19:], row[3]) for row in rows(table)] == [
        ("0000C6T0101F001.jpg", GALLERY),
        ("0002C1T0001F001.jpg", QUERY),
        ("0002C1T0001F002.jpg", QUERY),
        ("0002C2T0001F001.jpg", GALLERY),
    ]
    (info / "query_IDX.mat").write_bytes(b"no mat file")
    with pytest.raises(ValueError, match="info cannot be read as MARS's lists"):
        opened(spec, "test")


def test_a_picture_of_mars_in_the_folder_of_another_identity_is_noted(tmp_path: Path) -> None:
    write_pictures(tmp_path, ["bbox_train/0001/0001C1T0001F001.jpg", "bbox_train/0001/0002C1T0001F001.jpg"])
    table, defects = opened(SetSpec("m", "mars", str(tmp_path)))
    assert len(table) == 1 and kinds(defects) == {"name_mismatch": 1}
    assert "the folder is the identity" in defects[0].value


def msmt17(root: Path) -> SetSpec:
    lists = {
        "train": ["0000/0000_000_01_0303morning_0008_0.jpg 0", "0001/0001_000_14_0303noon_0008_1_ex.jpg 1"],
        "val": ["0000/0000_001_02_0303morning_0009_0.jpg 0"],
        "query": ["0000/0000_000_05_0303morning_0008_0.jpg 0"],
        "gallery": ["0000/0000_001_06_0303morning_0008_0.jpg 0", "0001/0001_000_06_0303morning_0008_0.jpg 1"],
    }
    for part, lines in lists.items():
        folder = root / ("train" if part in ("train", "val") else "test")
        write_pictures(folder, [line.partition(" ")[0] for line in lines])
        (root / f"list_{part}.txt").write_text("\n".join(lines) + "\n")
    return SetSpec("m", "msmt17", str(root))


def test_msmt17_numbers_the_people_of_train_and_of_test_apart(tmp_path: Path) -> None:
    spec = msmt17(tmp_path)
    train, defects = opened(spec)
    assert defects == [] and train.identities == ("m/train/0", "m/train/1") and train.cameras == ("m/c1", "m/c14")
    assert opened(spec, "val")[0].identities == ("m/train/0",)
    assert [row[1:] for row in rows(opened(spec, "test")[0])] == [
        ("m/test/0", "m/c5", QUERY),
        ("m/test/0", "m/c6", GALLERY),
        ("m/test/1", "m/c6", GALLERY),
    ]


def test_lines_of_a_list_that_are_wrong_are_noted_with_their_number(tmp_path: Path) -> None:
    spec = msmt17(tmp_path)
    outside = write_pictures(tmp_path, ["0009_000_01_x.jpg"]) / "0009_000_01_x.jpg"
    with (tmp_path / "list_train.txt").open("a") as file:
        file.write("0000/gone_0.jpg\n0000/0000_000_01_gone.jpg 0\n0000/noform.jpg 0\n../0009_000_01_x.jpg 0\n")
        file.write(f"{outside} 0\n0000/0000_000_01_0303morning_0008_0.jpg 0\n")
    table, defects = opened(spec)
    assert len(table) == 2
    assert [(defect.kind, defect.record, defect.repair) for defect in defects] == [
        ("malformed_record", "line 3", None),
        ("missing_file", "line 4", None),
        ("name_mismatch", "line 5", None),
        ("outside_root", "line 6", None),
        ("outside_root", "line 7", None),
        ("duplicate_file", "line 8", None),
    ]


def test_a_list_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    spec = msmt17(tmp_path)
    (tmp_path / "list_train.txt").write_bytes(b"0000/0000_000_01_\xe9t\xe9.jpg 0\n")
    with pytest.raises(ValueError, match=r"list_train\.txt: cannot be read as lines of UTF-8") as caught:
        opened(spec)
    assert "\n" not in str(caught.value)


def test_cuhk03_is_one_folder_with_an_optional_file_of_splits(tmp_path: Path) -> None:
    names = ["1_001_1_01.png", "1_001_2_06.png", "1_002_1_01.png", "2_001_1_01.png", "2_001_2_06.png"]
    write_pictures(tmp_path / "images_detected", names)
    spec = SetSpec("c", "cuhk03", str(tmp_path))
    table, defects = opened(spec)
    assert defects == [] and table.identities == ("c/1_001", "c/1_002", "c/2_001")
    assert table.cameras == ("c/1_c1", "c/1_c2", "c/2_c1", "c/2_c2")
    with pytest.raises(ValueError, match="no file of splits"):
        opened(spec, "test")
    split = {
        "train": [["/elsewhere/images_detected/1_002_1_01.png", 0, 0], ["x/1_009_1_01.png", 0, 0]],
        "query": ["1_001_1_01.png", "2_001_1_01.png"],
        "gallery": [["2_001_2_06.png", 1, 1], ["1_001_2_06.png", 0, 1]],
    }
    (tmp_path / "splits_new_detected.json").write_text(json.dumps([split, {}]))
    table, defects = opened(spec)
    assert table.identities == ("c/1_002",)
    assert [(defect.kind, defect.record) for defect in defects] == [("missing_file", "train 1")]
    assert [row[3] for row in rows(opened(spec, "test")[0])] == [QUERY, QUERY, GALLERY, GALLERY]
    for document in ([], "text", {"train": []}, [{"train": [1], "query": [], "gallery": []}]):
        (tmp_path / "splits_new_detected.json").write_text(json.dumps(document))
        with pytest.raises(ValueError, match=r"splits_new_detected\.json is no file of splits"):
            opened(spec)
    with pytest.raises(ValueError, match="annotations: no file"):
        opened(spec._replace(annotations="other.json"))


def test_folders_of_identities_may_have_levels_splits_and_cameras(tmp_path: Path) -> None:
    flat = write_pictures(tmp_path / "flat", ["b/1.png", "b/2_c3.png", "a/1.png", "a/deep/x.png", "lost.png"])
    spec = SetSpec("f", "folders", str(flat))
    table, defects = opened(spec)
    assert table.identities == ("f/a", "f/a/deep", "f/b") and table.cameras == ("f/c3",)
    assert table.camera_numbers().tolist() == [-1, -1, -1, 0]
    assert kinds(defects) == {"name_mismatch": 1} and defects[0].file == str(flat / "lost.png")
    split = write_pictures(tmp_path / "split", ["training/a/1.png", "val/b/1.png", "query/c/1.png", "gallery/c/2.png"])
    spec = SetSpec("f", "folders", str(split))
    assert [opened(spec, name, training=True)[0].identities for name in ("train", "val")] == [("f/a",), ("f/b",)]
    assert [row[3] for row in rows(opened(spec, "test")[0])] == [QUERY, GALLERY]
    whole = write_pictures(tmp_path / "whole", ["test/a/1.png", "test/a/2.png"])
    assert opened(SetSpec("f", "folders", str(whole)), "test")[0].roles().tolist() == [BOTH, BOTH]
    with pytest.raises(ValueError, match="no folder 'train'"):
        opened(SetSpec("f", "folders", str(whole)))
    with pytest.raises(ValueError, match="no folder 'val'"):
        opened(SetSpec("f", "folders", str(flat)), "val")


def test_links_that_leave_the_folder_are_found_and_followed_only_if_that_is_accepted(tmp_path: Path) -> None:
    elsewhere = write_pictures(tmp_path / "elsewhere", ["x/1.png", "2.png"])
    root = write_pictures(tmp_path / "set", ["a/1.png", "b/1.png"])
    (root / "c").symlink_to(elsewhere / "x")
    (root / "a" / "2.png").symlink_to(elsewhere / "2.png")
    (root / "b" / "2.png").symlink_to(root / "a" / "1.png")
    (root / "b" / "3.png").symlink_to(root / "nowhere.png")
    (root / "b" / "round").symlink_to(root)
    spec = SetSpec("f", "folders", str(root))
    table, defects = opened(spec)
    assert [row[0] for row in rows(table)] == ["f/a/1.png", "f/b/1.png", "f/b/2.png"]
    assert sorted((defect.kind, Path(defect.file).name) for defect in defects) == [
        ("missing_file", "3.png"),
        ("outside_root", "2.png"),
        ("outside_root", "c"),
        ("outside_root", "round"),
    ]
    table, _ = opened(spec._replace(accept=("outside_root",)))
    assert [row[0] for row in rows(table)] == ["f/a/1.png", "f/a/2.png", "f/b/1.png", "f/b/2.png", "f/c/1.png"]
    assert table.image_bytes(1) == (elsewhere / "2.png").read_bytes()


def test_a_name_that_is_no_utf_8_is_noted(tmp_path: Path) -> None:
    root = write_pictures(tmp_path, ["a/1.png"])
    Path(os.fsdecode(os.fsencode(root / "a") + b"/\xff.png")).write_bytes(b"x")
    table, defects = opened(SetSpec("f", "folders", str(root)))
    assert len(table) == 1 and kinds(defects) == {"name_mismatch": 1} and defects[0].file.isascii()


def test_names_are_listed_in_one_order_whatever_the_file_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{identity:03d}/{shot}.png" for identity in range(20) for shot in range(3)]
    spec = SetSpec("f", "folders", str(write_pictures(tmp_path, names)))
    table = opened(spec)[0]
    scan = os.scandir

    class Backwards:
        def __init__(self, path: str) -> None:
            with scan(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Backwards)
    again = opened(spec)[0]
    assert rows(again) == rows(table) and again.fingerprint == table.fingerprint
    assert np.array_equal(again.labels(), np.repeat(np.arange(20), 3))
