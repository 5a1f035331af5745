"""Re-ranking against a dense reference in plain Python, written from the definitions of the paper."""

import math

import numpy as np
import pytest
import torch

from accel_det.metrics import rerank
from accel_det.metrics.rerank import Floats, Integers, Reranking, smallest
from accel_det.metrics.retrieval import Features, RetrievalRule, rank_gallery, retrieval_scores


class Dense:
    """Fulfils `SquaredDistances` with a matrix, (N, N)."""

    def __init__(self, squared: Floats) -> None:
        self.squared = squared
        self.num_pictures = len(squared)
        self.most_rows = 0

    def rows(self, pictures: Integers, *, columns: int) -> Floats:
        self.most_rows = max(self.most_rows, len(pictures))
        return self.squared[pictures, :columns].copy()

    def pairs(self, first: Integers, second: Integers) -> Floats:
        return self.squared[first, second]


def reference(squared: list[list[float]], *, num_gallery: int, k1: int, k2: int, share: float) -> list[list[float]]:
    """(N, G) final distances."""
    pictures = range(len(squared))
    far = [[value / (max(row) or 1) for value in row] for row in squared]
    order = [sorted(pictures, key=lambda q: (q != p, squared[p][q], q)) for p in pictures]

    def mutual(p: int, k: int) -> set[int]:
        return {q for q in order[p][: k + 1] if p in order[q][: k + 1]}

    vectors: list[list[float]] = []
    for p in pictures:
        near = mutual(p, k1)
        robust = set(near)
        for q in near:
            other = mutual(q, round(k1 / 2))
            if len(near & other) >= 2 / 3 * len(other) - 1e-9:
                robust |= other
        weights = [math.exp(-far[p][q]) if q in robust else 0.0 for q in pictures]
        vectors.append([weight / sum(weights) for weight in weights])
    means = [[sum(vectors[q][j] for q in order[p][:k2]) / len(order[p][:k2]) for j in pictures] for p in pictures]

    def jaccard(p: int, q: int) -> float:
        pairs = list(zip(means[p], means[q], strict=True))
        return 1 - sum(map(min, pairs)) / sum(map(max, pairs))

    return [[(1 - share) * jaccard(p, g) + share * far[p][g] for g in range(num_gallery)] for p in pictures]


