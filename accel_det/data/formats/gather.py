"""What readers of annotation files gather: images that are there, objects with the names of their classes, numbers as written."""

import os
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from accel_det.data.defects import Findings
from accel_det.data.formats.raw import UNKNOWN_SIDE, ObjectColumns, RawObjects, RawSplit, SplitSource, to_number
from accel_det.data.formats.raw import locate_image as locate
from accel_det.data.locate import IMAGE_SUFFIXES, SPLIT_NAMES, Folder, list_images, split_names

PROBED_IMAGES = 50
"""So many names are looked for in a folder before it is not the one."""

_SHOWN_CHARACTERS = 80
_MAX_DIGITS = 18


class AnnotationFile(NamedTuple):
    """Where the annotations of a split are, and whether the file is that of all splits."""

    path: Path
    of_all: bool


def find_annotations(source: SplitSource, split: str, *, what: str, usual: Sequence[str]) -> AnnotationFile:
    """The given file, or the first of the usual ones.

    Args:
        what: kind of the file, for the message.
        usual: places from the root. "{split}" is replaced by every name of the split, `*` is matched.

    Raises:
        ValueError: there is none; the message lists where it was looked for.
    """
    root, names = Path(source.root), split_names(split)
    places = usual if source.annotations is None else [source.annotations]
    looked_for = dict.fromkeys(place.replace("{split}", name) for place in places for name in names)
    for place in looked_for:
        found = [root / place] if (root / place).is_file() else sorted(root.glob(place)) if "*" in place else []
        if found:
            of_all = source.annotations is None and place in usual and "{split}" not in place
            return AnnotationFile(found[0], of_all)
    raise ValueError(
        f"set {source.name!r}, split {split!r}: no {what} in {root}; looked for {', '.join(looked_for)}; name it in "
        "`annotations`"
    )


def require_whole_set(source: SplitSource, split: str, file: AnnotationFile) -> None:
    """A file of all splits that does not tell them apart is that of "train" alone.

    Raises:
        ValueError: another split is asked for.
    """
    if file.of_all and split not in SPLIT_NAMES["train"]:
        raise ValueError(
            f"set {source.name!r}, split {split!r}: {file.path} does not say which images are of which split; use `holdout` "
            "to make a val split"
        )


def image_folder(source: SplitSource, split: str, *, file: Path, names: Iterable[str]) -> Path:
    """The folder that the file names are relative to: the given one, or of the usual ones the first that holds one of them."""
    root, splits = Path(source.root), split_names(split)
    if source.images is not None:
        given = [root / source.images.replace("{split}", name) for name in splits]
        return next((folder for folder in given if folder.is_dir()), given[0])
    usual = [folder for name in splits for folder in (root / "images" / name, root / name / "images", root / name)]
    candidates = [
        folder for folder in (*usual, file.parent / "images", file.parent, root / "images", root) if folder.is_dir()
    ]
    probes = [probe for name in islice(names, PROBED_IMAGES) for probe in spellings(name)]
    for folder in candidates:
        looked_into = Folder(folder)
        if any(looked_into.find(name) is not None for name in probes):
            return folder
    return candidates[0]


