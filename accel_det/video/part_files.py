"""Files that grow frame by frame, and have their name once they are closed: until then they are written beside, as `.part`."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq


def beside(file: Path) -> Path:
    """The name until a file is whole; with the suffix at its end, by which OpenCV knows the container. Its folder is made."""
    file.parent.mkdir(parents=True, exist_ok=True)
    return file.with_name(f".{file.stem}.part{file.suffix}")


class TextFile:
    """Text, in UTF-8, as it is given."""

    def __init__(self, file: Path) -> None:
        self._file, self._beside = file, beside(file)
        self._stream: IO[str] = self._beside.open("w", encoding="utf-8", newline="")

    def write(self, text: str) -> None:
        self._stream.write(text)

    def close(self) -> None:
        self._stream.close()
        self._beside.replace(self._file)


class TableFile:
    """Rows of a parquet file; so many are in memory at most.

    Args:
        rows_at_once: of a row group.
    """

    def __init__(self, file: Path, schema: pa.Schema, *, rows_at_once: int) -> None:
        self._file, self._beside = file, beside(file)
        self._schema, self._rows_at_once = schema, rows_at_once
        self._writer = pq.ParquetWriter(self._beside, schema)
        self._rows: list[dict[str, object]] = []

    def write(self, rows: Sequence[dict[str, object]]) -> None:
        self._rows += rows
        if len(self._rows) >= self._rows_at_once:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()
        self._beside.replace(self._file)

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []
