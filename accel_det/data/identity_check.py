"""What can only be seen with both splits of pictures of identities, or with the pixels, and the report of everything.

Letters: N pictures, I identities, C cameras.
"""

import hashlib
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from accel_det.data.check import Report
from accel_det.data.decode import decode
from accel_det.data.defects import Defect, Findings
from accel_det.data.formats.raw import Ints
from accel_det.data.identities import IdentityTable
from accel_det.data.locate import source_name
from accel_det.types import Role

_BOTH = "train and val"


class IdentitySummary(NamedTuple):
    """What a split holds; `queries` and `gallery` count pictures by role, and are of an evaluation alone."""

    pictures: int
    identities: int
    cameras: int
    distractors: int
    queries: int
    gallery: int
    fingerprint: str

    def line(self, name: str) -> str:
        line = f"{name}: {self.pictures} pictures of {self.identities} identities, {self.cameras or 'unknown'} cameras"
        if name == "val":
            line += f"; {self.queries} queries, gallery of {self.gallery}"
        if self.distractors:
            line += f", {self.distractors} of them distractors"
        return line


def check_identity_tables(
    train: IdentityTable | None,
    val: IdentityTable | None,
    defects: Sequence[Defect],
    *,
    read_images: bool,
    exclude_same_camera: bool = True,
) -> Report[IdentitySummary]:
    """Adds to what was found on opening the splits what needs both of them, or the files.

    Args:
        train: opened for training; val: opened for evaluation. Either may be missing.
        defects: what opening them found.
        read_images: decode every picture, and look for the same bytes in train and val.
        exclude_same_camera: the evaluation leaves out pictures of the query's identity from its own camera.
    """
    tables = {name: table for name, table in (("train", train), ("val", val)) if table is not None}
    accept = frozenset[str]().union(*(table.accept for table in tables.values()))
    findings = Findings(_BOTH, accept=accept)
    if train is not None:
        _find_single_pictures(train, findings=findings)
    if val is not None:
        _find_lost_queries(val, exclude_same_camera=exclude_same_camera, findings=findings)
    if train is not None and val is not None:
        _find_shared(train, val, findings=findings)
    if read_images:
        digests = [_decode_all(table, findings=findings) for table in tables.values()]
        if train is not None and val is not None:
            _find_same_bytes(train, val, digests, findings=findings)
    splits = {name: _summarize(table) for name, table in tables.items()}
    return Report(tuple(dict.fromkeys([*defects, *findings.defects])), splits)


def num_matches(table: IdentityTable, *, exclude_same_camera: bool) -> Ints:
    """(N,) pictures of the gallery that a query should find; 0 for what is no query, and for a distractor.

    A query is not its own match. Where the same camera is excluded, a picture of the query's identity is none if both cameras
    are known and the same.
    """
    labels, cameras, roles = table.labels(), table.camera_numbers(), table.roles()
    known = labels >= 0
    in_gallery = known & ((roles & Role.GALLERY) != 0)
    of_identity = np.bincount(labels[in_gallery], minlength=len(table.identities) + 1)[labels]
    matches = of_identity - in_gallery
    if exclude_same_camera:
        # The pictures that the rule leaves out are the query itself, and those beside it.
        pairs = labels * (len(table.cameras) + 1) + cameras
        with_camera = cameras >= 0
        _, place = np.unique(pairs, return_inverse=True)
        of_pair = np.bincount(place[in_gallery], minlength=int(place.max(initial=-1)) + 1)[place]
        matches = np.where(with_camera, of_identity - of_pair, matches)
    asked = known & ((roles & Role.QUERY) != 0)
    return np.where(asked, matches, 0).astype(np.int64)


def _find_single_pictures(train: IdentityTable, *, findings: Findings) -> None:
    """Identities of which training has one picture."""
    counts = np.bincount(train.labels(), minlength=len(train.identities))
    for index in np.flatnonzero(counts[train.labels()] == 1).tolist():
        identity = train.identities[train.target(index).identity]
        findings.add("single_picture", file=train.name(index), value=f"the only picture of {identity} in train")


