"""Groups of P identities x K pictures lose nothing and never straddle, whoever computes them."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from accel_det.data.identity_order import IdentityGroups, Ints, _Buffer, groups_from_stream
from accel_det.data.order import Draw, EpochOrder, Share, positions

PINNED_EPOCH = [5, 5, 2, 1, 1, 0, 4, 3]
PINNED_STREAM = [[4, 1, 0, 3], [8, 5, 6, 0], [10, 7, 11, 2], [9, 0, 10, 7]]


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
        cameras=None if cameras is None else np.array(cameras, np.int64),
        identities_per_group=P,
        images_per_identity=K,
        camera_balanced=balanced,
        seed=seed,
    )


def epoch_of(turns: IdentityGroups, epoch: int) -> list[int]:
    return [turns.index(epoch, offset) for offset in range(turns.length)]


def random_labels(rng: random.Random, *, least: int) -> list[int]:
    """Identities of 1 to 30 pictures each, some much more frequent than others, in a random order, numbered with gaps."""
    names = rng.sample(range(1000), rng.randint(least, least + 12))
    labels = [name for name in names for _ in range(rng.choice((1, 2, rng.randint(1, 9), rng.randint(1, 30))))]
    rng.shuffle(labels)
    return labels


def chunks_in(epoch: list[int], K: int) -> list[list[int]]:
    return [epoch[start : start + K] for start in range(0, len(epoch), K)]


def groups_by_plain_dealing(labels: list[int], *, P: int, K: int) -> int:
    """Slowly: in each round the P identities with the most chunks left give one."""
    left = [-(-number // K) for number in Counter(labels).values()]
    rounds = 0
    while any(left):
        left.sort(reverse=True)
        left = [max(0, chunks - 1) if place < P else chunks for place, chunks in enumerate(left)]
        rounds += 1
    return rounds


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
    stream = groups_from_stream(
        [0, 1, 2] * 4, identities_per_group=2, images_per_identity=2, buffer_size=8, seed=0, epoch=0
    )
    assert list(stream) == PINNED_STREAM


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


# Streams ------------------------------------------------------------------------------------------------------------


class Watched:
    """Labels that count how many of them were read."""

    def __init__(self, labels: Sequence[int]) -> None:
        self._labels = labels
        self.read = 0

    def __iter__(self) -> Iterator[int]:
        for label in self._labels:
            self.read += 1
            yield label


def stream_of(rng: random.Random, *, P: int, K: int, buffer_size: int) -> list[int]:
    """Rows that begin with P identities within a buffer; then shuffled, sorted, or of few identities at a time."""
    start = list(range(P)) + [rng.randrange(P) for _ in range(rng.randint(0, buffer_size - P))]
    rng.shuffle(start)
    count = rng.choice((P, 2 * P, 40))
    rest = [rng.randrange(count) for _ in range(rng.randint(0, 3 * buffer_size))]
    if rng.random() < 0.4:
        rest.sort()
    return start + rest


def test_500_random_streams_give_every_row_in_whole_groups_and_in_bounded_memory() -> None:
    rng = random.Random(4)
    filled = sorted_apart = 0
    for seed in range(500):
        P, K = rng.randint(1, 5), rng.randint(1, 5)
        buffer_size = 2 * P * K + rng.choice((0, 1, rng.randint(0, 40)))
        labels = stream_of(rng, P=P, K=K, buffer_size=buffer_size)
        watched = Watched(labels)
        options = {"identities_per_group": P, "images_per_identity": K, "buffer_size": buffer_size}
        groups, read = [], []
        for group in groups_from_stream(watched, **options, seed=seed, epoch=1):
            groups.append(group)
            read.append(watched.read)
            sizes = Counter(labels[row] for row in group)
            assert len(sizes) == P and set(sizes.values()) == {K}
            assert all(len({labels[row] for row in chunk}) == 1 for chunk in chunks_in(group, K))
            assert max(group) < watched.read
        given = [row for group in groups for row in group]
        assert set(given) == set(range(len(labels)))
        assert len(groups) <= len(labels), "a group without a new row"
        # A row that was read before some moment and is given after it was in memory at that moment.
        for moment, before in enumerate(read):
            later = {row for group in groups[moment + 1 :] for row in group if row < before}
            assert len(later) <= buffer_size
        filled += len(given) > 1.5 * len(labels)
        sorted_apart += labels != sorted(labels)
        assert groups == list(groups_from_stream(labels, **options, seed=seed, epoch=1))
    assert filled > 20 and sorted_apart > 300


def test_a_stream_is_read_only_as_far_as_its_groups_need() -> None:
    endless = (number % 7 for number in itertools.count())
    groups = groups_from_stream(endless, identities_per_group=4, images_per_identity=3, buffer_size=60, seed=0, epoch=0)
    assert len(list(itertools.islice(groups, 100))) == 100
    assert next(endless) <= 6  # still there to be read


def test_epochs_and_seeds_give_a_stream_orders_of_their_own() -> None:
    labels = [number % 11 for number in range(300)]

    def order(seed: int, epoch: int) -> tuple[tuple[int, ...], ...]:
        groups = groups_from_stream(
            labels, identities_per_group=4, images_per_identity=3, buffer_size=100, seed=seed, epoch=epoch
        )
        return tuple(map(tuple, groups))

    assert len({order(seed, epoch) for seed in range(3) for epoch in range(3)}) == 9


def test_a_well_mixed_stream_repeats_little_where_the_buffer_holds_k_rows_of_an_identity() -> None:
    """100 identities and a buffer of 800: 8 waiting rows of each on average, twice K."""
    rng = random.Random(0)
    labels = [rng.randrange(100) for _ in range(6000)]
    groups = list(
        groups_from_stream(labels, identities_per_group=8, images_per_identity=4, buffer_size=800, seed=0, epoch=0)
    )
    assert len(groups) * 32 < 1.05 * len(labels)
    # An order that kept the stream's would give row 0 first and the last row last.
    places = [row for group in groups for row in group]
    assert np.corrcoef(np.arange(3000), places[:3000])[0, 1] < 0.99


def test_streams_with_too_few_identities_end_with_one_line_and_empty_ones_without() -> None:
    options = {"identities_per_group": 3, "images_per_identity": 2, "seed": 0, "epoch": 0}
    assert list(groups_from_stream([], buffer_size=12, **options)) == []
    with pytest.raises(ValueError, match=r"holds 11 rows, expected at least 12, two groups of 3 x 2"):
        groups_from_stream([], buffer_size=11, **options)
    with pytest.raises(ValueError, match=r"the stream ended with 2 identities, but a group takes 3"):
        list(groups_from_stream([0, 1, 1], buffer_size=12, **options))
    watched = Watched([0, 1] * 100)
    with pytest.raises(ValueError, match=r"first 12 rows .* hold 2 identities, .* data\.identities_per_group"):
        list(groups_from_stream(watched, buffer_size=12, **options))
    assert watched.read == 12
    # The third identity comes as the last row that the buffer can hold.
    assert list(groups_from_stream([0] * 11 + [1, 2], buffer_size=13, **options))


def test_a_sorted_stream_is_filled_with_identities_that_were_given_before() -> None:
    """After three identities only one comes, 40 rows of it: every group has two of the first three beside it."""
    labels = [0, 0, 1, 1, 2, 2] + [3] * 40
    groups = list(
        groups_from_stream(labels, identities_per_group=3, images_per_identity=2, buffer_size=12, seed=0, epoch=0)
    )
    assert {row for group in groups for row in group} == set(range(46))
    later = [{labels[row] for row in group} for group in groups[-15:]]
    assert all(3 in found and len(found) == 3 for found in later)
    # Each identity has two rows that were given, so no chunk of two needs one twice.
    assert all(len(set(chunk)) == 2 for group in groups for chunk in chunks_in(group, 2))


def test_waiting_and_given_rows_together_never_exceed_the_buffer() -> None:
    rng = random.Random(6)
    full = 0
    for seed in range(100):
        P, K = rng.randint(1, 5), rng.randint(1, 5)
        buffer_size = 2 * P * K + rng.randint(0, 40)
        buffer = _Buffer(P, K, buffer_size=buffer_size, key=seed)
        for row, identity in enumerate(stream_of(rng, P=P, K=K, buffer_size=buffer_size)):
            buffer.add(row, identity)
            while buffer.must_give():
                buffer.give()
            held = [*buffer._waiting.values(), *buffer._given.values()]
            assert sum(map(len, held)) == len(set(itertools.chain(*held))) <= buffer_size
            full += sum(map(len, held)) == buffer_size
        while buffer.num_waiting:
            buffer.give()
        assert not buffer._waiting and len(buffer._given) >= P
    assert full > 500, "the buffers were hardly ever full: the test shows little"
