"""Footage through a detector, an embedder and a tracker: one frame after the other, in memory that does not grow.

Letters: N detections of a frame, D numbers of an embedding, H and W height and width of a frame in pixels.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accel_det.inference.detector import Detector
from accel_det.inference.embedder import Embedder
from accel_det.tracking.camera_motion import CameraMotion
from accel_det.tracking.frames import FrameDetections
from accel_det.tracking.tracker import Tracker
from accel_det.video.footage import VideoFrame, require_pixels
from accel_det.video.saved import FindingsWriter, Found
from accel_det.video.sinks import Sink

STAGES = ("decode", "detect", "embed", "motion", "associate", "write")


class Finder(Protocol):
    """Says what is to be seen in frames, one after the other."""

    def find(self, frames: Sequence[VideoFrame]) -> list[Found]: ...


class Stopwatch:
    """Seconds that went into each stage."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] += time.perf_counter() - started


class Patches(NamedTuple):
    """How the picture of a detection is cut out for the embedder.

    Attributes:
        margin: share of the box's height and width by which it is made larger, half of it on each side.
        keep_aspect: widen or narrow the box about its center to the shape of the embedder's pictures, as Deep SORT did, so
            that nothing is stretched; without it the box is cut out as it is, as the pictures of most sets are.
    """

    margin: float = 0.0
    keep_aspect: bool = False


class NetworkFinder:
    """Finds by a detector, and embeds what it found by one forward pass of an embedder.

    Args:
        min_score: detections with a lower score are left out.
        classes: names of those that are kept; empty: all.
        watch: is told how long detection and embedding took.

    Raises:
        ValueError: the detector has no such class.
    """

    def __init__(
        self,
        detector: Detector,
        embedder: Embedder | None,
        *,
        min_score: float,
        classes: Sequence[str],
        patches: Patches,
        watch: Stopwatch,
    ) -> None:
        if unknown := [name for name in classes if name not in detector.classes]:
            raise ValueError(
                f"the detector has no class {unknown[0]!r}; there are {', '.join(map(repr, detector.classes))}"
            )
        self._detector, self._embedder = detector, embedder
        self._min_score, self._patches, self._watch = min_score, patches, watch
        self._kept = torch.tensor([detector.classes.index(name) for name in classes], dtype=torch.int64)

    def find(self, frames: Sequence[VideoFrame]) -> list[Found]:
        images = [_as_image(frame) for frame in frames]
        with self._watch("detect"):
            answers = self._detector.detect(images, score_threshold=self._min_score, batch_size=len(images))
        found = []
        for answer in answers:
            kept = (
                torch.isin(answer.labels, self._kept)
                if len(self._kept)
                else torch.ones(len(answer.labels), dtype=torch.bool)
            )
            found.append(
                FrameDetections(
                    answer.boxes[kept].double().numpy(),
                    answer.scores[kept].double().numpy(),
                    answer.labels[kept].numpy(),
                    None,
                )
            )
        if self._embedder is not None:
            with self._watch("embed"):
                found = embed_boxes(self._embedder, images, found, patches=self._patches)
        return [Found(detections, None) for detections in found]


class EmbeddingFinder:
    """What another finder found, with embeddings of the boxes by a network."""

    def __init__(self, inner: Finder, embedder: Embedder, *, patches: Patches, watch: Stopwatch) -> None:
        self._inner, self._embedder, self._patches, self._watch = inner, embedder, patches, watch

    def find(self, frames: Sequence[VideoFrame]) -> list[Found]:
        found = self._inner.find(frames)
        with self._watch("embed"):
            images = [_as_image(frame) for frame in frames]
            embedded = embed_boxes(self._embedder, images, [one.detections for one in found], patches=self._patches)
        return [one._replace(detections=detections) for one, detections in zip(found, embedded, strict=True)]


class MotionFinder:
    """What another finder found, with how the camera moved since the frame before."""

    def __init__(self, inner: Finder, *, watch: Stopwatch) -> None:
        self._inner, self._watch, self._motion = inner, watch, CameraMotion()

    def find(self, frames: Sequence[VideoFrame]) -> list[Found]:
        found = self._inner.find(frames)
        with self._watch("motion"):
            motions = [
                self._motion.estimate(require_pixels(frame), one.detections.boxes)
                for frame, one in zip(frames, found, strict=True)
            ]
        return [one._replace(motion=motion) for one, motion in zip(found, motions, strict=True)]


