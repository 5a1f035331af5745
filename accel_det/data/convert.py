"""Writes splits in another annotation format: images byte for byte, and everything that the format can store.

Every file is written beside its place and renamed once it is whole, annotations last. So what was interrupted goes on, and a
reader meets no half of a file.
"""

import contextlib
import errno
import json
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from accel_det.data.formats.gather import natural_number
from accel_det.data.formats.raw import Bools
from accel_det.data.progress import shown
from accel_det.data.records import DetectionTable
from accel_det.data.write import coco, createml, csv_boxes, cvat, imagenet_det, openimages, voc, widerface, yolo
from accel_det.data.write.names import file_names
from accel_det.data.write.split import Writer, WrittenSplit

WRITERS: dict[str, Writer] = {
    "coco": coco.WRITER,
    "voc": voc.WRITER,
    "yolo": yolo.WRITER,
    "csv": csv_boxes.WRITER,
    "createml": createml.WRITER,
    "cvat": cvat.WRITER,
    "openimages": openimages.WRITER,
    "widerface": widerface.WRITER,
    "imagenet_det": imagenet_det.WRITER,
}
PLAN = "converted.json"
_AREA_TOLERANCE = 1e-6


class Converted(NamedTuple):
    """What was written of each split, as (images, objects), and what the format cannot store, in words."""

    counts: dict[str, tuple[int, int]]
    lost: list[str]


def convert(tables: Mapping[str, DetectionTable], folder: Path, *, to: str, link: bool) -> Converted:
    """Write splits in a format, into a folder that is empty or holds a conversion of the same data, perhaps interrupted.

    Args:
        tables: by the name of the split, all with the same classes.
        to: key of `WRITERS`.
        link: make hard links to image files, which take no room, instead of copies.

    Raises:
        ValueError: the folder holds something else; the format has no place for the classes; an image cannot be read, or
            linked.
    """
    writer = WRITERS[to]
    _require_classes(next(iter(tables.values())).classes, writer, to=to)
    names = file_names(tables)
    sources = {split: dict(zip(names[split], table.names(), strict=True)) for split, table in tables.items()}
    _agree(folder, {"to": to, "data": {split: table.fingerprint for split, table in tables.items()}, "images": sources})
    kept = {split: _kept(table, writer) for split, table in tables.items()}
    written = [_written(table, split, names[split], kept[split]) for split, table in tables.items()]
    for split, table in tables.items():
        place = folder / writer.images.replace("{split}", split)
        place.mkdir(parents=True, exist_ok=True)
        for index in shown(range(len(table)), total=len(table), what=f"images of {split}"):
            _place_image(table, index, place / names[split][index], link=link)
    for file in writer.files(written):
        _write(folder / file.place, file.parts)
    counts = {split.name: (len(split.images), len(split.labels)) for split in written}
    renamed = sum(new != PurePosixPath(old).name for part in sources.values() for new, old in part.items())
    changed = [f"{renamed} file name(s) as they were; {PLAN} has them"] if renamed else []
    return Converted(counts, [*_lost(tables, kept, writer), *changed])


def _require_classes(classes: tuple[str, ...], writer: Writer, *, to: str) -> None:
    for name in classes:
        if not name or name != name.strip() or not name.isprintable():
            raise ValueError(
                f"class {name!r}: annotation files keep no names that are empty, begin or end with a space, or hold "
                "unprintable characters; rename it in the data"
            )
    if writer.only_class is not None and len(classes) != 1:
        raise ValueError(
            f"--to {to} has one class, {writer.only_class!r}, but the data have {len(classes)}: {', '.join(classes)}; choose "
            "one with data.classes, and accept: [unknown_class] in the sets"
        )


def require_free(folder: Path) -> None:
    """Refuse a folder that is neither empty nor of a conversion, before data are opened for it.

    Raises:
        ValueError: it is such a one, or a file.
    """
    if folder.exists() and not (folder / PLAN).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: is neither an empty folder nor an interrupted conversion; choose another one")


def _agree(folder: Path, plan: dict[str, object]) -> None:
    """The folder must be empty, or of the same plan."""
    require_free(folder)
    file = folder / PLAN
    text = json.dumps(plan, indent=1, ensure_ascii=False) + "\n"
    if file.exists() and file.read_bytes() != text.encode():
        raise ValueError(
            f"{folder}: holds a conversion of other data, or to another format ({PLAN} differs); choose another folder, or "
            "remove this one"
        )
    _write(file, [text])


def _kept(table: DetectionTable, writer: Writer) -> Bools:
    """(A,) objects that the format can store."""
    crowd = table.stored_objects().crowd
    return np.ones(len(crowd), np.bool_) if writer.keeps_crowd else ~crowd


def _written(table: DetectionTable, split: str, names: list[str], kept: Bools) -> WrittenSplit:
    objects = table.stored_objects()
    return WrittenSplit(
        name=split,
        classes=table.classes,
        images=names,
        sizes=table.sizes(),
        starts=np.concatenate(([0], np.cumsum(kept)))[objects.starts],
        boxes=objects.boxes[kept],
        labels=objects.labels[kept],
        crowd=objects.crowd[kept],
        areas=objects.areas[kept],
    )


def _place_image(table: DetectionTable, index: int, place: Path, *, link: bool) -> None:
    if place.exists():
        return
    path = table.path(index) if link else None
    if path is None:
        _write(place, table.image_bytes(index))
        return
    try:
        place.hardlink_to(Path(path).resolve())
    except OSError as error:
        reason = "it is on another file system" if error.errno == errno.EXDEV else error.strerror or str(error)
        raise ValueError(f"{path}: cannot be linked to {place}: {reason}; leave --link out") from error


def _write(place: Path, content: bytes | Iterable[str]) -> None:
    """Beside, then renamed into place: a reader sees a whole file or none."""
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = place.with_name(f"{place.name}.part")
    try:
        if isinstance(content, bytes):
            beside.write_bytes(content)
        else:
            with beside.open("w", encoding="utf-8", newline="") as file:
                file.writelines(content)
        beside.replace(place)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _lost(tables: Mapping[str, DetectionTable], kept: Mapping[str, Bools], writer: Writer) -> list[str]:
    """What a reader of the format will not find again."""
    lost = []
    stored = {split: table.stored_objects() for split, table in tables.items()}
    if regions := sum(int((~mask).sum()) for mask in kept.values()):
        lost.append(f"{regions} ignored region(s), which are left out")
    if any(table.given is not None for table in tables.values()):
        lost.append("given regions (data.proposals)")
    if not writer.keeps_areas:
        differing = 0
        for split, objects in stored.items():
            of_box = objects.boxes[:, 2:].prod(axis=1)
            differing += int((~np.isclose(objects.areas, of_box, rtol=_AREA_TOLERANCE, atol=0))[kept[split]].sum())
        lost += [f"{differing} area(s) that are not those of their boxes"] if differing else []
    first = next(iter(tables))
    classes, labels = tables[first].classes, stored[first].labels[kept[first]]
    met = [classes[label] for label in np.unique(labels).tolist()]
    as_read = {tuple(sorted(met)), tuple(sorted(met, key=lambda name: (natural_number(name), name)))}
    if writer.only_class is not None and classes != (writer.only_class,):
        lost.append(f"the name of the class, {classes[0]!r}, which becomes {writer.only_class!r}")
    elif not writer.keeps_classes and as_read != {classes}:
        lost.append(f"the list of classes: read it with data.classes: {json.dumps(classes, ensure_ascii=False)}")
    return lost
