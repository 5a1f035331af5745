"""Finding the files that annotations name, without leaving the folder they belong to."""

# os.path, because a hundred thousand names are looked up at every start and pathlib is several times slower.
# ruff: noqa: PTH100, PTH112, PTH114, PTH118, PTH119, PTH120, PTH208

import os
import re
from pathlib import Path
from typing import NamedTuple

from accel_det.data.lines import is_unicode

IMAGE_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "bmp", "gif", "tif", "tiff", "webp", "avif", "heic", "heif"),
        *("jp2", "ppm", "pgm", "pbm", "pnm"),
    )
)

_COPY_MARK = re.compile(r"\.rf\.[0-9A-Za-z]{20,}")

SPLIT_NAMES = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
"""Other names under which a split is looked for."""


def split_names(split: str) -> tuple[str, ...]:
    """The names a split may go by on disk, the given one first."""
    for names in SPLIT_NAMES.values():
        if split in names:
            return (split, *(name for name in names if name != split))
    return (split,)


def source_name(name: str) -> str:
    """The last part of a file name, without the mark that Roboflow gives to each augmented copy of one picture."""
    return _COPY_MARK.sub("", name.rsplit("/", 1)[-1])


class Located(NamedTuple):
    """A file that was found.

    Attributes:
        path: where it is.
        exact: the name's case is as it was written.
        inside: after links are followed it still lies in the folder.
    """

    path: str
    exact: bool
    inside: bool


class Folder:
    """A folder in which annotations name files; listings and real paths are read once."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.fspath(root))
        self.real_root = os.path.realpath(self.root)
        self._listings: dict[str, dict[str, list[str]]] = {}
        self._real_folders: dict[str, str] = {}

    def find(self, name: str) -> Located | None:
        """The file of a name relative to the folder, or None; a name of another case is taken if there is just one.

        A name that leads out of the folder, by `..`, by being absolute or by a link, is found but not `inside`.
        """
        if "\0" in name or not name.strip() or not is_unicode(name):
            return None
        for spelled in dict.fromkeys((name, name.replace("\\", "/"))):
            path = os.path.join(self.root, spelled)
            if os.path.lexists(path):
                return Located(path, True, self._inside(path))
            other = self._other_case(spelled)
            if other is not None:
                return Located(other, False, self._inside(other))
        return None

    def relative(self, path: str) -> str:
        """A path as it is written inside the folder, with forward slashes."""
        return os.path.relpath(path, self.root).replace(os.sep, "/")

    def _inside(self, path: str) -> bool:
        folder = os.path.dirname(path)
        if folder not in self._real_folders:
            self._real_folders[folder] = os.path.realpath(folder)
        real = os.path.join(self._real_folders[folder], os.path.basename(path))
        if os.path.islink(path) or os.path.basename(path) == "..":
            real = os.path.realpath(path)
        return real.startswith(self.real_root.rstrip(os.sep) + os.sep)

    def _other_case(self, name: str) -> str | None:
        folder, base = os.path.split(os.path.join(self.root, name))
        if folder not in self._listings:
            listing: dict[str, list[str]] = {}
            for entry in os.listdir(folder) if os.path.isdir(folder) else ():
                listing.setdefault(entry.lower(), []).append(entry)
            self._listings[folder] = listing
        matches = self._listings[folder].get(base.lower(), [])
        return os.path.join(folder, matches[0]) if len(matches) == 1 else None


def list_images(folder: Path) -> list[Path]:
    """Every image file below a folder, by suffix, sorted by path."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    return sorted(found, key=lambda path: path.as_posix())
