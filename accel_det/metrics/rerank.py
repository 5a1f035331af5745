"""Re-ranking by k-reciprocal neighbours: pictures that have the same neighbours are brought nearer to each other.

Source: Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, 2017. What the paper leaves open is as
in its experiments: queries are neighbours of pictures as the gallery is; a picture is its own first neighbour, beside k1
others and among k2; distances are squared and divided by the largest one of their picture; the vectors of section 3.3 are
scaled to the sum 1.

Nothing here is N x N: rows of distances come and go, neighbours and vectors are sparse.

Letters: N pictures, of which the first G are the gallery; R rows that are in memory at once; P pairs.
"""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

# Pairs of pictures whose embeddings are in memory at once.
_PAIRS = 4096
# Rows of the sparse products that are in memory at once.
_ROWS = 4096


class SquaredDistances(Protocol):
    """Squared Euclidean distances of N pictures, never all at once."""

    @property
    def num_pictures(self) -> int: ...

    def rows(self, pictures: Integers, *, columns: int) -> Floats:
        """(R,) pictures -> (R, columns) to the first so many; the caller may change it, and the next call writes over it."""
        ...

    def pairs(self, first: Integers, second: Integers) -> Floats:
        """(P,) and (P,) pictures -> (P,)."""
        ...


def smallest(values: Floats, count: int) -> Integers:
    """Places of the smallest values, in ascending order; of equal values the first comes first.

    Args:
        values: (N,).
        count: at least 1; there are N at most.
    """
    count = min(count, len(values))
    if not count:
        return np.zeros(0, dtype=np.int64)
    limit = np.partition(values, count - 1)[count - 1]
    near = np.flatnonzero(values <= limit)
    return near[np.argsort(values[near], kind="stable")[:count]].astype(np.int64, copy=False)


class Reranking:
    """Distances d* = (1 - lambda) d_Jaccard + lambda d, section 3.5 of the paper.

    Args:
        distances: of all pictures, queries and gallery.
        num_gallery: the first so many of them are the gallery.
        k1, k2: neighbours that make a picture's vector, and vectors that are averaged; at least 1.
        lambda_value: share of the original distance, in [0, 1].
        rows_at_once: rows of distances in memory.
    """

    def __init__(
        self,
        distances: SquaredDistances,
        *,
        num_gallery: int,
        k1: int,
        k2: int,
        lambda_value: float,
        rows_at_once: int,
    ) -> None:
        self.distances, self.num_gallery, self.lambda_value = distances, num_gallery, lambda_value
        neighbors, self.largest = nearest_and_largest(distances, count=max(k1 + 1, k2), rows_at_once=rows_at_once)
        pattern = expand(reciprocal(neighbors[:, : k1 + 1]), reciprocal(neighbors[:, : round(k1 / 2) + 1]))
        self.vectors = mean_vectors(encode(pattern, distances, self.largest), neighbors[:, :k2])
        self._by_neighbor = self.vectors[:num_gallery].tocsc()

    def rows(self, pictures: Integers) -> Floats:
        """(R,) pictures -> (R, G) distances to the gallery, which the caller may change and the next call writes over."""
        final = self.distances.rows(pictures, columns=self.num_gallery)
        final *= self.lambda_value / np.where(self.largest[pictures] > 0, self.largest[pictures], 1)[:, None]
        for row, picture in zip(final, pictures.tolist(), strict=True):
            row += (1 - self.lambda_value) * self._jaccard(picture)
        return final

    def _jaccard(self, picture: int) -> Floats:
        """(G,) 1 - sum of minima / sum of maxima of two vectors; the maxima are what remains of their sums, 1 + 1."""
        own = slice(self.vectors.indptr[picture], self.vectors.indptr[picture + 1])
        neighbors, weights = self.vectors.indices[own], self.vectors.data[own]
        starts = self._by_neighbor.indptr[neighbors].astype(np.int64)
        counts = self._by_neighbor.indptr[neighbors + 1] - starts
        places = np.arange(counts.sum()) + np.repeat(starts - np.cumsum(counts) + counts, counts)
        minima = np.minimum(self._by_neighbor.data[places], np.repeat(weights, counts))
        shared = np.bincount(self._by_neighbor.indices[places], minima, minlength=self.num_gallery)
        distances: Floats = 1 - shared / (2 - shared)
        return distances


