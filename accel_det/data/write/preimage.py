"""Numbers to write for boxes in formats that store others than the box's own: shares of the image, centers.

A reader computes with what is written, and rounding would move boxes by the last bit. So of the neighboring numbers those
are written from which it gets exactly the box, where there are such: for a box that was read from the same format, and for
most others. The rest come back within a few units in the last place.

Letters: A objects.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from accel_det.data.formats.raw import Floats

_STEPS = (0, 1, -1, 2, -2, 3, -3, 4, -4)


class Span(NamedTuple):
    """Where boxes lie along one axis, in pixels: (A,) start and length."""

    start: Floats
    length: Floats


Reading = Callable[[Floats, Floats, Floats], Span]
"""How a format turns two written numbers into a span, given its unit in pixels."""


def centers(span: Span, side: Floats, *, relative: bool) -> tuple[Floats, Floats]:
    """(A,) center and length, in shares of the side of the image where `relative`, else in pixels."""
    unit = side if relative else np.ones_like(side)

    def read(center: Floats, length: Floats, unit: Floats) -> Span:
        return Span((center - length / 2) * unit, length * unit)

    length = span.length / unit
    return _exact(span, (span.start / unit + length / 2, length), side, unit=unit, read=read)


def edges(span: Span, side: Floats) -> tuple[Floats, Floats]:
    """(A,) start and end, in shares of the side of the image."""

    def read(start: Floats, end: Floats, unit: Floats) -> Span:
        return Span(start * unit, (end - start) * unit)

    return _exact(span, (span.start / side, (span.start + span.length) / side), side, unit=side, read=read)


def _exact(
    span: Span, guess: tuple[Floats, Floats], side: Floats, *, unit: Floats, read: Reading
) -> tuple[Floats, Floats]:
    """Of the numbers a few steps from the guess, the first two that are read as the span; else the guess."""
    first, second = guess[0].copy(), guess[1].copy()
    left = np.arange(len(first))
    for to_second in _STEPS:
        for to_first in _STEPS:
            if not len(left):
                return first, second
            tried = _stepped(guess[0][left], to_first), _stepped(guess[1][left], to_second)
            found = _cut(read(*tried, unit[left]), side[left])
            hit = (found.start == span.start[left]) & (found.length == span.length[left])
            first[left[hit]], second[left[hit]] = tried[0][hit], tried[1][hit]
            left = left[~hit]
    return first, second


def _stepped(values: Floats, steps: int) -> Floats:
    stepped: Floats = values + steps * np.spacing(values)
    return stepped


def _cut(span: Span, side: Floats) -> Span:
    """As judging the boxes leaves them: clipped to the image, by their corners."""
    start, end = np.clip(span.start, 0, side), np.clip(span.start + span.length, 0, side)
    return Span(start, end - start)
