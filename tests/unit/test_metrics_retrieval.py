"""Retrieval against a reference in plain Python."""

import itertools
import math
from typing import Literal, NamedTuple

import pytest
import torch
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from retrieval_cases import draw, pick, shuffled
from torch import Tensor

from accel_det.metrics.retrieval import (
    Features,
    RankedLists,
    RetrievalRule,
    match_ranks,
    rank_gallery,
    retrieval_scores,
)

Multi = Literal["none", "mean", "max"]
Metric = Literal["cosine", "euclidean"]


class Listed(NamedTuple):
    """One question by the reference: the queries that ask, and the gallery in order: (distance, row, right)."""

    queries: list[int]
    entries: list[tuple[float, int, bool]]


def reference_lists(queries: Features, gallery: Features, rule: RetrievalRule) -> list[Listed]:
    """From the definitions, one pair of pictures at a time."""
    groups: dict[tuple[int, int, int], list[int]] = {}
    for row in sorted(range(len(queries.ids)), key=lambda row: int(queries.ids[row])):
        identity, camera, sample = (int(column[row]) for column in queries[1:])
        alone = rule.multi_query == "none" or identity < 0
        groups.setdefault((identity, camera, sample if alone else -1), []).append(row)
    lists = []
    for (identity, camera, _), members in groups.items():
        vectors = [queries.embeddings[row].tolist() for row in members]
        if rule.multi_query == "mean" and len(members) > 1:
            vectors = [[math.fsum(numbers) / len(members) for numbers in zip(*vectors, strict=True)]]
        own_ids = {int(queries.ids[row]) for row in members}
        entries = []
        for row in range(len(gallery.ids)):
            other, other_camera, sample = (int(column[row]) for column in gallery[1:])
            right = identity >= 0 and other == identity
            if sample in own_ids or (rule.exclude_same_camera and right and camera >= 0 and camera == other_camera):
                continue
            found = gallery.embeddings[row].tolist()
            entries.append((min(distance(vector, found, rule.metric) for vector in vectors), sample, row, right))
        lists.append(Listed(members, [(far, row, right) for far, _, row, right in sorted(entries)]))
    return lists


def distance(first: list[float], second: list[float], metric: Metric) -> float:
    if metric == "euclidean":
        return math.sqrt(math.fsum((a - b) ** 2 for a, b in zip(first, second, strict=True)))
    products = math.fsum(a * b for a, b in zip(first, second, strict=True))
    lengths = math.sqrt(math.fsum(a * a for a in first)) * math.sqrt(math.fsum(b * b for b in second))
    return 1 - products / lengths


def reference_scores(lists: list[Listed], ranks: tuple[int, ...]) -> dict[str, float]:
    scored = [
        places
        for listed in lists
        if (places := [place for place, entry in enumerate(listed.entries, start=1) if entry[2]])
    ]
    count = max(1, len(scored))
    precision = [sum(hits / place for hits, place in enumerate(places, start=1)) / len(places) for places in scored]
    return {
        **{f"rank{rank}": sum(places[0] <= rank for places in scored) / count for rank in ranks},
        "mAP": sum(precision) / count,
        "mINP": sum(len(places) / places[-1] for places in scored) / count,
        "queries": len(scored),
        "queries_without_match": len(lists) - len(scored),
    }


def test_scores_and_lists_equal_a_brute_force_reference_with_ties_distractors_and_unknown_cameras() -> None:
    seen = {"ties": 0, "without": 0.0, "joined": 0, "cases": 0}
    for seed, tied, shared in itertools.product(range(3), (True, False), (0, 5)):
        queries, gallery = draw(seed, tied=tied, shared=shared)
        for metric, multi, exclude in itertools.product(
            ("cosine", "euclidean"), ("none", "mean", "max"), (True, False)
        ):
            if tied and multi == "mean":
                continue  # thirds are on no grid: what is tied exactly is so in neither computation
            rule = RetrievalRule(metric=metric, multi_query=multi, exclude_same_camera=exclude, ranks=(1, 2, 5, 100))
            lists = reference_lists(queries, gallery, rule)
            expected = reference_scores(lists, rule.ranks)
            scores = retrieval_scores(queries, gallery, rule)
            assert scores == pytest.approx(expected, rel=0, abs=1e-12), (seed, tied, shared, rule)
            compare_lists(rank_gallery(queries, gallery, rule, 60), lists)
            distances = [[entry[0] for entry in listed.entries] for listed in lists]
            seen["ties"] += sum(len(row) - len(set(row)) for row in distances)
            seen["without"] += scores["queries_without_match"]
            seen["joined"] += sum(len(listed.queries) > 1 for listed in lists)
            seen["cases"] += 1
    assert seen["cases"] == 3 * 2 * (8 + 12)
    assert seen["ties"] > 1000 and seen["without"] > 100 and seen["joined"] > 50


