"""The order of streamed data: every row once, near each other, and the same for whoever asks."""

import itertools
import random
from collections import defaultdict

import pytest

from accel_det.data.order import EpochOrder, Share, divide, positions
from accel_det.data.stream_order import StreamPlan, StreamTurns, plan_streams


def random_turns(rng: random.Random) -> tuple[StreamTurns, list[int], StreamPlan]:
    lengths = [rng.choice((0, 1, rng.randint(0, 12))) for _ in range(rng.randint(1, 17))]
    lengths[rng.randrange(len(lengths))] += 1
    plan = StreamPlan(rng.randint(1, 9), rng.randint(1, 5), rng.randint(1, 9))
    return StreamTurns(lengths, plan, seed=rng.randint(0, 99)), lengths, plan


def test_3000_random_streams_give_every_row_once_in_every_epoch() -> None:
    rng = random.Random(0)
    for _ in range(3000):
        turns, lengths, _ = random_turns(rng)
        epoch = rng.randint(0, 5)
        rows = [turns.index(epoch, offset) for offset in range(turns.length)]
        assert sorted(rows) == list(range(sum(lengths)))
        again = rng.randrange(turns.length)
        assert turns.index(epoch, again) == rows[again]


def test_streams_are_equally_long_and_a_row_comes_out_of_its_window() -> None:
    rng = random.Random(1)
    for _ in range(300):
        turns, lengths, plan = random_turns(rng)
        edges = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
        taken: dict[int, list[int]] = defaultdict(list)
        windows: dict[int, list[object]] = defaultdict(list)
        for offset in range(turns.length):
            row, (stream, window) = turns.index(3, offset), turns.place(3, offset)
            assert any(row in stretch for stretch in window)
            assert 1 <= sum(map(len, window)) <= plan.window
            for stretch in window:
                assert any(a <= stretch.start and stretch.stop <= b for a, b in itertools.pairwise(edges))
            if not windows[stream] or windows[stream][-1] != window:
                windows[stream].append(window)
            taken[stream].append(row)
        counts = [len(taken[stream]) for stream in range(plan.streams)]
        assert max(counts) - min(counts) <= 1
        for stream, found in windows.items():  # each window is read once, and `following` foretells the next
            assert len(set(map(str, found))) == len(found)
            first = next(o for o in range(turns.length) if turns.place(3, o).stream == stream)
            opening = next(p.window for p in (turns.place(4, o) for o in range(turns.length)) if p.stream == stream)
            assert turns.following(3, first) == ((3, found[1]) if len(found) > 1 else (4, opening))


def test_epochs_and_seeds_have_orders_of_their_own_and_without_shuffling_all_are_that_of_the_shards() -> None:
    plan = StreamPlan(4, 2, 16)
    orders = {
        (seed, epoch): [StreamTurns([50, 70, 30], plan, seed=seed).index(epoch, o) for o in range(150)]
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(set(map(tuple, orders.values()))) == 4
    plain = StreamTurns([3, 0, 4], plan, seed=0, shuffle=False)
    assert [plain.index(epoch, o) for epoch in (0, 5) for o in range(7)] == [*range(7), *range(7)]
    assert plain.plan.streams == 1


def test_a_process_reads_few_streams_in_an_epoch_and_all_processes_together_every_row() -> None:
    for images, world, most in ((16, 1, 16), (16, 2, 16), (64, 4, 16), (24, 2, 16), (12, 3, 16), (20, 2, 8)):
        plan = plan_streams(images_per_update=images, most_streams=most, window=8)
        assert images % plan.streams == 0 and plan.streams * plan.turn == images and plan.streams <= most
        turns = StreamTurns([40] * 25, plan, seed=0)
        streams: dict[int, set[int]] = defaultdict(set)
        seen: list[int] = []
        steps = 1000 // images  # within the first epoch
        micro = divide(images_per_update=images, world=world, max_images_per_forward=None)
        for step in range(steps):
            for rank in range(world):
                for position in positions(step, 0, Share(images, world, rank, micro)):
                    epoch, offset = divmod(position, turns.length)
                    assert epoch == 0
                    streams[rank].add(turns.place(epoch, offset).stream)
                    seen.append(turns.index(epoch, offset))
        assert len(set(seen)) == steps * images
        if plan.streams % world == 0:
            share = plan.streams // world
            # The last, partial turns of an epoch may fall elsewhere.
            assert all(len(found) <= share + 2 for found in streams.values()), (images, world, streams)


def test_the_draws_of_an_update_are_the_same_on_any_number_of_processes() -> None:
    plan = plan_streams(images_per_update=12, most_streams=8, window=5)
    for step in (0, 3, 9):
        whole = None
        for world, micro in ((1, 1), (2, 1), (3, 2), (4, 3), (6, 1), (12, 1)):
            order = EpochOrder(50, seed=1, turns=StreamTurns([7, 0, 30, 13], plan, seed=1))
            draws = [
                draw
                for rank in range(world)
                for k in range(micro)
                for draw in order.draws(step, positions(step, k, Share(12, world, rank, micro)))
            ]
            whole = whole or draws
            assert draws == whole


def test_a_turn_beyond_the_epoch_is_refused() -> None:
    turns = StreamTurns([2, 1], StreamPlan(2, 1, 4), seed=0)
    for offset in (-1, 3):
        with pytest.raises(IndexError):
            turns.index(0, offset)
