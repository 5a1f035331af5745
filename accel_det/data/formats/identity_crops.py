"""Pictures of identities from a tracking or detection data set: MOTChallenge's sequences, or a table of boxes."""

import configparser
import hashlib
import math
from pathlib import Path
from typing import NamedTuple

import datasets

from accel_det.data.defects import Findings
from accel_det.data.encoded import file_bytes
from accel_det.data.formats.identity_boxes import BoxRow, BoxRule, cut_pictures, split_parameters
from accel_det.data.formats.identity_columns import read_texts, rows_of
from accel_det.data.formats.identity_raw import DISTRACTOR, IdentitySource, RawPictures, no_split, role_of
from accel_det.data.formats.identity_table import SUFFIXES, TablePart, open_parts
from accel_det.data.formats.raw import locate_image
from accel_det.data.lines import in_one_line, one_line, read_lines
from accel_det.data.locate import Folder, split_names
from accel_det.types import Role

_WHOLE_FOLDER = "train"
_TRUTH = "gt/gt.txt"
_OF_SEQUENCES = ("every", "min_visibility")
_BOX_COLUMNS = {
    "left": ("left", "x", "bb_left"),
    "top": ("top", "y", "bb_top"),
    "width": ("width", "w", "bb_width"),
    "height": ("height", "h", "bb_height"),
}


def read(source: IdentitySource, split: str, *, findings: Findings) -> RawPictures:
    """One split of the pictures that boxes cut out of frames.

    Where `annotations` names a CSV or parquet file, that has a row for every box: the columns of `identity_table`, with the
    frame as picture, and left, top, width and height in pixels. Else every folder with `gt/gt.txt`, in `<root>/<split>`, or for
    "train" in the root, is a sequence of MOTChallenge: an identity is "<sequence>/<track>", the sequence is the camera, and
    boxes with a flag of 0 are left out. Coordinates are taken as they are.

    `parameters` are those of `BoxRule` for sequences; for a table, which knows neither an order of frames nor visibilities,
    `min_side_px` and the names of its columns.

    Raises:
        ValueError: there is no such split, its files cannot be read, or a parameter says nothing about them.
    """
    rule, others = split_parameters(source.name, source.parameters)
    if source.annotations is not None and source.annotations.endswith(SUFFIXES):
        unread = [name for name in _OF_SEQUENCES if name in source.parameters]
        if unread:
            raise ValueError(
                f"set {source.name!r}, parameters: {', '.join(unread)} say nothing about a table of boxes; known are "
                "min_side_px and the names of its columns"
            )
        rows = []
        for part in open_parts(source, split, named=others):
            rows += _table_rows(part, findings=findings)
        return cut_pictures(rows, rule, findings=findings)
    if others:
        raise ValueError(
            f"set {source.name!r}, parameters: {', '.join(sorted(others))} say nothing about sequences; known are "
            f"{', '.join(BoxRule._fields)}"
        )
    rows = []
    for folder in _sequences(source, split, findings=findings):
        rows += _sequence_rows(folder, source.root, every=rule.every, findings=findings)
    return cut_pictures(rows, rule, findings=findings)


def _sequences(source: IdentitySource, split: str, *, findings: Findings) -> list[Path]:
    """The folders of the sequences, each of different frames: MOT17 has every one three times.

    Raises:
        ValueError: there are none.
    """
    root = Path(source.root)
    folders = [root / name for name in split_names(split)] + ([root] if split == _WHOLE_FOLDER else [])
    found = next((paths for folder in folders if (paths := sorted(folder.glob(f"*/{_TRUTH}")))), None)
    if found is None:
        raise no_split(source, split, known=[f"sequences with {_TRUTH} in <root>/<split>, or in the root for 'train'"])
    first: dict[str, Path] = {}
    for path in found:
        digest = hashlib.sha256(file_bytes(str(path)) + _first_frame(path.parent.parent)).hexdigest()
        if digest in first:
            value = f"the same truth and first frame as {first[digest]}"
            findings.add("duplicate_sequence", file=str(path), value=value)
        else:
            first[digest] = path
    return [path.parent.parent for path in first.values()]


def _first_frame(sequence: Path) -> bytes:
    """The first file in the folder of the frames, or nothing; other folders in it, and one outside, are passed over."""
    located = Folder(sequence).find(_sequence_info(sequence).folder)
    entries = sorted(Path(located.path).glob("*")) if located is not None and located.inside else []
    frame = next((entry for entry in entries if entry.is_file()), None)
    return b"" if frame is None else file_bytes(str(frame))


class _SequenceInfo(NamedTuple):
    """Where the frames of a sequence are."""

    folder: str
    suffix: str


