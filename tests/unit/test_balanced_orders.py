"""Rare classes get more turns, as the papers say, and still everything is a function of (seed, epoch, offset)."""

import random
import time
from collections import Counter

import numpy as np
import pytest

from accel_det.data.balance import ClassBalanced, Ints, Weighted, image_weights
from accel_det.data.order import EpochOrder, Share, positions


def scene(rng: random.Random, *, num_images: int, num_classes: int) -> tuple[Ints, Ints]:
    """Objects of some images: class 0 is in most of them, the last class in few; some images have none."""
    pairs = [
        (image, label)
        for image in range(num_images)
        for label in range(num_classes)
        for _ in range(rng.randint(1, 3))
        if rng.random() < 0.8 / (label + 1) ** 2
    ]
    rng.shuffle(pairs)
    columns = np.array(pairs, np.int64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


def epoch_of(turns: ClassBalanced | Weighted, epoch: int) -> list[int]:
    return [turns.index(epoch, offset) for offset in range(turns.length)]


def test_an_epoch_has_as_many_turns_of_each_class_as_its_most_frequent_class_has_images() -> None:
    """By hand: class 0 is in images 0 to 4, class 1 in 4 and 5, class 7 in 6; images 7 and 8 have no objects."""
    images = np.array([0, 1, 2, 3, 4, 4, 4, 5, 6])
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 7])
    turns = ClassBalanced(images, labels, num_images=9, seed=0)
    assert turns.length == 3 * 5 + 2
    for epoch in range(50):
        counts = Counter(epoch_of(turns, epoch))
        # 5 turns of class 1 are 2 or 3 for image 5 and for image 4, which has one of class 0 as well.
        assert [counts[i] for i in (0, 1, 2, 3, 6, 7, 8)] == [1, 1, 1, 1, 5, 1, 1]
        assert {counts[5], counts[4] - 1} == {2, 3}


def test_images_of_a_class_have_equal_turns_within_one_in_200_random_scenes() -> None:
    rng = random.Random(0)
    for seed in range(200):
        num_images, num_classes = rng.randint(1, 40), rng.randint(1, 6)
        images, labels = scene(rng, num_images=num_images, num_classes=num_classes)
        turns = ClassBalanced(images, labels, num_images=num_images, seed=seed)
        members = {label: {i for i, k in zip(images, labels, strict=True) if k == label} for label in set(labels)}
        longest = max(map(len, members.values()), default=0)
        empty = set(range(num_images)) - set(images.tolist())
        assert turns.length == longest * len(members) + len(empty)
        counts = Counter(epoch_of(turns, rng.randint(0, 5)))
        assert set(counts) == set(range(num_images))
        for image in range(num_images):
            shares = [longest / len(group) for group in members.values() if image in group]
            low, high = sum(map(np.floor, shares)), sum(map(np.ceil, shares))
            assert low <= counts[image] <= high if shares else counts[image] == 1


def test_every_round_of_turns_holds_each_class_once() -> None:
    # One class per image, so that an image tells its class; no image is empty.
    labels = np.repeat(np.arange(4), [40, 13, 3, 1])
    turns = ClassBalanced(np.arange(57), labels, num_images=57, seed=3)
    seen = labels[epoch_of(turns, 2)].reshape(-1, 4)
    assert seen.shape == (40, 4)
    assert (np.sort(seen, axis=1) == np.arange(4)).all()
    assert len({tuple(order) for order in seen.tolist()}) > 10, "the classes come in one order only"


def test_empty_images_are_spread_over_the_epoch() -> None:
    turns = ClassBalanced(np.arange(90), np.zeros(90, np.int64), num_images=100, seed=0)
    epoch = epoch_of(turns, 0)
    assert [sum(image >= 90 for image in epoch[k : k + 10]) for k in range(0, 100, 10)] == [1] * 10


def test_without_any_object_every_image_has_one_turn() -> None:
    nothing = np.zeros(0, np.int64)
    turns = ClassBalanced(nothing, nothing, num_images=5, seed=0)
    assert sorted(epoch_of(turns, 1)) == list(range(5))
    assert image_weights(nothing, nothing, num_images=5, num_classes=2).tolist() == [0.2] * 5


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    images, labels = scene(random.Random(1), num_images=30, num_classes=3)
    build = [ClassBalanced(images, labels, num_images=30, seed=seed) for seed in (0, 0, 1)]
    assert epoch_of(build[0], 0) == epoch_of(build[1], 0)
    assert epoch_of(build[0], 0) != epoch_of(build[0], 1)
    assert epoch_of(build[0], 0) != epoch_of(build[2], 0)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("kind", ["class_balanced", "weighted"])
def test_draws_of_one_image_differ_and_any_world_sees_the_same_sequence(kind: str, world: int) -> None:
    images, labels = scene(random.Random(2), num_images=20, num_classes=4)
    weights = image_weights(images, labels, num_images=20, num_classes=4)
    balanced = ClassBalanced(images, labels, num_images=20, seed=9)
    turns = balanced if kind == "class_balanced" else Weighted(weights, seed=9)
    order = EpochOrder(20, seed=9, turns=turns)
    whole = [order.draw(p) for p in range(12 * 30)]
    assert len({draw.seed for draw in whole}) == len(whole)
    assert max(Counter((d.epoch, d.index) for d in whole).values()) > 1, "no image repeats: the test shows nothing"
    again = EpochOrder(20, seed=9, turns=turns)
    for step in reversed(range(30)):  # a resume starts anywhere
        shares = [Share(12, world, rank, 1) for rank in range(world)]
        together = [draw for share in shares for draw in again.draws(step, positions(step, 0, share))]
        assert together == whole[step * 12 : (step + 1) * 12]


def test_weights_are_the_sum_of_one_over_the_frequency_of_each_object() -> None:
    """By hand: 4 objects of class 0, 1 of class 1; image 2 has none and gets the mean of the others."""
    weights = image_weights(np.array([0, 0, 0, 1, 3]), np.array([0, 0, 0, 0, 1]), num_images=4, num_classes=2)
    plain = np.array([0.75, 0.25, 2 / 3, 1.0])
    assert weights == pytest.approx(plain / plain.sum())


def test_images_are_drawn_as_often_as_their_weights_say() -> None:
    weights = np.array([1.0, 2, 3, 4, 0, 10])
    turns = Weighted(weights, seed=4)
    assert turns.length == 6
    counts = np.zeros(6)
    for epoch in range(3000):
        np.add.at(counts, epoch_of(turns, epoch), 1)
    expected = weights / weights.sum() * 18_000
    assert counts[4] == 0
    # chi-square with 4 degrees of freedom: 18.5 is the 0.999 quantile.
    assert (((counts - expected) ** 2)[expected > 0] / expected[expected > 0]).sum() < 18.5


def test_an_epoch_of_100_000_images_is_prepared_in_well_under_a_second() -> None:
    """80 classes of very unequal size: written out, an epoch would have millions of turns."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 100_000, 300_000), rng.zipf(1.3, 300_000) % 80
    began = time.perf_counter()
    turns = ClassBalanced(images, labels, num_images=100_000, seed=0)
    first = turns.index(0, 0)
    assert time.perf_counter() - began < 2, "measured: 0.1 s"
    assert turns.length > 2_000_000
    assert 0 <= first < 100_000
