"""Texts that come from elsewhere: the lines of a file, JSON that means one thing, and what fits into a message of one line."""

import json
import re
from pathlib import Path
from typing import Any

_MOST_SHOWN = 1000
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_ESCAPED_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def one_line(text: str, *, most: int | None = None) -> str:
    """A text with everything escaped that would break its line, or cannot be printed: file names may hold nearly anything.

    Args:
        most: so many of its characters are shown.
    """
    shown = text if most is None or len(text) <= most else f"{text[:most]}..."
    return _UNPRINTABLE.sub(lambda match: ascii(match[0])[1:-1], shown)


def in_one_line(error: BaseException) -> str:
    """Kind and text of another library's error, whose text may have lines."""
    return one_line(f"{type(error).__name__}: {' '.join(str(error).split())}", most=_MOST_SHOWN)


def is_unicode(text: str) -> bool:
    """Whether a text can be stored: the names of files may hold bytes that are none."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_lines(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        ValueError: it cannot be read, or is no UTF-8; the message names it.
    """
    try:
        # Not str.splitlines, which also ends a line where a text of JSON holds U+2028.
        return path.read_text("utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: cannot be read as lines of UTF-8: {in_one_line(error)}; restore it, or save it as UTF-8"
        ) from error


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says; NaN and Infinity are numbers, for it is their place that tells what is wrong.

    Raises:
        json.JSONDecodeError: it is none.
        ValueError: it is no Unicode, nested too deeply, names a key of an object twice, or has a number of thousands of digits.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode(json.detect_encoding(text))
        document = json.loads(decoded, object_pairs_hook=_unique)
        if _ESCAPED_SURROGATE.search(decoded):
            json.dumps(document, ensure_ascii=False).encode()
    except UnicodeError as error:
        raise ValueError(f"no Unicode: {error}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return document


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is twice in the object that begins {str(found)[:80]}")
    return found
