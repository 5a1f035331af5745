"""Frames of detections in, frames of tracks out: Deep SORT, and as settings of the same code SORT and ByteTrack.

Letters: T tracks alive, N detections that take part, P pairs.
"""

import numpy as np
from numpy.typing import NDArray

from accel_det.tracking import kalman
from accel_det.tracking.association import NO_PAIRS, Pairs, assign, cascade, gates, join, pairwise_iou
from accel_det.tracking.camera_motion import admit_motion
from accel_det.tracking.frames import Candidates, FrameDetections, FrameTracks, admit
from accel_det.tracking.settings import TrackerSettings
from accel_det.tracking.tracks import Tracks

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Tracker:
    """The tracks of one sequence; a sequence of its own needs a tracker of its own.

    Source: Wojke et al., Simple Online and Realtime Tracking with a Deep Association Metric, 2017; Bewley et al., Simple Online
        and Realtime Tracking, 2016; Zhang et al., ByteTrack, 2022. Ids are given when a track is confirmed, so that they have no
        gaps, and a class is the vote of all detections of a track.
    """

    def __init__(self, settings: TrackerSettings) -> None:
        self._settings = settings
        self._tracks = Tracks(settings)
        self._frame = 0
        self._embedding_size: int | None = None

    def update(self, detections: FrameDetections, *, motion: NDArray[np.floating] | None = None) -> FrameTracks:
        """Take in the next frame; every frame of the sequence counts, one without detections too.

        Args:
            detections: of the frame, in any order.
            motion: (2, 3) affine map from the pixels of the frame before to those of this one; None for a camera at rest.

        Raises:
            ValueError: something of the frame is refused, see `TrackerSettings.on_bad_box`. The tracker has not changed.
        """
        frame = self._frame + 1
        found = admit(detections, self._settings, frame=frame, embedding_size=self._embedding_size)
        camera = None if motion is None else admit_motion(motion, frame=frame)
        self._frame = frame
        if found.embeddings is not None:
            self._embedding_size = found.embeddings.shape[1]
        tracks = self._tracks
        tracks.advance(camera)
        pairs = self._associate(found)
        tracks.extend(pairs.tracks, found, pairs.detections)
        tracks.end()
        tracks.begin(found, self._newcomers(found, pairs))
        at_once = frame <= self._settings.confirm_at_once_frames
        tracks.confirm(num_hits=1 if at_once else self._settings.n_init)
        return self._report(found)

    def _associate(self, found: Candidates) -> Pairs:
        """Pairs by motion and appearance, then by overlap, then with detections of low confidence."""
        settings, tracks = self._settings, self._tracks
        iou = pairwise_iou(kalman.corners(tracks.states.mean), found.boxes)
        allowed = self._same_class(found, iou)
        sure = found.scores >= settings.min_confidence
        pairs = NO_PAIRS
        if settings.has_cascade:
            taking_part = tracks.is_confirmed | settings.cascade_tentative
            pairs = self._by_motion_and_appearance(found, _only(allowed, taking_part, sure))
        free_tracks, free_detections = _left_over(pairs, iou)
        recent = ~tracks.is_confirmed | (tracks.rows.ages <= settings.overlap_max_age)
        wanted = _only(allowed, free_tracks & recent, free_detections & sure)
        pairs = join([pairs, self._by_overlap(found, iou, wanted)])
        if settings.low_confidence is None:
            return pairs
        free_tracks, free_detections = _left_over(pairs, iou)
        recent = tracks.is_confirmed & (tracks.rows.ages == 1)
        wanted = _only(allowed, free_tracks & recent, free_detections & ~sure)
        limit = np.full(len(iou), settings.low_max_iou_distance)
        return join([pairs, assign(np.where(wanted, 1 - iou, np.inf), limit)])

    def _same_class(self, found: Candidates, iou: Floats) -> Bools:
        same: Bools = self._tracks.labels[:, None] == found.labels[None, :]
        least = self._settings.class_switch_iou
        return same if least is None else same | (iou >= least)

    def _by_motion_and_appearance(self, found: Candidates, wanted: Bools) -> Pairs:
        settings, tracks = self._settings, self._tracks
        rows = np.flatnonzero(wanted.any(axis=1))
        wanted, ages = wanted[rows], tracks.rows.ages[rows]
        measured, states = kalman.measure(found.boxes), tracks.states.take(rows)
        limits = gates(ages, settings)
        cost = np.zeros(wanted.shape)
        if settings.gate != "none":
            num_parts = 4 if settings.gate == "full" else 2
            apart = kalman.squared_distances(states, measured, settings, num_parts=num_parts)
            wanted = wanted & (apart <= limits[:, None])
            cost = settings.motion_weight * apart
        limits = settings.motion_weight * np.where(np.isfinite(limits), limits, 0.0)
        if settings.max_cosine_distance is not None and found.embeddings is not None:
            unlike = tracks.appearance(rows, found.embeddings, wanted)
            wanted = wanted & (unlike <= settings.max_cosine_distance)
            cost = cost + (1 - settings.motion_weight) * np.where(wanted, unlike, 0.0)
            limits = limits + (1 - settings.motion_weight) * settings.max_cosine_distance
        cost = np.where(wanted, cost, np.inf)
        chosen = cascade(cost, limits, ages) if settings.cascade_by_age else assign(cost, limits)
        return Pairs(rows[chosen.tracks], chosen.detections)

    def _by_overlap(self, found: Candidates, iou: Floats, wanted: Bools) -> Pairs:
        settings = self._settings
        wanted = wanted & (1 - iou <= settings.max_iou_distance)
        if settings.overlap_max_cosine_distance is not None and found.embeddings is not None:
            everyone = np.arange(len(iou))
            unlike = self._tracks.appearance(everyone, found.embeddings, wanted)
            wanted = wanted & (unlike <= settings.overlap_max_cosine_distance)
        return assign(np.where(wanted, 1 - iou, np.inf), np.full(len(iou), settings.max_iou_distance))

    def _newcomers(self, found: Candidates, pairs: Pairs) -> NDArray[np.int64]:
        least = self._settings.new_track_confidence
        fit = found.scores >= (self._settings.min_confidence if least is None else least)
        fit[pairs.detections] = False
        return np.flatnonzero(fit)

    def _report(self, found: Candidates) -> FrameTracks:
        tracks = self._tracks
        told = np.flatnonzero(tracks.is_confirmed & (tracks.rows.ages == 0))
        told = told[np.argsort(tracks.rows.ids[told])]
        detections = tracks.rows.detections[told]
        if self._settings.reported_box == "detected":
            boxes = found.boxes[detections]
        else:
            boxes = kalman.corners(tracks.states.mean[told])
        return FrameTracks(
            tracks.rows.ids[told], boxes, tracks.rows.scores[told], tracks.labels[told], found.rows[detections]
        )


def _only(allowed: Bools, tracks: Bools, detections: Bools) -> Bools:
    """(T, N) pairs that are allowed, of these tracks (T,) and these detections (N,)."""
    return allowed & tracks[:, None] & detections[None, :]


def _left_over(pairs: Pairs, iou: Floats) -> tuple[Bools, Bools]:
    """(T,) tracks and (N,) detections that are in no pair."""
    tracks, detections = (np.ones(length, dtype=bool) for length in iou.shape)
    tracks[pairs.tracks] = False
    detections[pairs.detections] = False
    return tracks, detections