def clusters(seed: int, *, count: int, centers: int) -> Floats:
    """(N, N) squared distances of points around centres; a fifth of them lie on another one exactly."""
    random = np.random.default_rng(seed)
    points = random.integers(-3, 4, (centers, 5))[random.integers(0, centers, count)] + random.normal(0, 1, (count, 5))
    points[random.integers(0, count, count // 5)] = points[random.integers(0, count, count // 5)]
    return np.square(points[:, None] - points[None]).sum(axis=2)


def final(squared: Floats, *, k1: int, k2: int, share: float, num_gallery: int, rows_at_once: int = 1000) -> Floats:
    distances = Dense(squared)
    reranking = Reranking(
        distances, num_gallery=num_gallery, k1=k1, k2=k2, lambda_value=share, rows_at_once=rows_at_once
    )
    found = reranking.rows(np.arange(len(squared)))
    assert found.shape == (len(squared), num_gallery)
    return found


@pytest.mark.parametrize(
    ("k1", "k2", "share"), [(20, 6, 0.3), (5, 1, 0.0), (1, 1, 0.5), (7, 3, 1.0), (2, 9, 0.1), (200, 100, 0.3)]
)
def test_distances_equal_a_dense_reference_in_plain_python(k1: int, k2: int, share: float) -> None:
    expanded = 0
    for seed in range(3):
        squared = clusters(seed, count=60, centers=6)
        expected = reference(squared.tolist(), num_gallery=41, k1=k1, k2=k2, share=share)
        found = final(squared, k1=k1, k2=k2, share=share, num_gallery=41)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        near = rerank.reciprocal(rerank.nearest_and_largest(Dense(squared), count=k1 + 1, rows_at_once=60)[0])
        half = rerank.reciprocal(
            rerank.nearest_and_largest(Dense(squared), count=round(k1 / 2) + 1, rows_at_once=60)[0]
        )
        expanded += rerank.expand(near, half).nnz - near.nnz
    assert expanded > 0 or k1 not in (5, 7, 20), "nothing was expanded, so that part was not compared"


def test_neither_blocks_of_rows_nor_of_pairs_change_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    squared = clusters(4, count=90, centers=5)
    whole = final(squared, k1=9, k2=4, share=0.3, num_gallery=70)
    monkeypatch.setattr(rerank, "_PAIRS", 7)
    monkeypatch.setattr(rerank, "_ROWS", 11)
    for rows_at_once in (1, 8, 89):
        again = final(squared, k1=9, k2=4, share=0.3, num_gallery=70, rows_at_once=rows_at_once)
        np.testing.assert_array_equal(again, whole)


def test_no_more_rows_are_asked_for_than_memory_was_promised_for() -> None:
    distances = Dense(clusters(4, count=90, centers=5))
    Reranking(distances, num_gallery=70, k1=9, k2=4, lambda_value=0.3, rows_at_once=8)
    assert distances.most_rows == 8


def test_vectors_are_sparse_and_of_sum_1() -> None:
    squared = clusters(0, count=400, centers=40)
    reranking = Reranking(Dense(squared), num_gallery=300, k1=6, k2=3, lambda_value=0.3, rows_at_once=100)
    np.testing.assert_allclose(reranking.vectors.sum(axis=1), 1, rtol=0, atol=1e-12)
    assert reranking.vectors.nnz < 400 * 6 * 3


def test_pictures_that_are_all_one_point_have_finite_distances() -> None:
    found = final(np.zeros((9, 9)), k1=3, k2=2, share=0.3, num_gallery=6)
    assert np.isfinite(found).all()


def test_the_smallest_come_by_value_and_then_by_place() -> None:
    random = np.random.default_rng(0)
    for count in (1, 2, 7, 30, 31, 100):
        values = random.integers(0, 6, 30).astype(np.float64)
        expected = sorted(range(30), key=lambda place: (values[place], place))[:count]
        assert smallest(values, count).tolist() == expected
    assert smallest(np.zeros(0), 3).tolist() == []


def features(points: torch.Tensor, identities: list[int], first_id: int) -> Features:
    count = len(points)
    return Features(
        points.float(), torch.tensor(identities), torch.full((count,), -1), torch.arange(first_id, first_id + count)
    )


def test_a_match_that_shares_neighbours_overtakes_a_nearer_picture_that_does_not() -> None:
    # Identity 0 is a chain of steps of 1 from the query; a stranger with its own company is at 1.7.
    chain = torch.tensor([[0.0, 1.0], [0.0, 2.0], [1.0, 1.0], [1.0, 0.0]])
    strangers = torch.tensor([[-1.7, 0.0], [-2.0, 0.2], [-2.0, -0.2], [-2.2, 0.0], [-2.3, 0.1]])
    queries = features(torch.zeros(1, 2), [0], 100)
    gallery = features(torch.cat((chain, strangers)), [0] * 4 + [1] * 5, 0)
    plain = RetrievalRule(metric="euclidean", rerank=False)
    better = plain._replace(rerank=True, k1=4, k2=1)
    assert rank_gallery(queries, gallery, plain, 4).indices[0].tolist() == [0, 3, 2, 4]
    assert set(rank_gallery(queries, gallery, better, 4).indices[0].tolist()) == {0, 1, 2, 3}
    assert retrieval_scores(queries, gallery, plain)["mAP"] < 1
    assert retrieval_scores(queries, gallery, better)["mAP"] == 1


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_features_are_reranked_as_the_reference_says_with_pictures_of_both_sides_once(metric: str) -> None:
    generator = torch.Generator().manual_seed(2)
    centers = torch.randn(5, 8, generator=generator)
    identities = torch.randint(0, 5, (50,), generator=generator)
    points = torch.nn.functional.normalize(centers[identities] + 0.7 * torch.randn(50, 8, generator=generator), dim=1)
    ids = torch.arange(50)
    everything = Features(points, identities, torch.full((50,), -1), ids)
    # Pictures 0 to 39 are the gallery, 30 to 49 the queries.
    gallery, queries = (Features(*(column[part] for column in everything)) for part in (ids[:40], ids[30:]))
    rule = RetrievalRule(metric=metric, rerank=True, k1=6, k2=3)
    squared = (2 - 2 * points.double() @ points.double().T).clamp(min=0).fill_diagonal_(0)
    expected = reference(squared.tolist(), num_gallery=40, k1=6, k2=3, share=0.3)
    ranked = rank_gallery(queries, gallery, rule, 40)
    for row, query in enumerate(range(30, 50)):
        left = [place for place in range(40) if place != query]
        assert int(ranked.valid[row].sum()) == len(left)
        found = dict(zip(ranked.indices[row].tolist(), ranked.distances[row].tolist(), strict=True))
        assert [found[place] for place in left] == pytest.approx([expected[query][place] for place in left], abs=1e-6)
        distances = ranked.distances[row][ranked.valid[row]]
        assert torch.equal(distances, distances.sort().values)
