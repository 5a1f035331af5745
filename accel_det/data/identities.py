"""Pictures of identities, ready to train on or to search: columns, not objects.

Letters: N pictures.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from accel_det.data.encoded import bytes_of, length_of, path_of
from accel_det.data.formats.identity_raw import DISTRACTOR, NO_CAMERA, RawPictures, join_images
from accel_det.data.formats.raw import Ints, StreamedImages, join_streams
from accel_det.types import IdentityTarget

_NOBODY = -1


class IdentityTable:
    """The pictures of one or several splits, by position, and whom they show.

    Two Arrow tables: `images`, of the one column image {bytes, path}, and `records`, with a name, a row of `images`, an
    identity, a camera, a role and a number of quarter turns for every picture. A worker process shares them, and there is no
    Python object per picture.

    Attributes:
        images: the Arrow table of the pictures; it may hold more rows than are used. None where they are streamed.
        records: the Arrow table of what is known of each.
        identities: names, "set/identity", by label.
        cameras: names, "set/camera", by number.
        set_names: the sets that the pictures are of.
        fingerprint: sha256 over names, identities, cameras and roles.
        accept: the kinds of defect that the user accepts.
        streamed: where the pictures are, one for each, if there are no `images`.
    """

    def __init__(
        self,
        images: datasets.Dataset | None,
        records: pa.Table,
        *,
        identities: Sequence[str],
        cameras: Sequence[str],
        set_names: Sequence[str],
        fingerprint: str,
        accept: frozenset[str] = frozenset(),
        streamed: StreamedImages | None = None,
    ) -> None:
        self.images = images
        self.records = records
        self.identities = tuple(identities)
        self.cameras = tuple(cameras)
        self.set_names = tuple(set_names)
        self.fingerprint = fingerprint
        self.accept = accept
        self.streamed = streamed
        self._attach()

    def __len__(self) -> int:
        return len(self._rows)

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if not key.startswith("_")}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._attach()

    def name(self, index: int) -> str:
        """The file, for people: set, then path inside the set."""
        return str(self._names[index].as_py())

    def names(self) -> list[str]:
        """The name of every picture."""
        found: list[str] = self._names.to_pylist()
        return found

    def path(self, index: int) -> str | None:
        """Where the image file is; None where the table or a shard holds its bytes."""
        return None if self.streamed is not None else path_of(self._image(index))

    def paths(self) -> list[str | None]:
        """Where the image file of every picture is, as `path` says of one."""
        if self.images is None:
            return [None] * len(self)
        found: list[str | None] = []
        for chunk in self.images.data.column("image").chunks:
            paths = pc.struct_field(chunk, "path")
            found += pc.if_else(
                pc.is_null(pc.struct_field(chunk, "bytes")), paths, pa.scalar(None, paths.type)
            ).to_pylist()
        return [found[row] for row in self._rows.tolist()]

    def image_bytes(self, index: int) -> bytes:
        """The encoded picture, from disk, from the table or from its shard.

        Raises:
            ValueError: the file cannot be read any more.
        """
        if self.streamed is not None:
            return self.streamed.read(index)
        return bytes_of(self._image(index))

    def image_length(self, index: int) -> int:
        """Bytes of the encoded picture; -1 where the file has gone, or would have to be fetched."""
        return -1 if self.streamed is not None else length_of(self._image(index))

    def target(self, index: int) -> IdentityTarget:
        """Who is in a picture, where it was taken, and its role."""
        return IdentityTarget(int(self._labels[index]), int(self._cameras[index]), int(self._roles[index]))

    def quarter_turns(self, index: int) -> int:
        """By how many times 90 degrees, counter-clockwise, a picture is turned once it is decoded."""
        return int(self._turns[index])

    def labels(self) -> Ints:
        """(N,) int64, the index into `identities` of every picture; -1 for a distractor."""
        return self._labels

    def camera_numbers(self) -> Ints:
        """(N,) int64, the index into `cameras` of every picture; -1 where it is not known."""
        return self._cameras

    def roles(self) -> Ints:
        """(N,) int64, the `Role` of every picture."""
        return self._roles

    def _image(self, index: int) -> dict[str, object]:
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of {len(self)}")
        assert self.images is not None
        row = int(self._rows[index])
        image: dict[str, object] = self.images.data.fast_slice(row, 1).column("image")[0].as_py()
        return image

    def _attach(self) -> None:
        """Views into the Arrow buffers; none of them is pickled."""
        self._names = self.records.column("name").combine_chunks()
        self._rows, self._labels, self._cameras, self._roles, self._turns = (
            _values(self.records, column) for column in ("row", "identity", "camera", "role", "quarter_turns")
        )


def build_identity_table(
    parts: Sequence[tuple[str, RawPictures]], *, cameras: Sequence[str] = (), accept: frozenset[str] = frozenset()
) -> IdentityTable:
    """Joins splits. Identities and cameras of different sets stay apart, those of one set are one by their names.

    All pictures are streamed, or none.

    Args:
        parts: name of the set and pictures, at least one.
        cameras: names that come first among the cameras, in this order, whether or not a picture is of them.
        accept: kept for the check.
    """
    names = [f"{set_name}/{name}" for set_name, part in parts for name in part.names]
    shown = _full_names(parts, [part.identities for _, part in parts], nobody=DISTRACTOR)
    seen = _full_names(parts, [part.cameras for _, part in parts], nobody=NO_CAMERA)
    identities = _ordered(shown)
    all_cameras = tuple(dict.fromkeys([*cameras, *_ordered(seen)]))
    streams = [part.streamed for _, part in parts if part.streamed is not None]
    images, rows = (None, np.arange(len(names))) if streams else join_images([part for _, part in parts])
    columns = {
        "row": rows,
        "identity": _numbers(shown, identities),
        "camera": _numbers(seen, all_cameras),
        "role": np.concatenate([part.roles for _, part in parts]),
        "quarter_turns": np.zeros(len(names), np.int64),
    }
    arrays = {name: pa.array(column.astype(np.int64)) for name, column in columns.items()}
    return IdentityTable(
        images,
        pa.table({"name": pa.array(names, pa.string()), **arrays}),
        identities=identities,
        cameras=all_cameras,
        set_names=tuple(dict.fromkeys(set_name for set_name, _ in parts)),
        fingerprint=_fingerprint(
            [names, identities, all_cameras], [columns["identity"], columns["camera"], columns["role"]]
        ),
        accept=accept,
        streamed=join_streams(streams) if streams else None,
    )


def with_quarter_turns(table: IdentityTable) -> IdentityTable:
    """Every picture four times, upright and turned by 90, 180 and 270 degrees, each turn as a picture of an identity of its own.

    For what turned is another thing, such as the letters of an alphabet: four times the identities to learn to tell apart.
    Where pictures are streamed, the turns of one follow one another, so that it is read once for all.
    Source: Santoro et al., Meta-Learning with Memory-Augmented Neural Networks, ICML 2016, section 4.1.

    Args:
        table: pictures that are upright. What is nobody's stays nobody's.
    """
    labels, num_identities = table.labels(), len(table.identities)
    turned = [table.records]
    for turns in (1, 2, 3):
        columns = {
            "name": pa.array([_turned_name(name, turns) for name in table.names()], pa.string()),
            "identity": pa.array(np.where(labels < 0, labels, labels + turns * num_identities)),
            "quarter_turns": pa.array(np.full(len(table), turns)),
        }
        turned.append(pa.table({key: columns.get(key, table.records[key]) for key in table.records.column_names}))
    records, streamed = pa.concat_tables(turned), table.streamed
    if streamed is not None:
        records = records.take(np.arange(len(records)).reshape(4, -1).T.reshape(-1))
        streamed = streamed._replace(rows=np.repeat(streamed.rows, 4))
    return IdentityTable(
        table.images,
        records,
        identities=[
            *table.identities,
            *(_turned_name(name, turns) for turns in (1, 2, 3) for name in table.identities),
        ],
        cameras=table.cameras,
        set_names=table.set_names,
        fingerprint=hashlib.sha256(f"quarter turns of {table.fingerprint}".encode()).hexdigest(),
        accept=table.accept,
        streamed=streamed,
    )


def _turned_name(name: str, turns: int) -> str:
    return f"{name} turned by {90 * turns} degrees"


def _full_names(
    parts: Sequence[tuple[str, RawPictures]], columns: Sequence[Sequence[str]], *, nobody: str
) -> list[str | None]:
    """ "set/name" of every picture, None where it is nobody's."""
    return [
        None if name == nobody else f"{set_name}/{name}"
        for (set_name, _), column in zip(parts, columns, strict=True)
        for name in column
    ]


