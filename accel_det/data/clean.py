"""Judging what a reader found: sizes of the files, boxes, labels; what is harmless is repaired, everything is noted.

Letters: I images, A annotated objects.
"""

from itertools import pairwise
from typing import NamedTuple

import datasets
import numpy as np

from accel_det.data.decode import MAX_PIXELS, image_header
from accel_det.data.defects import Findings
from accel_det.data.formats.raw import MOST_AREA, UNKNOWN_SIDE, Bools, Floats, Ints, RawSplit, StreamedImages

ROUNDING_PX = 0.5
"""A box may stick out of its image by so many pixels before it counts as a defect; it is clipped all the same."""

MIN_SIDE_PX = 0.01
"""A box with a shorter side has no area: such sides do not survive float32 in large images."""

_UNUSABLE = -1
_OBJECTS_AT_ONCE = 500_000

# A unit is judged by this many objects of a split, evenly taken, and by no fewer than these.
_MOST_UNITS, _FEWEST_UNITS = 100_000, 10
_SHARES, _CORNERS = 0.9, 0.5


class CleanSplit(NamedTuple):
    """One split of one set, ready to be joined.

    Attributes:
        classes: class names.
        names: of each image.
        files: path of each image, or None where the bytes are in `images`.
        images: a dataset of the one column "image", or None.
        sizes: (I, 2) int64 (height, width) of the upright file.
        counts: (I,) objects of each image.
        boxes: (A, 4) xyxy pixels of the upright file, clipped, every side at least MIN_SIDE_PX; by image.
        labels: (A,) index into classes.
        crowd: (A,).
        areas: (A,) square pixels, positive.
        records: (A,) number of the record, for messages.
        annotation_files: of each image, for messages.
        record_word: what records count.
        streamed: where the images are, if neither `files` nor `images` says it.
    """

    classes: tuple[str, ...]
    names: list[str]
    files: list[str] | None
    images: datasets.Dataset | None
    sizes: Ints
    counts: Ints
    boxes: Floats
    labels: Ints
    crowd: Bools
    areas: Floats
    records: Ints
    annotation_files: list[str]
    record_word: str
    streamed: StreamedImages | None = None


def clean(raw: RawSplit, *, findings: Findings, max_pixels: int = MAX_PIXELS) -> CleanSplit:
    """Measures every image and judges every object of a split.

    What cannot be trained on is left out whether or not that stops the run, so that all defects come in one list.
    """
    annotated = np.bincount(raw.objects.owner, minlength=len(raw.names))
    for index in np.flatnonzero(annotated == 0).tolist():
        findings.add(
            "image_without_annotations", file=raw.annotation_files[index], record=raw.names[index], value="none"
        )
    sizes = _measure(raw, findings=findings, max_pixels=max_pixels)
    usable = sizes[:, 0] != _UNUSABLE
    raw, sizes = raw.select(usable), sizes[usable]
    objects = raw.objects
    if (np.diff(objects.owner) < 0).any():
        objects = objects.keep(np.argsort(objects.owner, kind="stable"))
        raw = raw._replace(objects=objects)
    _judge_unit(raw, sizes, findings=findings)
    corners, kept = _judge_all_boxes(raw, sizes, findings=findings)
    if not kept.all():
        corners, objects = corners[kept], objects.keep(kept)
    given = ~np.isnan(objects.areas)
    impossible = given & ~((objects.areas >= MIN_SIDE_PX**2) & (objects.areas <= MOST_AREA))
    _note("bad_area", impossible, raw._replace(objects=objects), findings=findings)
    areas = np.where(given & ~impossible, objects.areas, (corners[:, 2:] - corners[:, :2]).prod(axis=1))
    return CleanSplit(
        classes=raw.classes,
        names=raw.names,
        files=raw.files,
        images=raw.images,
        sizes=sizes,
        counts=np.bincount(objects.owner, minlength=len(raw.names)).astype(np.int64),
        boxes=corners,
        labels=objects.labels,
        crowd=objects.crowd,
        areas=areas,
        records=objects.records,
        annotation_files=raw.annotation_files,
        record_word=objects.record_word,
        streamed=raw.streamed,
    )


def _measure(raw: RawSplit, *, findings: Findings, max_pixels: int) -> Ints:
    """(I, 2) height and width of the upright files, from their headers; -1 where an image cannot be used."""
    if raw.streamed is not None:
        return _measured(raw, raw.streamed, findings=findings)
    sizes = np.full((len(raw.names), 2), _UNUSABLE, np.int64)
    for index, name in enumerate(raw.names):
        source: bytes | str
        if raw.files is not None:
            source = raw.files[index]
        else:
            assert raw.images is not None
            source = raw.images[index]["image"]["bytes"]
        where = source if isinstance(source, str) else raw.annotation_files[index]
        try:
            turn, height, width = image_header(source, name=name, max_pixels=max_pixels)
        except ValueError as error:
            findings.add("unreadable_file", file=where, record=name, value=str(error))
            continue
        expected_height, expected_width = raw.sizes[index].tolist()
        known = UNKNOWN_SIDE not in (expected_height, expected_width)
        if known and (expected_height, expected_width) != (height, width):
            value = f"annotated {expected_width}x{expected_height}, the file is {width}x{height} (width x height)"
            if (expected_height, expected_width) == (width, height):
                value += ", swapped"
            findings.add("size_mismatch", file=raw.annotation_files[index], record=name, value=value)
            continue
        if turn != 1 and not (known and turn >= 5 and height != width):
            findings.add("exif_orientation", file=where, record=name, value=f"EXIF orientation {turn}")
        sizes[index] = height, width
    return sizes


