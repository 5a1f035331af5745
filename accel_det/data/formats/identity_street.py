"""People of the synthetic street as a detector would cut them out, drawn by several processes and kept in a cache."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from accel_det.data.cache import cached, source_of
from accel_det.data.defects import Findings
from accel_det.data.encoded import IMAGE_FEATURES, image_table, jpeg
from accel_det.data.formats.identity_raw import IdentitySource, RawPictures
from accel_det.data.parameters import whole_number
from accel_det.data.street.parallel import in_order
from accel_det.data.street.scenes import crops, sources
from accel_det.types import Role

# People are numbered; the ranges of the splits are apart.
_FIRST_IDENTITY = {"train": 0, "val": 1_000_000}
_IDENTITIES = {"train": 200, "val": 50}
_MOST_IDENTITIES = 1_000_000
_LOWEST = {"seed": 0, "identities": 1, "cameras": 1, "per_camera": 1, "height": 32, "width": 32}


class _Parameters(NamedTuple):
    """What a table is a pure function of, beside the drawing code."""

    split: str
    seed: int
    identities: int
    cameras: int
    per_camera: int
    height: int
    width: int

    @property
    def per_identity(self) -> int:
        return self.cameras * self.per_camera


def read(source: IdentitySource, split: str, *, findings: Findings) -> RawPictures:
    """The people of a split, from the cache where they have been drawn before.

    Args:
        split: "train" or "val", which share no identity, whatever the parameters of each.

    `parameters` are seed (0), identities (200 of train, 50 of val), cameras (4), per_camera (3) pictures of each person from
    each camera, and height (128) and width (64) in pixels. All splits see through the same cameras.

    Raises:
        ValueError: the split or a parameter is unknown, or a value is of the wrong type or out of its range.
    """
    asked = _checked(source.name, split, source.parameters)
    # The scenes of the street are kept in the same cache, under other parameters.
    images = cached(
        {"pictures": "people", **asked._asdict()},
        lambda: _draw(asked),
        features=IMAGE_FEATURES,
        code=(*sources(), source_of(read), source_of(jpeg)),
        folder="street",
    )
    identities = np.repeat(_FIRST_IDENTITY[split] + np.arange(asked.identities), asked.per_identity)
    cameras = np.tile(np.repeat(np.arange(asked.cameras), asked.per_camera), asked.identities)
    return RawPictures(
        names=[_name(asked, place) for place in range(len(identities))],
        files=None,
        images=images,
        rows=np.arange(len(identities)),
        identities=[f"{identity:07d}" for identity in identities.tolist()],
        cameras=[f"c{camera}" for camera in cameras.tolist()],
        roles=np.full(len(identities), int(Role.BOTH), np.int64),
    )


def _checked(set_name: str, split: str, parameters: Mapping[str, int | float | str]) -> _Parameters:
    if split not in _FIRST_IDENTITY:
        raise ValueError(f"set {set_name!r}: the street has no split {split!r}; it has {' and '.join(_FIRST_IDENTITY)}")
    values = {"seed": 0, "identities": _IDENTITIES[split], "cameras": 4, "per_camera": 3, "height": 128, "width": 64}
    for name, value in parameters.items():
        if name not in values:
            raise ValueError(f"set {set_name!r}, parameters: {name!r} is unknown; known are {', '.join(values)}")
        values[name] = whole_number(value, least=_LOWEST[name], where=f"set {set_name!r}, parameters.{name}")
    if values["identities"] > _MOST_IDENTITIES:
        raise ValueError(
            f"set {set_name!r}, parameters.identities: {values['identities']} is more than a split has, {_MOST_IDENTITIES}"
        )
    return _Parameters(split=split, **values)


def _name(asked: _Parameters, place: int) -> str:
    identity, rest = divmod(place, asked.per_identity)
    camera, shot = divmod(rest, asked.per_camera)
    return f"{asked.split}/{_FIRST_IDENTITY[asked.split] + identity:07d}_c{camera}_{shot:02d}.jpg"


def _draw(asked: _Parameters) -> pa.Table:
    people = in_order(lambda position: _pictures_of(asked, position), asked.identities)
    pictures = (picture for person in people for picture in person)
    return image_table((picture, _name(asked, place)) for place, picture in enumerate(pictures))


def _pictures_of(asked: _Parameters, position: int) -> list[bytes]:
    """All pictures of one person, camera by camera, as JPEG."""
    drawn = crops(
        asked.seed,
        identities=1,
        cameras=asked.cameras,
        per_camera=asked.per_camera,
        height=asked.height,
        width=asked.width,
        first_identity=_FIRST_IDENTITY[asked.split] + position,
    )
    return [jpeg(crop.image) for crop in drawn]
