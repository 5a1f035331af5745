"""What is written in a format is read again as it was; what the format cannot hold is said and counted."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from data_sets import kinds, write_image
from pycocotools.coco import COCO
from torchvision.datasets import VOCDetection

from accel_det.data.convert import PLAN, WRITERS, Converted, convert
from accel_det.data.records import DetectionTable
from accel_det.data.sources import SetSpec, open_split
from accel_det.data.write.names import file_names

CLASSES = ("zebra", 'the "quoted", one', "semi;colon", "<tag> & 'apostrophe'", "null", "10", "9", "Mäuse 鼠")
IMAGES = {
    "train": ("a.png", "one/b.png", "two/b.png", "größe 図.png", "labels/c.d.PNG", "nothing.png"),
    "val": ("v.png",),
}
STEP_PX = 4 * 64 * 2.0**-53
"""Of numbers up to 64 float64 has steps of 64 * 2^-53; four roundings lie between a share and an edge."""
IN_SHARES = ("yolo", "openimages")
IN_CENTERS_OR_SHARES = (*IN_SHARES, "createml")
Objects = list[tuple[str, list[float], bool, float]]
"""Class, xywh box, crowd and area of each object of an image."""


def source(
    root: Path, *, classes: tuple[str, ...] = CLASSES, crowd: bool = True, areas: bool = True, step_px: float = 0.25
) -> dict[str, DetectionTable]:
    """Splits of images of different sizes with boxes on a grid of `step_px`; the last of several images has none."""
    generator = np.random.default_rng(0)
    for split, names in IMAGES.items():
        document: dict[str, list[dict[str, object]]] = {"images": [], "annotations": []}
        document["categories"] = [{"id": i, "name": name} for i, name in enumerate(classes)]
        for number, name in enumerate(names):
            sides = (31 + 7 * number, 45 + 3 * number)
            write_image(root / split / name, seed=number + 10 * len(names), width=sides[0], height=sides[1])
            document["images"].append({"id": number, "file_name": name, "width": sides[0], "height": sides[1]})
            for label in range(len(classes) if name != "nothing.png" else 0):
                start = np.floor(generator.uniform(0, 15, 2) / step_px) * step_px
                size = np.floor(generator.uniform(1, 15, 2) / step_px) * step_px
                entry = {"image_id": number, "category_id": label, "bbox": [*start.tolist(), *size.tolist()]}
                entry |= {"iscrowd": int(crowd and label == 1)} | (
                    {"area": 1.5 + label} if areas and label == 2 else {}
                )
                document["annotations"].append(entry)
        (root / split / "_annotations.coco.json").write_text(json.dumps(document), "utf-8")
    return opened("coco", root, classes)


def opened(format_name: str, root: Path, classes: tuple[str, ...] | None = None) -> dict[str, DetectionTable]:
    """Both splits, without a defect but what is repaired unasked and loses nothing."""
    sets = {"set": SetSpec("set", format_name, str(root))}
    tables = {}
    for split in IMAGES:
        tables[split], defects = open_split(sets, f"set:{split}", classes=classes)
        # Open Images has identifiers without suffix, of which the reader tries the usual one first.
        assert set(kinds(defects)) <= {"image_without_annotations", "case_mismatch", "unused_class"}
    return tables


def contents(table: DetectionTable) -> dict[str, Objects]:
    """What is known of each image, by its name."""
    stored = table.stored_objects()
    rows = list(
        zip(
            [table.classes[label] for label in stored.labels.tolist()],
            stored.boxes.tolist(),
            stored.crowd.tolist(),
            stored.areas.tolist(),
            strict=True,
        )
    )
    return {name: rows[stored.starts[i] : stored.starts[i + 1]] for i, name in enumerate(table.names())}


def without_areas(tables: Mapping[str, DetectionTable], *, crowd: bool) -> dict[str, dict[str, Objects]]:
    """Everything but areas, which become those of the boxes, and, if so wanted, ignored regions."""
    return {
        split: {
            name: [(label, box, flag, box[2] * box[3]) for label, box, flag, _ in objects if crowd or not flag]
            for name, objects in contents(table).items()
        }
        for split, table in tables.items()
    }


def expect_objects(
    found: Mapping[str, Mapping[str, Objects]], expected: Mapping[str, Mapping[str, Objects]], *, tolerance_px: float
) -> None:
    """The same objects in the same order; boxes at most so far apart."""
    swept = 0
    for split, part in expected.items():
        assert found[split].keys() == part.keys()
        for name, objects in part.items():
            assert [(label, flag) for label, _, flag, _ in found[split][name]] == [
                (label, flag) for label, _, flag, _ in objects
            ]
            for (_, box, _, _), (_, wanted, _, _) in zip(found[split][name], objects, strict=True):
                assert box == pytest.approx(wanted, rel=0, abs=tolerance_px)
                swept += 1
    assert swept >= 42


def come_back(
    tables: Mapping[str, DetectionTable], folder: Path, *, to: str
) -> tuple[Converted, dict[str, dict[str, Objects]], tuple[str, ...]]:
    """What was said, what is read of each image under the name it had, by split, and the classes that are read."""
    said = convert(tables, folder, to=to, link=False)
    named = [line for line in said.lost if line.startswith("the list of classes: ")]
    classes = tuple(json.loads(named[0].partition("data.classes: ")[2])) if named else None
    again = opened(to, folder, classes)
    plan = json.loads((folder / PLAN).read_text("utf-8"))["images"]
    found: dict[str, dict[str, Objects]] = {}
    for split, table in again.items():
        by_old = {plan[split][Path(name).name]: objects for name, objects in contents(table).items()}
        found[split] = by_old
        for index, name in enumerate(table.names()):
            old = tables[split].names().index(plan[split][Path(name).name])
            assert table.image_bytes(index) == tables[split].image_bytes(old)
    return said, found, again["train"].classes


@pytest.mark.parametrize("to", ["coco", "csv"])
def test_formats_that_hold_everything_give_every_image_class_box_flag_and_area_back(tmp_path: Path, to: str) -> None:
    tables = source(tmp_path / "set")
    said, found, classes = come_back(tables, tmp_path / "made", to=to)
    assert classes == CLASSES
    assert found == {split: contents(table) for split, table in tables.items()}
    assert said.counts == {"train": (6, 40), "val": (1, 8)}
    assert said.lost == [f"3 file name(s) as they were; {PLAN} has them"]


def without(tables: Mapping[str, DetectionTable], *, crowd: bool) -> dict[str, dict[str, Objects]]:
    """Everything but areas, which become those of the boxes, and, if so wanted, ignored regions."""
    return {
        split: {
            name: [(label, box, flag, box[2] * box[3]) for label, box, flag, _ in objects if crowd or not flag]
            for name, objects in contents(table).items()
        }
        for split, table in tables.items()
    }


@pytest.mark.parametrize("to", ["voc", "cvat", "openimages", "imagenet_det", "yolo", "createml"])
def test_other_formats_give_back_all_but_areas_and_some_ignored_regions_which_are_counted(
    tmp_path: Path, to: str
) -> None:
    tables = source(tmp_path / "set")
    said, found, classes = come_back(tables, tmp_path / "made", to=to)
    crowd, listed = to not in ("yolo", "createml"), to not in ("voc", "imagenet_det", "createml")
    assert classes == CLASSES
    expect_objects(found, without_areas(tables, crowd=crowd), tolerance_px=STEP_PX if to in IN_SHARES else 0)
    assert said.lost == [
        *(["6 ignored region(s), which are left out"] if not crowd else []),
        "6 area(s) that are not those of their boxes",
        *(
            []
            if listed
            else [f"the list of classes: read it with data.classes: {json.dumps(CLASSES, ensure_ascii=False)}"]
        ),
        f"3 file name(s) as they were; {PLAN} has them",
    ]
    assert said.counts["train"] == (6, 40 if crowd else 35)


def test_wider_face_holds_one_class_under_its_own_name_and_refuses_more(tmp_path: Path) -> None:
    tables = source(tmp_path / "set", classes=("visage",))
    said, found, classes = come_back(tables, tmp_path / "made", to="widerface")
    assert classes == ("face",)
    expected = {
        split: {name: [("face", *rest) for _, *rest in objects] for name, objects in part.items()}
        for split, part in without_areas(tables, crowd=True).items()
    }
    assert found == expected
    assert said.lost[0] == "the name of the class, 'visage', which becomes 'face'"
    with pytest.raises(
        ValueError, match=r"^--to widerface has one class, 'face', but the data have 8: .*data\.classes"
    ):
        convert(source(tmp_path / "many"), tmp_path / "other", to="widerface", link=False)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("to", sorted(set(WRITERS) - {"widerface"}))
def test_boxes_with_all_their_digits_move_by_the_last_of_them_at_most(tmp_path: Path, to: str) -> None:
    tables = source(tmp_path / "set", crowd=False, areas=False, step_px=1e-9)
    _, found, _ = come_back(tables, tmp_path / "made", to=to)
    expect_objects(found, without_areas(tables, crowd=True), tolerance_px=STEP_PX if to in IN_CENTERS_OR_SHARES else 0)


def test_pycocotools_reads_the_coco_file_with_boxes_of_their_images_and_classes(tmp_path: Path) -> None:
    tables = source(tmp_path / "set")
    convert(tables, tmp_path / "made", to="coco", link=False)
    plan = json.loads((tmp_path / "made" / PLAN).read_text("utf-8"))["images"]
    for split, table in tables.items():
        coco = COCO(str(tmp_path / "made" / "annotations" / f"instances_{split}.json"))
        found = {}
        for image in coco.loadImgs(coco.getImgIds()):
            assert (tmp_path / "made" / "images" / split / image["file_name"]).is_file()
            found[plan[split][image["file_name"]]] = [
                (coco.cats[entry["category_id"]]["name"], entry["bbox"], bool(entry["iscrowd"]), entry["area"])
                for entry in coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
            ]
        assert found == contents(table)


def test_torchvision_reads_the_voc_files_with_boxes_of_their_images_and_classes(tmp_path: Path) -> None:
    tables = source(tmp_path / "set")
    convert(tables, tmp_path / "VOCdevkit" / "VOC2012", to="voc", link=False)
    plan = json.loads((tmp_path / "VOCdevkit" / "VOC2012" / PLAN).read_text("utf-8"))["images"]
    for split, table in tables.items():
        # It takes the one suffix .jpg for granted; what a picture is called does not matter to its annotation.
        opened_by_torchvision = VOCDetection(str(tmp_path), image_set=split)
        found = {}
        for index in range(len(opened_by_torchvision)):
            told = opened_by_torchvision.parse_voc_xml(
                ElementTree.parse(opened_by_torchvision.annotations[index]).getroot()
            )
            annotation = told["annotation"]
            found[plan[split][annotation["filename"]]] = [
                (
                    one["name"],
                    *(float(one["bndbox"][edge]) for edge in ("xmin", "ymin", "xmax", "ymax")),
                    one["difficult"],
                )
                for one in annotation.get("object", [])
            ]
        assert found == {
            name: [(label, x, y, x + w, y + h, str(int(flag))) for label, (x, y, w, h), flag, _ in objects]
            for name, objects in contents(table).items()
        }


def test_what_was_interrupted_goes_on_and_no_half_of_a_file_is_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables, folder = source(tmp_path / "set"), tmp_path / "made"
    image_bytes = DetectionTable.image_bytes
    monkeypatch.setattr(
        DetectionTable, "image_bytes", lambda table, index: image_bytes(table, index) if index < 3 else 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        convert(tables, folder, to="coco", link=False)
    monkeypatch.undo()
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(written) == 1 + 3 and not list(folder.rglob("*.part"))
    times = [path.stat().st_mtime_ns for path in written[1:]]
    _, found, _ = come_back(tables, folder, to="coco")
    assert found == {split: contents(table) for split, table in tables.items()}
    assert [path.stat().st_mtime_ns for path in written[1:]] == times


def test_a_folder_with_something_else_in_it_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    tables, folder = source(tmp_path / "set"), tmp_path / "made"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=rf"^{folder}: is neither an empty folder nor an interrupted conversion"):
        convert(tables, folder, to="voc", link=False)
    with pytest.raises(ValueError, match=rf"^{folder / 'mine.txt'}: is neither an empty folder"):
        convert(tables, folder / "mine.txt", to="voc", link=False)
    assert [path.name for path in folder.rglob("*")] == ["mine.txt"]
    convert(tables, tmp_path / "voc", to="voc", link=False)
    before = {path: path.read_bytes() for path in (tmp_path / "voc").rglob("*") if path.is_file()}
    for other, to in ((tables, "yolo"), (source(tmp_path / "other", areas=False, step_px=0.5), "voc")):
        with pytest.raises(
            ValueError, match=rf"^{tmp_path / 'voc'}: holds a conversion of other data, or to another format"
        ):
            convert(other, tmp_path / "voc", to=to, link=False)
    assert {path: path.read_bytes() for path in (tmp_path / "voc").rglob("*") if path.is_file()} == before


def test_linked_images_are_the_files_themselves_also_behind_a_symbolic_link(tmp_path: Path) -> None:
    tables = source(tmp_path / "set")
    original = tmp_path / "set" / "train" / "a.png"
    original.rename(tmp_path / "set" / "train" / "real")
    original.symlink_to("real")
    convert(tables, tmp_path / "made", to="yolo", link=True)
    made = tmp_path / "made" / "images" / "train" / "a.png"
    assert made.samefile(original) and not made.is_symlink()


@pytest.mark.parametrize("name", ["", " cat", "cat ", "tab\tcat", "two\nlines"])
def test_a_class_name_that_annotation_files_would_change_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    tables = source(tmp_path / "set", classes=("dog", name))
    with pytest.raises(ValueError, match=rf"^class {re.escape(repr(name))}: annotation files keep no names"):
        convert(tables, tmp_path / "made", to="coco", link=False)


def test_names_stay_as_they_are_where_they_can_and_differ_whatever_their_case(tmp_path: Path) -> None:
    tables = source(tmp_path / "set")
    names = file_names(tables)
    assert names["train"][0] == "a.png" and names["train"][4] == "c.d.PNG" and names["val"] == ["v.png"]
    assert re.fullmatch(r"b-[0-9a-f]{12}\.png", names["train"][1]) and names["train"][1] != names["train"][2]
    assert re.fullmatch(r"größe_図-[0-9a-f]{12}\.png", names["train"][3])
    # The name of one image follows from its own, not from how many there are.
    alone, _ = open_split({"set": SetSpec("set", "coco", str(tmp_path / "set"))}, "set:val")
    assert file_names({"val": alone}) == {"val": ["v.png"]}
