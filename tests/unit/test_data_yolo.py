"""YOLO text labels."""

from pathlib import Path

import pytest
from data_sets import HEIGHT, WIDTH, kinds, open_set, write_image, write_yolo

from accel_det.data.sources import SetSpec


def test_shares_of_the_image_become_pixels_of_the_file(tmp_path: Path) -> None:
    table, defects = open_set(write_yolo(tmp_path, {"a.rf.1": "1 0.5 0.5 0.25 0.2\n0 .1 .1 .2 .2"}))
    assert defects == [] and table.classes == ("cat", "dog")
    truth = table.truth(0)
    # (.5 - .125) * 40, (.5 - .1) * 30, (.5 + .125) * 40, (.5 + .1) * 30
    assert truth.boxes[0].tolist() == pytest.approx([15, 12, 25, 18])
    assert truth.boxes[1].tolist() == pytest.approx([0, 0, 0.2 * WIDTH, 0.2 * HEIGHT])
    assert truth.labels.tolist() == [1, 0]


def test_a_polygon_becomes_its_bounding_box(tmp_path: Path) -> None:
    table, _ = open_set(write_yolo(tmp_path, {"a": "0 .1 .2 .5 .1 .3 .6\n1 .5 .5 .1 .1"}))
    assert table.truth(0).boxes[0].tolist() == pytest.approx([4, 3, 20, 18])


def test_an_empty_label_file_is_background_and_a_missing_one_is_too_but_is_reported(tmp_path: Path) -> None:
    labels = {"a.b.c": "0 .5 .5 .1 .1\n1 .5 .5 .1 .1", "empty": "", "blank": "\n \n", "none": None}
    table, defects = open_set(write_yolo(tmp_path, labels))
    assert [table.name(i).rsplit("/", 1)[1] for i in range(4)] == ["a.b.c.png", "blank.png", "empty.png", "none.png"]
    assert table.counts().tolist() == [2, 0, 0, 0]
    assert kinds(defects) == {"image_without_annotations": 3, "missing_label_file": 1}
    assert all(defect.repair == "keep" for defect in defects)
    assert table.truth(1).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("label_out_of_range", "2 .5 .5 .1 .1"),
        ("label_out_of_range", "-1 .5 .5 .1 .1"),
        ("malformed_record", "0.5 .5 .5 .1 .1"),
        ("malformed_record", "cat .5 .5 .1 .1"),
        ("malformed_record", "0 .5 .5 .1"),
        ("malformed_record", "0 .5 .5 .1 .1 .9"),
        ("nan_box", "0 nan .5 .1 .1"),
        ("negative_side", "0 .5 .5 -.1 .1"),
        ("zero_side", "0 .5 .5 0 .1"),
        ("outside_image", "0 200 100 40 20"),
        ("partly_outside", "0 .99 .5 .1 .1"),
        ("duplicate_box", "0 .5 .5 .1 .1"),
        ("decimal_comma", "0 0,25 0,5 0,1 0,1"),
    ],
)
def test_a_defect_names_the_label_file_and_the_line(kind: str, line: str, tmp_path: Path) -> None:
    _, defects = open_set(write_yolo(tmp_path, {"a": f"0 .5 .5 .1 .1\n1 .2 .2 .1 .1\n{line}\n"}))
    assert kinds(defects) == {kind: 1}
    assert defects[0].file == str(tmp_path / "train" / "labels" / "a.txt") and defects[0].record == "line 3"


@pytest.mark.parametrize(
    ("path", "beside"),
    [
        ("train/images", False),
        ("./train/images", False),
        ("../train/images", True),
        ("/home/somebody/train/images", True),
        ("C:\\Users\\somebody\\images", True),
        ("../../..", True),
        ("[train/images]", False),
    ],
)
def test_wherever_the_description_points_the_images_inside_are_found(path: str, beside: bool, tmp_path: Path) -> None:
    yaml = f"train: {path}\nnames: {{0: cat, 1: dog}}\n"
    spec = write_yolo(tmp_path / "set", {"a": "0 .5 .5 .1 .1\n1 .2 .2 .1 .1"}, yaml=yaml)
    write_image(tmp_path / "train" / "images" / "not_ours.png")
    table, defects = open_set(spec)
    assert [table.name(index) for index in range(len(table))] == ["set/train/images/a.png"]
    assert kinds(defects) == ({"path_beside": 1} if beside else {})


def test_val_is_found_by_its_other_names(tmp_path: Path) -> None:
    spec = write_yolo(tmp_path, {"a": ""}, yaml="train: train/images\nvalid: other/images\nnames: [cat]\n")
    write_image(tmp_path / "other" / "images" / "v.png", seed=5)
    assert open_set(spec, "val")[0].name(0) == "set/other/images/v.png"
    (tmp_path / "data.yaml").write_text("names: [cat]\n")
    (tmp_path / "other").rename(tmp_path / "valid")
    assert open_set(spec, "val")[0].name(0) == "set/valid/images/v.png"
    with pytest.raises(ValueError, match=r"split 'test': no images"):
        open_set(spec, "test")


@pytest.mark.parametrize(
    ("yaml", "value"),
    [
        ("names: [cat", "no YAML"),
        ("- a\n", "no mapping"),
        ("train: train/images\n", "names is None"),
        ("names: [cat, dog]\nnc: 3\n", "nc is 3, but there are 2 names"),
        ("names: {0: cat, 2: dog}\n", "where 0 to 1 belong"),
        ("names: [cat, cat]\n", "more than once"),
        ("names: !!python/object/apply:os.getcwd []\n", "no YAML"),
    ],
)
def test_a_malformed_description_is_one_defect_that_stops(yaml: str, value: str, tmp_path: Path) -> None:
    table, defects = open_set(write_yolo(tmp_path, {"a": ""}, yaml=yaml))
    assert kinds(defects) == {"malformed_file": 1} and value in defects[0].value and len(table) == 0


def test_a_list_of_images_and_darknets_description_are_read(tmp_path: Path) -> None:
    for seed, name in enumerate(("1.png", "2.png")):
        write_image(tmp_path / "obj_train_data" / name, seed=seed)
    (tmp_path / "obj_train_data" / "1.txt").write_text("0 .5 .5 .5 .5")
    (tmp_path / "obj.data").write_text("classes = 1\ntrain = data/train.txt\nnames = data/obj.names\n")
    (tmp_path / "obj.names").write_text("cat\n\n")
    (tmp_path / "train.txt").write_text("data/obj_train_data/1.png\ndata/obj_train_data/2.png\ndata/gone.png\n")
    table, defects = open_set(SetSpec("set", "yolo", str(tmp_path)))
    assert table.classes == ("cat",) and table.counts().tolist() == [1, 0]
    assert kinds(defects) == {"missing_label_file": 1, "missing_file": 1, "image_without_annotations": 1}
