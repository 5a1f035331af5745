"""What `accel-det evaluate RUN --pictures FOLDER` draws of an evaluation by retrieval."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from accel_det.data.decode import decode
from accel_det.data.identities import IdentityTable
from accel_det.metrics.retrieval import Features, RetrievalRule, rank_gallery
from accel_det.metrics.retrieval_records import split_rows
from accel_det.report.embeddings import draw_distances, draw_embedding_map
from accel_det.report.ranked_lists import ANSWERS, Answer, RankedRow, Shown, Verdict, draw_ranked_lists
from accel_det.types import EmbeddingRow

_QUERIES = 12
_MAPPED = 2000
_PAIRS = 1_000_000


def draw_retrieval(folder: Path, rows: Sequence[EmbeddingRow], table: IdentityTable, rule: RetrievalRule) -> list[Path]:
    """Ranked lists, distances and a map of the embeddings, as pictures.

    Args:
        folder: made if it does not exist.
        rows: of the whole split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    queries, gallery = split_rows(rows)
    pictures = {
        "ranked.jpg": _ranked(queries, gallery, table, rule),
        "distances.png": _distances(queries, gallery, rule),
        "map.png": _map(gallery, table),
    }
    for name, picture in pictures.items():
        picture.save(folder / name, quality=92)
    return [folder / name for name in pictures]


def _ranked(queries: Features, gallery: Features, table: IdentityTable, rule: RetrievalRule) -> Image.Image:
    """The lists of queries with a match, from all over the split: those with a wrong first answer before the others."""
    ranked = rank_gallery(queries, gallery, rule, top=ANSWERS)
    shown = ranked.matched
    wrong = shown & ~ranked.right[:, 0]
    order = torch.cat((torch.nonzero(wrong).flatten(), torch.nonzero(shown & ~wrong).flatten())).tolist()
    wrongs = int(wrong.sum())
    some_wrong = _spread(order[:wrongs], _QUERIES // 2)
    chosen = some_wrong + _spread(order[wrongs:], _QUERIES - len(some_wrong))
    lists = [
        RankedRow(
            _shown(table, int(queries.ids[query])),
            [
                Answer(
                    _shown(table, int(gallery.ids[index])),
                    float(ranked.distances[query, rank]),
                    _verdict(int(gallery.identities[index]), right=bool(ranked.right[query, rank])),
                )
                for rank, index in enumerate(ranked.indices[query].tolist())
                if ranked.valid[query, rank]
            ],
        )
        for query in chosen
    ]
    title = f"{wrongs} of {int(shown.sum())} queries with a match have a wrong first answer"
    if not lists:
        return draw_distances(np.zeros(0), np.zeros(0), title="no query has a match")
    return draw_ranked_lists(lists, measure=f"{rule.metric} distance", title=title)


def _spread(indices: Sequence[int], count: int) -> list[int]:
    """So many of them, from all over."""
    places = np.linspace(0, len(indices) - 1, min(count, len(indices))).round().astype(int).tolist()
    return [indices[place] for place in dict.fromkeys(places)]


def _verdict(identity: int, *, right: bool) -> Verdict:
    if identity < 0:
        return Verdict.DISTRACTOR
    return Verdict.RIGHT if right else Verdict.WRONG


def _shown(table: IdentityTable, index: int) -> Shown:
    target = table.target(index)
    pixels = decode(table.image_bytes(index), name=table.name(index)).permute(1, 2, 0).numpy()
    identity = table.identities[target.identity] if target.identity >= 0 else ""
    camera = table.cameras[target.camera] if target.camera >= 0 else ""
    return Shown(Image.fromarray(pixels), Path(table.name(index)).name, identity, camera)


def _distances(queries: Features, gallery: Features, rule: RetrievalRule) -> Image.Image:
    """Of pairs of a query and a picture of the gallery, of at most so many, evenly chosen."""
    step = max(1, len(queries.ids) * len(gallery.ids) // _PAIRS)
    asked = slice(None, None, step)
    products = queries.embeddings[asked].double() @ gallery.embeddings.double().T
    distances = 1 - products if rule.metric == "cosine" else (2 - 2 * products).clamp(min=0).sqrt()
    same = (queries.identities[asked, None] == gallery.identities[None, :]) & (gallery.identities[None, :] >= 0)
    itself = queries.ids[asked, None] == gallery.ids[None, :]
    known = queries.cameras[asked, None] >= 0
    excluded = same & known & (queries.cameras[asked, None] == gallery.cameras[None, :])
    counted = ~itself & ~(excluded if rule.exclude_same_camera else torch.zeros_like(itself))
    return draw_distances(
        _numbers(distances[same & counted]), _numbers(distances[~same & counted]), axis=f"{rule.metric} distance"
    )


def _numbers(values: torch.Tensor) -> NDArray[np.float64]:
    found: NDArray[np.float64] = values.numpy()
    return found


def _map(gallery: Features, table: IdentityTable) -> Image.Image:
    step = max(1, len(gallery.ids) // _MAPPED)
    return draw_embedding_map(
        gallery.embeddings[::step], gallery.identities[::step].tolist(), table.identities, title="the gallery"
    )
