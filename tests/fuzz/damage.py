"""Seeded damage: bytes that were valid, changed in one to three places.

Every mutation is a function of the bytes and of a random generator. Those that know a structure (JSON, XML, fields of texts)
fall back to bytes where there is none.
"""

import json
import re
import zlib
from collections.abc import Callable, Sequence
from random import Random
from typing import Any
from xml.etree import ElementTree

Mutation = Callable[[bytes, Random], bytes]

NUMBERS = (
    *(
        "",
        "-1",
        "0",
        "-0.0",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e308",
        "-1e308",
        "1e30",
        "1e-320",
        "0.5",
        "2",
        "39.999",
        "40",
    ),
    *(
        "9" * 25,
        "9" * 400,
        "9" * 5000,
        "0x10",
        "1_000",
        "1,5",
        "1.5.2",
        "+-1",
        "\uff11",
        "\u00b2",
        "\u0663",
        "1e",
        "true",
    ),
)
TEXTS = (
    *("null", "../../x", "/etc/passwd", "a.png", "A.PNG", "\0", "\u2028", "\u202e", "\ufeff", "\xa0", "\t", "\r", "\r\n\r\n"),
    *('"', "'", '"""', "\\", "\\ud800", "%s", "{}", "${HOME}", "${X", "&amp;", "&b;", "<a>", "]]>", "<!--", "*a", "&a x", "---"),
    *("- ", ": ", "? ", "!!python/name:os.system x", "!!binary x", "!!timestamp x", "#", "[", "]", "{", "}", "x" * 5000),
    *("<!DOCTYPE a [<!ENTITY b 'c'>]>", "<?xml version='1.0' encoding='utf-16'?>", "\U0001f600", "e\u0301", "cat", "[" * 500),
)  # fmt: skip
TOKENS = [text.encode() for text in (*NUMBERS, *TEXTS)] + [b"\xff", b"\xed\xa0\x80", b"\xc3", b"\xff\xfe", b"\xe2\x80"]
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 7, 2**31, 2**63, 2**64, 10**400, 0.5, -0.0, 1e30, 1e308, 5e-324, float("nan"), float("inf")),
    *("", "x", "7", "1,5", "a.png", "../x", "\0", "\u2028", "\ud800", "x" * 3000, [], {}, [[]], [1, 2], [1, 2, 3, 4], {"a": 1}),
)  # fmt: skip
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_FIELD = re.compile(rb"[^\s,;:<>\"'{}\[\]()=/]+")
_MOST_BYTES = 200_000


def flip(data: bytes, rng: Random) -> bytes:
    """One byte becomes another."""
    position = rng.randrange(len(data) or 1)
    return data[:position] + bytes([rng.randrange(256)]) + data[position + 1 :]


def flip_bit(data: bytes, rng: Random) -> bytes:
    position = rng.randrange(len(data) or 1)
    changed = bytes([data[position] ^ (1 << rng.randrange(8))]) if data else b""
    return data[:position] + changed + data[position + 1 :]


