"""Tables that have been drawn before, in the user's cache folder."""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path

import datasets
import numpy as np
import PIL
import pyarrow as pa

_DIGEST_BYTES = 32
# A process waits so long for another one that draws the same table; then it draws too.
_PATIENCE_S = 300.0


def cached(
    parameters: Mapping[str, int | float | str], draw: Callable[[], pa.Table], *, features: datasets.Features
) -> datasets.Dataset:
    """The table of these parameters, drawn if no whole file of it is in the cache.

    A file is an Arrow stream followed by its sha256, so that a damaged one is noticed, and drawn again. Processes that
    ask for the same table at once wait for the first of them. A folder that cannot be written costs only time.

    Args:
        parameters: what the table is a function of, beside the drawing code, whose digest is added here.
    """
    key = _key(parameters)
    path = cache_folder() / f"{key}.arrow"
    table = _read(path)
    if table is None:
        with _locked(path.with_suffix(".lock")):
            table = _read(path)
            if table is None:
                table = draw()
                _write(path, table)
    # The fingerprint is given, or `datasets` would read the whole table to make one.
    return datasets.Dataset(table, info=datasets.DatasetInfo(features=features), fingerprint=key[:16])


def cache_folder() -> Path:
    """Where the tables are: below $XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "accel_det" / "street"


def _key(parameters: Mapping[str, int | float | str]) -> str:
    """sha256 over the parameters, the sources of this package, and the libraries that make the pixels."""
    digest = hashlib.sha256(json.dumps(dict(parameters), sort_keys=True).encode())
    digest.update(f"Pillow {PIL.__version__}, numpy {np.__version__}".encode())
    package = resources.files("accel_det.data.street")
    for source in sorted((item for item in package.iterdir() if item.name.endswith(".py")), key=lambda item: item.name):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:32]


def _read(path: Path) -> pa.Table | None:
    """The table of a file; None where there is no whole one."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    body = memoryview(data)[:-_DIGEST_BYTES]
    if hashlib.sha256(body).digest() != data[-_DIGEST_BYTES:]:
        return None
    return pa.ipc.open_stream(pa.py_buffer(body)).read_all()


def _write(path: Path, table: pa.Table) -> None:
    """Beside, then renamed into place: a reader sees a whole file or none."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body = sink.getvalue()
    beside = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(body)
            file.write(hashlib.sha256(body).digest())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()


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
