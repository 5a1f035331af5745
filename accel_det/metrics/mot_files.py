"""MOTChallenge's text files: truth, results and detections of a sequence, one row per box, and its `seqinfo.ini`.

Rows are `frame,id,left,top,width,height,confidence,...`. Frames count from 1. Boxes are in pixels of the frame, whose first
pixel is 1 in these files: the box of a whole frame of 640x480 is 1,1,640,480. The corners that the rest of the program speaks
of begin at 0; `corners_of` and `boxes_of` are the way there and back.

Source: Milan et al., MOT16: A Benchmark for Multi-Object Tracking, 2016, section 4.2; Leal-Taixé et al., MOTChallenge 2015.
"""

import configparser
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from accel_det.metrics.detection import Flags, Floats, Integers

MOST_FRAMES = 10**7
"""Longer than four days of 25 frames a second: a larger number is no frame."""
MOST_PX = 1e7
"""No coordinate is larger, nor lower than its opposite."""
_MOST_ID = 2**31 - 1
_FIRST_PX = np.array([1.0, 1.0, 0.0, 0.0])


class MotBoxes(NamedTuple):
    """Results of a tracker, or detections, of one sequence: N boxes.

    Attributes:
        frames: (N,) from 1.
        ids: (N,) from 0; -1 for all detections.
        boxes: (N, 4) left, top, width, height in pixels, the first pixel being 1.
        scores: (N,) finite.
    """

    frames: Integers
    ids: Integers
    boxes: Floats
    scores: Floats


class MotTruth(NamedTuple):
    """The truth of one sequence: N boxes.

    Attributes:
        frames: (N,) from 1.
        ids: (N,) from 0.
        boxes: (N, 4) left, top, width, height in pixels, the first pixel being 1.
        counted: (N,) false for boxes that nobody has to find.
        classes: (N,) from 1; None where the file has no classes, as in MOT15.
        visibility: (N,) share of the box that is in sight, in [0, 1], or -1 where it is not known; None likewise.
    """

    frames: Integers
    ids: Integers
    boxes: Floats
    counted: Flags
    classes: Integers | None
    visibility: Floats | None


class SequenceInfo(NamedTuple):
    """What `seqinfo.ini` says of a sequence.

    Attributes:
        name: of the sequence.
        num_frames: frames count from 1 to this.
        frame_rate: frames a second.
        width_px, height_px: of every frame.
        image_folder: where the frames are: `000001.jpg` and so on.
        image_suffix: such as ".jpg".
    """

    name: str
    num_frames: int
    frame_rate: float
    width_px: int
    height_px: int
    image_folder: Path
    image_suffix: str


class _Column(NamedTuple):
    """What a column may hold: finite numbers between two bounds."""

    name: str
    least: float
    most: float
    whole: bool = False

    @property
    def rule(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.least:.15g} to {self.most:.15g}"


_FRAME = _Column("frame", 1, MOST_FRAMES, whole=True)
_ID = _Column("id", 0, _MOST_ID, whole=True)
_ANY_ID = _Column("id", -_MOST_ID, _MOST_ID, whole=True)
_BOX = (
    _Column("left", -MOST_PX, MOST_PX),
    _Column("top", -MOST_PX, MOST_PX),
    _Column("width", 0, MOST_PX),
    _Column("height", 0, MOST_PX),
)
_SCORE = _Column("confidence", -1e9, 1e9)
_FLAG = _Column("flag", 0, 1, whole=True)
_CLASS = _Column("class", 1, _MOST_ID, whole=True)
_VISIBILITY = _Column("visibility", -1, 1)
_RESULT_WIDTHS = (7, 8, 9, 10)
_WIDTH_WITH_CLASSES = 9
_TRUTH_WIDTHS = (7, _WIDTH_WITH_CLASSES, 10)


class _Rows(NamedTuple):
    """(N, columns) of a file, and (N,) the line of each row."""

    values: Floats
    lines: Integers


def read_results(file: Path) -> MotBoxes:
    """What a tracker found. Three columns after the confidence are allowed and not read. A file may be empty.

    Raises:
        ValueError: no such file, a row that is none, a value out of range, an id twice in a frame; names line and column.
    """
    rows = _parse(file, widths=_RESULT_WIDTHS)
    _require_values(file, rows, (_FRAME, _ID, *_BOX, _SCORE))
    _require_once(file, rows)
    return _boxes(rows.values)


def read_detections(file: Path) -> MotBoxes:
    """What a detector found: as results, but the ids say nothing, and are -1.

    Raises:
        ValueError: as `read_results`.
    """
    rows = _parse(file, widths=_RESULT_WIDTHS)
    _require_values(file, rows, (_FRAME, _ANY_ID, *_BOX, _SCORE))
    found = _boxes(rows.values)
    return found._replace(ids=np.full(len(found.ids), -1))


