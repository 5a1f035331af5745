"""Deep SORT, SORT and ByteTrack a step and a track at a time, after their papers: what the vectorised tracker must equal.

Plain loops over lists and 8 x 8 matrices, `np.linalg.inv`, the textbook update of the covariance. Only the settings are shared.
"""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.stats import chi2

from accel_det.tracking.frames import FrameDetections
from accel_det.tracking.settings import TrackerSettings

Floats = NDArray[np.float64]


@dataclass
class PlainTrack:
    """One track."""

    mean: Floats
    covariance: Floats
    age: int = 0
    hits: int = 1
    id: int = 0
    features: list[Floats] = field(default_factory=list)
    votes: dict[int, float] = field(default_factory=dict)

    @property
    def label(self) -> int:
        return min(self.votes, key=lambda label: (-self.votes[label], label))


def measured(box: Floats) -> Floats:
    x1, y1, x2, y2 = (float(side) for side in box)
    return np.array(((x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / (y2 - y1), y2 - y1))


def corners(mean: Floats) -> tuple[float, float, float, float]:
    x, y, aspect, height = (float(value) for value in mean[:4])
    return x - aspect * height / 2, y - height / 2, x + aspect * height / 2, y + height / 2


@cache
def quantile(level: float, parts: int) -> float:
    return float(chi2.ppf(level, parts))


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    inner = width * height
    return inner / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inner)


