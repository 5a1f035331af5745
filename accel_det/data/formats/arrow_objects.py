"""The `objects` column of the Hub's convention, from Arrow to columns, without a Python object per annotation.

Letters: I images, A annotated objects.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from accel_det.data.defects import Findings
from accel_det.data.formats.raw import Bools, Floats, Ints, RawObjects
from accel_det.data.lines import in_one_line, one_line

LABEL_FIELDS = ("category", "categories", "label", "labels", "category_id", "class")
BOX_FIELDS = ("bbox", "bboxes", "boxes")
MOST_NUMBERS = 10_000
"""Of classes that have numbers and no names, so many are believed; a label beyond them is none."""

_CROWD_FIELDS = ("iscrowd",)
_AREA_FIELDS = ("area",)


class _Column(NamedTuple):
    """One field of all objects: how many each image has, (I,), and the values, (A,)."""

    lengths: Ints
    values: pa.Array

    def keep(self, kept_images: Bools) -> pa.Array:
        if kept_images.all():  # millions of numbers are not copied for nothing
            return self.values
        return self.values.filter(pa.array(np.repeat(kept_images, self.lengths)))


@contextmanager
def expected_kinds(where: str) -> Iterator[None]:
    """Turns what Arrow says of columns of other kinds than the convention has into one line that names the table.

    Raises:
        ValueError: a column is of another kind.
    """
    try:
        yield
    except (pa.ArrowException, datasets.table.CastError, TypeError) as error:
        what = one_line(in_one_line(error), most=300)
        raise ValueError(
            f"{where}: a column is of another kind than images and their objects have: {what}; convert it, or name another "
            "file in `annotations`"
        ) from error


def read_objects(
    column: pa.ChunkedArray, feature: object, *, where: str, findings: Findings
) -> tuple[RawObjects, tuple[str, ...]]:
    """The objects of a table and their class names.

    Args:
        column: struct of lists or list of structs, one entry per image.
        feature: what `datasets` says of the column; class names may be in it.
        where: file or name of the table, for messages.
        findings: takes what is wrong.

    Raises:
        ValueError: there is no field for the box or for the class.
    """
    objects = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    box, label = _required(objects, BOX_FIELDS, where), _required(objects, LABEL_FIELDS, where)
    crowd, area = _column(objects, _CROWD_FIELDS), _column(objects, _AREA_FIELDS)
    same = np.ones(len(objects), np.bool_)
    for other in (label, crowd, area):
        if other is not None:
            same &= other.lengths == box.lengths
    for index in np.flatnonzero(~same).tolist():
        value = (
            f"{box.lengths[index]} boxes and {label.lengths[index]} classes (or another field differs); all left out"
        )
        findings.add("malformed_record", file=where, record=f"row {index}", value=value)
    owner = np.repeat(np.flatnonzero(same), box.lengths[same])
    labels, found_classes = _labels(label.keep(same))
    boxes, whole = _boxes(box.keep(same))
    for position in np.flatnonzero(~whole).tolist():
        value = "a bbox without 4 numbers"
        findings.add("malformed_record", file=where, record=f"row {owner[position]}", value=value)
    count = len(labels)
    areas = np.full(count, np.nan) if area is None else _floats(area.keep(same))
    crowds = np.zeros(count) if crowd is None else _floats(crowd.keep(same))
    raw = RawObjects(
        owner=owner,
        boxes=boxes,
        labels=labels,
        crowd=crowds == 1,
        areas=np.where(areas > 0, areas, np.nan),
        records=owner,
        record_word="row",
        relative=False,
    )
    label_field = next(name for name in LABEL_FIELDS if name in _fields(objects.type))
    return (raw if whole.all() else raw.keep(whole)), _feature_classes(feature, label_field) or found_classes


def _fields(kind: pa.DataType) -> list[str]:
    """Names of the fields of an object."""
    inner = kind if pa.types.is_struct(kind) else getattr(kind, "value_type", None)
    return [field.name for field in inner] if inner is not None and pa.types.is_struct(inner) else []


def _required(objects: pa.Array, names: tuple[str, ...], where: str) -> _Column:
    column = _column(objects, names)
    if column is None:
        present = ", ".join(_fields(objects.type)) or str(objects.type)
        raise ValueError(f"{where}: objects has the fields {present}, none of {', '.join(names)}; rename the column")
    return column


def _column(objects: pa.Array, names: tuple[str, ...]) -> _Column | None:
    present = _fields(objects.type)
    name = next((name for name in names if name in present), None)
    if name is None:
        return None
    if pa.types.is_struct(objects.type):
        lists = pc.struct_field(objects, name)
        return _Column(_lengths(lists), pc.list_flatten(lists))
    return _Column(_lengths(objects), pc.struct_field(pc.list_flatten(objects), name))


def _lengths(lists: pa.Array) -> Ints:
    lengths: Ints = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return lengths


def _floats(values: pa.Array) -> Floats:
    """(A,) float64; null becomes NaN."""
    floats: Floats = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return floats


def _boxes(values: pa.Array) -> tuple[Floats, Bools]:
    """(A, 4) xywh, and which of them had four numbers."""
    whole = _lengths(values) == 4
    if whole.all():
        return _floats(pc.list_flatten(values)).reshape(-1, 4), whole
    boxes = np.full((len(values), 4), np.nan)
    boxes[whole] = _floats(pc.list_flatten(values.filter(pa.array(whole)))).reshape(-1, 4)
    return boxes, whole


def _labels(values: pa.Array) -> tuple[Ints, tuple[str, ...]]:
    """(A,) class indices, -1 for null, and the classes: texts sorted, or the numbers from 0 as texts."""
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        names = tuple(sorted(name for name in pc.unique(values).to_pylist() if name is not None))
        found = pc.index_in(values, value_set=pa.array(names, values.type))
        return pc.fill_null(found, -1).to_numpy(zero_copy_only=False).astype(np.int64), names
    labels: Ints = pc.fill_null(values.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    largest = int(labels[labels < MOST_NUMBERS].max(initial=-1))
    return labels, tuple(str(number) for number in range(largest + 1))


def _feature_classes(feature: object, label_field: str) -> tuple[str, ...]:
    """Class names that the features of a table hold, or ()."""
    inner = feature if isinstance(feature, dict) else getattr(feature, "feature", None)
    label = inner.get(label_field) if isinstance(inner, dict) else None
    while label is not None and not isinstance(label, datasets.ClassLabel):
        label = getattr(label, "feature", None)
    return tuple(label.names) if label is not None else ()
