"""Pascal VOC XML."""

import time
from pathlib import Path

import pytest
from data_sets import HEIGHT, WIDTH, kinds, open_set, voc_object, write_image, write_voc

BOX = (2, 3, 12, 13)


def test_corners_are_edges_in_continuous_pixels_and_difficult_objects_are_crowd(tmp_path: Path) -> None:
    objects = voc_object("dog", BOX) + voc_object("cat", (1, 1, WIDTH, HEIGHT), difficult=1)
    table, defects = open_set(write_voc(tmp_path, objects))
    assert defects == [] and table.classes == ("cat", "dog")
    truth = table.truth(0)
    assert truth.boxes.tolist() == [[2, 3, 12, 13], [1, 1, WIDTH, HEIGHT]]
    assert truth.labels.tolist() == [1, 0] and truth.crowd.tolist() == [False, True]
    assert truth.areas.tolist() == [100.0, (WIDTH - 1) * (HEIGHT - 1)]


@pytest.mark.parametrize(
    ("kind", "objects", "left"),
    [
        ("nan_box", voc_object("cat", ("nan", 3, 12, 13)), 1),
        ("negative_side", voc_object("cat", (12, 3, 2, 13)), 1),
        ("zero_side", voc_object("cat", (2, 3, 2, 13)), 1),
        ("outside_image", voc_object("cat", (50, 3, 60, 13)), 1),
        ("partly_outside", voc_object("cat", (30, 3, 60, 13)), 2),
        ("decimal_comma", voc_object("cat", ("2,5", 3, "12,5", 13)), 2),
        ("duplicate_box", voc_object("cat", BOX), 1),
        ("malformed_record", voc_object("cat", ("", 3, 12, 13)), 1),
        ("malformed_record", voc_object("cat", ("wide", 3, 12, 13)), 1),
        ("malformed_record", voc_object("", BOX), 1),
        ("malformed_record", "<object><name>cat</name><polygon/></object>", 1),
    ],
)
def test_a_defect_names_the_file_and_the_number_of_the_object(
    kind: str, objects: str, left: int, tmp_path: Path
) -> None:
    table, defects = open_set(write_voc(tmp_path, voc_object("cat", BOX) + objects))
    assert kinds(defects) == {kind: 1}
    assert defects[0].file == str(tmp_path / "Annotations" / "a.xml") and defects[0].record == "object 2"
    assert len(table.truth(0).boxes) == left


def test_decimal_commas_are_read_as_points(tmp_path: Path) -> None:
    table, _ = open_set(write_voc(tmp_path, voc_object("cat", ("2,5", "3,25", "12,5", "13"))))
    assert table.truth(0).boxes.tolist() == [[2.5, 3.25, 12.5, 13]]


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (2 * WIDTH, 2 * HEIGHT)])
def test_another_size_than_the_file_has_is_found(size: tuple[int, int], tmp_path: Path) -> None:
    table, defects = open_set(write_voc(tmp_path, voc_object("cat", BOX), size=size))
    assert kinds(defects) == {"size_mismatch": 1} and len(table) == 0


def test_a_size_of_zero_is_taken_as_unknown(tmp_path: Path) -> None:
    assert open_set(write_voc(tmp_path, voc_object("cat", BOX), size=(0, 0)))[1] == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<annotation><object></annotation>",
        "<other/>",
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><annotation><filename>&x;</filename></annotation>',
        "<!DOCTYPE a [<!ENTITY b 'bbbbbbbbbb'><!ENTITY c '" + "&b;" * 1000 + "'>]><annotation>&c;</annotation>",
    ],
    ids=["empty", "unclosed", "another root", "external entity", "expanding entity"],
)
def test_xml_that_is_broken_or_hostile_is_a_defect_and_quick(text: str, tmp_path: Path) -> None:
    spec = write_voc(tmp_path, voc_object("cat", BOX), name="good")
    write_voc(tmp_path, "", name="bad")
    (tmp_path / "Annotations" / "bad.xml").write_text(text)
    start = time.perf_counter()
    table, defects = open_set(spec)
    assert time.perf_counter() - start < 0.5
    assert kinds(defects) == {"malformed_record": 1} and defects[0].file.endswith("bad.xml")
    assert defects[0].repair is None and len(table) == 1
    assert open_set(spec, accept=("malformed_record",))[1][0].repair == "drop_record"


def test_the_line_of_a_syntax_error_is_named(tmp_path: Path) -> None:
    spec = write_voc(tmp_path, "\n\n<object>")
    assert open_set(spec)[1][0].record == "line 3"


def test_image_sets_choose_the_images_of_a_split(tmp_path: Path) -> None:
    for name in ("a", "bb", "ccc"):
        spec = write_voc(tmp_path, voc_object(name, BOX), name=name)
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("ccc\na 1\n\n")
    (lists / "valid.txt").write_text("bb\nmissing\n")
    train, defects = open_set(spec)
    assert defects == [] and [train.name(i) for i in range(2)] == ["set/JPEGImages/ccc.png", "set/JPEGImages/a.png"]
    val, defects = open_set(spec, "val")
    assert len(val) == 1 and kinds(defects) == {"malformed_record": 1}
    assert "'missing' is listed" in defects[0].value
    with pytest.raises(ValueError, match=r"no split 'test'.*there are train, valid"):
        open_set(spec, "test")


def test_without_image_sets_a_val_split_asks_for_holdout(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holdout"):
        open_set(write_voc(tmp_path, voc_object("cat", BOX)), "val")


def test_the_stem_wins_over_a_stale_name_and_paths_inside_are_cut_to_the_name(tmp_path: Path) -> None:
    spec = write_voc(tmp_path, voc_object("cat", BOX))
    path = tmp_path / "Annotations" / "a.xml"
    for stale in ("other.png", "C:\\pictures\\other.png", "../../etc/passwd", ""):
        path.write_text(path.read_text().replace("<filename>a.png", f"<filename>{stale}", 1))
        table, defects = open_set(spec)
        assert defects == [] and table.name(0) == "set/JPEGImages/a.png"
        path.write_text(path.read_text().replace(f"<filename>{stale}", "<filename>a.png", 1))


def test_an_image_without_xml_is_left_out_and_reported(tmp_path: Path) -> None:
    spec = write_voc(tmp_path, voc_object("cat", BOX))
    write_image(tmp_path / "JPEGImages" / "z.png")
    table, defects = open_set(spec)
    assert len(table) == 1 and kinds(defects) == {"unlisted_image": 1} and defects[0].file.endswith("z.png")
