"""What was found in each frame, as a file: detections, their embeddings, and how the camera moved. Tracking is repeated from it
in seconds, without networks or pictures.

Parquet, one row per frame that was looked at: frame (from 1), boxes (N, 4) xyxy in pixels, scores (N,), labels (N,),
embeddings (N, D) float32 or null, motion (6,) or null: the affine map from the pixels of the frame before, row by row. The
class names and the rate are in the file's metadata.
"""

import json
import math
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from accel_det.data.lines import in_one_line, parse_json
from accel_det.metrics.mot_files import MOST_FRAMES, corners_of, read_detections
from accel_det.tracking.camera_motion import admit_motion
from accel_det.tracking.frames import FrameDetections
from accel_det.video.footage import VideoFrame
from accel_det.video.part_files import TableFile

_KEY = b"accel_det.findings"
_FORMAT_VERSION = 1
_FRAMES_AT_ONCE = 256
_SCHEMA = pa.schema(
    [
        ("frame", pa.int64()),
        ("boxes", pa.list_(pa.list_(pa.float64(), 4))),
        ("scores", pa.list_(pa.float64())),
        ("labels", pa.list_(pa.int64())),
        ("embeddings", pa.list_(pa.list_(pa.float32()))),
        ("motion", pa.list_(pa.float64(), 6)),
    ]
)


class Found(NamedTuple):
    """What is to be seen in a frame, and how the camera moved.

    Attributes:
        detections: of the frame.
        motion: (2, 3) float64, from the pixels of the frame before to those of this one; None: not known.
    """

    detections: FrameDetections
    motion: NDArray[np.float64] | None


_NOTHING = Found(FrameDetections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=np.int64), None), None)


class Findings(NamedTuple):
    """What a file says of all frames.

    Attributes:
        classes: names, by label.
        frames_per_s: of the footage.
        numbers: of the frames that were looked at, rising.
        found: by frame.
    """

    classes: tuple[str, ...]
    frames_per_s: float
    numbers: Sequence[int]
    found: list[Found]

    @property
    def has_embeddings(self) -> bool:
        return any(one.detections.embeddings is not None for one in self.found)


class FindingsWriter:
    """Writes a file row by row; it has its name once it is closed."""

    def __init__(self, file: Path, *, classes: Sequence[str], frames_per_s: float) -> None:
        facts = {"format_version": _FORMAT_VERSION, "classes": list(classes), "frames_per_s": frames_per_s}
        schema = _SCHEMA.with_metadata({_KEY: json.dumps(facts, ensure_ascii=False).encode()})
        self._file = TableFile(file, schema, rows_at_once=_FRAMES_AT_ONCE)

    def write(self, number: int, found: Found) -> None:
        boxes, scores, labels, embeddings = found.detections
        row = {
            "frame": number,
            "boxes": boxes.tolist(),
            "scores": scores.tolist(),
            "labels": labels.tolist(),
            "embeddings": None if embeddings is None else list(embeddings.astype(np.float32)),
            "motion": None if found.motion is None else found.motion.reshape(-1).tolist(),
        }
        self._file.write([row])

    def close(self) -> None:
        self._file.close()


class SavedFinder:
    """Answers from a file what was found in frames; a frame that it does not have was empty."""

    def __init__(self, findings: Findings) -> None:
        by_frame = zip(findings.numbers, findings.found, strict=True)
        self._by_number = {number: found for number, found in by_frame if found is not _NOTHING}

    def find(self, frames: Sequence[VideoFrame]) -> list[Found]:
        return [self._by_number.get(frame.number, _NOTHING) for frame in frames]


class SavedFootage:
    """The frames of a file of findings, without pictures."""

    def __init__(self, findings: Findings, *, name: str) -> None:
        self._numbers = findings.numbers
        self.name, self.frames_per_s = name, findings.frames_per_s
        self.num_frames: int | None = len(findings.numbers)

    def __iter__(self) -> Iterator[VideoFrame]:
        return (VideoFrame(number, None) for number in self._numbers)


def read_findings(file: Path, *, classes: Sequence[str] = ("object",), frames_per_s: float = 25.0) -> Findings:
    """What a file says: parquet that `FindingsWriter` wrote; MOTChallenge's det.txt; or Deep SORT's .npy, whose rows are those
    of det.txt with the embedding behind.

    Args:
        classes, frames_per_s: of text and .npy, which do not say; all that they hold is of the first class.

    Raises:
        ValueError: no such file, or another format; names the file and what was expected.
    """
    if not file.is_file():
        raise ValueError(f"{file}: no such file; expected saved detections, .parquet, .txt or .npy")
    if file.suffix == ".parquet":
        return _read_parquet(file)
    if file.suffix == ".npy":
        rows = _read_npy(file)
        return _by_frame(rows[:, 0], rows[:, 2:6], rows[:, 6], rows[:, 10:], classes, frames_per_s)
    if file.suffix == ".txt":
        read = read_detections(file)
        return _by_frame(read.frames, read.boxes, read.scores, np.zeros((len(read.frames), 0)), classes, frames_per_s)
    raise ValueError(f"{file}: ends in {file.suffix!r}, expected saved detections, .parquet, .txt or .npy")


