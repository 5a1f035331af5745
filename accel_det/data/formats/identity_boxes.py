"""Boxes that say who is in them, and the pictures that are cut along them.

Letters: F frames, B boxes.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from accel_det.data.cache import cached, source_of
from accel_det.data.decode import decode, image_size
from accel_det.data.defects import Findings
from accel_det.data.encoded import IMAGE_FEATURES, file_bytes, image_table, jpeg
from accel_det.data.formats.identity_raw import RawPictures
from accel_det.data.formats.raw import Bools, Floats, Ints
from accel_det.data.parameters import whole_number
from accel_det.types import Role

_MOST_THREADS = 16


class BoxRule(NamedTuple):
    """Which boxes become pictures.

    Attributes:
        every: of the frames of a sequence the first is used, and then each so many: neighbours look the same.
        min_visibility: least share of somebody that nothing hides, where the annotation knows it.
        min_side_px: least width and height of the box inside its frame.
    """

    every: int = 1
    min_visibility: float = 0.3
    min_side_px: int = 8


def split_parameters(
    set_name: str, parameters: Mapping[str, int | float | str]
) -> tuple[BoxRule, dict[str, int | float | str]]:
    """The rule, and the parameters that are not about it.

    Raises:
        ValueError: a value is of the wrong type or out of its range.
    """
    rule = BoxRule()._asdict()
    others: dict[str, int | float | str] = {}
    for name, value in parameters.items():
        if name not in rule:
            others[name] = value
        elif name == "min_visibility":
            if isinstance(value, (bool, str)) or not 0 <= value <= 1:
                raise ValueError(f"set {set_name!r}, parameters.{name}: {value!r} is not a share in [0, 1]")
            rule[name] = float(value)
        else:
            rule[name] = whole_number(value, least=1, where=f"set {set_name!r}, parameters.{name}")
    return BoxRule(**rule), others


class BoxRow(NamedTuple):
    """One box of one frame.

    Attributes:
        frame: path of the frame.
        name: of the picture, for people.
        box: xywh, pixels of the upright frame.
        identity, camera, role: as of `RawPictures`.
        visibility: share of somebody that nothing hides; NaN where nobody knows.
        file, record: where the box is written, for messages.
    """

    frame: str
    name: str
    box: tuple[float, float, float, float]
    identity: str
    camera: str
    role: Role
    visibility: float
    file: str
    record: str


def cut_pictures(rows: Sequence[BoxRow], rule: BoxRule, *, findings: Findings) -> RawPictures:
    """The picture in every box that can be used, widened to whole pixels; others are noted.

    Pictures are cut once, by several threads, and kept as JPEG in the user's cache folder, under the paths, sizes and times
    of the frames.
    """
    frames = list(dict.fromkeys(row.frame for row in rows))
    sizes = _measure(frames, rows, findings=findings)
    rows = [row for row in rows if row.frame in sizes]
    corners, kept = _judge(rows, sizes, rule, findings=findings)
    rows = [row for row, is_kept in zip(rows, kept.tolist(), strict=True) if is_kept]
    corners = corners[kept]
    images = cached(
        {"pictures": "crops", "of": _digest(rows, corners)},
        lambda: _cut_all(rows, corners),
        features=IMAGE_FEATURES,
        code=(source_of(cut_pictures), source_of(decode), source_of(jpeg)),
        folder="crops",
    )
    return RawPictures(
        names=[row.name for row in rows],
        files=None,
        images=images,
        rows=np.arange(len(rows)),
        identities=[row.identity for row in rows],
        cameras=[row.camera for row in rows],
        roles=np.array([int(row.role) for row in rows], np.int64),
    )


def _measure(frames: Sequence[str], rows: Sequence[BoxRow], *, findings: Findings) -> dict[str, tuple[int, int]]:
    """Height and width of every frame that has a readable header."""
    first = {row.frame: row for row in reversed(rows)}
    sizes = {}
    for frame in frames:
        try:
            sizes[frame] = image_size(frame)
        except ValueError as error:
            findings.add("unreadable_file", file=first[frame].file, record=first[frame].record, value=str(error))
    return sizes


def _judge(
    rows: Sequence[BoxRow], sizes: Mapping[str, tuple[int, int]], rule: BoxRule, *, findings: Findings
) -> tuple[Ints, Bools]:
    """(B, 4) xyxy whole pixels inside the frames, and which boxes are used; the first rule that one breaks is noted."""
    boxes: Floats = np.array([row.box for row in rows], np.float64).reshape(-1, 4)
    limits = np.array([sizes[row.frame][::-1] for row in rows], np.float64).reshape(-1, 2)
    with np.errstate(over="ignore", invalid="ignore"):
        corners = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1)
        finite: Bools = np.asarray(np.isfinite(corners).all(axis=1))
        corners = np.where(finite[:, None], corners, 0)
    clipped = np.clip(corners, 0, np.concatenate((limits, limits), axis=1))
    visible = clipped[:, 2:] - clipped[:, :2]
    shares = np.array([row.visibility for row in rows], np.float64)
    kept = np.ones(len(rows), np.bool_)
    rules: list[tuple[str, Bools]] = [
        ("nan_box", ~finite),
        ("zero_side", np.asarray((boxes[:, 2:] <= 0).any(axis=1))),
        ("outside_image", np.asarray((visible <= 0).any(axis=1))),
    ]
    for kind, broken in rules:
        for index in np.flatnonzero(kept & broken).tolist():
            row = rows[index]
            value = f"{row.name}: left, top, width, height {', '.join(f'{number:g}' for number in row.box)}"
            findings.add(kind, file=row.file, record=row.record, value=value)
        kept &= ~broken
    unclear = kept & ((visible < rule.min_side_px).any(axis=1) | (shares < rule.min_visibility))
    counts = Counter(rows[index].file for index in np.flatnonzero(unclear).tolist())
    for file, count in counts.items():
        value = (
            f"{count} boxes have a side below {rule.min_side_px} px or are less than {rule.min_visibility:g} visible"
        )
        findings.add("unclear_box", file=file, value=value)
    whole = np.concatenate((np.floor(clipped[:, :2]), np.ceil(clipped[:, 2:])), axis=1).astype(np.int64)
    return whole, kept & ~unclear


def _digest(rows: Sequence[BoxRow], corners: Ints) -> str:
    """sha256 over everything that the pictures are a function of."""
    digest = hashlib.sha256(corners.astype("<i8").tobytes())
    states: dict[str, os.stat_result] = {}
    for row in rows:
        if row.frame not in states:
            states[row.frame] = Path(row.frame).stat()
        state = states[row.frame]
        digest.update(f"{row.frame}\0{state.st_size}\0{state.st_mtime_ns}\0{row.name}\n".encode())
    return digest.hexdigest()


def _cut_all(rows: Sequence[BoxRow], corners: Ints) -> pa.Table:
    by_frame: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        by_frame.setdefault(row.frame, []).append(index)
    data = [b""] * len(rows)
    # Threads, for decoding and encoding do not hold the interpreter.
    with ThreadPoolExecutor(min(_MOST_THREADS, os.cpu_count() or 1)) as threads:
        cuts = threads.map(lambda item: _cut(item[0], corners[item[1]]), by_frame.items())
        for indices, pictures in zip(by_frame.values(), cuts, strict=True):
            for index, picture in zip(indices, pictures, strict=True):
                data[index] = picture
    return image_table(zip(data, (row.name for row in rows), strict=True))


def _cut(frame: str, corners: Ints) -> list[bytes]:
    """The pictures in the boxes of one frame, (n, 4) xyxy whole pixels.

    Raises:
        ValueError: the frame cannot be read or decoded.
    """
    pixels = decode(file_bytes(frame), name=frame).permute(1, 2, 0).numpy()
    return [jpeg(pixels[y1:y2, x1:x2], full_color=True) for x1, y1, x2, y2 in corners.tolist()]