def _ordered(names: Iterable[str | None]) -> tuple[str, ...]:
    """Each name once, in the order in which people count: c2 before c10."""
    return tuple(sorted({name for name in names if name is not None}, key=_natural))


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Numbers by their length, then digit by digit: of any length, unlike int."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    digits = [piece.lstrip("0") for piece in pieces]
    key = [
        (len(digit), digit) if piece[0] in "0123456789" else (-1, piece)
        for piece, digit in zip(pieces, digits, strict=True)
    ]
    return key, name


def _numbers(names: Sequence[str | None], known: Sequence[str]) -> Ints:
    """(N,) the place of every name among the known ones, -1 for None."""
    place: dict[str | None, int] = {name: number for number, name in enumerate(known)}
    return np.array([place.get(name, _NOBODY) for name in names], np.int64)


def _fingerprint(texts: Sequence[Sequence[str]], columns: Sequence[Ints]) -> str:
    digest = hashlib.sha256()
    for names in texts:
        digest.update(f"{len(names)}\0".encode() + "\0".join(names).encode())
    for column in columns:
        digest.update(np.ascontiguousarray(column.astype("<i8")).tobytes())
    return digest.hexdigest()


def _values(table: pa.Table, name: str) -> Ints:
    """A column as a view of its buffer."""
    values: Ints = table.column(name).combine_chunks().to_numpy(zero_copy_only=True)
    return values
