"""What tracks have looked like: the latest embeddings of each, and the cosine distance of the nearest.

Letters: S places for tracks, B embeddings kept of each, D numbers of an embedding, T tracks asked for, N detections.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

FIRST_PLACES = 16


class Gallery:
    """Embeddings of unit length by place; a place belongs to a track from `open` to `close`.

    They are kept as float32: a network gives no more, and they are most of a tracker's memory and time.

    Source: Wojke et al., Simple Online and Realtime Tracking with a Deep Association Metric, 2017, section 2.2; the moving
        average: Du et al., StrongSORT, 2023, section 3.2.
    """

    def __init__(self, *, budget: int, momentum: float | None) -> None:
        """A gallery without places.

        Args:
            budget: embeddings kept of each track, the latest.
            momentum: share of the old in a moving average that is kept instead; None for none.
        """
        self._budget = 1 if momentum is not None else budget
        self._momentum = momentum
        self._features = np.zeros((0, self._budget, 0), dtype=np.float32)
        self._num_added = np.zeros(0, dtype=np.int64)
        self._free: list[int] = []

    def open(self, embeddings: NDArray[np.float32]) -> Indices:
        """Places for new tracks of (N, D) first embeddings."""
        while len(self._free) < len(embeddings):
            self._grow(embeddings.shape[1])
        places = np.array([self._free.pop() for _ in embeddings], dtype=np.int64)
        self._num_added[places] = 0
        self.add(places, embeddings)
        return places

    def close(self, places: Indices) -> None:
        self._free += places[::-1].tolist()

    def add(self, places: Indices, embeddings: NDArray[np.float32]) -> None:
        """Take in one embedding of each, (N, D); the oldest goes where the budget is spent."""
        if not len(places):
            return
        fresh = embeddings
        if self._momentum is not None:
            old = self._features[places, 0]
            mixed = self._momentum * old + (1 - self._momentum) * fresh
            length = np.linalg.norm(mixed, axis=1, keepdims=True)
            mixed = np.divide(mixed, length, out=fresh.copy(), where=length > 0)
            fresh = np.where(self._num_added[places, None] > 0, mixed, fresh)
        self._features[places, self._num_added[places] % self._budget] = fresh
        self._num_added[places] += 1

    def distances(self, places: Indices, embeddings: NDArray[np.float32], wanted: NDArray[np.bool_]) -> Floats:
        """Cosine distance of each detection to the nearest embedding of each track.

        Args:
            places: (T,) of the tracks.
            embeddings: (N, D).
            wanted: (T, N) the pairs to compute: the fewer a track has, the faster.

        Returns:
            (T, N), infinite where not wanted.
        """
        distances = np.full(wanted.shape, np.inf)
        rows, columns = np.nonzero(wanted)
        if not len(rows):
            return distances
        picked, ends = embeddings[columns], np.searchsorted(rows, np.arange(len(places) + 1)).tolist()
        num_kept = np.minimum(self._num_added[places], self._budget)
        # One small product a track: a track lost for long has many pairs, and a common shape would give as many to all.
        similarities = [
            (picked[start:end] @ self._features[place, :number].T).ravel()
            for place, number, start, end in zip(places.tolist(), num_kept.tolist(), ends[:-1], ends[1:], strict=True)
            if start < end
        ]
        lengths = num_kept[rows]
        nearest = np.maximum.reduceat(np.concatenate(similarities), np.cumsum(lengths) - lengths)
        distances[rows, columns] = 1.0 - nearest.astype(np.float64)
        return distances

    def _grow(self, width: int) -> None:
        old = len(self._features)
        new = max(FIRST_PLACES, 2 * old)
        features = np.zeros((new, self._budget, width), dtype=np.float32)
        features[:old, :, : self._features.shape[2]] = self._features
        self._features = features
        self._num_added = np.concatenate((self._num_added, np.zeros(new - old, dtype=np.int64)))
        self._free += range(new - 1, old - 1, -1)