class PlainTracker:
    """Gives (id, box, label, row of the detection) of every confirmed track that was seen, in order of ids."""

    def __init__(self, settings: TrackerSettings) -> None:
        self.settings = settings
        self.tracks: list[PlainTrack] = []
        self.last_id = 0
        self.frame = 0

    def update(self, found: FrameDetections) -> list[tuple[int, tuple[float, ...], int, int]]:
        s = self.settings
        self.frame += 1
        for track in self.tracks:
            self.predict(track)
        sure = [row for row, score in enumerate(found.scores) if score >= s.min_confidence]
        doubtful = [
            row for row, score in enumerate(found.scores) if (s.low_confidence or 2) <= score < s.min_confidence
        ]
        pairs: dict[int, int] = {}
        if s.has_cascade:
            confirmed = [t for t, track in enumerate(self.tracks) if track.id]
            levels = range(1, s.max_age + 1) if s.cascade_by_age else [0]
            for level in levels:
                rows = [t for t in confirmed if t not in pairs and (not level or self.tracks[t].age == level)]
                pairs |= self.match(rows, [d for d in sure if d not in pairs.values()], found, self.cascade_cost)
        young = [
            t for t, one in enumerate(self.tracks) if t not in pairs and (not one.id or one.age <= s.overlap_max_age)
        ]
        pairs |= self.match(young, [d for d in sure if d not in pairs.values()], found, self.overlap_cost)
        fresh = [t for t, one in enumerate(self.tracks) if t not in pairs and one.id and one.age == 1]
        pairs |= self.match(fresh, doubtful, found, self.low_cost)
        for t, d in pairs.items():
            self.take_in(self.tracks[t], found, d)
        kept = [one for one in self.tracks if one.age < (s.max_age if one.id else 1)]
        seen = {id(self.tracks[t]): d for t, d in pairs.items()}
        least = s.min_confidence if s.new_track_confidence is None else s.new_track_confidence
        for d in sure:
            if d not in pairs.values() and found.scores[d] >= least:
                kept.append(self.birth(found, d))
                seen[id(kept[-1])] = d
        self.tracks = kept
        for track in kept:
            if not track.id and track.hits >= (1 if self.frame <= s.confirm_at_once_frames else s.n_init):
                self.last_id += 1
                track.id = self.last_id
        told = sorted((track for track in kept if track.id and track.age == 0), key=lambda track: track.id)
        return [(track.id, corners(track.mean), track.label, seen[id(track)]) for track in told]

    def noise(self, height: float, position: float, velocity: float, aspect: float, aspect_velocity: float) -> Floats:
        p, v = position * height, velocity * height
        return np.diag(np.array((p, p, aspect, p, v, v, aspect_velocity, v)) ** 2)

    def predict(self, track: PlainTrack) -> None:
        s = self.settings
        if track.age > 0:
            track.mean[6:] *= s.lost_size_damping
        step = np.eye(8)
        for i in range(4):
            step[i, 4 + i] = 1
        q = self.noise(
            track.mean[3],
            s.process_position_std,
            s.process_velocity_std,
            s.process_aspect_std,
            s.process_aspect_velocity_std,
        )
        before = track.mean
        track.mean = step @ before
        for i in (2, 3):
            if track.mean[i] <= 0:
                track.mean[i], track.mean[i + 4] = before[i], 0
        track.covariance = step @ track.covariance @ step.T + q
        track.age += 1

    def expected(self, track: PlainTrack) -> Floats:
        p = self.settings.measured_position_std * track.mean[3]
        return track.covariance[:4, :4] + np.diag(np.array((p, p, self.settings.measured_aspect_std, p)) ** 2)

    def take_in(self, track: PlainTrack, found: FrameDetections, d: int) -> None:
        spread = self.expected(track)
        gain = track.covariance[:, :4] @ np.linalg.inv(spread)
        track.mean = track.mean + gain @ (measured(found.boxes[d]) - track.mean[:4])
        track.covariance = track.covariance - gain @ spread @ gain.T
        track.age, track.hits = 0, track.hits + 1
        self.note(track, found, d)

    def birth(self, found: FrameDetections, d: int) -> PlainTrack:
        s, z = self.settings, measured(found.boxes[d])
        start = self.noise(
            z[3], s.initial_position_std, s.initial_velocity_std, s.initial_aspect_std, s.initial_aspect_velocity_std
        )
        track = PlainTrack(np.concatenate((z, np.zeros(4))), start)
        self.note(track, found, d)
        return track

    def note(self, track: PlainTrack, found: FrameDetections, d: int) -> None:
        label, score = int(found.labels[d]), float(found.scores[d])
        track.votes[label] = track.votes.get(label, 0.0) + score
        if found.embeddings is None or score < self.settings.min_confidence:
            return
        feature, momentum = found.embeddings[d].astype(np.float64), self.settings.appearance_momentum
        if momentum is not None and track.features:
            mixed = momentum * track.features[-1] + (1 - momentum) * feature
            feature = mixed / np.linalg.norm(mixed)
        track.features = [*track.features, feature][-(1 if momentum is not None else self.settings.budget) :]

    def mahalanobis(self, track: PlainTrack, box: Floats) -> tuple[float, float]:
        """Squared distance and gate."""
        s = self.settings
        parts = {"full": 4, "position": 2, "none": 0}[s.gate]
        if not parts:
            return 0.0, np.inf
        apart = (measured(box) - track.mean[:4])[:parts]
        distance = float(apart @ np.linalg.inv(self.expected(track)[:parts, :parts]) @ apart)
        return distance, quantile(s.gate_level, parts) * (1 + s.gate_widening * (track.age - 1))

    def cosine(self, track: PlainTrack, found: FrameDetections, d: int) -> float:
        assert found.embeddings is not None
        return min(1 - float(feature @ found.embeddings[d]) for feature in track.features)

    def cascade_cost(self, track: PlainTrack, found: FrameDetections, d: int) -> tuple[float, float]:
        """Cost, infinite where refused, and the most that it may be."""
        weight, most = self.settings.motion_weight, self.settings.max_cosine_distance
        motion, gate = self.mahalanobis(track, found.boxes[d])
        limit = weight * gate if weight else 0.0
        if motion > gate:
            return np.inf, 0.0
        if most is None:
            return weight * motion, limit
        unlike = self.cosine(track, found, d)
        cost = weight * motion + (1 - weight) * unlike
        return (np.inf if unlike > most else cost), limit + (1 - weight) * most

    def overlap_cost(self, track: PlainTrack, found: FrameDetections, d: int) -> tuple[float, float]:
        most = self.settings.overlap_max_cosine_distance
        cost = 1 - overlap(corners(track.mean), tuple(found.boxes[d]))
        if most is not None and self.cosine(track, found, d) > most:
            cost = np.inf
        return cost, self.settings.max_iou_distance

    def low_cost(self, track: PlainTrack, found: FrameDetections, d: int) -> tuple[float, float]:
        return 1 - overlap(corners(track.mean), tuple(found.boxes[d])), self.settings.low_max_iou_distance

    def match(self, tracks, detections, found, cost_of) -> dict[int, int]:  # type: ignore[no-untyped-def]
        """Pairs of least cost; alone costs as much as the limit, and a bit more, so that pairs at the limit stay."""
        if not tracks or not detections:
            return {}
        costs = np.zeros((len(tracks), len(detections)))
        for i, t in enumerate(tracks):
            for j, d in enumerate(detections):
                track = self.tracks[t]
                cost, limit = cost_of(track, found, d)
                same = track.label == int(found.labels[d])
                least = self.settings.class_switch_iou
                if not same and (least is None or overlap(corners(track.mean), tuple(found.boxes[d])) < least):
                    cost = np.inf
                costs[i, j] = cost - limit if cost <= limit else 1e-5
        return {
            tracks[i]: detections[j] for i, j in zip(*linear_sum_assignment(costs), strict=True) if costs[i, j] <= 0
        }
