"""How well queries find pictures of their identity in a gallery.

The numbers do not depend on the order of the pictures, on how many queries are looked at together, or on the library that
multiplies matrices: coordinates are rounded to a grid on which float64 adds their products without rounding (see
`_Pictures`), and the gallery of a query has one order: by distance, and those equally far by sample id.

Letters: Q queries, G pictures of the gallery, D numbers of an embedding; S questions, each a query or several that are asked
together; A embeddings that are asked for; N pictures of both sides, each once; M matches of a question.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from accel_det.metrics.rerank import Floats, Integers, Reranking, smallest
from accel_det.metrics.retrieval_records import Features, Questions, RetrievalRule, ask, by_id, check, mean_embeddings

__all__ = [
    "Features",
    "RankedLists",
    "RetrievalRule",
    "match_ranks",
    "rank_gallery",
    "retrieval_scores",
    "working_bytes",
]

# Coordinates are whole multiples of 2**-25, at a scale at which no embedding is longer than this.
_GRID_STEPS = 2.0**25
_LONGEST = 1.4
# Embeddings that are converted together, pairs of them, and queries that are looked at together where memory allows.
_CONVERTED = 1024
_MOST_ROWS = 256


class RankedLists(NamedTuple):
    """The first T of the gallery for each query, in the order of the queries, the nearest first.

    Attributes:
        indices: (Q, T) int64, rows of the gallery; -1 where there are no more.
        distances: (Q, T) float64, of the metric, or of re-ranking; infinite where there are no more.
        right: (Q, T) bool, whether it shows the query's identity.
        valid: (Q, T) bool, False where there are no more.
        matched: (Q,) bool, whether the rule leaves the query a match anywhere in the gallery.
    """

    indices: Tensor
    distances: Tensor
    right: Tensor
    valid: Tensor
    matched: Tensor


class _Answer(NamedTuple):
    """The whole gallery of one question, by sample id.

    Attributes:
        queries: rows of the queries of the question.
        distances: (G,) that decide the order; infinite for what is left out. Good until the next answer.
        matches: (M,) places of the pictures that show the identity, ascending.
    """

    queries: Integers
    distances: Floats
    matches: Integers


def retrieval_scores(queries: Features, gallery: Features, rule: RetrievalRule | None = None) -> dict[str, float]:
    """The numbers of an evaluation by retrieval.

    A question without a match among what the rule leaves of the gallery is counted, but not scored.

    Returns:
        "rank<k>" of every rank: share of the scored questions that have a match among the first k pictures (the cumulative
        matching curve of a gallery with several pictures of an identity, as Market-1501's);
        "mAP": mean over questions of the mean over matches of (matches until here) / rank, without interpolation;
        "mINP": mean over questions of matches / rank of the last match. Source: Ye et al., Deep Learning for Person
        Re-identification: A Survey and Outlook, 2021, section 4.1;
        "queries" and "queries_without_match": how many questions are scored, and are not. Without any, scores are 0.

    Raises:
        ValueError: features that do not fit together, or a rule that makes no sense.
    """
    rule = rule or RetrievalRule()
    first: list[int] = []
    precisions: list[float] = []
    penalties: list[float] = []
    without_match = 0
    for answer in _Search(queries, gallery, rule).answers():
        if not len(answer.matches):
            without_match += 1
            continue
        ranks = match_ranks(answer.distances, answer.matches)
        first.append(int(ranks[0]))
        precisions.append(float(np.mean(np.arange(1, len(ranks) + 1) / ranks)))
        penalties.append(len(ranks) / int(ranks[-1]))
    count = max(1, len(first))
    scores = {f"rank{rank}": sum(place <= rank for place in first) / count for rank in rule.ranks}
    scores |= {"mAP": math.fsum(precisions) / count, "mINP": math.fsum(penalties) / count}
    return {**scores, "queries": float(len(first)), "queries_without_match": float(without_match)}


def rank_gallery(queries: Features, gallery: Features, rule: RetrievalRule, top: int) -> RankedLists:
    """The first pictures of the list of every query. Queries that are asked together have one list.

    Args:
        top: pictures of a list, at least 1.

    Raises:
        ValueError: as `retrieval_scores`, or top is below 1.
    """
    if top < 1:
        raise ValueError(f"top is {top}, expected at least 1")
    search = _Search(queries, gallery, rule)
    shape = (len(queries.ids), top)
    indices, distances = np.full(shape, -1, dtype=np.int64), np.full(shape, np.inf)
    right = np.zeros(shape, dtype=np.bool_)
    matched = np.zeros(len(queries.ids), dtype=np.bool_)
    for answer in search.answers():
        places = smallest(answer.distances, top)
        places = places[np.isfinite(answer.distances[places])]
        filled = np.ix_(answer.queries, np.arange(len(places)))
        indices[filled] = search.gallery.rows[places]
        distances[filled] = search.in_metric(answer.distances[places])
        right[filled] = np.isin(places, answer.matches)
        matched[answer.queries] = len(answer.matches) > 0
    lists = (torch.from_numpy(column) for column in (indices, distances, right, indices >= 0, matched))
    return RankedLists(*lists)


def match_ranks(distances: Floats, matches: Integers) -> Integers:
    """Ranks of the matches, from 1, ascending; of pictures equally far the one with the lower place comes first.

    Args:
        distances: (G,); infinite for pictures that are left out.
        matches: (M,) places of the matches, at least one, none of them left out.
    """
    own = np.sort(distances[matches])
    candidates = distances <= own[-1]
    near = distances[candidates]
    ordered = np.sort(near)
    places = np.searchsorted(ordered, own, side="left")
    if np.array_equal(places + 1, np.searchsorted(ordered, own, side="right")):
        return (places + 1).astype(np.int64, copy=False)
    # Some match is as far as another picture: the whole order is needed, which takes several times as long.
    is_match = np.zeros(len(distances), dtype=np.bool_)
    is_match[matches] = True
    order = np.argsort(near, kind="stable")
    return (np.flatnonzero(is_match[candidates][order]) + 1).astype(np.int64, copy=False)


def working_bytes(*, num_pictures: int, dimension: int, rows: int) -> int:
    """Memory beside the features: embeddings in float64, rows of distances, and what is kept of every picture.

    Re-ranking comes on top: its sparse vectors take about 12 * k1 * k2 * num_pictures bytes, twice while they are made.

    Args:
        num_pictures: of queries and gallery, each once.
        rows: queries that are looked at together.
    """
    embeddings = 8 * num_pictures * dimension
    distances = 8 * rows * (num_pictures + dimension)
    return embeddings + distances + 160 * num_pictures + 24 * _CONVERTED * dimension + 2**20


class _Pictures:
    """Squared distances of N pictures, without any rounding.

    Coordinates are rounded to a grid at a scale that makes embeddings at most 1.4 long: a product of two is a whole number of
    2**-50, and no part of a sum of such products reaches 8, so 53 bits hold all of it, in whatever order it is added.
    Embeddings of unit length move by 2**-26 at most in each coordinate, and cosines by about 1e-8, a tenth of what float32
    rounds. Equal embeddings are therefore equally far from everything.

    Args:
        parts: embeddings, float32 of one D, and the rows of them that are pictures.
        rows_at_once: rows of distances that are in memory.
    """

    def __init__(self, parts: list[tuple[Tensor, Integers]], *, cosine: bool, rows_at_once: int) -> None:
        dimension = max(embeddings.shape[1] for embeddings, _ in parts)
        self.num_pictures = sum(len(rows) for _, rows in parts)
        self.vectors = np.empty((self.num_pictures, dimension))
        self.squares = np.ones(self.num_pictures)
        self.scale = 1.0
        self._buffer = np.empty(rows_at_once * self.num_pictures)
        start = 0
        for embeddings, rows in parts:
            for block in np.split(rows, range(_CONVERTED, len(rows), _CONVERTED)):
                if len(block):
                    self.vectors[start : start + len(block)] = embeddings[torch.from_numpy(block)].numpy()
                start += len(block)
        self._to_grid(cosine=cosine)

    def rows(self, pictures: Integers, *, columns: int) -> Floats:
        """(R,) pictures -> (R, columns) to the first so many; the next call writes over it."""
        found = self._buffer[: len(pictures) * columns].reshape(len(pictures), columns)
        asked = self.vectors[pictures]
        asked *= -2
        torch.mm(torch.from_numpy(asked), torch.from_numpy(self.vectors[:columns]).T, out=torch.from_numpy(found))
        found += self.squares[:columns]
        found += self.squares[pictures, None]
        return found

    def pairs(self, first: Integers, second: Integers) -> Floats:
        """(P,) and (P,) pictures -> (P,)."""
        products = np.einsum("pd,pd->p", self.vectors[first], self.vectors[second])
        squared: Floats = self.squares[first] + self.squares[second] - 2 * products
        return squared

    def _to_grid(self, *, cosine: bool) -> None:
        blocks = [self.vectors[start : start + _CONVERTED] for start in range(0, self.num_pictures, _CONVERTED)]
        lengths = [np.sqrt(np.square(block).sum(axis=1)) for block in blocks]
        if cosine:
            for block, length in zip(blocks, lengths, strict=True):
                block /= np.where(length > 0, length, 1)[:, None]
        else:
            longest = max((float(length.max()) for length in lengths), default=0.0)
            self.scale = 2.0 ** math.frexp(longest / _LONGEST)[1]
        for block in blocks:
            block *= _GRID_STEPS / self.scale
            np.rint(block, out=block)
            block /= _GRID_STEPS
        if not cosine:
            self.squares = np.einsum("nd,nd->n", self.vectors, self.vectors)


class _Search:
    """Every question with its whole gallery.

    Attributes:
        gallery: its pictures; a place in an answer is a place here.
    """

    def __init__(self, queries: Features, gallery: Features, rule: RetrievalRule) -> None:
        check(queries, gallery, rule)
        self.gallery, self._rule = by_id(gallery), rule
        self._questions = ask(by_id(queries), together=rule.multi_query != "none")
        self._by_identity = np.argsort(self.gallery.identities, kind="stable")
        self._identities = self.gallery.identities[self._by_identity]
        embeddings, rows, ids, self._bounds = _what_is_asked(queries.embeddings, self._questions, rule)
        places = _places_of(ids, self.gallery.ids)
        new = places < 0
        self._asked = np.where(new, len(self.gallery.ids) + np.cumsum(new) - 1, places)
        parts = [(gallery.embeddings, self.gallery.rows), (embeddings, rows[new])]
        dimension = max(part.shape[1] for part, _ in parts)
        self._rows_at_once = _rows_within(rule.max_bytes, len(gallery.ids) + int(new.sum()), dimension)
        self._pictures = _Pictures(parts, cosine=rule.metric == "cosine", rows_at_once=self._rows_at_once)

    def in_metric(self, distances: Floats) -> Floats:
        """What decides the order -> distances of the metric."""
        if self._rule.rerank:
            return distances
        squared = distances.clip(min=0)  # of unit vectors that were rounded, a distance of 0 may be -1e-8
        found: Floats = squared / 2 if self._rule.metric == "cosine" else np.sqrt(squared) * self._pictures.scale
        return found

    def answers(self) -> Iterator[_Answer]:
        """One for each question; the distances of one are good until the next."""
        questions, gallery = self._questions, self.gallery
        for question, distances in enumerate(self._distances()):
            members = slice(questions.bounds[question], questions.bounds[question + 1])
            identity, camera = questions.identities[question], questions.cameras[question]
            span = np.searchsorted(self._identities, [identity, identity + 1]) if identity >= 0 else (0, 0)
            same = self._by_identity[span[0] : span[1]]
            itself = _places_of(questions.ids[members], gallery.ids)
            distances[itself[itself >= 0]] = np.inf
            if self._rule.exclude_same_camera and camera >= 0:
                distances[same[gallery.cameras[same] == camera]] = np.inf
            yield _Answer(questions.rows[members], distances, same[np.isfinite(distances[same])])

    def _distances(self) -> Iterator[Floats]:
        """(G,) of each question, which may be changed; squared, or re-ranked."""
        rows_of, bounds = self._source(), self._bounds
        best = np.empty(len(self.gallery.ids))
        question = 0
        for start in range(0, len(self._asked), self._rows_at_once):
            block = rows_of(self._asked[start : start + self._rows_at_once])
            for place, row in enumerate(block, start=start):
                if place == bounds[question]:
                    best[:] = row
                else:
                    np.minimum(best, row, out=best)
                if place + 1 == bounds[question + 1]:
                    yield best
                    question += 1

    def _source(self) -> Callable[[Integers], Floats]:
        """(R,) pictures -> (R, G)."""
        num_gallery = len(self.gallery.ids)
        if not (self._rule.rerank and num_gallery and len(self._asked)):
            return lambda pictures: self._pictures.rows(pictures, columns=num_gallery)
        return Reranking(
            self._pictures,
            num_gallery=num_gallery,
            k1=self._rule.k1,
            k2=self._rule.k2,
            lambda_value=self._rule.lambda_value,
            rows_at_once=self._rows_at_once,
        ).rows


def _what_is_asked(
    embeddings: Tensor, questions: Questions, rule: RetrievalRule
) -> tuple[Tensor, Integers, Integers, Integers]:
    """Embeddings, (A,) rows of them that are asked for, (A,) their sample ids, (S + 1,) where each question begins.

    A mean of several pictures is no picture, which the id -1 says.
    """
    if rule.multi_query != "mean":
        return embeddings, questions.rows, questions.ids, questions.bounds
    count = len(questions.identities)
    ids = np.where(np.diff(questions.bounds) > 1, -1, questions.ids[questions.bounds[:-1]])
    return mean_embeddings(embeddings, questions), np.arange(count), ids, np.arange(count + 1)


def _places_of(ids: Integers, ascending: Integers) -> Integers:
    """Where each is among the others, -1 where it is not."""
    if not len(ascending):
        return np.full(len(ids), -1)
    places = np.searchsorted(ascending, ids).clip(max=len(ascending) - 1)
    return np.where(ascending[places] == ids, places, -1)


def _rows_within(max_bytes: int, num_pictures: int, dimension: int) -> int:
    """How many queries are looked at together."""
    least = working_bytes(num_pictures=num_pictures, dimension=dimension, rows=0)
    each = working_bytes(num_pictures=num_pictures, dimension=dimension, rows=1) - least
    return min(max((max_bytes - least) // max(each, 1), 1), _MOST_ROWS)