def _read_parquet(file: Path) -> Findings:
    try:
        table = pq.read_table(file, memory_map=False)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file}: no parquet file ({in_one_line(error)}); save it again") from None
    facts = (table.schema.metadata or {}).get(_KEY)
    if facts is None or not table.schema.equals(_SCHEMA):
        raise ValueError(f"{file}: holds no findings of frames; write one with `accel-det track --save {file}`")
    classes, frames_per_s = _facts(file, facts)
    if empty := [name for name in ("frame", "boxes", "scores", "labels") if table[name].null_count]:
        raise ValueError(f"{file}: column {empty[0]} has rows without a value; save it again")
    numbers: list[int] = table["frame"].to_pylist()
    found = [_found(file, row, num_classes=len(classes)) for row in table.to_pylist()]
    wrong = [number for before, number in zip([0, *numbers], numbers, strict=False) if number <= before]
    if wrong:
        raise ValueError(
            f"{file}: frame {wrong[0]} comes after a later one; expected rising numbers from 1; save it again"
        )
    return Findings(classes, frames_per_s, numbers, found)


def _facts(file: Path, facts: bytes) -> tuple[tuple[str, ...], float]:
    """The class names and the rate."""
    try:
        stated = parse_json(facts)
    except ValueError as error:
        raise ValueError(f"{file}: its metadata are no JSON ({in_one_line(error)}); save it again") from None
    version = stated.get("format_version") if isinstance(stated, dict) else None
    if version != _FORMAT_VERSION:
        raise ValueError(f"{file}: format {version}, expected {_FORMAT_VERSION}; save it again")
    classes, rate = stated.get("classes"), stated.get("frames_per_s")
    if not isinstance(classes, list) or not isinstance(rate, int | float) or not 0 < rate < math.inf:
        raise ValueError(f"{file}: its metadata name no classes or no rate; save it again")
    return tuple(map(str, classes)), float(rate)


def _found(file: Path, row: dict[str, Any], *, num_classes: int) -> Found:
    count = len(row["boxes"])
    embeddings = row["embeddings"]
    if any(
        None in cells for cells in (row["boxes"], row["scores"], row["labels"], embeddings or (), row["motion"] or ())
    ):
        raise ValueError(f"{file}: frame {row['frame']} has an entry without a value; save it again")
    if {len(row["scores"]), len(row["labels"]), count if embeddings is None else len(embeddings)} != {count}:
        raise ValueError(f"{file}: frame {row['frame']} has {count} boxes and other numbers of the rest; save it again")
    labels = np.array(row["labels"], dtype=np.int64)
    if count and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"{file}: frame {row['frame']} has a label outside of the {num_classes} classes; save it again"
        )
    detections = FrameDetections(
        np.array(row["boxes"], dtype=np.float64).reshape(-1, 4),
        np.array(row["scores"], dtype=np.float64),
        labels,
        None if embeddings is None else _matrix(file, row["frame"], embeddings),
    )
    if row["motion"] is None:
        return Found(detections, None)
    try:
        motion = admit_motion(np.array(row["motion"], dtype=np.float64).reshape(2, 3), frame=row["frame"])
    except ValueError as error:
        raise ValueError(f"{file}: {error}; save it again") from None
    return Found(detections, motion)


def _matrix(file: Path, frame: int, embeddings: list[list[float]]) -> NDArray[np.float64]:
    if len({len(one) for one in embeddings}) > 1:
        raise ValueError(f"{file}: frame {frame} has embeddings of several lengths; save it again")
    return np.array(embeddings, dtype=np.float64) if embeddings else np.zeros((0, 0))


def _read_npy(file: Path) -> NDArray[np.float64]:
    try:
        with warnings.catch_warnings(action="ignore"):
            # Mapped, for a header may promise more than any memory has; the file is asked whether it is so.
            rows = np.load(file, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # numpy evaluates the header as Python does, and raises whatever comes of it
        raise ValueError(f"{file}: no .npy file of numbers ({in_one_line(error)})") from None
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] < 10 or rows.dtype.kind not in "fiu":
        shape = getattr(rows, "shape", "several arrays")
        raise ValueError(
            f"{file}: {shape}, expected a row per detection: the 10 columns of det.txt, then the embedding"
        )
    with np.errstate(over="ignore"):
        rows = rows.astype(np.float64)
    rows[:, 7:10] = -1  # they say nothing here
    if not np.isfinite(rows).all():
        row = int(np.flatnonzero(~np.isfinite(rows).all(axis=1))[0])
        raise ValueError(
            f"{file}: row {row} has a value that is no number; expected frame, id, left, top, width, height, score, then the "
            "embedding"
        )
    wrong = rows[(rows[:, 0] < 1) | (rows[:, 0] > MOST_FRAMES) | (rows[:, 0] % 1 != 0), 0]
    if len(wrong):
        raise ValueError(f"{file}: frame {wrong[0]:g}, expected whole numbers from 1 to {MOST_FRAMES}")
    return rows


def _by_frame(
    frames: NDArray[Any],
    mot_boxes: NDArray[np.float64],
    scores: NDArray[np.float64],
    embeddings: NDArray[np.float64],
    classes: Sequence[str],
    frames_per_s: float,
) -> Findings:
    """Rows of one table as findings of every frame up to the last; embeddings are brought to length 1."""
    boxes = corners_of(mot_boxes)
    with np.errstate(over="ignore"):
        embeddings = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    has_embeddings = embeddings.shape[1] > 0
    numbers = range(1, int(frames.max(initial=0)) + 1)
    found = [_NOTHING] * len(numbers)
    order = np.argsort(frames, kind="stable")
    seen, starts = np.unique(frames[order], return_index=True)
    for number, rows in zip(seen.tolist(), np.split(order, starts)[1:], strict=True):
        labels = np.zeros(len(rows), dtype=np.int64)
        detections = FrameDetections(boxes[rows], scores[rows], labels, embeddings[rows] if has_embeddings else None)
        found[int(number) - 1] = Found(detections, None)
    return Findings(tuple(classes[:1]), frames_per_s, numbers, found)