def _measured(raw: RawSplit, streamed: StreamedImages, *, findings: Findings) -> Ints:
    """As `_measure`, of images that were measured when their shards were indexed."""
    sizes = raw.sizes.copy()
    for index, fault in enumerate(streamed.faults):
        if fault:
            findings.add("unreadable_file", file=raw.annotation_files[index], record=raw.names[index], value=fault)
            sizes[index] = _UNUSABLE
    return sizes


def _judge_unit(raw: RawSplit, sizes: Ints, *, findings: Findings) -> None:
    """Notes boxes in pixels that look like shares of the image, or like corners, most of them alike."""
    count = len(raw.objects.owner)
    if raw.objects.relative or count < _FEWEST_UNITS:
        return
    objects = raw.objects.keep(slice(None, None, -(-count // _MOST_UNITS)))
    boxes, limits = objects.boxes, sizes[objects.owner][:, ::-1] + ROUNDING_PX
    with np.errstate(over="ignore", invalid="ignore"):
        shares: Bools = np.asarray(((boxes >= 0) & (boxes <= 1)).all(axis=1))
        sticks_out = _any(boxes[:, :2] + boxes[:, 2:] > limits)
        fits: Bools = np.asarray(((boxes[:, 2:] > boxes[:, :2]) & (boxes[:, 2:] <= limits)).all(axis=1))
    of_all = f"of {len(boxes)} boxes"
    if shares.mean() >= _SHARES:
        value = f"{shares.sum()} {of_all} lie within one pixel: are they shares of the image?"
    elif (sticks_out & fits).mean() >= _CORNERS:
        value = f"{(sticks_out & fits).sum()} {of_all} stick out as left, top, width, height: are they corners?"
    else:
        return
    findings.add("box_unit", file=raw.annotation_files[int(objects.owner[0])], value=value)


def _judge_all_boxes(raw: RawSplit, sizes: Ints, *, findings: Findings) -> tuple[Floats, Bools]:
    """As `_judge_boxes`, some images at a time: judging takes several times the memory of what is judged."""
    owner = raw.objects.owner
    edges = np.searchsorted(owner, owner[::_OBJECTS_AT_ONCE])  # an image is not cut
    spans = [slice(start, stop) for start, stop in pairwise(np.unique([*edges.tolist(), 0, len(owner)]).tolist())]
    parts = [_judge_boxes(raw._replace(objects=raw.objects.keep(span)), sizes, findings=findings) for span in spans]
    if len(parts) == 1:
        return parts[0]
    corners = np.concatenate([np.zeros((0, 4)), *(part for part, _ in parts)])
    return corners, np.concatenate([np.zeros(0, np.bool_), *(kept for _, kept in parts)])


def _judge_boxes(raw: RawSplit, sizes: Ints, *, findings: Findings) -> tuple[Floats, Bools]:
    """(A, 4) clipped xyxy boxes in pixels, and which objects are kept; the first rule an object breaks is noted."""
    objects = raw.objects
    limits = sizes[objects.owner][:, ::-1].astype(np.float64)
    scale = limits if objects.relative else np.ones_like(limits)
    with np.errstate(over="ignore", invalid="ignore"):
        left_top, sides = objects.boxes[:, :2] * scale, objects.boxes[:, 2:] * scale
        corners = np.concatenate((left_top, left_top + sides), axis=1)
    clipped = np.concatenate((np.clip(corners[:, :2], 0, limits), np.clip(corners[:, 2:], 0, limits)), axis=1)
    visible = (clipped[:, 2:] - clipped[:, :2]).min(axis=1, initial=np.inf)
    rules: list[tuple[str, Bools]] = [
        ("nan_box", _any(~np.isfinite(corners))),
        ("label_out_of_range", (objects.labels < 0) | (objects.labels >= len(raw.classes))),
        ("negative_side", _any(sides < 0)),
        ("zero_side", _any(sides < MIN_SIDE_PX)),
        ("outside_image", visible < MIN_SIDE_PX),
    ]
    kept = np.ones(len(objects.owner), np.bool_)
    for kind, broken in rules:
        _note(kind, kept & broken, raw, findings=findings)
        kept &= ~broken
    copies = kept & _is_copy(objects.owner, objects.labels, clipped, kept=kept)
    _note("duplicate_box", copies, raw, findings=findings)
    kept &= ~copies
    overhang = np.abs(np.where(np.isfinite(corners), corners - clipped, 0)).max(axis=1, initial=0)
    _note("partly_outside", kept & (overhang > ROUNDING_PX), raw, findings=findings)
    return clipped, kept


def _any(broken: Bools) -> Bools:
    """(A, n) -> (A,)."""
    return np.asarray(broken.any(axis=1))


def _is_copy(owner: Ints, labels: Ints, corners: Floats, *, kept: Bools) -> Bools:
    """(A,) objects that repeat an earlier one of the same image: same class, same corners."""
    positions = np.flatnonzero(kept)
    rows = np.column_stack((owner, labels, corners))[positions]
    order = np.lexsort(rows.T)  # stable: among equals the first stays first
    repeats = (rows[order][1:] == rows[order][:-1]).all(axis=1)
    copies = np.zeros(len(owner), np.bool_)
    copies[positions[order[1:][repeats]]] = True
    return copies


def _note(kind: str, broken: Bools, raw: RawSplit, *, findings: Findings) -> None:
    objects = raw.objects
    unit = "of the image" if objects.relative else "px"
    for position in np.flatnonzero(broken).tolist():
        index = int(objects.owner[position])
        box = ", ".join(f"{number:g}" for number in objects.boxes[position])
        value = f"{raw.names[index]}: left, top, width, height {box} {unit}, class {int(objects.labels[position])}"
        record = f"{objects.record_word} {int(objects.records[position])}"
        findings.add(kind, file=raw.annotation_files[index], record=record, value=value)
