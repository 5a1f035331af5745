"""What every reader of pictures of identities gives: one split, in columns, not yet joined with others.

Letters: N pictures.
"""

# os.path, because a million names are looked up at a start and pathlib is several times slower.
# ruff: noqa: PTH122

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import datasets
import numpy as np
import pyarrow as pa

from accel_det.data.defects import Findings
from accel_det.data.encoded import IMAGE_FEATURES, image_array
from accel_det.data.formats.raw import Bools, Ints, SplitSource, StreamedImages, join_streams, locate_image
from accel_det.data.lines import is_unicode
from accel_det.data.locate import IMAGE_SUFFIXES, Folder
from accel_det.types import Role

DISTRACTOR = ""
"""The identity of a picture of somebody whom no query shows."""

NO_CAMERA = ""
"""The camera of a picture that does not say where it was taken."""

SPLITS = ("train", "val", "test", "query", "gallery")
"""What a split, or an official part of one, may be called."""

_OFFICIAL_TEST = ("query", "gallery")
_ROLES = {"query": Role.QUERY, "gallery": Role.GALLERY}


class IdentitySource(SplitSource, Protocol):
    """What a reader is told about a data set: the part of `sources.SetSpec` that readers use."""

    @property
    def parameters(self) -> Mapping[str, int | float | str]: ...


class RawPictures(NamedTuple):
    """One split of one set.

    Attributes:
        names: of each picture, relative to the root of the set, for people.
        files: path of each picture, or None where it is in `images`.
        images: a dataset of the one column "image" {bytes, path}, with the bytes of a picture or where its file is; or None.
        rows: (N,) the row of `images` of each picture; without `images` nobody reads it.
        identities: name of whom each picture shows, or DISTRACTOR.
        cameras: name of the camera of each picture, or NO_CAMERA.
        roles: (N,) a `Role` each.
        streamed: where the pictures are, if neither `files` nor `images` says it.
    """

    names: list[str]
    files: list[str] | None
    images: datasets.Dataset | None
    rows: Ints
    identities: list[str]
    cameras: list[str]
    roles: Ints
    streamed: StreamedImages | None = None

    def select(self, kept: Bools) -> "RawPictures":
        """The pictures for which the (N,) mask holds."""
        positions = np.flatnonzero(kept).tolist()
        return RawPictures(
            names=[self.names[i] for i in positions],
            files=None if self.files is None else [self.files[i] for i in positions],
            images=self.images,
            rows=self.rows[kept],
            identities=[self.identities[i] for i in positions],
            cameras=[self.cameras[i] for i in positions],
            roles=self.roles[kept],
            streamed=None if self.streamed is None else self.streamed.select(np.flatnonzero(kept)),
        )

    def distractors(self) -> Bools:
        """(N,) whether a picture shows somebody whom no query shows."""
        return np.array([identity == DISTRACTOR for identity in self.identities], np.bool_)