class Tracked(NamedTuple):
    """What came of one footage.

    Attributes:
        frames: that were looked at.
        boxes: of tracks, over all frames.
        tracks: different ones.
    """

    frames: int
    boxes: int
    tracks: int


def track_frames(
    frames: Iterable[VideoFrame],
    finder: Finder,
    tracker: Tracker,
    *,
    sinks: Sequence[Sink],
    save: FindingsWriter | None = None,
    batch_size: int = 1,
    watch: Stopwatch,
    report: Callable[[Tracked], None],
) -> Tracked:
    """Track whoever is found in frames, and hand each frame on.

    Args:
        batch_size: frames that are looked at together; it changes speed and memory only.
        save: is given what was found, for tracking it again without networks.
        report: is told after each batch how far it came.

    Raises:
        ValueError: a frame cannot be read, or a sink cannot be written.
    """
    done, seen = Tracked(0, 0, 0), 0
    for batch in _batches(frames, batch_size, watch):
        for frame, found in zip(batch, finder.find(batch), strict=True):
            with watch("associate"):
                tracks = tracker.update(found.detections, motion=found.motion)
            with watch("write"):
                if save is not None:
                    save.write(frame.number, found)
                for sink in sinks:
                    sink.write(frame, tracks)
            seen = max(seen, int(tracks.ids.max(initial=0)))
            done = Tracked(done.frames + 1, done.boxes + len(tracks.ids), seen)
        report(done)
    return done


def embed_boxes(
    embedder: Embedder, images: Sequence[Tensor], found: Sequence[FrameDetections], *, patches: Patches
) -> list[FrameDetections]:
    """The detections of frames with an embedding of each, all by one forward pass.

    Args:
        images: (3, H, W) uint8 RGB, by frame.
        found: by frame.
    """
    pictures = [
        cut_patch(image, box, patches=patches, size_px=embedder.info.size_px)
        for image, detections in zip(images, found, strict=True)
        for box in detections.boxes
    ]
    embeddings = embedder.embed(pictures, batch_size=max(1, len(pictures))).double().numpy()
    ends = np.cumsum([len(detections.boxes) for detections in found])[:-1]
    parts = np.split(embeddings, ends)
    return [detections._replace(embeddings=part) for detections, part in zip(found, parts, strict=True)]


def cut_patch(image: Tensor, box: NDArray[np.float64], *, patches: Patches, size_px: tuple[int, int]) -> Tensor:
    """The picture of one detection: (3, h, w) uint8; one pixel at least, also of a box outside of the image.

    Args:
        image: (3, H, W) uint8 RGB.
        box: (4,) xyxy, pixels of the image.
        size_px: height and width of the embedder's pictures.
    """
    height, width = image.shape[1:]
    x1, y1, x2, y2 = (float(value) for value in box)
    tall, wide = (y2 - y1) * (1 + patches.margin), (x2 - x1) * (1 + patches.margin)
    if patches.keep_aspect:
        wide = tall * size_px[1] / size_px[0]
    center_x, center_y = (x1 + x2) / 2, (y1 + y2) / 2
    left = min(max(0, round(center_x - wide / 2)), width - 1)
    top = min(max(0, round(center_y - tall / 2)), height - 1)
    right = min(max(left + 1, round(center_x + wide / 2)), width)
    bottom = min(max(top + 1, round(center_y + tall / 2)), height)
    return image[:, top:bottom, left:right]


def _batches(frames: Iterable[VideoFrame], size: int, watch: Stopwatch) -> Iterator[list[VideoFrame]]:
    remaining = iter(frames)
    while True:
        with watch("decode"):
            batch = [frame for _, frame in zip(range(size), remaining, strict=False)]
        if not batch:
            return
        yield batch


def _as_image(frame: VideoFrame) -> Tensor:
    return torch.from_numpy(require_pixels(frame)).permute(2, 0, 1)
