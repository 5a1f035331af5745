"""Frames with the tracks drawn on: a box and its number in the color of the track, and where it came from."""

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from accel_det.report.pictures import Marked, class_color, draw_marks
from accel_det.tracking.frames import FrameTracks


class Annotator:
    """Draws one frame after the other, for the trails of the tracks are remembered.

    Args:
        classes: names, by label.
        trail_frames: how far back a trail reaches.
    """

    def __init__(self, *, classes: Sequence[str], trail_frames: int) -> None:
        self._classes = tuple(classes)
        self._trail_frames = trail_frames
        self._trails: dict[int, deque[tuple[float, float]]] = {}
        self._ages: dict[int, int] = {}

    def draw(self, pixels: NDArray[np.uint8], tracks: FrameTracks) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of the same size."""
        boxes, ids = tracks.boxes.tolist(), tracks.ids.tolist()
        self._follow(ids, boxes)
        picture = Image.fromarray(pixels)
        draw = ImageDraw.Draw(picture)
        stroke_px = max(2, round(min(picture.size) / 260))
        for identity, trail in self._trails.items():
            if len(trail) > 1:
                draw.line(list(trail), fill=class_color(identity - 1), width=stroke_px, joint="curve")
        marks = [
            Marked((x1, y1, x2, y2), identity - 1, f"{self._classes[label]} {identity}")
            for identity, label, (x1, y1, x2, y2) in zip(ids, tracks.labels.tolist(), boxes, strict=True)
        ]
        return np.asarray(draw_marks(picture, marks))

    def _follow(self, ids: Sequence[int], boxes: Sequence[Sequence[float]]) -> None:
        for identity in self._ages:
            self._ages[identity] += 1
        for identity, (x1, _, x2, y2) in zip(ids, boxes, strict=True):
            trail = self._trails.setdefault(identity, deque(maxlen=self._trail_frames))
            trail.append(((x1 + x2) / 2, y2))
            self._ages[identity] = 0
        for identity in [identity for identity, age in self._ages.items() if age > self._trail_frames]:
            del self._ages[identity], self._trails[identity]