class PictureColumns:
    """Pictures as files, as a reader meets them, turned into columns at the end."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._files: list[str] = []
        self._identities: list[str] = []
        self._cameras: list[str] = []
        self._roles: list[int] = []

    def add(self, name: str, file: str, *, identity: str, camera: str, role: Role = Role.BOTH) -> None:
        """One picture; see the attributes of `RawPictures`."""
        self._names.append(name)
        self._files.append(file)
        self._identities.append(identity)
        self._cameras.append(camera)
        self._roles.append(int(role))

    def pictures(self) -> RawPictures:
        return RawPictures(
            names=self._names,
            files=self._files,
            images=None,
            rows=np.arange(len(self._names)),
            identities=self._identities,
            cameras=self._cameras,
            roles=np.array(self._roles, np.int64),
        )


def parts_of(split: str) -> tuple[str, ...]:
    """The official parts of a split: "test" is what is asked for and what is looked through."""
    return _OFFICIAL_TEST if split == "test" else (split,)


def role_of(part: str) -> Role:
    """The role of the pictures of an official part."""
    return _ROLES.get(part, Role.BOTH)


def joined(parts: Sequence[RawPictures]) -> RawPictures:
    """The pictures of several parts of one set: all streamed, or none, and then some may hold files, and others bytes."""
    if len(parts) == 1:
        return parts[0]
    streamed = [part.streamed for part in parts if part.streamed is not None]
    images, rows = (None, np.arange(sum(len(part.names) for part in parts))) if streamed else join_images(parts)
    return RawPictures(
        names=[name for part in parts for name in part.names],
        files=None,
        images=images,
        rows=rows,
        identities=[identity for part in parts for identity in part.identities],
        cameras=[camera for part in parts for camera in part.cameras],
        roles=np.concatenate([part.roles for part in parts]),
        streamed=join_streams(streamed) if streamed else None,
    )


def join_images(parts: Sequence[RawPictures]) -> tuple[datasets.Dataset, Ints]:
    """One table of the pictures of all parts, and (N,) the row in it of every picture, part after part."""
    tables = [part.images if part.images is not None else _of_paths(part.files or []) for part in parts]
    starts = np.cumsum([0, *(len(table) for table in tables[:-1])]).tolist()
    own = [part.rows if part.images is not None else np.arange(len(part.names)) for part in parts]
    rows = np.concatenate([rows + start for rows, start in zip(own, starts, strict=True)])
    return tables[0] if len(tables) == 1 else datasets.concatenate_datasets(tables), rows


def _of_paths(files: Sequence[str]) -> datasets.Dataset:
    info = datasets.DatasetInfo(features=IMAGE_FEATURES)
    # The fingerprint is given, or `datasets` would pickle the whole table to make one.
    fingerprint = hashlib.sha256("\0".join(files).encode()).hexdigest()[:16]
    return datasets.Dataset(pa.table({"image": image_array(None, files)}), info=info, fingerprint=fingerprint)


class Listed(NamedTuple):
    """A file of a folder: where it is, its path from the folder, and its path from the root of the set."""

    path: str
    below: str
    name: str


def listed_images(folder: Path, root: str, *, findings: Findings) -> list[Listed]:
    """Every image file below a folder, sorted by path.

    Links that stay in the folder are followed; one that leaves it, or leads nowhere, is noted, and followed if that is accepted.
    """
    inside = Folder(folder)
    prefix = Folder(root).relative(inside.root)
    names = sorted(_walk(inside, "", within=frozenset([inside.real_root]), findings=findings))
    return [Listed(f"{inside.root}/{name}", name, name if prefix == "." else f"{prefix}/{name}") for name in names]


def _walk(folder: Folder, below: str, *, within: frozenset[str], findings: Findings) -> Iterator[str]:
    """Names of images from the folder on; `within` are the real paths of the folders that this one is in."""
    with os.scandir(f"{folder.root}/{below}") as entries:
        found = list(entries)
    for entry in found:
        name = f"{below}{entry.name}"
        if not is_unicode(entry.name):
            value = "a name that is no UTF-8, which a table cannot hold"
            findings.add("name_mismatch", file=ascii(entry.path), value=value)
            continue
        is_image = os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES
        if entry.is_symlink() and (is_image or entry.is_dir()):
            if locate_image(folder, [name], findings=findings, annotation_file=entry.path, record="") is None:
                continue
            if not entry.is_dir() and not entry.is_file():
                findings.add("missing_file", file=entry.path, value="a link that leads nowhere")
                continue
        if entry.is_dir():
            real = os.path.realpath(entry.path)
            if real not in within:
                yield from _walk(folder, f"{name}/", within=within | {real}, findings=findings)
        elif is_image and entry.is_file():
            yield name


def split_folder(source: IdentitySource, split: str, *, usual: Sequence[str]) -> Path:
    """The folder of the pictures of a split: `images` with "{split}" replaced, or else the first of the usual ones.

    Raises:
        ValueError: there is no such folder.
    """
    root = Path(source.root)
    names = usual if source.images is None else [source.images.replace("{split}", split)]
    for name in names:
        if (root / name).is_dir():
            return root / name
    present = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "none"
    raise ValueError(
        f"set {source.name!r}, split {split!r}: no folder {' or '.join(names) or split!r} in {root}; there are: {present}"
    )


def no_split(source: IdentitySource, split: str, *, known: Sequence[str]) -> ValueError:
    """The complaint about a split that a format does not have."""
    advice = "; `holdout` takes a share of the identities of 'train' for 'val'" if split == "val" else ""
    return ValueError(f"set {source.name!r}: no split {split!r}; it has {', '.join(known)}{advice}")