def spellings(name: str) -> list[str]:
    """A file name as it is written, and its last part: paths are often those of another machine."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return list(dict.fromkeys((name, last)))


def with_any_suffix(name: str) -> list[str]:
    """Names that the image of a name with or without a suffix may have."""
    given = [name] if os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES else []  # noqa: PTH122
    return [*given, f"{name}.jpg", *(name + suffix for suffix in sorted(IMAGE_SUFFIXES))]


class FoundImages:
    """Images as a reader meets them: those whose file is in the folder, each file once."""

    def __init__(self, folder: Path, source: SplitSource, *, file: Path, findings: Findings) -> None:
        """
        Args:
            folder: that of the images.
            file: the annotation file, for messages.
        """
        self._folder = Folder(folder)
        self._shown_root = Folder(source.root)
        self._annotation_file = str(file)
        self._findings = findings
        self._names: list[str] = []
        self._files: list[str] = []
        self._sizes: list[tuple[int, int]] = []
        self._seen: set[str] = set()

    def add(
        self, candidates: Sequence[str], *, record: str, size: tuple[int, int] = (UNKNOWN_SIDE, UNKNOWN_SIDE)
    ) -> int:
        """Index of the image that is the first of the candidates, or -1, noted, where it is to be left out.

        Args:
            size: annotated height and width.
        """
        located = locate(
            self._folder, candidates, findings=self._findings, annotation_file=self._annotation_file, record=record
        )
        if located is None:
            return -1
        if located.path in self._seen:
            value = f"{located.path} again"
            self._findings.add("duplicate_file", file=self._annotation_file, record=record, value=value)
            return -1
        self._seen.add(located.path)
        self._names.append(self._shown_root.relative(located.path))
        self._files.append(located.path)
        self._sizes.append(size)
        return len(self._names) - 1

    def note_unlisted(self) -> None:
        """Images that nothing was said about are left out: nobody said that they show nothing."""
        for path in list_images(Path(self._folder.root)) if Path(self._folder.root).is_dir() else ():
            if str(path) not in self._seen:
                value = f"not in {self._annotation_file}"
                self._findings.add("unlisted_image", file=str(path), value=value)

    def split(self, classes: tuple[str, ...], objects: RawObjects) -> RawSplit:
        """The images with these objects."""
        sizes = np.array(self._sizes, np.int64).reshape(-1, 2)
        files = [self._annotation_file] * len(self._names)
        return RawSplit(classes, self._names, self._files, None, files, sizes, objects)


class NamedObjects:
    """Objects as a reader meets them, each with the name of its class."""

    def __init__(self, columns: ObjectColumns, *, listed: Sequence[str] = (), file: Path, findings: Findings) -> None:
        """
        Args:
            listed: the classes in their order; without them those that occur, sorted.
            file: the annotation file, for messages.
        """
        self._columns = columns
        self._listed = tuple(listed)
        self._label_of = {name: label for label, name in enumerate(self._listed)}
        self._file = str(file)
        self._findings = findings

    def add(
        self,
        owner: int,
        box: Sequence[float],
        *,
        name: str,
        number: int,
        record: str,
        crowd: bool = False,
        area: float = float("nan"),
    ) -> None:
        """One object, as for `ObjectColumns.add`; one of a class that is not listed is noted and left out."""
        label = self._label_of.get(name, -1)
        if label < 0 and self._listed:
            value = f"class {shown(name)} is none of the {len(self._listed)} listed"
            self._findings.add("label_out_of_range", file=self._file, record=record, value=value)
            return
        if label < 0:
            label = self._label_of[name] = len(self._label_of)
        self._columns.add(owner, box, label=label, record=number, crowd=crowd, area=area)

    def arrays(self) -> tuple[tuple[str, ...], RawObjects]:
        """Class names and objects."""
        objects = self._columns.arrays()
        if self._listed:
            return self._listed, objects
        met = list(self._label_of)
        order = sorted(range(len(met)), key=lambda label: (natural_number(met[label]), met[label]))
        new_label = np.argsort(np.array(order, np.int64))
        return tuple(met[label] for label in order), objects._replace(labels=new_label[objects.labels])


def unique_names(names: Sequence[str], *, file: Path, findings: Findings) -> tuple[str, ...]:
    """Class names, each once; a repeated one is noted."""
    for position, name in enumerate(names):
        if name in names[:position]:
            findings.add("duplicate_class", file=str(file), record=f"class {position}", value=f"name {name!r}")
    return tuple(dict.fromkeys(names))


def to_numbers(values: Sequence[object], *, file: Path, record: str, findings: Findings) -> list[float]:
    """Numbers of one record; decimal commas are read, and noted once.

    Raises:
        ValueError: one is none.
    """
    commas = 0

    def on_comma() -> None:
        nonlocal commas
        commas += 1

    numbers = [to_number(value, on_comma=on_comma) for value in values]
    if commas:
        findings.add("decimal_comma", file=str(file), record=record, value=shown(list(values)))
    return numbers


def natural_number(text: str) -> int:
    """0, 1, 2, ... as a text says it, or -1."""
    text = text.strip()
    return int(text) if text.isdecimal() and len(text) <= _MAX_DIGITS else -1


def to_side(value: object) -> int:
    """Annotated height or width of an image in pixels; UNKNOWN_SIDE where it is none."""
    try:
        number = to_number(value, on_comma=lambda: None)
    except ValueError:
        return UNKNOWN_SIDE
    return int(number) if 1 <= number < 1 << 31 else UNKNOWN_SIDE


def shown(value: object) -> str:
    """A value as messages show it: cut, where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 3]}..."
