"""Every defect that is known of the real data sets is found, with the known numbers; nothing is lost in silence."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image

from accel_det.data import decode as decode_module
from accel_det.data.check import check_tables
from accel_det.data.convert import WRITERS, convert
from accel_det.data.decode import decode, image_size
from accel_det.data.defects import Defect
from accel_det.data.records import DetectionTable
from accel_det.data.sources import SetSpec, open_split

DATA = Path(os.environ.get("ACCEL_DET_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def folder(name: str) -> Path:
    path = DATA / name
    if not path.is_dir():
        pytest.skip(f"{name} is not there: no folder {path}")
    return path


def opened(format_name: str, name: str, split: str = "train", **fields: object) -> tuple[DetectionTable, list[Defect]]:
    spec = SetSpec("set", format_name, str(folder(name)))._replace(**fields)  # type: ignore[arg-type]
    return open_split({"set": spec}, f"set:{split}")


def kinds(defects: list[Defect]) -> dict[str, int]:
    return dict(Counter(defect.kind for defect in defects))


def test_weeds_has_6_images_without_file_14_with_sides_swapped_and_a_super_class_without_boxes() -> None:
    train, defects = opened("coco", "detection/weeds")
    assert kinds(defects) == {"missing_file": 6, "size_mismatch": 14, "unused_class": 1}
    assert all("annotated 464x696, the file is 696x464" in d.value for d in defects if d.kind == "size_mismatch")
    assert [d.value for d in defects if d.kind == "unused_class"] == ["'weeds-oHPJ' has no objects"]
    # 121 images and 129 boxes are listed.
    document = json.loads((folder("detection/weeds") / "train" / "_annotations.coco.json").read_bytes())
    left_out = 6 + 14
    assert len(train) == len(document["images"]) - left_out == 101
    swapped = {d.record.removeprefix("train/") for d in defects if d.kind == "size_mismatch"}
    on_disk = {path.name for path in (folder("detection/weeds") / "train").glob("*.jpg")}
    kept = {i["id"] for i in document["images"] if i["file_name"] in on_disk - swapped}
    expected = sum(annotation["image_id"] in kept for annotation in document["annotations"])
    assert int(train.counts().sum()) == expected
    assert check_tables(train, None, defects, read_images=False).stops


def test_weeds_trains_once_its_defects_are_accepted_with_a_fifth_held_out() -> None:
    accept = ("missing_file", "size_mismatch", "unused_class")
    train, first = opened("coco", "detection/weeds", holdout=0.2, accept=accept)
    val, second = opened("coco", "detection/weeds", "val", holdout=0.2, accept=accept)
    assert train.classes == val.classes == ("home",)
    assert len(train) + len(val) == 101 and 12 <= len(val) <= 30
    report = check_tables(train, val, first + second, read_images=True)
    assert not report.stops
    expected = {"missing_file": 6, "size_mismatch": 14, "unused_class": 1}
    # Three of the held-out photographs show the same ground as one that is trained on, as `show-data` shows.
    assert kinds(list(report.defects)) == expected | {"near_duplicate": 3}


def test_chess_keeps_every_image_and_finds_paths_beside_repeated_boxes_and_a_class_without_val_boxes() -> None:
    """Counted in the label files: 6,324 lines in train, 3 of them repeated; 386 in val, none of class 0."""
    train, first = opened("yolo", "detection/chess")
    val, second = opened("yolo", "detection/chess", "val")
    assert (len(train), len(val)) == (606, 58)
    assert (int(train.counts().sum()), int(val.counts().sum())) == (6324 - 3, 386)
    assert kinds(first) == {"path_beside": 1, "duplicate_box": 3}
    assert kinds(second) == {"path_beside": 1, "unused_class": 1}
    assert train.classes == val.classes and len(train.classes) == 13
    assert train.class_counts()["bishop"] == 3 and val.class_counts()["bishop"] == 0
    assert not check_tables(train, val, first + second, read_images=False).stops


def test_bccd_has_two_boxes_without_extent_and_corners_that_need_no_shift() -> None:
    train, first = opened("voc", "detection/bccd/BCCD")
    val, second = opened("voc", "detection/bccd/BCCD", "val")
    assert (len(train), len(val)) == (205, 87)
    assert kinds(first + second) == {"zero_side": 2}
    assert int(train.counts().sum() + val.counts().sum()) == 3943 - 2
    assert train.classes == ("Platelets", "RBC", "WBC")
    # No box leaves its image although none is shifted: there is no partly_outside above.
    widest = max(float(train.truth(i).boxes[:, 2].max()) for i in range(len(train)))
    assert widest == 640


def test_an_xml_file_beside_an_image_of_another_case_is_matched_and_an_image_without_xml_is_reported() -> None:
    table, defects = opened("voc", "formats/chess_case_mismatch")
    assert len(table) == 11 and int(table.counts().sum()) == 180
    assert kinds(defects) == {"case_mismatch": 1, "unlisted_image": 1}
    assert "'0af.jpg' is '0AF.jpg' on disk" in defects[0].value and defects[1].file.endswith("5c1.jpg")


def voc100(root: Path, format_name: str, source: str) -> tuple[DetectionTable, list[Defect]]:
    """One of the formats of voc100, whose pictures are not distributed, with blank images of the annotated sizes."""
    reference = json.loads((folder("formats/voc100/coco_format_v1") / "instances_default.json").read_bytes())
    shared = folder(f"formats/voc100/{source}")
    place = {"voc": "JPEGImages", "yolo": "obj_train_data"}.get(format_name, "images")
    for path in shared.rglob("*"):
        target = root / ("Annotations" if format_name == "voc" else "") / path.relative_to(shared)
        if path.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (root / place).mkdir(exist_ok=True)
    for entry in reference["images"]:
        Image.new("1", (entry["width"], entry["height"])).save(root / place / entry["file_name"], "PNG")
    annotations = {"coco_format_v1": "instances_default.json", "coco_format_v2": "instances_v2.json"}.get(source)
    spec = SetSpec("set", format_name, str(root), annotations=annotations)
    return open_split({"set": spec}, "set:train")


def objects_of(table: DetectionTable) -> dict[str, list[tuple[str, list[float]]]]:
    """Class and corners, in pixels, of the objects of each image, sorted."""
    found = {}
    for index in range(len(table)):
        truth = table.truth(index)
        rows = zip(truth.labels.tolist(), truth.boxes.tolist(), strict=True)
        found[Path(table.name(index)).stem] = sorted((table.classes[label], box) for label, box in rows)
    return found


def test_273_boxes_of_100_images_are_the_same_from_six_formats(tmp_path: Path) -> None:
    sources = {
        "pascalvoc_format": "voc",
        "coco_format_v1": "coco",
        "coco_format_v2": "coco",
        "yolo_format": "yolo",
        "cvat_format": "cvat",
        "openimages_format": "openimages",
    }
    tables = {}
    for source, format_name in sources.items():
        tables[source], defects = voc100(tmp_path / source, format_name, source)
        # Open Images' numbers have decimal commas; CVAT lists classes of which there is no object.
        expected_kinds = {"openimages_format": {"decimal_comma"}, "cvat_format": {"unused_class"}}.get(source, set())
        assert set(kinds(defects)) <= expected_kinds
    expected = objects_of(tables["pascalvoc_format"])
    assert len(expected) == 100 and sum(map(len, expected.values())) == 273
    assert objects_of(tables["coco_format_v1"]) == expected
    assert objects_of(tables["coco_format_v2"]) == expected
    assert objects_of(tables["cvat_format"]) == expected
    # YOLO: six decimals of a share of at most 500 px, 1e-6 * 500 for the center, and half as much again for the side.
    # Open Images: ten decimals of a share.
    for source, tolerance in (("yolo_format", 1e-6 * 500 * 1.5), ("openimages_format", 1e-10 * 500 + 1e-4)):
        found = objects_of(tables[source])
        assert found.keys() == expected.keys()
        for name, rows in expected.items():
            assert [label for label, _ in found[name]] == [label for label, _ in rows]
            difference = torch.tensor([box for _, box in found[name]]) - torch.tensor([box for _, box in rows])
            assert difference.abs().max() <= tolerance, (source, name)


@pytest.mark.parametrize("to", sorted(set(WRITERS) - {"widerface"}))
def test_the_273_boxes_are_the_same_after_they_were_written_in_another_format(tmp_path: Path, to: str) -> None:
    """VOC calls 38 of them difficult; YOLO and CreateML have no word for that, so theirs come from COCO, which calls none so."""
    without_flag = to in ("yolo", "createml")
    names = ("coco", "coco_format_v1") if without_flag else ("voc", "pascalvoc_format")
    table, _ = voc100(tmp_path / "set", *names)
    done = convert({"train": table}, tmp_path / "made", to=to, link=True)
    again, defects = open_split({"set": SetSpec("set", to, str(tmp_path / "made"))}, "set:train")
    assert done.counts == {"train": (100, 273)} and defects == []
    # COCO lists its classes in an order that CreateML, which lists none, cannot keep.
    assert [line.partition(":")[0] for line in done.lost] == (["the list of classes"] if to == "createml" else [])
    assert objects_of(again) == objects_of(table)
    assert int(again.stored_objects().crowd.sum()) == (0 if without_flag else 38)


def test_the_38_difficult_objects_that_yolo_has_no_word_for_are_left_out_and_counted(tmp_path: Path) -> None:
    table, _ = voc100(tmp_path / "set", "voc", "pascalvoc_format")
    done = convert({"train": table}, tmp_path / "made", to="yolo", link=True)
    assert done == ({"train": (100, 273 - 38)}, ["38 ignored region(s), which are left out"])


def test_decimal_commas_in_voc_are_read_as_points_and_reported_for_each_of_273_boxes(tmp_path: Path) -> None:
    expected, _ = voc100(tmp_path, "voc", "pascalvoc_format")
    for path in (tmp_path / "Annotations").glob("*.xml"):
        text = path.read_text()
        for tag in ("xmin", "ymin", "xmax", "ymax"):
            text = text.replace(f"</{tag}>", f",0</{tag}>")
        path.write_text(text)
    table, defects = open_split({"set": SetSpec("set", "voc", str(tmp_path))}, "set:train")
    assert kinds(defects) == {"decimal_comma": 273}
    assert objects_of(table) == objects_of(expected)


def test_each_image_of_sharks_has_as_many_boxes_from_polygons_as_from_coco() -> None:
    polygons, _ = opened("yolo", "formats/sharks/sharks-tiny-yolov9")
    boxes, _ = opened("coco", "formats/sharks/sharks-tiny-coco")

    def sizes(table: DetectionTable) -> dict[str, int]:
        return {Path(table.name(i)).name.split(".rf.")[0]: int(table.counts()[i]) for i in range(len(table))}

    assert sizes(polygons) == sizes(boxes) and sum(sizes(boxes).values()) == 44


def test_every_odd_image_gives_pixels_or_one_clear_error() -> None:
    paths = sorted(folder("formats/odd_images").iterdir())
    refused = []
    for path in paths:
        data = path.read_bytes()
        try:
            pixels = decode(data, name=path.name)
        except ValueError as error:
            assert str(error).startswith(f"{path.name}: not an image: ") and "\n" not in str(error)
            refused.append(path.name)
            continue
        assert pixels.dtype == torch.uint8 and pixels.permute(1, 2, 0).is_contiguous()
        assert tuple(pixels.shape[1:]) == image_size(path) == image_size(data) and pixels.shape[0] == 3
    assert len(paths) == 12 and refused == ["not_an_image.txt", "sky-rabbit.heic"]


@pytest.mark.parametrize("name", ["detection/bccd/BCCD/JPEGImages", "detection/weeds/train", "formats/odd_images"])
def test_torchcodec_and_pillow_decode_photographs_to_the_same_pixels(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torchcodec")
    paths = [path for path in sorted(folder(name).iterdir()) if path.suffix.lower() in (".jpg", ".png")][:15]
    fast = [decode(path.read_bytes(), name=path.name) for path in paths]
    monkeypatch.setattr(decode_module, "_torchcodec", lambda: None)
    slow = [decode(path.read_bytes(), name=path.name) for path in paths]
    assert len(paths) >= 7
    assert all(torch.equal(a, b) for a, b in zip(fast, slow, strict=True))


def test_createml_has_the_boxes_of_coco_for_the_same_pictures_of_sharks() -> None:
    ours, _ = opened("createml", "formats/sharks/sharks-tiny-createml")
    boxes, _ = opened("coco", "formats/sharks/sharks-tiny-coco")

    def sizes(table: DetectionTable) -> dict[str, int]:
        return {Path(table.name(i)).name.split(".rf.")[0]: int(table.counts()[i]) for i in range(len(table))}

    assert sizes(ours) == sizes(boxes)
    assert sum(sizes(ours).values()) == 44


def test_faces_of_wider_are_counted_and_invalid_ones_are_ignored_regions() -> None:
    table, _ = opened("widerface", "formats/widerface_dataset")
    assert {Path(table.name(i)).stem: int(table.counts()[i]) for i in range(len(table))} == {
        "0_Parade_image_01": 1,
        "1_Handshaking_image_02": 2,
    }
    assert table.classes == ("face",)
