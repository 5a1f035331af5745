"""Where tracks go: MOTChallenge text, JSON lines, parquet, annotated video, pictures of each track.

Closing a file early, as after Ctrl-C, gives a whole file of the frames so far. None grows in memory with the length of the
footage.

Letters: M tracks in a frame, H and W height and width in pixels.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from PIL import Image

from accel_det.metrics.mot_files import MotBoxes, boxes_of, boxes_text
from accel_det.opencv import cv2_module, without_chatter
from accel_det.tracking.frames import FrameTracks
from accel_det.video.annotate import Annotator
from accel_det.video.footage import VideoFrame, require_pixels
from accel_det.video.part_files import TableFile, TextFile, beside

_ROWS_AT_ONCE = 16_384
_FOURCC = {".mp4": "mp4v", ".webm": "VP80"}
_TABLE = pa.schema(
    [
        ("frame", pa.int64()),
        ("time_s", pa.float64()),
        ("track", pa.int64()),
        ("class", pa.string()),
        ("score", pa.float64()),
        ("x1", pa.float64()),
        ("y1", pa.float64()),
        ("x2", pa.float64()),
        ("y2", pa.float64()),
    ]
)


class Sink(Protocol):
    """Takes the tracks of one frame after the other."""

    def write(self, frame: VideoFrame, tracks: FrameTracks) -> None: ...

    def close(self) -> None:
        """Finish the file; nothing is written after."""
        ...


class MotText:
    """MOTChallenge's results format: a line per track and frame, pixels and frames counted from 1."""

    def __init__(self, file: Path) -> None:
        self._file = TextFile(file)

    def write(self, frame: VideoFrame, tracks: FrameTracks) -> None:
        frames = np.full(len(tracks.ids), frame.number, dtype=np.int64)
        self._file.write(boxes_text(MotBoxes(frames, tracks.ids, boxes_of(tracks.boxes), tracks.scores)))

    def close(self) -> None:
        self._file.close()


class JsonLines:
    """A line of JSON per frame, also where nothing is tracked: frame, time_s, and tracks with id, class, score, box_xyxy."""

    def __init__(self, file: Path, *, classes: Sequence[str], frames_per_s: float) -> None:
        self._file = TextFile(file)
        self._classes, self._frames_per_s = tuple(classes), frames_per_s

    def write(self, frame: VideoFrame, tracks: FrameTracks) -> None:
        rows = [
            {
                "id": identity,
                "class": self._classes[label],
                "score": round(score, 6),
                "box_xyxy": [round(v, 3) for v in box],
            }
            for identity, label, score, box in _rows(tracks)
        ]
        record = {"frame": frame.number, "time_s": round(time_s(frame, self._frames_per_s), 6), "tracks": rows}
        self._file.write(json.dumps(record, ensure_ascii=False) + "\n")

    def close(self) -> None:
        self._file.close()


class ParquetTable:
    """A row per track and frame: frame, time_s, track, class, score, x1, y1, x2, y2 in pixels of the frame."""

    def __init__(self, file: Path, *, classes: Sequence[str], frames_per_s: float) -> None:
        self._file = TableFile(file, _TABLE, rows_at_once=_ROWS_AT_ONCE)
        self._classes, self._frames_per_s = tuple(classes), frames_per_s

    def write(self, frame: VideoFrame, tracks: FrameTracks) -> None:
        moment = time_s(frame, self._frames_per_s)
        rows = (
            (frame.number, moment, identity, self._classes[label], score, *box)
            for identity, label, score, box in _rows(tracks)
        )
        self._file.write([dict(zip(_TABLE.names, row, strict=True)) for row in rows])

    def close(self) -> None:
        self._file.close()


class AnnotatedVideo:
    """The footage with boxes, numbers and trails: MPEG-4 in .mp4, or VP8 in .webm, which browsers play.

    Raises:
        ValueError: the video cannot be written, or a frame has another size than the first.
    """

    def __init__(self, file: Path, *, annotator: Annotator, frames_per_s: float) -> None:
        self._file, self._beside = file, beside(file)
        self._annotator, self._frames_per_s = annotator, frames_per_s
        self._size = (0, 0)
        self._writer: Any = None

    def write(self, frame: VideoFrame, tracks: FrameTracks) -> None:
        pixels = self._annotator.draw(require_pixels(frame), tracks)
        height, width = pixels.shape[:2]
        if self._writer is None:
            self._size, self._writer = (height, width), self._open(height, width)
        if (height, width) != self._size:
            raise ValueError(
                f"{self._file}: frame {frame.number} is {width} x {height} pixels, expected {self._size[1]} x {self._size[0]} as "
                "the first; give frames of one size"
            )
        self._writer.write(np.ascontiguousarray(pixels[:, :, ::-1]))

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._beside.replace(self._file)

    def _open(self, height: int, width: int) -> Any:
        cv2 = cv2_module("video")
        code = cv2.VideoWriter_fourcc(*_FOURCC[self._file.suffix])
        with without_chatter():
            writer = cv2.VideoWriter(str(self._beside), code, self._frames_per_s, (width, height))
        if not writer.isOpened():
            raise ValueError(
                f"{self._file}: this OpenCV cannot encode {self._file.suffix}; choose another kind of output"
            )
        return writer


class TrackPictures:
    """Pictures of each track, one a second: FOLDER/<track>/<frame>.jpg, as identity folders hold them."""

    def __init__(self, folder: Path, *, frames_per_s: float) -> None:
        self._folder, self._every = folder, max(1, round(frames_per_s))
        self._next: dict[int, int] = {}

    def write(self, frame: VideoFrame, tracks: FrameTracks) -> None:
        pixels = require_pixels(frame)
        height, width = pixels.shape[:2]
        for identity, _, _, box in _rows(tracks):
            if frame.number < self._next.get(identity, 0):
                continue
            x1, y1, x2, y2 = crop_bounds(box, height=height, width=width)
            if x1 < x2 and y1 < y2:
                place = self._folder / f"{identity:06d}"
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[y1:y2, x1:x2]).save(place / f"{frame.number:06d}.jpg", quality=95)
                self._next[identity] = frame.number + self._every

    def close(self) -> None:
        self._next.clear()


def crop_bounds(box: Sequence[float], *, height: int, width: int) -> tuple[int, int, int, int]:
    """Whole pixels that a box touches inside the image: x1, y1, x2, y2, the last two not included."""
    x1, y1, x2, y2 = box
    return max(0, int(x1)), max(0, int(y1)), min(width, int(np.ceil(x2))), min(height, int(np.ceil(y2)))


def time_s(frame: VideoFrame, frames_per_s: float) -> float:
    """When a frame is seen, in seconds from the first."""
    return (frame.number - 1) / frames_per_s


class _Row(NamedTuple):
    identity: int
    label: int
    score: float
    box: list[float]


def _rows(tracks: FrameTracks) -> list[_Row]:
    columns = (tracks.ids.tolist(), tracks.labels.tolist(), tracks.scores.tolist(), tracks.boxes.tolist())
    return [_Row(*row) for row in zip(*columns, strict=True)]
