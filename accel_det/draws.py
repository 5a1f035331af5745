"""Seeds for random draws, as pure functions of what a draw is about."""

_MASK = (1 << 64) - 1


def mix(*numbers: int) -> int:
    """Hash integers to 63 well-mixed bits; the order of the arguments matters.

    Source: the finaliser of SplitMix64 (Steele, Lea, Flood, 2014), chained. Written out, so that it is the same on every
    platform and in every version of every library.
    """
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = _finalise((state ^ (number & _MASK)) + 0x9E3779B97F4A7C15)
    return state >> 1


def _finalise(value: int) -> int:
    value &= _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
