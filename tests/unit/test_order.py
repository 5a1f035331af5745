"""The order of data loses nothing and repeats nothing, whoever computes it."""

import random

import numpy as np
import pytest

from accel_det.data import order
from accel_det.draws import mix

PINNED_PERMUTATION = [6, 4, 0, 1, 3, 2, 7, 5]
PINNED_MIX = 2623250113353451629


def test_a_permutation_holds_every_index_once_and_differs_between_epochs_and_seeds() -> None:
    first = order.permutation(1000, seed=1, epoch=0)
    assert sorted(first.tolist()) == list(range(1000))
    assert not np.array_equal(first, order.permutation(1000, seed=1, epoch=1))
    assert not np.array_equal(order.permutation(1000, seed=1, epoch=2), order.permutation(1000, seed=2, epoch=1))


def test_the_permutation_is_the_same_for_ever() -> None:
    # Written down from this implementation: a changed value would change the order of every resumed run.
    assert order.permutation(8, seed=0, epoch=0).tolist() == PINNED_PERMUTATION
    assert mix(1, 2, 3) == PINNED_MIX


def test_permutations_are_uniform_enough() -> None:
    where_zero_goes = np.zeros(10)
    for epoch in range(5000):
        where_zero_goes[int(np.argmin(order.permutation(10, seed=3, epoch=epoch)))] += 1
    # chi-square with 9 degrees of freedom: 27.9 is the 0.999 quantile.
    assert ((where_zero_goes - 500) ** 2 / 500).sum() < 27.9


def test_10000_random_layouts_consume_every_sample_once_per_epoch() -> None:
    rng = random.Random(0)
    for _ in range(10_000):
        length, world, micro = rng.randint(1, 257), rng.randint(1, 8), rng.randint(1, 3)
        images = world * micro * rng.randint(1, 7)
        source = order.EpochOrder(length, seed=rng.randint(0, 99))
        shares = [order.Share(images, world, rank, micro) for rank in range(world)]
        steps = -(-length // images)
        seen = [
            position
            for step in range(steps)
            for share in shares
            for k in range(micro)
            for position in order.positions(step, k, share)
        ]
        assert sorted(seen) == list(range(steps * images))
        assert sorted(source.draw(p).index for p in range(length)) == list(range(length))


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 12])
def test_a_step_sees_the_same_samples_on_any_number_of_processes(world: int) -> None:
    source = order.EpochOrder(50, seed=7)
    for step in range(20):
        for bound in (None, 1, 2, 5):
            micro = order.divide(images_per_update=12, world=world, max_images_per_forward=bound)
            draws = [
                source.draw(p)
                for rank in range(world)
                for k in range(micro)
                for p in order.positions(step, k, order.Share(12, world, rank, micro))
            ]
            assert draws == [source.draw(p) for p in range(step * 12, (step + 1) * 12)]


def test_unequal_shares_are_refused_with_the_key_to_change() -> None:
    with pytest.raises(ValueError, match=r"train\.images_per_update is 10, which 4 processes"):
        order.divide(images_per_update=10, world=4, max_images_per_forward=None)


def test_micro_batches_are_the_fewest_equal_ones_within_the_bound() -> None:
    assert order.divide(images_per_update=12, world=1, max_images_per_forward=5) == 3
    assert order.divide(images_per_update=14, world=2, max_images_per_forward=6) == 7
    assert order.divide(images_per_update=12, world=2, max_images_per_forward=100) == 1


def test_draw_seeds_differ_between_samples_and_epochs() -> None:
    source = order.EpochOrder(500, seed=0)
    seeds = {source.draw(p).seed for p in range(5000)}
    assert len(seeds) == 5000


def test_evaluation_slices_cover_every_sample_once() -> None:
    for length in range(40):
        for world in range(1, 9):
            slices = [order.evaluation_slice(length, world=world, rank=r) for r in range(world)]
            assert [i for part in slices for i in part] == list(range(length))
            assert max(map(len, slices)) - min(map(len, slices)) <= 1


def test_an_epoch_ends_at_the_step_that_consumes_its_last_sample() -> None:
    assert order.steps_until_epoch(1, length=100, images_per_update=16) == 7
    assert order.steps_until_epoch(2, length=100, images_per_update=16) == 13
    assert order.steps_until_epoch(0.5, length=100, images_per_update=10) == 5
