"""MATLAB's files of level 5: the numbers, texts and cells of named variables.

scipy's reader ends the whole process on some damaged files, and hangs on others; this one stays within the bytes it was given.

Source: MathWorks, MAT-File Format, R2019b, chapter 1. Structures, objects, sparse and complex arrays are not read.
"""

import math
import struct
import zlib
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_det.data.lines import one_line

Value = str | NDArray[Any]
"""A text of one line; or numbers, or cells as an array of objects, in the shape that MATLAB gives them."""

_HEADER_BYTES = 128
_LEVEL_5, _LEVEL_7_3 = 1, 2
_MOST_INFLATED_BYTES = 2**31
_MOST_DEPTH = 8
_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_ENCODINGS = {2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_CELL, _CHAR, _FIRST_NUMERIC, _LAST_NUMERIC = 1, 4, 6, 15
_COMPLEX = 0x800


class _Element(NamedTuple):
    """A typed piece of the file."""

    kind: int
    data: memoryview


class _Array(NamedTuple):
    """A variable, or a cell of one; its contents are still bytes."""

    array_class: int
    is_complex: bool
    shape: tuple[int, ...]
    name: str
    contents: Iterator[_Element]


def read_matlab_file(file: Path, names: Collection[str]) -> dict[str, Value]:
    """The variables of these names that a file has.

    Raises:
        ValueError: it cannot be read, is damaged or of another level, or one of these variables is of a kind that is not read.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ValueError(f"{error.strerror}: {file.name}") from None
    order = _byte_order(data[:_HEADER_BYTES])
    found: dict[str, Value] = {}
    for element in _elements(memoryview(data)[_HEADER_BYTES:], order):
        (matrix,) = _elements(_inflated(element.data), order) if element.kind == _COMPRESSED else (element,)
        array = _open_array(matrix, order)
        if array.name in found:
            raise ValueError(f"the variable {array.name} is there twice")
        if array.name in names:
            found[array.name] = _value(array, order, depth=0)
    return found


def _byte_order(header: bytes) -> str:
    """struct's sign of the order of bytes."""
    order = {b"IM": "<", b"MI": ">"}.get(header[-2:], "")
    if len(header) < _HEADER_BYTES or not order:
        raise ValueError("no MATLAB file of level 5")
    level = struct.unpack(f"{order}H", header[124:126])[0] >> 8
    if level == _LEVEL_7_3:
        raise ValueError("of MATLAB 7.3; save it with -v7")
    if level != _LEVEL_5:
        raise ValueError(f"of level {level}; expected level 5, which MATLAB's -v7 writes")
    return order


def _elements(data: memoryview, order: str) -> Iterator[_Element]:
    """The elements that bytes consist of: kind and length, then the data, up to the next multiple of 8 bytes."""
    position = 0
    while position < len(data):
        if position + 8 > len(data):
            raise ValueError(f"ends within the head of an element, {len(data) - position} bytes before its data")
        kind, length = struct.unpack_from(f"{order}II", data, position)
        start, step = position + 8, 8 + length
        if kind >> 16:  # the short form: up to four bytes of data beside a kind and a length of 16 bits
            kind, length = kind & 0xFFFF, kind >> 16
            start, step = position + 4, 8
        if start + length > len(data) or (step == 8 and length > 4):
            raise ValueError(f"an element of {length} bytes where {len(data) - start} are left")
        yield _Element(kind, data[start : start + length])
        position += step if kind == _COMPRESSED else -(-step // 8) * 8


def _inflated(data: memoryview) -> memoryview:
    inflator = zlib.decompressobj()
    try:
        found = inflator.decompress(data, _MOST_INFLATED_BYTES)
    except zlib.error as error:
        raise ValueError(f"compressed data are damaged: {error}") from None
    if not inflator.eof:
        raise ValueError(f"compressed data are cut off, or hold more than {_MOST_INFLATED_BYTES} bytes")
    return memoryview(found)


def _open_array(element: _Element, order: str) -> _Array:
    """What the first three elements of an array tell: class, shape and name."""
    if element.kind != _MATRIX:
        raise ValueError(f"an element of kind {element.kind} where an array belongs")
    parts = _elements(element.data, order)
    head = list(islice(parts, 3))
    if len(head) < 3:
        raise ValueError("an array without class, shape and name")
    flags, shape, name = head
    bits = _numbers(flags, order)
    sides = _numbers(shape, order)
    if bits.dtype.kind != "u" or not bits.size or sides.dtype.kind != "i" or sides.size < 2 or sides.min() < 0:
        raise ValueError("an array whose class or shape is damaged")
    first = int(bits[0])
    return _Array(
        first & 0xFF, bool(first & _COMPLEX), tuple(sides.tolist()), bytes(name.data).decode("latin-1"), parts
    )


def _numbers(element: _Element, order: str) -> NDArray[Any]:
    kind = _NUMBERS.get(element.kind)
    if kind is None:
        raise ValueError(f"data of kind {element.kind} where numbers belong")
    dtype = np.dtype(order + kind)
    if len(element.data) % dtype.itemsize:
        raise ValueError(f"{len(element.data)} bytes of numbers of {dtype.itemsize} bytes each")
    return np.frombuffer(element.data, dtype).astype(kind)


def _value(array: _Array, order: str, *, depth: int) -> Value:
    if array.array_class == _CELL:
        return _cells(array, order, depth=depth)
    if not (array.array_class == _CHAR or _FIRST_NUMERIC <= array.array_class <= _LAST_NUMERIC) or array.is_complex:
        raise ValueError(
            f"{_shown(array)} is of class {array.array_class}; expected real numbers, texts or cells of them"
        )
    element = next(array.contents, _Element(1, memoryview(b"")))
    if array.array_class == _CHAR:
        return _text(array, element, order)
    numbers = _numbers(element, order)
    if numbers.size != math.prod(array.shape):
        raise ValueError(f"{_shown(array)} has {numbers.size} numbers, expected the shape {array.shape}")
    return numbers.reshape(array.shape, order="F")


def _cells(array: _Array, order: str, *, depth: int) -> NDArray[Any]:
    if depth == _MOST_DEPTH:
        raise ValueError(f"cells are nested more than {_MOST_DEPTH} levels deep")
    values: list[Value] = []
    for element in array.contents:
        # An empty cell is an array of no bytes at all.
        inner = _open_array(element, order) if len(element.data) else None
        values.append(np.empty((0, 0)) if inner is None else _value(inner, order, depth=depth + 1))
    if len(values) != math.prod(array.shape):
        raise ValueError(f"{_shown(array)} has {len(values)} cells, expected the shape {array.shape}")
    cells = np.empty(len(values), object)
    cells[:] = values
    return cells.reshape(array.shape, order="F")


def _text(array: _Array, element: _Element, order: str) -> str:
    encoding = _ENCODINGS.get(element.kind)
    if encoding is None or math.prod(array.shape[:-1]) > 1:
        raise ValueError(f"{_shown(array)} of the shape {array.shape} is no text of one line")
    wide = {"<": "-le", ">": "-be"}[order] if encoding in ("utf-16", "utf-32") else ""
    return bytes(element.data).decode(encoding + wide)


def _shown(array: _Array) -> str:
    return one_line(repr(array.name), most=80) if array.name else "a cell"
