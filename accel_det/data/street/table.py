"""The street as a table in the Hub's object-detection convention, drawn by several processes and kept in a cache."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypedDict

import datasets
import numpy as np
import pyarrow as pa

from accel_det.data.cache import cached, source_of
from accel_det.data.encoded import IMAGE_FEATURES, jpeg
from accel_det.data.parameters import whole_number
from accel_det.data.street.parallel import in_order
from accel_det.data.street.scenes import CROWDING, scene, sources
from accel_det.data.street.stage import CLASSES

# Scenes are numbered, and so are their people; the ranges of the splits are apart.
_FIRST_SCENE = {"train": 0, "val": 1_000_000}
_IMAGES = {"train": 1024, "val": 128}
_MOST_IMAGES = 1_000_000
_VIEWS = ("street", "sidewalk")
_LOWEST = {"seed": 0, "images": 1, "height": 32, "width": 32}


class _Parameters(NamedTuple):
    """What a table is a pure function of, beside the drawing code."""

    split: str
    seed: int
    images: int
    height: int
    width: int
    crowding: float
    view: str


class _Objects(TypedDict):
    bbox: list[list[float]]
    category: list[int]
    area: list[float]
    iscrowd: list[int]


class _Row(TypedDict):
    image: dict[str, bytes | str]
    image_id: int
    height: int
    width: int
    objects: _Objects


def read(split: str, parameters: Mapping[str, int | float | str]) -> tuple[datasets.Dataset, tuple[str, ...]]:
    """The scenes of a split, from the cache where they have been drawn before.

    Args:
        split: "train" or "val", which share neither a scene nor an identity.
        parameters: seed (0), images (1024 of train, 128 of val), height (240) and width (320) in pixels, crowding
            (0.6), the factor on how many road users there are, and view: "street", or "sidewalk" for its people from near.

    Returns:
        Columns image {bytes: JPEG, path: a name}, image_id, height, width, objects {bbox: xywh in pixels, category,
        area: of the box in square pixels, iscrowd: too hidden or too small to be asked for}; and the class names.

    Raises:
        ValueError: the split or a parameter is unknown, or a value is of the wrong type or out of its range.
    """
    asked = _checked(split, parameters)
    table = cached(
        asked._asdict(),
        lambda: _draw(asked),
        features=_features(),
        code=(*sources(), source_of(jpeg)),
        folder="street",
    )
    return table, CLASSES


def _checked(split: str, parameters: Mapping[str, int | float | str]) -> _Parameters:
    if split not in _FIRST_SCENE:
        raise ValueError(f"street: no split {split!r}; it has {' and '.join(_FIRST_SCENE)}")
    values: dict[str, int] = {"seed": 0, "images": _IMAGES[split], "height": 240, "width": 320}
    crowding, view = float(CROWDING), _VIEWS[0]
    for name, value in parameters.items():
        if name == "crowding":
            if isinstance(value, (bool, str)) or not 0 < value <= 4:
                raise ValueError(f"street, parameter crowding: {value!r} is not a number in (0, 4]; 0.6 is usual")
            crowding = float(value)
        elif name == "view":
            if value not in _VIEWS:
                raise ValueError(f"street, parameter view: {value!r} is none of {', '.join(_VIEWS)}")
            view = str(value)
        elif name not in values:
            raise ValueError(f"street: unknown parameter {name!r}; known are {', '.join((*values, 'crowding', 'view'))}")
        else:
            values[name] = whole_number(value, least=_LOWEST[name], where=f"street, parameter {name}")
    if values["images"] > _MOST_IMAGES:
        raise ValueError(f"street, parameter images: {values['images']} is more than a split has, {_MOST_IMAGES}")
    return _Parameters(split=split, crowding=crowding, view=view, **values)


def _draw(asked: _Parameters) -> pa.Table:
    first = _FIRST_SCENE[asked.split]
    rows = in_order(lambda position: _row(asked, first + position, position=position), asked.images)
    return _arrow(rows)


def _row(asked: _Parameters, index: int, *, position: int) -> _Row:
    drawn = scene(
        asked.seed,
        index,
        height=asked.height,
        width=asked.width,
        crowding=asked.crowding,
        sidewalk=asked.view == "sidewalk",
    )
    corners = drawn.boxes
    sides = corners[:, 2:] - corners[:, :2]
    return {
        "image": {"bytes": jpeg(drawn.image), "path": f"street-{asked.split}-{position:06d}.jpg"},
        "image_id": position,
        "height": asked.height,
        "width": asked.width,
        "objects": {
            "bbox": np.concatenate((corners[:, :2], sides), axis=1).tolist(),
            "category": drawn.labels.tolist(),
            "area": sides.prod(axis=1).tolist(),
            "iscrowd": drawn.ignored.astype(int).tolist(),
        },
    }


def _features() -> datasets.Features:
    return datasets.Features(
        {
            **IMAGE_FEATURES,
            "image_id": datasets.Value("int64"),
            "height": datasets.Value("int64"),
            "width": datasets.Value("int64"),
            "objects": {
                "bbox": datasets.List(datasets.List(datasets.Value("float32"))),
                "category": datasets.List(datasets.ClassLabel(names=list(CLASSES))),
                "area": datasets.List(datasets.Value("float32")),
                "iscrowd": datasets.List(datasets.Value("int8")),
            },
        }
    )


def _arrow(rows: Iterable[_Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=_features().arrow_schema).combine_chunks()
