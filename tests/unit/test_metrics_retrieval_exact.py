"""What the numbers of retrieval must not depend on, not even in their last bit, and the memory that they take."""

import itertools
import math
import tracemalloc
from typing import Literal

import pytest
import torch
from retrieval_cases import draw, pick, shuffled

from accel_det.metrics import retrieval
from accel_det.metrics.retrieval import Features, RetrievalRule, rank_gallery, retrieval_scores, working_bytes

Multi = Literal["none", "mean", "max"]
Metric = Literal["cosine", "euclidean"]


@pytest.mark.parametrize("multi", ["none", "mean", "max"])
@pytest.mark.parametrize("rerank", [False, True])
def test_the_order_of_the_rows_changes_nothing_not_even_the_last_bit(multi: Multi, rerank: bool) -> None:
    queries, gallery = draw(11, num_queries=60, num_gallery=150, dimension=67, tied=False, shared=20)
    rule = RetrievalRule(multi_query=multi, rerank=rerank, k1=7, k2=3)
    scores = retrieval_scores(queries, gallery, rule)
    ranked = rank_gallery(queries, gallery, rule, 150)
    for seed in range(5):
        other = shuffled(queries, seed), shuffled(gallery, seed + 100)
        assert retrieval_scores(*other, rule) == scores
        again = rank_gallery(*other, rule, 150)
        rows = torch.argsort(queries.ids)
        other_rows = torch.argsort(other[0].ids)
        assert torch.equal(again.distances[other_rows], ranked.distances[rows])
        valid = ranked.valid[rows]
        assert torch.equal(other[1].ids[again.indices[other_rows]][valid], gallery.ids[ranked.indices[rows]][valid])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("multi", ["none", "max"])
@pytest.mark.parametrize("rerank", [False, True])
def test_how_many_queries_are_looked_at_together_changes_nothing_not_even_the_last_bit(
    metric: Metric, multi: Multi, rerank: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, gallery = draw(13, num_queries=70, num_gallery=210, dimension=131, tied=False)
    rule = RetrievalRule(metric=metric, multi_query=multi, rerank=rerank, k1=7, k2=3)
    scores, ranked = retrieval_scores(queries, gallery, rule), rank_gallery(queries, gallery, rule, 210)
    assert rows_of(rule, num_pictures=280, dimension=131) == 256
    for rows, converted in ((1, 1), (2, 3), (7, 1024), (33, 64)):
        monkeypatch.setattr(retrieval, "_CONVERTED", converted)
        small = rule._replace(max_bytes=working_bytes(num_pictures=280, dimension=131, rows=rows))
        assert rows_of(small, num_pictures=280, dimension=131) == rows
        assert retrieval_scores(queries, gallery, small) == scores
        again = rank_gallery(queries, gallery, small, 210)
        assert torch.equal(again.distances, ranked.distances) and torch.equal(again.indices, ranked.indices)


def test_distances_of_pictures_on_the_grid_have_no_rounding_at_all() -> None:
    generator = torch.Generator().manual_seed(3)
    whole = torch.randint(-4000, 4000, (50, 301), generator=generator)
    features = Features(whole.float() / 2**7, torch.arange(50), torch.full((50,), -1), torch.arange(50))
    ranked = rank_gallery(features, features, RetrievalRule(metric="euclidean"), 49)
    for query, other in itertools.product(range(0, 50, 7), range(49)):
        squared = int((whole[query] - whole[ranked.indices[query, other]]).square().sum())
        assert float(ranked.distances[query, other]) == math.sqrt(squared) / 2**7


def test_pictures_with_equal_embeddings_are_equally_far_from_every_query_and_come_by_sample_id() -> None:
    generator = torch.Generator().manual_seed(5)
    embeddings = torch.randn(1500, 37, generator=generator)
    same = torch.randperm(1500, generator=generator)[:400]
    embeddings[same] = embeddings[same[0]].clone()
    unknown = torch.full((1500,), -1)
    gallery = Features(embeddings, unknown, unknown, torch.randperm(1500, generator=generator))
    queries = Features(torch.randn(9, 37, generator=generator), unknown[:9], unknown[:9], torch.arange(2000, 2009))
    for metric in ("cosine", "euclidean"):
        ranked = rank_gallery(queries, gallery, RetrievalRule(metric=metric), 1500)
        for query in range(9):
            places = torch.isin(ranked.indices[query], same).nonzero().flatten()
            assert len(places) == 400 and int(places[-1] - places[0]) == 399
            assert len(ranked.distances[query][places].unique()) == 1
            ids = gallery.ids[ranked.indices[query][places]]
            assert torch.equal(ids, ids.sort().values)


def test_memory_stays_within_the_bound_that_is_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    count, dimension = 6000, 64
    sides = [
        Features(
            torch.randn(count, dimension, generator=generator),
            torch.randint(0, 300, (count,), generator=generator),
            torch.full((count,), -1),
            torch.arange(first, first + count),
        )
        for first in (0, count)
    ]
    queries = pick(sides[0], torch.arange(400))
    peaks = []
    for rows in (1, 20, 200):
        bound = working_bytes(num_pictures=count + 400, dimension=dimension, rows=rows)
        tracemalloc.start()
        retrieval_scores(queries, sides[1], RetrievalRule(max_bytes=bound))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert peaks[-1] <= bound
    # Not a bound that holds everything: the rows themselves are most of what it allows.
    assert peaks[2] - peaks[0] > 0.9 * 8 * 199 * count


def test_20000_queries_in_100000_pictures_of_512_numbers_fit_in_4_gb_with_everything() -> None:
    pictures, rule = 120_000, RetrievalRule()
    rows = rows_of(rule, num_pictures=pictures, dimension=512)
    working = working_bytes(num_pictures=pictures, dimension=512, rows=rows)
    features = pictures * (4 * 512 + 3 * 8)
    interpreter = 600 * 2**20
    assert rows == 256 and working <= rule.max_bytes
    assert working + features + interpreter < 4e9


def rows_of(rule: RetrievalRule, *, num_pictures: int, dimension: int) -> int:
    return retrieval._rows_within(rule.max_bytes, num_pictures, dimension)
