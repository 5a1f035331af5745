"""Which pictures of a gallery look most like each query, from saved embeddings; nobody's identity is needed."""

from pathlib import Path
from typing import NamedTuple

import torch

from accel_det.metrics.saved_embeddings import SavedEmbeddings

# Similarities that are in memory at once.
_BLOCK = 50_000_000


class Match(NamedTuple):
    """A picture of the gallery by its position, and the cosine of the angle between it and the query."""

    position: int
    similarity: float


def nearest(queries: SavedEmbeddings, gallery: SavedEmbeddings, *, top: int) -> list[list[Match]]:
    """The most similar pictures of the gallery for each query, the best first; the query's own file is left out.

    Args:
        top: answers to a query, at least 1; fewer where the gallery has no more.

    Raises:
        ValueError: embeddings of different lengths, or no pictures on one side.
    """
    if queries.embeddings.shape[1] != gallery.embeddings.shape[1]:
        raise ValueError(
            f"embeddings of the query have {queries.embeddings.shape[1]} numbers, those of the gallery "
            f"{gallery.embeddings.shape[1]}; embed both with one network"
        )
    if not queries.names or not gallery.names:
        raise ValueError(
            f"{len(queries.names)} queries and {len(gallery.names)} pictures in the gallery, expected at least 1 of each"
        )
    asked, looked_through = torch.from_numpy(queries.embeddings), torch.from_numpy(gallery.embeddings)
    own: dict[Path, list[int]] = {}
    for position, name in enumerate(gallery.names):
        own.setdefault(_file_of(name), []).append(position)
    step = max(1, _BLOCK // len(gallery.names))
    lists: list[list[Match]] = []
    for start in range(0, len(asked), step):
        similarities = (asked[start : start + step] @ looked_through.T).clamp(-1, 1)
        for row, name in enumerate(queries.names[start : start + step]):
            similarities[row, own.get(_file_of(name), [])] = -torch.inf
        best, positions = similarities.topk(min(top, len(gallery.names)), dim=1)
        for values, places in zip(best.tolist(), positions.tolist(), strict=True):
            found = [Match(place, value) for place, value in zip(places, values, strict=True) if value > -torch.inf]
            lists.append(sorted(found, key=lambda match: (-match.similarity, match.position)))
    return lists


def _file_of(name: str) -> Path:
    return Path(name).resolve()