def _sequence_info(sequence: Path) -> _SequenceInfo:
    """What `seqinfo.ini` says, or what is usual.

    Raises:
        ValueError: it cannot be read.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read(sequence / "seqinfo.ini", "utf-8-sig")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise ValueError(
            f"{sequence / 'seqinfo.ini'}: cannot be read: {in_one_line(error)}; restore or remove it"
        ) from error
    folder, suffix = parser.get("Sequence", "imDir", fallback="img1"), parser.get("Sequence", "imExt", fallback=".jpg")
    return _SequenceInfo(folder, suffix)


class _Box(NamedTuple):
    """A line of gt.txt that is to be used."""

    frame: int
    track: int
    box: tuple[float, float, float, float]
    visibility: float


def _sequence_rows(sequence: Path, root: str, *, every: int, findings: Findings) -> list[BoxRow]:
    info, truth = _sequence_info(sequence), sequence / _TRUTH
    folder, shown_root = Folder(sequence), Folder(root)
    frames: dict[int, str | None] = {}
    seen: set[tuple[int, int]] = set()
    rows = []
    for number, line in enumerate(read_lines(truth), start=1):
        record = f"line {number}"
        try:
            box = _parse_line(line)
        except ValueError as error:
            findings.add("malformed_record", file=str(truth), record=record, value=f"{line!r}: {error}")
            continue
        if box is None or (box.frame - 1) % every:
            continue
        if (box.frame, box.track) in seen:
            value = f"track {box.track} is in frame {box.frame} twice"
            findings.add("duplicate_box", file=str(truth), record=record, value=value)
            continue
        seen.add((box.frame, box.track))
        if box.frame not in frames:
            name = f"{info.folder}/{box.frame:06d}{info.suffix}"
            located = locate_image(folder, [name], findings=findings, annotation_file=str(truth), record=record)
            frames[box.frame] = None if located is None else located.path
        frame = frames[box.frame]
        if frame is not None:
            name, identity = f"{shown_root.relative(frame)}#{box.track}", f"{sequence.name}/{box.track}"
            rows.append(
                BoxRow(
                    frame,
                    name,
                    box.box,
                    identity,
                    sequence.name,
                    Role.BOTH,
                    box.visibility,
                    file=str(truth),
                    record=record,
                )
            )
    return rows


def _parse_line(line: str) -> _Box | None:
    """A line of gt.txt: frame, track, left, top, width, height, flag, class, visibility; None where it is not to be used.

    Raises:
        ValueError: it is no such line.
    """
    fields = line.split(",")
    if not line.strip():
        return None
    if len(fields) < 6:
        raise ValueError(
            f"{len(fields)} numbers, expected frame, track, left, top, width, height, flag, class, visibility"
        )
    frame, track = (_whole(field) for field in fields[:2])
    left, top, width, height = (float(field) for field in fields[2:6])
    if frame < 1:
        raise ValueError(f"frame {frame}, expected at least 1")
    if len(fields) > 6 and float(fields[6]) == 0:
        return None
    # Of ten columns, as MOT15 has them, the last three are -1.
    visibility = float(fields[8]) if len(fields) == 9 else math.nan
    return _Box(frame, track, (left, top, width, height), visibility if visibility >= 0 else math.nan)


def _whole(text: str) -> int:
    """A whole number, which some tools write as 3.0."""
    number = float(text)
    if not number.is_integer():
        raise ValueError(f"{text.strip()!r} is not a whole number")
    return int(number)


def _table_rows(part: TablePart, *, findings: Findings) -> list[BoxRow]:
    table, columns, place = part.table, part.columns, part.place
    boxes = _box_columns(table, place.set_name, place.where)
    said = read_texts(table, columns)
    folder, shown_root = Folder(place.folder), Folder(place.shown_root)
    frames: dict[str, str | None] = {}
    rows = []
    for row in rows_of(table, columns, part=part.name).nonzero()[0].tolist():
        record, frame_name, identity = place.record(row), said.images[row], said.identities[row]
        try:
            left, top, width, height = (float(side[row]) for side in boxes)
            if identity is None:
                raise ValueError(f"no {columns.identity}")
        except (ValueError, TypeError) as error:
            findings.add("malformed_record", file=place.where, record=record, value=str(error))
            continue
        if frame_name not in frames:
            located = locate_image(folder, [frame_name], findings=findings, annotation_file=place.where, record=record)
            frames[frame_name] = None if located is None else located.path
        frame = frames[frame_name]
        if frame is not None:
            name = f"{shown_root.relative(frame)}#{'nobody' if identity == DISTRACTOR else identity}@{left:g},{top:g}"
            box, role = (left, top, width, height), role_of(part.name)
            rows.append(
                BoxRow(frame, name, box, identity, said.cameras[row], role, math.nan, file=place.where, record=record)
            )
    return rows


def _box_columns(table: datasets.Dataset, set_name: str, where: str) -> list[list[str | float]]:
    """The cells of left, top, width and height.

    Raises:
        ValueError: there is no such column.
    """
    present = table.column_names
    chosen = {
        meaning: next((name for name in usual if name in present), None) for meaning, usual in _BOX_COLUMNS.items()
    }
    missing = [meaning for meaning, name in chosen.items() if name is None]
    if missing:
        shown = one_line(repr(present), most=300)
        raise ValueError(
            f"set {set_name!r}: {where} has the columns {shown}, without {', '.join(missing)} of the boxes"
        )
    return [table.data.column(name).to_pylist() for name in chosen.values()]
