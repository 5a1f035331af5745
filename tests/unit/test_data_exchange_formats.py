"""CSV, CreateML, CVAT, Open Images, WIDER FACE and ImageNet DET: what each says, and what is wrong with it."""

import json
from pathlib import Path

import pytest
from data_sets import HEIGHT, WIDTH, kinds, open_set, write_image

from accel_det.data.sources import SetSpec

IMAGES = ("a.png", "b.png")


def write_set(root: Path, format_name: str, files: dict[str, str], *, images: str = "images") -> SetSpec:
    """Two images, and annotation files by their place."""
    for seed, name in enumerate(IMAGES):
        write_image(root / images / name, seed=seed)
    for place, text in files.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text, "utf-8")
    return SetSpec("set", format_name, str(root))


GOOD: dict[str, tuple[dict[str, str], str]] = {
    "csv": (
        {"train.csv": "filename,class,xmin,ymin,xmax,ymax\na.png,dog,1,2,11,14\na.png,cat,5,5,25,25\nb.png,,,,,\n"},
        "images",
    ),
    "createml": (
        {
            "train.json": json.dumps(
                [
                    {
                        "image": "a.png",
                        "annotations": [
                            {"label": "dog", "coordinates": {"x": 6, "y": 8, "width": 10, "height": 12}},
                            {"label": "cat", "coordinates": {"x": 15, "y": 15, "width": 20, "height": 20}},
                        ],
                    },
                    {"image": "b.png", "annotations": []},
                ]
            )
        },
        "images",
    ),
    "cvat": (
        {
            "annotations.xml": f"""<annotations>
              <image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">
                <box label="dog" xtl="1" ytl="2" xbr="11" ybr="14"/>
                <polygon label="cat" points="5,5;25,9;12,25"/>
              </image>
              <image id="1" name="b.png" width="{WIDTH}" height="{HEIGHT}"/></annotations>"""
        },
        "images",
    ),
    "openimages": (
        {
            "train-annotations-bbox.csv": "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\n"
            f"a,/m/d,{1 / WIDTH},{11 / WIDTH},{2 / HEIGHT},{14 / HEIGHT},0\n"
            f"a,/m/c,{5 / WIDTH},{25 / WIDTH},{5 / HEIGHT},{25 / HEIGHT},0\n",
            "train-images.csv": "ImageID\na\nb\n",
            "class-descriptions-boxable.csv": "/m/c,cat\n/m/d,dog\n",
        },
        "images",
    ),
    "imagenet_det": (
        {
            "Annotations/DET/train/a.xml": "<annotation><filename>a</filename>"
            "<object><name>dog</name><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>11</xmax><ymax>14</ymax></bndbox></object>"
            "<object><name>cat</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>25</xmax><ymax>25</ymax></bndbox></object>"
            "</annotation>",
            "Annotations/DET/train/b.xml": "<annotation><filename>b</filename></annotation>",
        },
        "Data/DET/train",
    ),
}


@pytest.mark.parametrize("format_name", GOOD)
def test_the_same_two_images_and_two_objects_come_out_of_every_format(tmp_path: Path, format_name: str) -> None:
    files, images = GOOD[format_name]
    table, defects = open_set(write_set(tmp_path, format_name, files, images=images))
    assert set(kinds(defects)) == {"image_without_annotations"}
    assert table.classes == ("cat", "dog")
    assert sorted(Path(table.name(i)).name for i in range(2)) == list(IMAGES)
    assert table.counts().tolist() == [2, 0]
    found = sorted(zip(table.truth(0).labels.tolist(), table.truth(0).boxes.tolist(), strict=True))
    assert [label for label, _ in found] == [0, 1]
    assert found[0][1] == pytest.approx([5, 5, 25, 25], abs=1e-4)
    assert found[1][1] == pytest.approx([1, 2, 11, 14], abs=1e-4)


def test_faces_marked_as_invalid_are_ignored_and_a_count_of_zero_has_a_line_of_zeros(tmp_path: Path) -> None:
    lines = "a.png\n2\n1 2 10 12 0 0 0 0 0 0\n5 5 20 20 2 0 0 1 0 0\nb.png\n0\n0 0 0 0 0 0 0 0 0 0\n"
    spec = write_set(tmp_path, "widerface", {"wider_face_train_bbx_gt.txt": lines}, images="WIDER_train/images")
    table, defects = open_set(spec)
    assert kinds(defects) == {"image_without_annotations": 1}
    assert table.truth(0).boxes.tolist() == [[1, 2, 11, 14], [5, 5, 25, 25]]
    assert table.truth(0).crowd.tolist() == [False, True]


