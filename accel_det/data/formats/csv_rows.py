"""The rows of files of comma-separated values."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from accel_det.data.defects import Findings

_DELIMITERS = ",;\t"
_QUOTED = re.compile(r'"[^"]*"')


class CsvRow(NamedTuple):
    """The fields of a row, and the number of its line, from 1."""

    line: int
    fields: list[str]


def csv_rows(path: Path, *, findings: Findings) -> Iterator[CsvRow]:
    """Every row that is not empty. Values are divided by what the first line has most of: comma, semicolon or tab.

    Where the file cannot be read any further, that is noted and the rows end.
    """
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = _QUOTED.sub("", file.readline())
            file.seek(0)
            reader = csv.reader(_texts(file), delimiter=max(_DELIMITERS, key=first.count), strict=True)
            for fields in reader:
                line = reader.line_num
                if any(field.strip() for field in fields):
                    yield CsvRow(line, fields)
    except (OSError, UnicodeError, csv.Error) as error:
        where = f"after line {line}" if line else ""
        findings.add("malformed_file", file=str(path), record=where, value=f"no CSV: {error}")


def _texts(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if "\0" in line:
            raise csv.Error("a NUL byte, which no text has")
        yield line


def repeated_column(fields: list[str]) -> str:
    """The first name that two columns of a header have, or "": which of them is meant could not be told."""
    counts = Counter(field.strip().lower().replace(" ", "_") for field in fields)
    return next((name for name, count in counts.items() if name and count > 1), "")


def column_names(fields: list[str]) -> dict[str, int]:
    """Position of every column of a header, by its name in lower case with `_` for spaces."""
    names: dict[str, int] = {}
    for position, field in enumerate(fields):
        names.setdefault(field.strip().lower().replace(" ", "_"), position)
    return names
