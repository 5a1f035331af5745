"""Labels to make groups of, and what groups hold, for the tests of their orders."""

import random
from collections import Counter
from collections.abc import Sequence


def random_labels(rng: random.Random, *, least: int) -> list[int]:
    """Identities of 1 to 30 pictures each, some much more frequent than others, in a random order, numbered with gaps."""
    names = rng.sample(range(1000), rng.randint(least, least + 12))
    labels = [name for name in names for _ in range(rng.choice((1, 2, rng.randint(1, 9), rng.randint(1, 30))))]
    rng.shuffle(labels)
    return labels


def chunks_in(epoch: list[int], K: int) -> list[list[int]]:
    return [epoch[start : start + K] for start in range(0, len(epoch), K)]


def groups_by_plain_dealing(labels: Sequence[int], *, P: int, K: int) -> int:
    """Slowly: in each round the P identities with the most chunks left give one."""
    left = [-(-number // K) for number in Counter(labels).values()]
    rounds = 0
    while any(left):
        left.sort(reverse=True)
        left = [max(0, chunks - 1) if place < P else chunks for place, chunks in enumerate(left)]
        rounds += 1
    return rounds
