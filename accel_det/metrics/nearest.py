"""Which pictures of a gallery look most like each query, from saved embeddings; nobody's identity is needed."""

from pathlib import Path
from typing import NamedTuple

import torch

from accel_det.metrics.retrieval import Features, RetrievalRule, rank_gallery
from accel_det.metrics.saved_embeddings import SavedEmbeddings


class Match(NamedTuple):
    """A picture of the gallery by its position, and the cosine of the angle between it and the query."""

    position: int
    similarity: float


def nearest(queries: SavedEmbeddings, gallery: SavedEmbeddings, *, top: int) -> list[list[Match]]:
    """The most similar pictures of the gallery for each query, the best first; the query's own file is left out.

    Equally similar ones keep the order of the gallery.

    Args:
        queries, gallery: each file once, see `each_once`.
        top: answers to a query, at least 1; fewer where the gallery has no more.

    Raises:
        ValueError: embeddings of different lengths, a file twice, or no pictures on one side.
    """
    if not queries.names or not gallery.names:
        raise ValueError(
            f"{len(queries.names)} queries and {len(gallery.names)} pictures in the gallery, expected at least 1 of each"
        )
    numbers: dict[Path, int] = {}
    looked_through, asked = _features(gallery, numbers), _features(queries, numbers)
    rule = RetrievalRule(metric="cosine", exclude_same_camera=False)
    lists = rank_gallery(asked, looked_through, rule, top)
    return [
        [
            Match(position, 1 - distance)
            for position, distance, valid in zip(*(column.tolist() for column in row), strict=True)
            if valid
        ]
        for row in zip(lists.indices, lists.distances, lists.valid, strict=True)
    ]


def each_once(saved: SavedEmbeddings) -> SavedEmbeddings:
    """Of a file that is there several times, however its path is written, the first."""
    first: dict[Path, int] = {}
    for position, name in enumerate(saved.names):
        first.setdefault(_file_of(name), position)
    return saved if len(first) == len(saved.names) else saved.keep(list(first.values()))


def _features(saved: SavedEmbeddings, numbers: dict[Path, int]) -> Features:
    """A file is one picture on both sides; files that are new get the next numbers."""
    ids = [numbers.setdefault(_file_of(name), len(numbers)) for name in saved.names]
    nobody = torch.full((len(ids),), -1)
    return Features(torch.from_numpy(saved.embeddings), identities=nobody, cameras=nobody, ids=torch.tensor(ids))


def _file_of(name: str) -> Path:
    return Path(name).resolve()
