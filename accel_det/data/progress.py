"""A bar of progress on stderr, for what takes long before a run begins."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from datasets.utils import tqdm

ThingT = TypeVar("ThingT")


def shown(things: Iterable[ThingT], *, total: int, what: str) -> Iterator[ThingT]:
    """The things, and a bar once that takes three seconds."""
    return iter(tqdm(things, total=total, desc=what, delay=3))
