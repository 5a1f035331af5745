"""What the readers share about the `parameters` of a set."""


def whole_number(value: float | str, *, least: int, where: str) -> int:
    """A parameter that counts something.

    Args:
        least: the smallest value that it may have.
        where: the set and the parameter, for the message.

    Raises:
        ValueError: it is of another type, as true or 3.0, or too small.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{where}: {value!r} is not a whole number >= {least}")
    return value