def compare_lists(ranked: RankedLists, lists: list[Listed]) -> None:
    compared = 0
    for listed in lists:
        for query in listed.queries:
            valid = ranked.valid[query]
            assert int(valid.sum()) == len(listed.entries)
            assert ranked.indices[query][valid].tolist() == [row for _, row, _ in listed.entries]
            assert ranked.right[query].tolist()[: len(listed.entries)] == [right for _, _, right in listed.entries]
            expected = torch.tensor([far for far, _, _ in listed.entries], dtype=torch.float64)
            torch.testing.assert_close(ranked.distances[query][valid], expected, rtol=0, atol=3e-7)
            assert not ranked.right[query][~valid].any() and (ranked.indices[query][~valid] == -1).all()
            assert ranked.distances[query][~valid].isinf().all()
            compared += 1
    assert compared == len(ranked.indices)


def test_a_set_that_is_searched_in_itself_never_finds_the_query_itself() -> None:
    everything, _ = draw(7, num_queries=30, num_gallery=0, tied=False)
    rule = RetrievalRule(exclude_same_camera=False, ranks=(1,))
    expected = reference_scores(reference_lists(everything, everything, rule), rule.ranks)
    assert retrieval_scores(everything, everything, rule) == pytest.approx(expected, rel=0, abs=1e-12)
    ranked = rank_gallery(everything, shuffled(everything, 1), rule, 30)
    assert ranked.valid.sum(dim=1).tolist() == [29] * 30
    found = shuffled(everything, 1).ids[ranked.indices[:, :29]]
    assert not (found == everything.ids[:, None]).any()


