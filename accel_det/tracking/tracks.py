"""The tracks of a sequence, one row each in a struct of arrays, and their life: tentative, confirmed, gone.

Letters: T tracks, P tracks that were continued, C classes that were seen.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_det.tracking import camera_motion, kalman
from accel_det.tracking.frames import Candidates
from accel_det.tracking.gallery import Gallery
from accel_det.tracking.kalman import States
from accel_det.tracking.settings import TrackerSettings

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

TENTATIVE = 0


class Rows(NamedTuple):
    """What is known of each track beside its state.

    Attributes:
        ids: (T,) from 1, or 0 while tentative.
        num_hits: (T,) detections so far.
        ages: (T,) frames since the last detection; 0 in its frame.
        places: (T,) in the gallery; 0 where appearance is not used.
        votes: (T, C) score that each class has gathered.
        seen: (T, 4) the last detection as a measurement, in pixels of the current frame.
        detections: (T,) row of the detection among those of the current frame, or -1.
        scores: (T,) of the last detection.
    """

    ids: Indices
    num_hits: Indices
    ages: Indices
    places: Indices
    votes: Floats
    seen: Floats
    detections: Indices
    scores: Floats

    def take(self, kept: NDArray[np.bool_]) -> "Rows":
        return Rows(*(column[kept] for column in self))  # type: ignore[arg-type]  # a mixture of two kinds of array


class Tracks:
    """All tracks that are alive, in order of their births."""

    def __init__(self, settings: TrackerSettings) -> None:
        self._settings = settings
        self._gallery = Gallery(budget=settings.budget, momentum=settings.appearance_momentum)
        self._classes = np.zeros(0, dtype=np.int64)
        self._num_confirmed = 0
        whole, numbers = np.zeros(0, dtype=np.int64), np.zeros(0)
        self.rows = Rows(whole, whole, whole, whole, np.zeros((0, 0)), np.zeros((0, 4)), whole, numbers)
        self.states = States(np.zeros((0, 8)), np.zeros((0, 8, 8)))
        self._states_when_seen = self.states

    def __len__(self) -> int:
        return len(self.rows.ids)

    @property
    def is_confirmed(self) -> NDArray[np.bool_]:
        return np.asarray(self.rows.ids > TENTATIVE)

    @property
    def labels(self) -> Indices:
        """(T,) the class that has gathered most; of equals the smallest."""
        return np.asarray(self._classes[self.rows.votes.argmax(axis=1)]) if len(self) else np.zeros(0, dtype=np.int64)

    def advance(self, motion: Floats | None) -> None:
        """On to the next frame, whose camera may have moved by a (2, 3) affine map of pixels."""
        lost = self.rows.ages > 0
        self.states.mean[lost, kalman.ASPECT + 4] *= self._settings.lost_size_damping
        self.states.mean[lost, kalman.HEIGHT + 4] *= self._settings.lost_size_damping
        self.states = kalman.predict(self.states, self._settings)
        seen = self.rows.seen
        if motion is not None:
            self.states = camera_motion.move(self.states, motion)
            self._states_when_seen = camera_motion.move(self._states_when_seen, motion)
            seen = camera_motion.move_measured(seen, motion)
        self.rows = self.rows._replace(
            ages=self.rows.ages + 1, seen=seen, detections=np.full(len(self), -1, dtype=np.int64)
        )

    def appearance(self, tracks: Indices, embeddings: NDArray[np.float32], wanted: NDArray[np.bool_]) -> Floats:
        """(P, N) cosine distances of the given tracks; infinite where not wanted."""
        return self._gallery.distances(self.rows.places[tracks], embeddings, wanted)

    def extend(self, tracks: Indices, found: Candidates, detections: Indices) -> None:
        """Continue tracks (P,) with these rows of the frame's detections."""
        rows, taken = self.rows, found.take(detections)
        measured = kalman.measure(taken.boxes)
        if self._settings.reupdate_after_gap:
            self._walk_the_gap(tracks, measured)
        self.states.put(tracks, kalman.update(self.states.take(tracks), measured, self._settings))
        self._states_when_seen.put(tracks, self.states.take(tracks))
        rows.seen[tracks] = measured
        rows.ages[tracks] = 0
        rows.num_hits[tracks] += 1
        rows.detections[tracks] = detections
        rows.scores[tracks] = taken.scores
        self._vote(tracks, taken)
        if taken.embeddings is not None:
            sure = taken.scores >= self._settings.min_confidence
            self._gallery.add(rows.places[tracks[sure]], taken.embeddings[sure])

    def begin(self, found: Candidates, detections: Indices) -> None:
        """New tracks from these rows of the frame's detections."""
        taken = found.take(detections)
        number, measured = len(detections), kalman.measure(taken.boxes)
        none = np.zeros(number, dtype=np.int64)
        places = none if taken.embeddings is None else self._gallery.open(taken.embeddings)
        votes = np.zeros((number, len(self._classes)))
        born = Rows(none, none + 1, none, places, votes, measured, detections, taken.scores)
        self.rows = Rows(*(np.concatenate(column) for column in zip(self.rows, born, strict=True)))
        fresh = kalman.initiate(measured, self._settings)
        self.states = States(*(np.concatenate(pair) for pair in zip(self.states, fresh, strict=True)))
        self._states_when_seen = States(
            *(np.concatenate(pair) for pair in zip(self._states_when_seen, fresh, strict=True))
        )
        self._vote(np.arange(len(self) - number, len(self)), taken)

    def confirm(self, *, num_hits: int) -> None:
        """Give the next ids to tentative tracks of so many detections, in order of their births."""
        ripe = np.flatnonzero(~self.is_confirmed & (self.rows.num_hits >= num_hits))
        self.rows.ids[ripe] = self._num_confirmed + 1 + np.arange(len(ripe))
        self._num_confirmed += len(ripe)

    def end(self) -> None:
        """Let go of tentative tracks that were missed, and of confirmed ones that were missed too long to be continued."""
        patience = np.where(self.is_confirmed, self._settings.max_age, 1)
        gone = self.rows.ages >= patience
        if not gone.any():
            return
        if self._settings.uses_appearance:
            self._gallery.close(self.rows.places[gone])
        self.rows = self.rows.take(~gone)
        self.states = self.states.take(~gone)
        self._states_when_seen = self._states_when_seen.take(~gone)

    def _vote(self, tracks: Indices, taken: Candidates) -> None:
        classes = np.union1d(self._classes, taken.labels)
        if len(classes) > len(self._classes):
            votes = np.zeros((len(self), len(classes)))
            votes[:, np.searchsorted(classes, self._classes)] = self.rows.votes
            self.rows, self._classes = self.rows._replace(votes=votes), classes
        self.rows.votes[tracks, np.searchsorted(self._classes, taken.labels)] += np.maximum(taken.scores, kalman.TINY)

    def _walk_the_gap(self, tracks: Indices, measured: Floats) -> None:
        """Run the filter of tracks that were missed from their last detection to this one along a straight line.

        What is left are the states that are predicted for this frame.
        """
        was_lost = self.rows.ages[tracks] > 1
        lost, until = tracks[was_lost], measured[was_lost]
        ages, since = self.rows.ages[lost], self.rows.seen[lost]
        states = self._states_when_seen.take(lost)
        for step in range(1, int(ages.max(initial=0))):
            walking = np.flatnonzero(step < ages)
            between = since[walking] + (step / ages[walking, None]) * (until - since)[walking]
            ahead = kalman.predict(states.take(walking), self._settings)
            states.put(walking, kalman.update(ahead, between, self._settings))
        self.states.put(lost, kalman.predict(states, self._settings))