def _find_lost_queries(val: IdentityTable, *, exclude_same_camera: bool, findings: Findings) -> None:
    """Queries that nothing answers: one finding for each, or one for all where cameras are to blame."""
    asked = (val.labels() >= 0) & ((val.roles() & Role.QUERY) != 0)
    anywhere = num_matches(val, exclude_same_camera=False)
    matches = num_matches(val, exclude_same_camera=True) if exclude_same_camera else anywhere
    only_own_camera = asked & (matches == 0) & (anywhere > 0)
    lost = asked & (matches == 0)
    if only_own_camera.any() and not (matches > 0).any():
        number, cameras = int(only_own_camera.sum()), len(val.cameras)
        value = f"none of {number} queries has a match of another camera; cameras: {cameras}"
        findings.add("one_camera", file=f"val of {', '.join(val.set_names)}", value=value)
        lost &= ~only_own_camera
    for index in np.flatnonzero(lost).tolist():
        identity = val.identities[val.target(index).identity]
        where = "but of the query's own camera" if only_own_camera[index] else "but the query"
        value = f"no picture of {identity} in the gallery {where}"
        findings.add("query_without_match", file=val.name(index), value=value)


def _find_shared(train: IdentityTable, val: IdentityTable, *, findings: Findings) -> None:
    """Identities and files that are on both sides, and files of one name."""
    for identity in sorted(set(train.identities) & set(val.identities)):
        findings.add("shared_identity", file=identity, value="in train and in val")
    train_names, val_names = train.names(), val.names()
    indices: dict[str, int] = {}
    for index, file in enumerate(_files(train)):
        if file is not None:
            indices.setdefault(file, index)
    bases = _unique_bases(train_names) if _unique_bases(val_names) else {}
    for name, file in zip(val_names, _files(val), strict=True):
        twin = None if file is None else indices.get(file)
        namesake = bases.get(source_name(name))
        if twin is not None:
            findings.add("leakage", file=name, value=f"the same file as {train_names[twin]} in train")
        elif namesake is not None:
            findings.add("same_name", file=name, value=f"as {train_names[namesake]} in train")


def _files(table: IdentityTable) -> list[str | None]:
    """(N,) the file of every picture; None where the table holds its bytes, whose names tell nothing: many are 0.png."""
    return [None if path is None else os.path.normpath(path) for path in table.paths()]


def _unique_bases(names: Sequence[str]) -> dict[str, int]:
    """The last parts of all names, where no two are alike: names such as 001.jpg, which every folder has, tell nothing."""
    bases = {source_name(name): index for index, name in enumerate(names)}
    return bases if len(bases) == len(names) else {}


def _decode_all(table: IdentityTable, *, findings: Findings) -> dict[bytes, list[int]]:
    """Notes pictures that cannot be decoded; gives the pictures of every content."""
    digests: dict[bytes, list[int]] = {}
    for index in range(len(table)):
        name = table.name(index)
        try:
            data = table.image_bytes(index)
            digests.setdefault(hashlib.sha256(data).digest(), []).append(index)
            decode(data, name=name)
        except ValueError as error:
            findings.add("undecodable_file", file=name, value=str(error))
    return digests


def _find_same_bytes(
    train: IdentityTable, val: IdentityTable, digests: Sequence[dict[bytes, list[int]]], *, findings: Findings
) -> None:
    in_train, in_val = digests
    train_files, val_files = _files(train), _files(val)
    for digest, indices in in_val.items():
        twin = in_train.get(digest, [0])[0]
        for index in indices if digest in in_train else ():
            if val_files[index] is None or val_files[index] != train_files[twin]:  # else it has been found as a file
                findings.add("leakage", file=val.name(index), value=f"same bytes as {train.name(twin)} in train")


def _summarize(table: IdentityTable) -> IdentitySummary:
    labels, roles = table.labels(), table.roles()
    cameras = table.camera_numbers()
    return IdentitySummary(
        pictures=len(table),
        identities=len(table.identities),
        cameras=len(np.unique(cameras[cameras >= 0])),
        distractors=int((labels < 0).sum()),
        queries=int(((roles & Role.QUERY) != 0).sum()),
        gallery=int(((roles & Role.GALLERY) != 0).sum()),
        fingerprint=table.fingerprint,
    )