def test_the_same_camera_is_left_out_only_where_it_is_known_and_the_identity_is_the_same() -> None:
    queries = features_of([[1, 0], [1, 0]], identities=[0, 0], cameras=[2, -1], first_id=0)
    gallery = features_of(
        [[1, 0], [1, 0.1], [1, 0.2], [1, 0.3]], identities=[0, 1, 0, 0], cameras=[2, 2, -1, 3], first_id=10
    )
    ranked = rank_gallery(queries, gallery, RetrievalRule(), 4)
    assert ranked.indices.tolist() == [[1, 2, 3, -1], [0, 1, 2, 3]]
    assert ranked.right.tolist() == [[False, True, True, False], [True, False, True, True]]
    included = rank_gallery(queries, gallery, RetrievalRule(exclude_same_camera=False), 4)
    assert included.indices.tolist() == [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_numbers_of_a_small_case_are_those_that_one_counts_by_hand() -> None:
    queries = features_of([[1, 0], [1, 0], [1, 0]], identities=[0, 1, 7], cameras=[0, 0, 0], first_id=0)
    gallery = features_of(
        [[1, 0], [1, 1], [1, 2], [1, 3], [1, 4]], identities=[1, 0, -1, 0, 1], cameras=[1] * 5, first_id=3
    )
    scores = retrieval_scores(queries, gallery, RetrievalRule(ranks=(1, 2, 3, 50)))
    # Identity 0 is at ranks 2 and 4, identity 1 at 1 and 5, identity 7 nowhere.
    expected = {"rank1": 1 / 2, "rank2": 1.0, "rank3": 1.0, "rank50": 1.0, "queries": 2.0, "queries_without_match": 1.0}
    expected |= {"mAP": ((1 / 2 + 2 / 4) / 2 + (1 + 2 / 5) / 2) / 2, "mINP": (2 / 4 + 2 / 5) / 2}
    assert scores == pytest.approx(expected, rel=0, abs=1e-15)


def test_queries_of_one_identity_and_camera_are_one_question() -> None:
    queries = features_of(
        [[1, 0], [0, 1], [1, 0], [0, 1], [1, 1]], identities=[0, 0, 0, -1, -1], cameras=[0, 0, 1, 0, 0], first_id=0
    )
    gallery = features_of([[1, 0.1], [0.1, 1], [1, 1], [-1, 0]], identities=[1, 1, 0, 0], cameras=[2] * 4, first_id=9)
    mean = rank_gallery(queries, gallery, RetrievalRule(multi_query="mean"), 2)
    best = rank_gallery(queries, gallery, RetrievalRule(multi_query="max"), 2)
    assert mean.indices[0].tolist() == mean.indices[1].tolist() == [2, 0]
    assert best.indices[0].tolist() == best.indices[1].tolist() == [0, 1]
    assert mean.indices[2].tolist() == best.indices[2].tolist() == [0, 2]
    for multi in ("mean", "max"):
        scores = retrieval_scores(queries, gallery, RetrievalRule(multi_query=multi))
        assert (scores["queries"], scores["queries_without_match"]) == (2.0, 2.0)
    assert retrieval_scores(queries, gallery, RetrievalRule())["queries"] == 3.0


@pytest.mark.parametrize("rerank", [False, True])
@pytest.mark.parametrize("multi", ["none", "mean", "max"])
def test_without_any_question_that_can_be_scored_all_numbers_are_0_and_the_count_says_so(
    multi: Multi, rerank: bool
) -> None:
    queries, gallery = draw(0)
    rule = RetrievalRule(multi_query=multi, rerank=rerank)
    nobody = gallery._replace(identities=torch.full((40,), -1))
    nothing = Features(torch.zeros(0, 0), *(torch.zeros(0, dtype=torch.int64) for _ in range(3)))
    names = {"rank1", "rank5", "rank10", "rank20", "mAP", "mINP", "queries", "queries_without_match"}
    for sides in ((queries, nobody), (queries, nothing), (nothing, gallery), (nothing, nothing)):
        scores = retrieval_scores(*sides, rule)
        asked = scores.pop("queries_without_match")
        assert set(scores) | {"queries_without_match"} == names
        assert set(scores.values()) == {0.0}
        assert (asked > 0) == bool(len(sides[0].ids)) and asked <= len(sides[0].ids)
        ranked = rank_gallery(*sides, rule, 3)
        assert ranked.valid.shape == (len(sides[0].ids), 3)
        assert bool(ranked.valid.any()) == (len(sides[0].ids) > 0 and len(sides[1].ids) > 0)


def test_embeddings_that_have_all_become_one_give_finite_numbers_that_follow_the_sample_ids() -> None:
    queries, gallery = draw(1)
    for value in (0.0, 3.0):
        flat = [side._replace(embeddings=torch.full_like(side.embeddings, value)) for side in (queries, gallery)]
        order = gallery.ids.argsort()
        for rerank in (False, True):
            ranked = rank_gallery(*flat, RetrievalRule(exclude_same_camera=False, rerank=rerank, lambda_value=1), 40)
            assert ranked.indices.tolist() == [order.tolist()] * 13
            assert all(map(math.isfinite, retrieval_scores(*flat, RetrievalRule(rerank=rerank)).values()))


def test_ranks_of_matches_are_those_of_the_whole_order_whether_or_not_there_are_ties() -> None:
    generator = torch.Generator().manual_seed(0)
    for case in range(200):
        distances = torch.randint(0, 4 if case % 2 else 10**6, (30,), generator=generator).double().numpy()
        matches = torch.randperm(30, generator=generator)[: 1 + case % 9].numpy()
        order = sorted(range(30), key=lambda place: (distances[place], place))
        expected = sorted(1 + order.index(match) for match in matches.tolist())
        assert match_ranks(distances, matches).tolist() == expected


def test_numbers_agree_with_those_of_pytorch_metric_learning_where_definitions_do() -> None:
    calculator = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision"),
        k=None,
        device=torch.device("cpu"),
        knn_func=all_neighbors,
        kmeans_func=lambda *_: pytest.fail("no clusters are asked for"),
    )
    rule = RetrievalRule(exclude_same_camera=False, metric="euclidean")
    compared = 0
    for seed in range(4):
        queries, gallery = draw(seed, num_queries=40, num_gallery=90, dimension=16, tied=False)
        gallery = pick(gallery, gallery.ids.argsort())  # theirs orders pictures that are equally far by row
        # Their calculator knows no distractors: here those are identities of which there is one picture.
        queries, gallery = (
            side._replace(identities=torch.where(side.identities < 0, 100 + side.ids, side.identities))
            for side in (queries, gallery)
        )
        alone = calculator.get_accuracy(gallery.embeddings, gallery.identities)
        apart = calculator.get_accuracy(
            queries.embeddings, queries.identities, gallery.embeddings, gallery.identities, ref_includes_query=False
        )
        for theirs, sides in ((alone, (gallery, gallery)), (apart, (queries, gallery))):
            ours = retrieval_scores(*sides, rule)
            assert ours["queries_without_match"] > 0
            assert ours["rank1"] == pytest.approx(theirs["precision_at_1"], abs=1e-12)
            assert ours["mAP"] == pytest.approx(theirs["mean_average_precision"], abs=1e-12)
            compared += 1
    assert compared == 8