def nearest_and_largest(
    distances: SquaredDistances, *, count: int, rows_at_once: int
) -> tuple[NDArray[np.int32], Floats]:
    """(N, count) the nearest pictures of each, itself first and those equally far by number; (N,) the largest distance."""
    num_pictures = distances.num_pictures
    neighbors = np.empty((num_pictures, min(count, num_pictures)), dtype=np.int32)
    largest = np.empty(num_pictures)
    for start in range(0, num_pictures, rows_at_once):
        pictures = np.arange(start, min(start + rows_at_once, num_pictures))
        for picture, row in zip(pictures.tolist(), distances.rows(pictures, columns=num_pictures), strict=True):
            largest[picture] = row.max()
            row[picture] = -np.inf
            neighbors[picture] = smallest(row, count)
    return neighbors, largest


def reciprocal(neighbors: NDArray[np.int32]) -> csr_array:
    """(N, k) neighbours -> (N, N) 1 where two pictures are neighbours of each other; R(p, k), section 3.2."""
    num_pictures, count = neighbors.shape
    bounds = np.arange(0, num_pictures * count + 1, count)
    forward = csr_array(
        (np.ones(neighbors.size, dtype=np.int32), neighbors.reshape(-1), bounds), shape=(num_pictures, num_pictures)
    )
    forward.sort_indices()
    return forward.multiply(forward.T.tocsr()).tocsr()


def expand(near: csr_array, nearer: csr_array) -> csr_array:
    """(N, N) pattern of R*(p, k): with the near of every neighbour that has two thirds of them in common; section 3.2."""
    sizes = np.diff(nearer.indptr)
    expanded = []
    for start in range(0, near.shape[0], _ROWS):
        rows = near[start : start + _ROWS]
        common = (rows @ nearer).multiply(rows).tocoo()  # nearer is its own transpose
        taken = 3 * common.data >= 2 * sizes[common.col]
        chosen = csr_array((common.data[taken], (common.row[taken], common.col[taken])), shape=rows.shape)
        expanded.append((rows + chosen @ nearer).tocsr())
    pattern = vstack(expanded, format="csr")
    pattern.sort_indices()
    return pattern


def encode(pattern: csr_array, distances: SquaredDistances, largest: Floats) -> csr_array:
    """(N, N) vectors of the pictures: exp(-distance) to those of the pattern, with the sum 1; section 3.3."""
    owners = np.repeat(np.arange(pattern.shape[0]), np.diff(pattern.indptr))
    weights = np.empty(pattern.nnz)
    for start in range(0, len(weights), _PAIRS):
        pairs = slice(start, start + _PAIRS)
        squared = distances.pairs(owners[pairs], pattern.indices[pairs].astype(np.int64))
        most = largest[owners[pairs]]
        weights[pairs] = np.exp(-squared / np.where(most > 0, most, 1))
    weights /= np.add.reduceat(weights, pattern.indptr[:-1])[owners]
    return csr_array((weights, pattern.indices, pattern.indptr), shape=pattern.shape)


def mean_vectors(vectors: csr_array, neighbors: NDArray[np.int32]) -> csr_array:
    """(N, N) the mean vector of each picture's (N, k2) nearest, itself included; section 3.4."""
    num_pictures, count = neighbors.shape
    shares = np.full(neighbors.size, 1 / count)
    bounds = np.arange(0, num_pictures * count + 1, count)
    mean = csr_array((shares, neighbors.reshape(-1), bounds), shape=vectors.shape) @ vectors
    mean.sort_indices()
    return mean