def cut(data: bytes, rng: Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def drop(data: bytes, rng: Random) -> bytes:
    """A stretch is missing."""
    start, stop = _stretch(data, rng)
    return data[:start] + data[stop:]


def repeat(data: bytes, rng: Random) -> bytes:
    """A stretch is there twice, or many times."""
    start, stop = _stretch(data, rng)
    return data[:stop] + data[start:stop] * rng.choice((1, 1, 2, 20)) + data[stop:]


def insert(data: bytes, rng: Random) -> bytes:
    """A token that is known to cause trouble."""
    position = rng.randrange(len(data) + 1)
    return data[:position] + rng.choice(TOKENS) + data[position:]


def overwrite_number(data: bytes, rng: Random) -> bytes:
    """A binary number at a multiple of four becomes a small, a large or a negative one."""
    position = rng.randrange(len(data) // 4 + 1) * 4
    value = rng.choice((0, 1, 255, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF))
    return data[:position] + value.to_bytes(4, rng.choice(("little", "big"))) + data[position + 4 :]


def replace_field(data: bytes, rng: Random) -> bytes:
    """What stands between two marks of a text becomes something else."""
    fields = list(_FIELD.finditer(data[:_MOST_BYTES]))
    if not fields:
        return insert(data, rng)
    field = rng.choice(fields)
    return data[: field.start()] + rng.choice(TOKENS) + data[field.end() :]


def change_lines(data: bytes, rng: Random) -> bytes:
    """A line is missing, twice, elsewhere, or empty."""
    lines = data.split(b"\n")
    position, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(4)
    if kind == 0:
        del lines[position]
    elif kind == 1:
        lines.insert(other, lines[position])
    elif kind == 2:
        lines[position], lines[other] = lines[other], lines[position]
    else:
        lines[position] = b""
    return b"\n".join(lines)


def change_json(data: bytes, rng: Random) -> bytes:
    """A value of a document, or of one of its lines, is another, missing, or there twice."""
    lines = data.split(b"\n") if b"\n" in data.strip() else [data]
    position = rng.randrange(len(lines))
    try:
        document = json.loads(lines[position])
    except (ValueError, RecursionError):
        return replace_field(data, rng)
    holder = [document]
    place: Any = holder
    key: Any = 0
    while isinstance(place[key], (dict, list)) and place[key] and rng.random() < 0.85:
        place = place[key]
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
    kind = rng.randrange(4)
    if kind == 0 and place is not holder:
        del place[key]
    elif kind == 1 and isinstance(place, list):
        place.append(place[key])
    elif kind == 2 and isinstance(place, dict):
        place[rng.choice(("id", "bbox", "x", ""))] = place.pop(key)
    else:
        place[key] = rng.choice(VALUES)
    lines[position] = json.dumps(holder[0]).encode()
    return b"\n".join(lines)


def change_xml(data: bytes, rng: Random) -> bytes:
    """An element or an attribute is another, missing, or there twice."""
    try:
        root = ElementTree.fromstring(data)  # of what this file damaged itself; readers refuse entities
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError):
        return replace_field(data, rng)
    parent = rng.choice(list(root.iter()))
    kind = rng.randrange(5)
    if kind == 0 and len(parent):
        parent.remove(rng.choice(list(parent)))
    elif kind == 1 and len(parent):
        parent.append(rng.choice(list(parent)))
    elif kind == 2 and parent.attrib:
        parent.attrib[rng.choice(list(parent.attrib))] = rng.choice(NUMBERS)
    elif kind == 3:
        parent.tag = rng.choice([element.tag for element in root.iter()])
    else:
        parent.text = rng.choice(NUMBERS)
    return ElementTree.tostring(root, "utf-8")


def change_png(data: bytes, rng: Random) -> bytes:
    """A byte of a chunk of a PNG is another, and the check sum is that of what is there then: else nothing gets far."""
    starts, position = [], len(_PNG_SIGNATURE)
    while data.startswith(_PNG_SIGNATURE) and position + 12 <= len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        if position + 12 + length <= len(data):
            starts.append((position + 4, position + 8 + length))
        position += 12 + length
    if not starts:
        return flip(data, rng)
    start, stop = rng.choice(starts)
    content = flip(data[start:stop], rng)
    return data[:start] + content + zlib.crc32(content).to_bytes(4, "big") + data[stop + 4 :]


BYTES: Sequence[Mutation] = (flip, flip_bit, cut, drop, repeat, insert, overwrite_number)
TEXT: Sequence[Mutation] = (flip, cut, drop, repeat, insert, replace_field, replace_field, replace_field, change_lines)
PNG: Sequence[Mutation] = (*BYTES, *[change_png] * 10)
JSON: Sequence[Mutation] = (*TEXT, *[change_json] * 6)
XML: Sequence[Mutation] = (*TEXT, *[change_xml] * 6)


def damaged(data: bytes, mutations: Sequence[Mutation], rng: Random) -> bytes:
    """The bytes, changed by one to three of the mutations."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(mutations)(data, rng)[:_MOST_BYTES]
    return data


def _stretch(data: bytes, rng: Random) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 2, 4, 16, 100)))