def test_columns_without_a_header_are_retinanets_and_corners_or_sides_are_told_by_their_names(tmp_path: Path) -> None:
    headless = write_set(tmp_path / "retina", "csv", {"train.csv": "a.png,1,2,11,14,dog\nb.png,,,,,\n"})
    sides = write_set(
        tmp_path / "sides",
        "csv",
        {"annotations.csv": "image;label;x;y;width;height;split\na.png;dog;1;2;10;12;train\nb.png;dog;1,5;2;3;3;val\n"},
    )
    for spec in (headless, sides):
        table, _ = open_set(spec)
        assert table.truth(0).boxes.tolist() == [[1, 2, 11, 14]]
    table, defects = open_set(sides, "val")
    assert kinds(defects) == {"decimal_comma": 1}
    assert table.truth(0).boxes.tolist() == [[1.5, 2, 4.5, 5]]


BROKEN: dict[str, tuple[str, dict[str, str], str, str]] = {
    "csv: a row cut short": (
        "csv",
        {"train.csv": "image,class,x1,y1,x2,y2\na.png,dog,1\n"},
        "malformed_record",
        "line 2",
    ),
    "csv: a word for a number": (
        "csv",
        {"train.csv": "image,class,x1,y1,x2,y2\na.png,dog,1,two,3,4\n"},
        "malformed_record",
        "line 2",
    ),
    "csv: unknown columns": ("csv", {"train.csv": "foo,bar\n1,2\n"}, "malformed_file", "line 1"),
    "csv: an image that leads out": (
        "csv",
        {"train.csv": "image,class,x1,y1,x2,y2\n../../etc/passwd,dog,1,2,3,4\n"},
        "missing_file",
        "line 2",
    ),
    "createml: no list": ("createml", {"train.json": "{}"}, "malformed_file", ""),
    "createml: half a file": ("createml", {"train.json": '[{"image": "a.png"'}, "malformed_file", "line 1"),
    "createml: a box without a side": (
        "createml",
        {"train.json": '[{"image": "a.png", "annotations": [{"label": "dog", "coordinates": {"x": 1}}]}]'},
        "malformed_record",
        "entry 0, object 1",
    ),
    "cvat: half a file": ("cvat", {"annotations.xml": '<annotations><image name="a.png"'}, "malformed_file", "line 1"),
    "cvat: an entity": (
        "cvat",
        {"annotations.xml": '<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>'},
        "malformed_file",
        "",
    ),
    "cvat: points": (
        "cvat",
        {
            "annotations.xml": '<annotations><image name="a.png"><points label="dog" points="1,2"/></image></annotations>'
        },
        "other_shape",
        "object 1",
    ),
    "openimages: a column is missing": (
        "openimages",
        {"train-annotations-bbox.csv": "ImageID,LabelName,XMin\na,x,0\n"},
        "malformed_file",
        "line 1",
    ),
    "openimages: a word for a number": (
        "openimages",
        {"train-annotations-bbox.csv": "ImageID,LabelName,XMin,XMax,YMin,YMax\na,x,0,b,0,1\n"},
        "malformed_record",
        "line 2",
    ),
    "widerface: fewer faces than counted": (
        "widerface",
        {"wider_face_train_bbx_gt.txt": "a.png\n2\n1 2 3 4\n"},
        "malformed_record",
        "line 2",
    ),
    "widerface: half a face": (
        "widerface",
        {"wider_face_train_bbx_gt.txt": "a.png\n1\n1 2\n"},
        "malformed_record",
        "line 3",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_is_found_with_its_file_and_its_record_and_stops_the_run(tmp_path: Path, case: str) -> None:
    format_name, files, kind, record = BROKEN[case]
    _, defects = open_set(write_set(tmp_path, format_name, files))
    found = [defect for defect in defects if defect.kind == kind]
    assert found, kinds(defects)
    assert found[0].repair is None
    assert found[0].file.endswith(next(iter(files)))
    assert record in found[0].record
    assert "\n" not in found[0].line()


@pytest.mark.parametrize("format_name", [*GOOD, "widerface"])
def test_a_set_without_its_annotation_file_is_one_line_that_says_where_it_was_looked_for(
    tmp_path: Path, format_name: str
) -> None:
    with pytest.raises(ValueError, match=rf"^set 'set', split 'train': no .* in {tmp_path}") as error:
        open_set(write_set(tmp_path, format_name, {}))
    assert "\n" not in str(error.value)
    assert "`annotations`" in str(error.value)
