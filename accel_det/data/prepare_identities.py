"""Writes pictures of identities as shards that anything can stream, those of an identity beside each other.

Letters: N pictures of a table.
"""

import hashlib
from pathlib import Path

import datasets
import numpy as np

from accel_det.data.decode import image_header
from accel_det.data.formats.identity_columns import NOBODY
from accel_det.data.formats.raw import Bools, Ints
from accel_det.data.identities import IdentityTable
from accel_det.data.prepare import Preparation, Row, Shard, encode, write_rows
from accel_det.types import Role


def write_identity_splits(
    table: IdentityTable, split: str, folder: Path, how: Preparation, *, workers: int
) -> dict[str, list[Shard]]:
    """Write the shards of a split, or of its two parts: where pictures are asked for, or looked through, alone.

    Args:
        split: the files are called after it; those of parts are called "query" and "gallery".

    Returns:
        Shards by the name that the files are called after.

    Raises:
        ValueError: as `prepare.write_rows`.
    """
    roles = table.roles()
    parts = {split: np.ones(len(table), np.bool_)}
    if (roles != Role.BOTH).any():
        parts = {"query": (roles & Role.QUERY) != 0, "gallery": (roles & Role.GALLERY) != 0}
    return {
        name: write_rows(_IdentityRows(table, kept), name, folder, how, workers=workers) for name, kept in parts.items()
    }


class _IdentityRows:
    """Fulfils `prepare.Rows` for some pictures of identities, sorted by whom they show.

    Args:
        kept: (N,) which of them.
    """

    features = datasets.Features({"identity": datasets.Value("string"), "camera": datasets.Value("string")})

    def __init__(self, table: IdentityTable, kept: Bools) -> None:
        self._table = table
        positions = np.flatnonzero(kept)
        self._positions: Ints = positions[np.argsort(table.labels()[positions], kind="stable")]
        self.fingerprint = hashlib.sha256(table.fingerprint.encode() + kept.tobytes()).hexdigest()

    def __len__(self) -> int:
        return len(self._positions)

    def length(self, index: int) -> int:
        return self._table.image_length(int(self._positions[index]))

    def row(self, index: int, how: Preparation) -> Row:
        table, position = self._table, int(self._positions[index])
        target, name, data = table.target(position), table.name(position), table.image_bytes(position)
        size = (1, 1)
        if how.max_side_px is not None:
            _, *sides = image_header(data, name=name)
            size = (sides[0], sides[1])
        identity = NOBODY if target.identity < 0 else self._short(table.identities[target.identity])
        columns = {"identity": identity, "camera": self._short(("", *table.cameras)[target.camera + 1])}
        encoded = encode(data, how, name=name, size=size)
        return Row(encoded.data, name, index, columns, {"name": name, **columns})

    def _short(self, name: str) -> str:
        """A name without that of its set, where all are of one."""
        return name.removeprefix(f"{self._table.set_names[0]}/") if len(self._table.set_names) == 1 else name
