"""Tables that have been drawn, cut or gathered before, in the user's cache folder."""

import contextlib
import hashlib
import inspect
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import PIL
import pyarrow as pa

_DIGEST_BYTES = 32
# A process waits so long for another one that draws the same table; then it draws too.
_PATIENCE_S = 300.0


def cached(
    parameters: Mapping[str, int | float | str],
    draw: Callable[[], pa.Table],
    *,
    features: datasets.Features,
    code: Sequence[Path],
    folder: str,
) -> datasets.Dataset:
    """The table of these parameters as a data set; see `cached_table`."""
    table = cached_table(parameters, draw, code=code, folder=folder)
    # The fingerprint is given, or `datasets` would read the whole table to make one.
    fingerprint = _key(parameters, code)[:16]
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=features), fingerprint=fingerprint)


def cached_table(
    parameters: Mapping[str, int | float | str], draw: Callable[[], pa.Table], *, code: Sequence[Path], folder: str
) -> pa.Table:
    """The table of these parameters, drawn if no whole file of it is in the cache.

    A file is an Arrow stream followed by its sha256, so that a damaged one is noticed, and drawn again. It is mapped into
    memory: processes that read it share its pages. Processes that ask for the same table at once wait for the first of them.
    A folder that cannot be written costs only time.

    Args:
        parameters: what the table is a function of, beside the code.
        code: the sources that draw it, always in the same order.
        folder: of the cache, for tables of this kind.
    """
    path = cache_folder(folder) / f"{_key(parameters, code)}.arrow"
    table = _read(path)
    if table is None:
        with _locked(path.with_suffix(".lock")):
            table = _read(path)
            if table is None:
                table = draw()
                _write(path, table)
                written = _read(path)
                table = (
                    table if written is None else written
                )  # pages of the file take the place of memory of this process
    return table


def source_of(part: Callable[..., object]) -> Path:
    """The file in which a function is written."""
    return Path(inspect.getfile(part))


def cache_folder(folder: str) -> Path:
    """Where tables of a kind are: below $XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "accel_det" / folder


def _key(parameters: Mapping[str, int | float | str], code: Sequence[Path]) -> str:
    """sha256 over the parameters, the libraries that make the pixels, and the sources."""
    digest = hashlib.sha256(json.dumps(dict(parameters), sort_keys=True).encode())
    digest.update(f"Pillow {PIL.__version__}, numpy {np.__version__}".encode())
    for source in code:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:32]


def _read(path: Path) -> pa.Table | None:
    """The table of a file, as views of its pages; None where there is no whole one."""
    try:
        with pa.memory_map(str(path)) as file:
            data = file.read_buffer()
    except OSError:
        return None
    if data.size <= _DIGEST_BYTES:
        return None
    body = data.slice(0, data.size - _DIGEST_BYTES)
    if hashlib.sha256(body).digest() != data[-_DIGEST_BYTES:].to_pybytes():
        return None
    return pa.ipc.open_stream(body).read_all()


def _write(path: Path, table: pa.Table) -> None:
    """Beside, then renamed into place: a reader sees a whole file or none."""
    beside = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            hashed = _Hashed(file)
            with pa.ipc.new_stream(pa.PythonFile(hashed, "w"), table.schema) as writer:
                writer.write_table(table)
            file.write(hashed.digest())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()


class _Hashed(io.RawIOBase):
    """Hashes what is written to a file on its way."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()

    def write(self, data: Any) -> int:
        self._sha256.update(data)
        return self._file.write(data)

    def writable(self) -> bool:
        return True

    def digest(self) -> bytes:
        return self._sha256.digest()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the lock file, which the system releases if this process dies; goes on without where there is none."""
    try:
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
    except (ImportError, OSError):
        yield
        return
    with file:
        give_up = time.monotonic() + _PATIENCE_S
        while time.monotonic() < give_up:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.1)
            except OSError:
                break
        yield