def read_truth(file: Path) -> MotTruth:
    """The truth: 9 columns with class and visibility since MOT16; 7, or 10 as in MOT15, without.

    Raises:
        ValueError: as `read_results`.
    """
    rows = _parse(file, widths=_TRUTH_WIDTHS)
    with_classes = rows.values.shape[1] == _WIDTH_WITH_CLASSES
    _require_values(file, rows, (_FRAME, _ID, *_BOX, _FLAG, *((_CLASS, _VISIBILITY) if with_classes else ())))
    _require_once(file, rows)
    frames, ids, boxes, flags = _boxes(rows.values)
    return MotTruth(
        frames=frames,
        ids=ids,
        boxes=boxes,
        counted=flags != 0,
        classes=rows.values[:, 7].astype(np.int64) if with_classes else None,
        visibility=rows.values[:, 8] if with_classes else None,
    )


def boxes_text(found: MotBoxes) -> str:
    """Results or detections as rows of 10 columns, by frame and id: boxes to 1/100 pixel, scores to four places, thrice -1."""
    order = np.lexsort((found.ids, found.frames))  # stable: detections of a frame keep their order
    columns = (found.frames, found.ids, _rounded(found.boxes, 2), _rounded(found.scores, 4))
    rows = zip(*(column[order].tolist() for column in columns), strict=True)
    return "".join(
        f"{frame},{identity},{left:.2f},{top:.2f},{width:.2f},{height:.2f},{score:.4f},-1,-1,-1\n"
        for frame, identity, (left, top, width, height), score in rows
    )


def write_truth(file: Path, truth: MotTruth) -> None:
    """Write truth in 9 columns, ascending by frame and id: boxes to 1/100 pixel, visibility to four digits.

    Where there are no classes all are 1, and all is in sight.

    Raises:
        ValueError: it cannot be written.
    """
    number = len(truth.frames)
    classes = np.ones(number, dtype=np.int64) if truth.classes is None else truth.classes
    visibility = np.ones(number) if truth.visibility is None else truth.visibility
    order = np.lexsort((truth.ids, truth.frames))
    flags = truth.counted.astype(np.int64)
    columns = (truth.frames, truth.ids, _rounded(truth.boxes, 2), flags, classes, visibility)
    rows = zip(*(column[order].tolist() for column in columns), strict=True)
    text = "".join(
        f"{frame},{identity},{left:.2f},{top:.2f},{width:.2f},{height:.2f},{flag},{label},{seen:.4g}\n"
        for frame, identity, (left, top, width, height), flag, label, seen in rows
    )
    _write(file, text)


def corners_of(boxes: Floats) -> Floats:
    """(N, 4) left, top, width, height, the first pixel being 1 -> (N, 4) xyxy in pixels, from 0."""
    shifted = boxes - _FIRST_PX
    return np.concatenate((shifted[:, :2], shifted[:, :2] + shifted[:, 2:]), axis=1)


def boxes_of(corners: Floats) -> Floats:
    """(N, 4) xyxy in pixels, from 0 -> (N, 4) left, top, width, height, the first pixel being 1."""
    found: Floats = np.concatenate((corners[:, :2], corners[:, 2:] - corners[:, :2]), axis=1) + _FIRST_PX
    return found


def first_repeat(frames: Floats | Integers, ids: Floats | Integers) -> tuple[int, int] | None:
    """Two rows that put one id into one frame twice; None where every id is once in a frame."""
    order = np.lexsort((ids, frames))  # stable: of equal rows the first comes first
    same = (np.diff(frames[order]) == 0) & (np.diff(ids[order]) == 0)
    if not same.any():
        return None
    first = int(np.flatnonzero(same)[0])
    return int(order[first]), int(order[first + 1])


def read_sequence_info(file: Path) -> SequenceInfo:
    """Read a `seqinfo.ini`.

    Raises:
        ValueError: no such file, no [Sequence] in it, or a key that is missing or makes no sense; names the key.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(_text(file))
        section = parser["Sequence"]
    except (configparser.Error, KeyError) as error:
        reason = str(error).splitlines()[0] if isinstance(error, configparser.Error) else "no [Sequence]"
        raise ValueError(
            f"{file}: {reason}, expected [Sequence] with name, imDir, frameRate, seqLength, imWidth, imHeight and imExt"
        ) from None

    def text(key: str) -> str:
        value = section.get(key, "").strip()
        if not value:
            raise ValueError(f"{file}: {key} is missing in [Sequence]; add it, such as `{key}={_EXAMPLES[key]}`")
        return value

    def number(key: str, most: float, *, whole: bool = True) -> float:
        value = _number(text(key))
        if value is None or not 0 < value <= most or (whole and value != int(value)):
            kind = "a whole number" if whole else "a number"
            raise ValueError(
                f"{file}: {key} is {section[key][:40]!r}, expected {kind} above 0 and up to {most:.15g}; correct it"
            )
        return value

    return SequenceInfo(
        name=text("name"),
        num_frames=int(number("seqLength", MOST_FRAMES)),
        frame_rate=number("frameRate", 1e6, whole=False),
        width_px=int(number("imWidth", MOST_PX)),
        height_px=int(number("imHeight", MOST_PX)),
        image_folder=file.parent / text("imDir"),
        image_suffix=text("imExt"),
    )


_EXAMPLES = {
    "name": "MOT16-02",
    "imDir": "img1",
    "frameRate": "30",
    "seqLength": "600",
    "imWidth": "1920",
    "imHeight": "1080",
    "imExt": ".jpg",
}


def _boxes(values: Floats) -> MotBoxes:
    return MotBoxes(values[:, 0].astype(np.int64), values[:, 1].astype(np.int64), values[:, 2:6], values[:, 6])


def _require_values(file: Path, rows: _Rows, columns: tuple[_Column, ...]) -> None:
    """Every value within the bounds of its column; what comes after these columns is not looked at."""
    for place, column in enumerate(columns):
        values = rows.values[:, place]
        flawed = ~((values >= column.least) & (values <= column.most))
        if column.whole:
            flawed |= values != np.floor(values)
        if flawed.any():
            bad = int(np.flatnonzero(flawed)[0])
            raise ValueError(
                f"{file}: line {rows.lines[bad]}: {column.name} (column {place + 1}) is {values[bad]:.15g}, expected "
                f"{column.rule}; correct what wrote it"
            )


def _parse(file: Path, *, widths: tuple[int, ...]) -> _Rows:
    """Numbers of a file with one width; blank lines are passed over. An empty file has rows of the first width, none."""
    texts = _text(file).splitlines()
    lines = [number for number, line in enumerate(texts, start=1) if line and not line.isspace()]
    kept = [texts[line - 1] for line in lines]
    if not kept:
        return _Rows(np.zeros((0, widths[0])), np.zeros(0, dtype=np.int64))
    width = kept[0].count(",") + 1
    try:
        values = np.loadtxt(io.StringIO("\n".join(kept)), delimiter=",", comments=None, ndmin=2)
    except ValueError as error:
        raise ValueError(_reason(file, kept, lines, widths=widths) or f"{file}: {error}") from None
    if width not in widths:
        raise ValueError(_wrong_width(file, lines[0], kept[0], widths=widths))
    return _Rows(values, np.array(lines, dtype=np.int64))


def _reason(file: Path, kept: list[str], lines: list[int], *, widths: tuple[int, ...]) -> str | None:
    """What is wrong with the first row that is no row."""
    width = kept[0].count(",") + 1
    for line, text in zip(lines, kept, strict=True):
        fields = text.split(",")
        if len(fields) not in widths:
            return _wrong_width(file, line, text, widths=widths)
        if len(fields) != width:
            return (
                f"{file}: line {line}: {len(fields)} columns, but line {lines[0]} has {width}; give every row as many"
            )
        for place, field in enumerate(fields, start=1):
            if _number(field) is None:
                return (
                    f"{file}: line {line}: column {place} is {field.strip()[:40]!r}, expected a number; "
                    "correct what wrote it"
                )
    return None


def _wrong_width(file: Path, line: int, text: str, *, widths: tuple[int, ...]) -> str:
    expected = f"{', '.join(map(str, widths[:-1]))} or {widths[-1]}"
    return (
        f"{file}: line {line}: {text.count(',') + 1} columns in {text[:60]!r}, expected {expected} with commas between "
        "them: frame,id,left,top,width,height,confidence,...; choose a file in MOTChallenge's format"
    )


def _number(field: str) -> float | None:
    try:
        return None if "_" in field else float(field)
    except ValueError:
        return None


def _require_once(file: Path, rows: _Rows) -> None:
    """Every id once in a frame."""
    repeat = first_repeat(rows.values[:, 0], rows.values[:, 1])
    if repeat is not None:
        one, other = repeat
        frame, identity = rows.values[other, :2]
        raise ValueError(
            f"{file}: line {rows.lines[other]}: id {identity:.0f} is in frame {frame:.0f} again, after line "
            f"{rows.lines[one]}, expected every id once in a frame; correct what wrote it"
        )


def _rounded(values: Floats, places: int) -> Floats:
    """Rounded, and without the sign of a zero."""
    rounded: Floats = np.round(values, places) + 0.0
    return rounded


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"{file}: cannot be read ({error.strerror or error}); correct the path") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: no text ({error.reason} at byte {error.start}); choose a text file") from None


def _write(file: Path, text: str) -> None:
    beside = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8", newline="\n")
        beside.replace(file)
    except OSError as error:
        raise ValueError(f"{file}: cannot be written ({error.strerror or error}); choose another place") from None