def all_neighbors(query: Tensor, k: int, reference: Tensor, ref_includes_query: bool) -> tuple[Tensor, Tensor]:
    """What their calculator asks of an index: the k nearest, without the query itself."""
    distances = torch.cdist(query.double(), reference.double(), compute_mode="donot_use_mm_for_euclid_dist")
    if ref_includes_query:
        distances.fill_diagonal_(torch.inf)
    nearest = distances.sort(dim=1, stable=True)
    return nearest.values[:, :k], nearest.indices[:, :k]


NUMBERS = torch.arange(2)
GOOD = Features(torch.eye(2), NUMBERS, NUMBERS, NUMBERS)


@pytest.mark.parametrize(
    ("sides", "rule", "message"),
    [
        ((GOOD._replace(embeddings=torch.eye(2).double()), GOOD), {}, "queries: embeddings are torch.float64"),
        (
            (GOOD, GOOD._replace(embeddings=torch.zeros(2))),
            {},
            r"gallery: embeddings are torch.float32 of shape \(2,\)",
        ),
        ((GOOD, GOOD._replace(cameras=NUMBERS[:1])), {}, "gallery: cameras are torch.int64 of shape"),
        ((GOOD._replace(identities=NUMBERS.float()), GOOD), {}, "queries: identities are torch.float32"),
        ((GOOD, GOOD._replace(ids=NUMBERS * 0 + 4)), {}, "gallery: sample 4 is there more than once"),
        ((GOOD, GOOD._replace(ids=NUMBERS - 1)), {}, "gallery: ids has -1"),
        ((GOOD, GOOD._replace(embeddings=torch.eye(2) / torch.tensor([1, 0]))), {}, "the embedding of sample"),
        ((GOOD, GOOD._replace(embeddings=torch.ones(2, 3))), {}, "have 2 numbers, those of the gallery 3"),
        ((GOOD, GOOD), {"metric": "dot"}, "metric is 'dot'"),
        ((GOOD, GOOD), {"multi_query": "min"}, "multi_query is 'min'"),
        ((GOOD, GOOD), {"ranks": (1, 0)}, r"ranks are \(1, 0\)"),
        ((GOOD, GOOD), {"k1": 0}, "k1 is 0"),
        ((GOOD, GOOD), {"lambda_value": 1.5}, "lambda_value is 1.5"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(
    sides: tuple[Features, Features], rule: dict[str, object], message: str
) -> None:
    for call in (
        lambda: retrieval_scores(*sides, RetrievalRule()._replace(**rule)),
        lambda: rank_gallery(*sides, RetrievalRule()._replace(**rule), 1),
    ):
        with pytest.raises(ValueError, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match="top is 0"):
        rank_gallery(GOOD, GOOD, RetrievalRule(), 0)


def features_of(embeddings: list[list[float]], *, identities: list[int], cameras: list[int], first_id: int) -> Features:
    ids = torch.arange(first_id, first_id + len(embeddings))
    return Features(torch.tensor(embeddings, dtype=torch.float32), torch.tensor(identities), torch.tensor(cameras), ids)
