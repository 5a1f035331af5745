"""What a retrieval is made of: embedded pictures, the rule, and the questions that the rule makes of the queries.

Letters: Q queries, D numbers of an embedding, S questions: each a query, or several that are asked together.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accel_det.types import EmbeddingRow, Role

Integers = NDArray[np.int64]


class Features(NamedTuple):
    """Embedded pictures of one side, in any order, on the CPU; N of them.

    Attributes:
        embeddings: (N, D) float32.
        identities: (N,) int64; -1 is a distractor, which is nobody's match.
        cameras: (N,) int64; -1 where it is not known.
        ids: (N,) int64, the sample id, from 0, each once. A picture that is on both sides is one picture: it has one
            embedding, that of the gallery, and it is left out of the answers to a question that it is part of.
    """

    embeddings: Tensor
    identities: Tensor
    cameras: Tensor
    ids: Tensor


class RetrievalRule(NamedTuple):
    """How queries are answered and scored.

    Attributes:
        metric: "cosine" is 1 - the cosine of the angle between two embeddings; "euclidean" is their distance as they are.
        exclude_same_camera: pictures of the query's identity that its own camera took are left out of its answers, where
            the camera is known. Source: Zheng et al., Scalable Person Re-identification: A Benchmark, 2015.
        ranks: of the cumulative matching curve, from 1.
        multi_query: "mean" and "max" ask the queries of one identity and camera together, and those of one identity whose
            camera is not known: by their mean embedding, or by the best similarity that any of them has.
        rerank: by k-reciprocal neighbours; see `accel_det.metrics.rerank`.
        k1, k2, lambda_value: of re-ranking, as there.
        max_bytes: memory to work in beside the features: so many queries are looked at together as it allows, but one at
            least; see `accel_det.metrics.retrieval.working_bytes`.
    """

    metric: Literal["cosine", "euclidean"] = "cosine"
    exclude_same_camera: bool = True
    ranks: tuple[int, ...] = (1, 5, 10, 20)
    multi_query: Literal["none", "mean", "max"] = "none"
    rerank: bool = False
    k1: int = 20
    k2: int = 6
    lambda_value: float = 0.3
    max_bytes: int = 2**31


class Side(NamedTuple):
    """The pictures of one side by sample id.

    Attributes:
        rows: (N,) of the features.
        ids: (N,) ascending.
        identities, cameras: (N,).
    """

    rows: Integers
    ids: Integers
    identities: Integers
    cameras: Integers


class Questions(NamedTuple):
    """What is asked, one question after the other, each with its queries by sample id.

    Attributes:
        rows: (Q,) of the queries.
        ids: (Q,) their sample ids.
        bounds: (S + 1,) where the queries of each question begin.
        identities, cameras: (S,).
    """

    rows: Integers
    ids: Integers
    bounds: Integers
    identities: Integers
    cameras: Integers


def by_id(features: Features) -> Side:
    """Another order of the rows gives the same side, but for its `rows`."""
    columns = [column.numpy().astype(np.int64, copy=False) for column in features[1:]]
    rows = np.argsort(columns[2], kind="stable").astype(np.int64, copy=False)
    identities, cameras, ids = (column[rows] for column in columns)
    return Side(rows, ids, identities, cameras)


def ask(queries: Side, *, together: bool) -> Questions:
    """
    Args:
        together: whether queries of one identity and camera are one question; distractors are always asked alone.
    """
    order = np.arange(len(queries.ids))
    begins = np.ones(len(order), dtype=np.bool_)
    if together:
        order = np.lexsort((queries.ids, queries.cameras, queries.identities))
        identities, cameras = queries.identities[order], queries.cameras[order]
        begins[1:] = (np.diff(identities) != 0) | (np.diff(cameras) != 0) | (identities[1:] < 0)
    starts = np.flatnonzero(begins)
    first = order[starts]
    bounds = np.append(starts, len(order)).astype(np.int64)
    return Questions(queries.rows[order], queries.ids[order], bounds, queries.identities[first], queries.cameras[first])


def mean_embeddings(embeddings: Tensor, questions: Questions) -> Tensor:
    """(Q, D) of the queries -> (S, D) float32 of the questions; that of a single query as it is."""
    means = embeddings[torch.from_numpy(questions.rows[questions.bounds[:-1]])]
    for question in np.flatnonzero(np.diff(questions.bounds) > 1).tolist():
        members = questions.rows[questions.bounds[question] : questions.bounds[question + 1]]
        means[question] = embeddings[torch.from_numpy(members)].double().mean(dim=0)
    return means


def check(queries: Features, gallery: Features, rule: RetrievalRule) -> None:
    """
    Raises:
        ValueError: features that do not fit together, or a rule that makes no sense.
    """
    _check_rule(rule)
    for name, features in (("queries", queries), ("gallery", gallery)):
        _check_features(name, features)
    lengths = [features.embeddings.shape[1] for features in (queries, gallery)]
    if len(queries.ids) and len(gallery.ids) and lengths[0] != lengths[1]:
        raise ValueError(
            f"embeddings of the queries have {lengths[0]} numbers, those of the gallery {lengths[1]}; "
            "embed both with one network"
        )


def _check_features(name: str, features: Features) -> None:
    embeddings, count = features.embeddings, len(features.embeddings)
    if embeddings.ndim != 2 or embeddings.dtype != torch.float32:
        raise ValueError(
            f"{name}: embeddings are {embeddings.dtype} of shape {tuple(embeddings.shape)}, expected float32 of shape (N, D)"
        )
    for column, values in zip(features._fields[1:], features[1:], strict=True):
        if values.shape != (count,) or values.is_floating_point():
            raise ValueError(
                f"{name}: {column} are {values.dtype} of shape {tuple(values.shape)}, expected a whole number for each of "
                f"the {count} embeddings"
            )
    bad = torch.nonzero(~embeddings.isfinite().all(dim=1))
    if len(bad):
        raise ValueError(
            f"{name}: the embedding of sample {int(features.ids[bad[0, 0]])} is not finite; look for what made the network "
            "diverge"
        )
    if (features.ids < 0).any():
        raise ValueError(f"{name}: ids has {int(features.ids.min())}, expected sample ids of at least 0")
    ids, counts = torch.unique(features.ids, return_counts=True)
    if len(ids) < count:
        raise ValueError(f"{name}: sample {int(ids[counts.argmax()])} is there more than once; give every picture once")


def _check_rule(rule: RetrievalRule) -> None:
    if rule.metric not in ("cosine", "euclidean"):
        raise ValueError(f"metric is {rule.metric!r}, expected cosine or euclidean")
    if rule.multi_query not in ("none", "mean", "max"):
        raise ValueError(f"multi_query is {rule.multi_query!r}, expected none, mean or max")
    if min(rule.ranks, default=1) < 1:
        raise ValueError(f"ranks are {tuple(rule.ranks)}, expected numbers of at least 1")
    if min(rule.k1, rule.k2) < 1 or not 0 <= rule.lambda_value <= 1:
        raise ValueError(
            f"k1 is {rule.k1}, k2 is {rule.k2}, lambda_value is {rule.lambda_value}, expected k1 and k2 of at least 1 and "
            "lambda_value from 0 to 1; the paper has 20, 6 and 0.3"
        )


def split_rows(rows: Iterable[EmbeddingRow]) -> tuple[Features, Features]:
    """Queries and gallery, each picture once, in the order of their sample ids."""
    once = {row.sample_id: row for row in rows}
    ordered = [once[sample_id] for sample_id in sorted(once)]
    return _features(ordered, Role.QUERY), _features(ordered, Role.GALLERY)


def _features(rows: Sequence[EmbeddingRow], role: Role) -> Features:
    chosen = [row for row in rows if row.role & role]
    columns = torch.tensor([row[:3] for row in chosen], dtype=torch.int64).reshape(-1, 3)
    embeddings = torch.stack([row.embedding for row in chosen]) if chosen else torch.zeros((0, 0))
    return Features(embeddings=embeddings, identities=columns[:, 1], cameras=columns[:, 2], ids=columns[:, 0])
