"""Batches on their way from a worker to the trainer.

A tensor that a worker sends becomes shared memory of its own: a file, a message over a socket and a mapping for each. The boxes,
labels and flags of 16 images are 64 tensors of a few bytes, for which the trainer waited longer than for the images. So what is
small travels by value, as arrays in the message itself.
"""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

ContentT = TypeVar("ContentT")

_SMALL_BYTES = 1 << 15


class Parcel(Generic[ContentT]):
    """Something that holds tensors: in tuples, named tuples and lists."""

    def __init__(self, content: ContentT) -> None:
        self._content = _mapped(content, _by_value)

    def open(self) -> ContentT:
        """What was put in."""
        content: ContentT = _mapped(self._content, _as_tensor)
        return content

    def pin_memory(self) -> "Parcel[ContentT]":
        """The same in page-locked memory; the loader's thread for that calls it."""
        self._content = _mapped(self._content, lambda value: _pinned(_as_tensor(value)))
        return self


class _ByValue(NamedTuple):
    array: np.ndarray


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, _ByValue):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(part, change) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(_mapped(part, change) for part in value)
    return change(value)


def _by_value(value: Any) -> Any:
    if isinstance(value, Tensor) and value.nbytes <= _SMALL_BYTES:
        return _ByValue(value.numpy())
    return value


def _as_tensor(value: Any) -> Any:
    return torch.from_numpy(value.array) if isinstance(value, _ByValue) else value


def _pinned(value: Any) -> Any:
    return value.pin_memory() if isinstance(value, Tensor) else value
