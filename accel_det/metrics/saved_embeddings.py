"""Embeddings in a file, parquet or npz: what pictures look like to a network, apart from the network and the pictures.

Parquet has a row per picture: name, embedding (a list of D float32), and, where they are known, identity, camera and role; an
identity or camera of one picture that is not known is null. npz has the arrays names, embeddings (N, D) float32,
identities, cameras ("" is not known) and roles; no pickle. Both say which network embedded the pictures.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from accel_det.types import Role

FORMATS = (".parquet", ".npz")
"""The ends of names of files that hold embeddings."""

T = TypeVar("T")

_KEY = b"accel_det.embeddings"
_FORMAT_VERSION = 1
_LENGTH_TOLERANCE = 0.01
_ROLES = (Role.QUERY, Role.GALLERY, Role.BOTH)


class EmbeddingsError(ValueError):
    """A file of embeddings that cannot be written, read or trusted; the message names the file and says what to do."""


class SavedEmbeddings(NamedTuple):
    """Embedded pictures.

    Attributes:
        names: the file or record of each picture.
        embeddings: (N, D) float32 of unit length.
        identities: name of whom each picture shows, None for a distractor; None where no identity is known.
        cameras: name of the camera of each, None for one that is not known; None where none is known.
        roles: `Role` of each in an evaluation, as a number; None where there are none.
        model: the network in one line; equal lines are equal weights. Empty where it is not known.
    """

    names: Sequence[str]
    embeddings: NDArray[np.float32]
    identities: Sequence[str | None] | None = None
    cameras: Sequence[str | None] | None = None
    roles: Sequence[int] | None = None
    model: str = ""

    def keep(self, indices: Sequence[int]) -> "SavedEmbeddings":
        """Some of the pictures, in this order."""
        chosen: NDArray[np.float32] = self.embeddings[np.asarray(indices, dtype=np.int64)]
        return SavedEmbeddings(
            _picked(self.names, indices) or [],
            chosen,
            _picked(self.identities, indices),
            _picked(self.cameras, indices),
            _picked(self.roles, indices),
            self.model,
        )


def write_embeddings(file: Path, saved: SavedEmbeddings) -> None:
    """Write a file; its name decides the format; equal embeddings give equal bytes.

    Raises:
        EmbeddingsError: another format, columns that do not fit together, or the file cannot be written.
    """
    require_format(file)
    _check(saved, where=str(file))
    beside = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as stream:
            if file.suffix == ".parquet":
                pq.write_table(
                    _to_table(saved), stream, use_dictionary=["identity", "camera"], write_page_checksum=True
                )
            else:
                np.savez(stream, allow_pickle=False, **_to_arrays(saved))
        beside.replace(file)
    except OSError as error:
        raise EmbeddingsError(f"{file}: cannot be written ({error.strerror or error}); choose another place") from None


def read_embeddings(file: Path) -> SavedEmbeddings:
    """Read what `write_embeddings` wrote.

    Raises:
        EmbeddingsError: no such file, another format, damaged, or rows that make no sense.
    """
    require_format(file)
    try:
        with file.open("rb") as stream, _readable(file):
            saved = _from_table(stream, file) if file.suffix == ".parquet" else _from_arrays(stream, file)
    except FileNotFoundError:
        raise EmbeddingsError(
            f"{file}: no such file; write one with `accel-det embed RUN IMAGES --out {file}`"
        ) from None
    except OSError as error:
        raise EmbeddingsError(
            f"{file}: cannot be read ({error.strerror or error}); correct the path or write it again"
        ) from None
    _check(saved, where=str(file))
    return saved


def require_format(file: Path) -> None:
    """
    Raises:
        EmbeddingsError: the name says of no format.
    """
    if file.suffix not in FORMATS:
        raise EmbeddingsError(
            f"{file}: expected a file of embeddings, whose name ends in {' or '.join(FORMATS)}; rename it"
        )


def _check(saved: SavedEmbeddings, *, where: str) -> None:
    embeddings, count = saved.embeddings, len(saved.names)
    fits = embeddings.ndim == 2 and len(embeddings) == count and embeddings.shape[1] > 0
    if not fits or embeddings.dtype != np.float32:
        raise EmbeddingsError(
            f"{where}: embeddings are {embeddings.dtype} of shape {embeddings.shape} for {count} names, expected float32 of "
            f"shape ({count}, D); embed the pictures again"
        )
    for name, column in (("identities", saved.identities), ("cameras", saved.cameras), ("roles", saved.roles)):
        if column is not None and len(column) != count:
            raise EmbeddingsError(
                f"{where}: {len(column)} {name} for {count} names, expected one for each; embed them again"
            )
    for column in (saved.names, saved.identities or (), saved.cameras or ()):
        bad = next((text for text in column if text is not None and not (text and _is_unicode(text))), None)
        if bad is not None:
            raise EmbeddingsError(
                f"{where}: {bad!r} is no name, expected Unicode text that is not empty; rename what bears it"
            )
    wrong = next((str(role) for role in saved.roles or () if role not in _ROLES), None)
    if wrong is not None:
        raise EmbeddingsError(
            f"{where}: role {wrong}, expected 1 (query), 2 (gallery) or 3 (both); correct what wrote it"
        )
    lengths = np.linalg.norm(embeddings.astype(np.float64), axis=1)
    flawed = np.flatnonzero(~(np.abs(lengths - 1) <= _LENGTH_TOLERANCE))
    if len(flawed):
        first = int(flawed[0])
        raise EmbeddingsError(
            f"{where}: the embedding of {saved.names[first]} has length {lengths[first]:g}, expected 1; embed the pictures again"
        )


def _to_table(saved: SavedEmbeddings) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(saved.embeddings).reshape(-1), pa.float32())
    width = saved.embeddings.shape[1]
    columns: dict[str, pa.Array] = {
        "name": pa.array(saved.names, pa.string()),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, width),
    }
    for name, values in (("identity", saved.identities), ("camera", saved.cameras)):
        if values is not None:
            columns[name] = pa.array(values, pa.string())
    if saved.roles is not None:
        columns["role"] = pa.array([int(role) for role in saved.roles], pa.int8())
    facts = {"format_version": _FORMAT_VERSION, "model": saved.model, "dimension": width}
    return pa.table(columns).replace_schema_metadata({_KEY: json.dumps(facts, ensure_ascii=False).encode()})


def _from_table(stream: BinaryIO, file: Path) -> SavedEmbeddings:
    table = pq.read_table(stream, page_checksum_verification=True)
    facts = (table.schema.metadata or {}).get(_KEY)
    if facts is None:
        raise _foreign(file, f"no `{_KEY.decode()}` in its metadata")
    model = _model_of(facts, file)
    kinds = {"name": pa.types.is_string, "identity": pa.types.is_string, "camera": pa.types.is_string}
    kinds |= {"embedding": pa.types.is_fixed_size_list, "role": pa.types.is_integer}
    for name in ("name", "embedding"):
        if name not in table.column_names or table.column(name).null_count:
            raise _foreign(file, f"column {name} is missing, or has empty fields")
    for name in table.column_names:
        kind = table.schema.field(name).type
        if name in kinds and not kinds[name](kind):
            raise _foreign(file, f"column {name} is {kind}")
    vectors = table.column("embedding").combine_chunks()
    if isinstance(vectors, pa.ChunkedArray):
        vectors = pa.concat_arrays(vectors.chunks) if vectors.num_chunks else pa.array([], vectors.type)
    if vectors.type.value_type != pa.float32() or vectors.flatten().null_count:
        raise _foreign(file, f"column embedding is {vectors.type}, or has empty fields")
    embeddings = np.array(vectors.flatten()).reshape(-1, vectors.type.list_size)  # a copy that can be written to
    columns = {name: table.column(name).to_pylist() for name in table.column_names if name != "embedding"}
    return SavedEmbeddings(
        columns["name"], embeddings, columns.get("identity"), columns.get("camera"), columns.get("role"), model
    )


def _to_arrays(saved: SavedEmbeddings) -> dict[str, NDArray[Any]]:
    facts = {"format_version": _FORMAT_VERSION, "model": saved.model, "dimension": saved.embeddings.shape[1]}
    arrays: dict[str, NDArray[Any]] = {
        "about": np.array(json.dumps(facts, ensure_ascii=False)),
        "names": np.array(list(saved.names), dtype=np.str_),
        "embeddings": np.ascontiguousarray(saved.embeddings),
    }
    for name, values in (("identities", saved.identities), ("cameras", saved.cameras)):
        if values is not None:
            arrays[name] = np.array([value or "" for value in values], dtype=np.str_)
    if saved.roles is not None:
        arrays["roles"] = np.array([int(role) for role in saved.roles], dtype=np.int8)
    return arrays


def _from_arrays(stream: BinaryIO, file: Path) -> SavedEmbeddings:
    opened = np.load(stream, allow_pickle=False)
    if not isinstance(opened, Mapping):
        raise _foreign(file, "one array")
    arrays: dict[str, NDArray[Any]] = {name: opened[name] for name in opened}
    ranks = {"about": ("U", 0), "names": ("U", 1), "embeddings": ("f", 2), "identities": ("U", 1), "cameras": ("U", 1)}
    ranks |= {"roles": ("i", 1)}
    missing = [name for name in ("about", "names", "embeddings") if name not in arrays]
    if missing:
        raise _foreign(file, f"no array {missing[0]}")
    for name, (kind, rank) in ranks.items():
        if name in arrays and (arrays[name].dtype.kind != kind or arrays[name].ndim != rank):
            raise _foreign(file, f"array {name} is {arrays[name].dtype} of shape {arrays[name].shape}")
    model = _model_of(str(arrays["about"]), file)
    known = {
        name: [text or None for text in arrays[name].tolist()] for name in ("identities", "cameras") if name in arrays
    }
    roles = arrays["roles"].tolist() if "roles" in arrays else None
    return SavedEmbeddings(
        arrays["names"].tolist(), arrays["embeddings"], known.get("identities"), known.get("cameras"), roles, model
    )


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """What is raised on damage becomes one line."""
    try:
        yield
    except EmbeddingsError:
        raise
    except Exception as error:  # parsers raise nearly anything on damaged data
        raise EmbeddingsError(f"{file}: {file.suffix} that is damaged ({_first_line(error)}); write it again") from None


def _model_of(facts: bytes | str, file: Path) -> str:
    try:
        values = json.loads(facts)
    except ValueError:
        values = None
    if not isinstance(values, dict) or values.get("format_version") != _FORMAT_VERSION:
        version = values.get("format_version") if isinstance(values, dict) else None
        raise EmbeddingsError(
            f"{file}: format_version is {version!r}, expected {_FORMAT_VERSION}; embed the pictures again"
        )
    return str(values.get("model", ""))


def _foreign(file: Path, what: str) -> EmbeddingsError:
    return EmbeddingsError(
        f"{file}: does not hold embeddings ({what}); write them with `accel-det embed RUN IMAGES --out FILE`"
    )


def _picked(column: Sequence[T] | None, indices: Sequence[int]) -> list[T] | None:
    return None if column is None else [column[index] for index in indices]


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
