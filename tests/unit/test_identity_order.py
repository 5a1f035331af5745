"""Groups of P identities x K pictures lose nothing and never straddle, whoever computes them."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from group_cases import chunks_in, groups_by_plain_dealing, random_labels

from accel_det.data.identity_order import GroupRule, IdentityGroups, Ints
from accel_det.data.order import Draw, EpochOrder, Share, positions

PINNED_EPOCH = [5, 5, 2, 1, 1, 0, 4, 3]


def groups_of(
    labels: Sequence[int] | Ints,
    *,
    P: int,
    K: int,
    seed: int = 0,
    cameras: Sequence[int] | Ints | None = None,
    balanced: bool = False,
) -> IdentityGroups:
    return IdentityGroups(
        np.array(labels, np.int64),
        GroupRule(P, K, balanced),
        cameras=None if cameras is None else np.array(cameras, np.int64),
        seed=seed,
    )


def epoch_of(turns: IdentityGroups, epoch: int) -> list[int]:
    return [turns.index(epoch, offset) for offset in range(turns.length)]


@pytest.mark.parametrize("balanced", [False, True])
def test_300_random_data_sets_give_every_picture_in_whole_groups_of_different_identities(balanced: bool) -> None:
    rng = random.Random(0)
    filled = repeated = 0
    for seed in range(300):
        P, K = rng.randint(1, 6), rng.randint(1, 6)
        labels = random_labels(rng, least=P)
        cameras = [rng.randint(-1, 3) for _ in labels[1:]] + [0]
        turns = groups_of(labels, P=P, K=K, seed=seed, cameras=cameras, balanced=balanced)
        assert turns.length == groups_by_plain_dealing(labels, P=P, K=K) * P * K
        assert turns.extra_turns == turns.length - len(labels) >= 0
        frequency = Counter(labels)
        for epoch in (0, rng.randint(1, 50)):
            order = epoch_of(turns, epoch)
            assert set(order) == set(range(len(labels)))
            for group in chunks_in(order, P * K):
                identities = [{labels[picture] for picture in chunk} for chunk in chunks_in(group, K)]
                assert all(len(found) == 1 for found in identities)
                assert len(set.union(*identities)) == P
            for chunk in chunks_in(order, K):
                assert len(set(chunk)) == min(K, frequency[labels[chunk[0]]])
            chunks = Counter(labels[chunk[0]] for chunk in chunks_in(order, K))
            filled += sum(chunks.values()) > sum(-(-number // K) for number in frequency.values())
            repeated += max(Counter(order).values()) > 1
    assert filled > 100 and repeated > 400, "hardly a group was filled: the test shows nothing"


@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_micro_batches_hold_whole_groups_and_any_world_sees_the_same_sequence(world: int, micro_batches: int) -> None:
    P, K, groups_per_update = 3, 4, 8
    rng = random.Random(world)
    for seed in range(10):
        labels = random_labels(rng, least=P)
        order = EpochOrder(len(labels), seed=seed, turns=groups_of(labels, P=P, K=K, seed=seed))
        images = groups_per_update * P * K
        share = Share(images, world, 0, micro_batches)
        assert share.micro_batch_size % (P * K) == 0
        seen: list[Draw] = []
        for step in range(3 * order.length // images + 2):  # updates that two epochs share are among them
            for rank, micro_batch in itertools.product(range(world), range(micro_batches)):
                draws = order.draws(step, positions(step, micro_batch, share._replace(rank=rank)))
                for group in range(0, len(draws), P * K):
                    part = draws[group : group + P * K]
                    assert len({labels[draw.index] for draw in part}) == P
                    assert set(Counter(labels[draw.index] for draw in part).values()) == {K}
                    assert len({draw.epoch for draw in part}) == 1
                seen += draws
        fresh = EpochOrder(len(labels), seed=seed, turns=groups_of(labels, P=P, K=K, seed=seed))
        assert seen == [fresh.draw(position) for position in range(len(seen))]
        assert len({draw.seed for draw in seen}) == len(seen)


def test_an_epoch_depends_on_its_number_and_the_seed_alone() -> None:
    labels = random_labels(random.Random(5), least=6)
    first, again, other = (groups_of(labels, P=4, K=3, seed=seed) for seed in (0, 0, 1))
    epochs = [epoch_of(first, epoch) for epoch in range(6)]
    assert [epoch_of(again, epoch) for epoch in reversed(range(6))] == epochs[::-1]
    assert len({tuple(epoch) for epoch in epochs}) == 6
    assert epoch_of(other, 0) != epochs[0]


def test_the_order_is_the_same_for_ever() -> None:
    # Written down from this implementation: a changed value would change the order of every resumed run.
    assert epoch_of(groups_of([0, 0, 0, 1, 1, 2], P=2, K=2), 0) == PINNED_EPOCH


def test_two_identities_meet_about_as_often_as_chance_has_it() -> None:
    """20 identities of 8 pictures, P = 5, K = 4: two chunks each, 8 groups; each pair meets 8 / 19 times per epoch."""
    labels = [identity for identity in range(20) for _ in range(8)]
    turns = groups_of(labels, P=5, K=4)
    meetings: Counter[tuple[int, int]] = Counter()
    for epoch in range(400):
        for group in chunks_in(epoch_of(turns, epoch), 20):
            meetings.update(itertools.combinations(sorted({labels[picture] for picture in group}), 2))
    assert len(meetings) == 190
    assert sum(meetings.values()) == 400 * 8 * 10
    # 168 expected of each pair; 5 deviations of a Poisson number are 65.
    assert min(meetings.values()) > 103 and max(meetings.values()) < 233


def test_groups_of_frequent_and_of_rare_identities_are_spread_over_the_epoch() -> None:
    """Dealing takes frequent identities first; without shuffled groups the second half would hold none of the first."""
    labels = [0] * 80 + [1] * 80 + list(range(2, 42))
    turns = groups_of(labels, P=2, K=4)
    halves = [0, 0]
    for epoch in range(40):
        for place, group in enumerate(chunks_in(epoch_of(turns, epoch), 8)):
            halves[2 * place * 8 // turns.length] += 0 in {labels[picture] for picture in group}
    # 800 groups with identity 0, half of them in each half; 5 deviations are 71.
    assert sum(halves) >= 800
    assert abs(halves[0] - halves[1]) < 142


def cameras_seen(order: list[int], cameras: Sequence[int], *, K: int) -> int:
    return sum(len({cameras[picture] for picture in chunk}) for chunk in chunks_in(order, K))


def test_balanced_cameras_are_in_as_many_chunks_as_they_can_be() -> None:
    """All chunks are of one identity: a camera with n pictures is seen in min(n, chunks), beside what fills them up."""
    rng = random.Random(3)
    more = 0
    for seed in range(200):
        K, pictures = rng.randint(2, 6), rng.randint(7, 40)
        cameras = [rng.choice((0, 0, 0, 0, 1, 1, 2, 3, -1)) for _ in range(pictures - 1)] + [0]
        turns = groups_of([0] * pictures, P=1, K=K, seed=seed, cameras=cameras, balanced=True)
        chunks = chunks_in(epoch_of(turns, seed), K)
        assert len(chunks) == -(-pictures // K)
        for camera, number in Counter(cameras).items():
            seen = sum(any(cameras[picture] == camera for picture in chunk) for chunk in chunks)
            assert seen >= min(number, len(chunks))
        plain = groups_of([0] * pictures, P=1, K=K, seed=seed, cameras=cameras)
        more += cameras_seen(epoch_of(turns, 0), cameras, K=K) - cameras_seen(epoch_of(plain, 0), cameras, K=K)
    assert more > 200, "the balanced order sees hardly more cameras than the plain one"


def test_with_as_many_cameras_as_pictures_in_a_chunk_each_is_seen_once() -> None:
    """4 cameras of 6 pictures each: a chunk of 4 holds all; chosen at random it would hold 2.8 on average."""
    rng = random.Random(2)
    cameras = [camera for camera in range(4) for _ in range(6)] * 5
    labels = [identity for identity in range(5) for _ in range(24)]
    shuffled = list(range(len(labels)))
    rng.shuffle(shuffled)
    labels, cameras = [labels[k] for k in shuffled], [cameras[k] for k in shuffled]
    balanced = groups_of(labels, P=3, K=4, cameras=cameras, balanced=True)
    plain = groups_of(labels, P=3, K=4, cameras=cameras)
    for epoch in range(20):
        for chunk in chunks_in(epoch_of(balanced, epoch), 4):
            assert sorted(cameras[picture] for picture in chunk) == [0, 1, 2, 3]
        assert cameras_seen(epoch_of(plain, epoch), cameras, K=4) < 0.85 * plain.length


def test_what_cannot_be_grouped_is_refused_with_the_key_to_change() -> None:
    with pytest.raises(ValueError, match=r"has 3 identities, but a group takes 4 .* data\.identities_per_group"):
        groups_of([0, 1, 2, 2], P=4, K=2)
    with pytest.raises(ValueError, match=r"has 0 identities, but a group takes 1 "):
        groups_of([], P=1, K=2)
    with pytest.raises(ValueError, match=r"picture 2 of the training data has identity -1"):
        groups_of([0, 1, -1], P=1, K=2)
    for cameras in (None, [-1, -1]):
        with pytest.raises(ValueError, match=r"data\.camera_balanced is true, .* no cameras"):
            groups_of([0, 1], P=1, K=2, cameras=cameras, balanced=True)


@pytest.mark.parametrize("balanced", [False, True])
def test_an_epoch_of_100_000_pictures_is_prepared_in_well_under_a_second(balanced: bool) -> None:
    rng = np.random.default_rng(0)
    labels, cameras = rng.integers(0, 5000, 100_000), rng.integers(0, 15, 100_000)
    began = time.perf_counter()
    groups_of(labels, P=16, K=4, cameras=cameras, balanced=balanced).index(0, 0)
    assert time.perf_counter() - began < 2, "measured: 0.1 s"
