"""Seeds are pure functions of what they are about, and well mixed."""

import random

import pytest

from accel_det.draws import mix

_GAMMA = 0x9E3779B97F4A7C15
_SPLITMIX64_OF_0 = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
"""The first outputs of SplitMix64 seeded with 0, from Steele, Lea and Flood's published generator."""


def splitmix64(state: int) -> int:
    """One output of the generator whose state has already been advanced."""
    mask = (1 << 64) - 1
    value = state & mask
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def test_the_finaliser_is_that_of_splitmix64() -> None:
    assert tuple(splitmix64(_GAMMA * (i + 1)) for i in range(3)) == _SPLITMIX64_OF_0
    # With one number, the state is that number xor gamma, advanced once.
    for number in (0, 1, 12345, -1, 1 << 63):
        assert mix(number) == splitmix64(((number & ((1 << 64) - 1)) ^ _GAMMA) + _GAMMA) >> 1


def test_seeds_fit_every_generator_that_takes_them() -> None:
    rng = random.Random(0)
    for _ in range(1000):
        value = mix(*(rng.randint(-(1 << 70), 1 << 70) for _ in range(rng.randint(0, 4))))
        assert 0 <= value < 1 << 63


def test_order_number_and_count_of_the_arguments_matter() -> None:
    assert len({mix(), mix(0), mix(0, 0), mix(1, 0), mix(0, 1), mix(1, 1), mix(2), mix(-1)}) == 8


def test_neighbouring_seeds_epochs_and_samples_never_meet() -> None:
    seeds = {mix(seed, epoch, sample) for seed in range(20) for epoch in range(20) for sample in range(100)}
    assert len(seeds) == 40_000


@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_changed_bit_changes_half_of_the_bits(which: int) -> None:
    rng = random.Random(which)
    flipped = 0
    trials = 2000
    for _ in range(trials):
        numbers = [rng.getrandbits(32) for _ in range(3)]
        before = mix(*numbers)
        numbers[which] ^= 1 << rng.randrange(32)
        flipped += (before ^ mix(*numbers)).bit_count()
    # 63 bits, each flipped with probability 1/2: six standard deviations of the mean are 0.53.
    assert abs(flipped / trials - 31.5) < 0.53
