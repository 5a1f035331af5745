"""A folder for every identity."""

from pathlib import Path

from accel_det.data.defects import Findings
from accel_det.data.formats.identity_names import camera_in_name
from accel_det.data.formats.identity_raw import (
    SPLITS,
    IdentitySource,
    PictureColumns,
    RawPictures,
    joined,
    listed_images,
    parts_of,
    role_of,
)
from accel_det.data.locate import split_names

_WHOLE_FOLDER = "train"


def read(source: IdentitySource, split: str, *, findings: Findings) -> RawPictures:
    """One split of a set with a folder for every identity.

    A split is `<root>/<split>`, or `images` with "{split}" replaced; where the root has no folder of a split, it is "train"
    as a whole. "test" is the folder of that name, with every picture both query and gallery, or else the two folders `query`
    and `gallery`. An identity is the path from the folder of the split to that of the picture, which may have several levels:
    "Greek/character01". The camera is in the file name, as c2 in 0001_c2_07.jpg, or unknown.

    Raises:
        ValueError: there is no such split.
    """
    whole = _folder(source, split)
    if whole is not None:
        return _read(source, split, whole, findings=findings)
    parts = []
    for part in parts_of(split):
        folder = _folder(source, part)
        if folder is None:
            present = (
                ", ".join(sorted(path.name for path in Path(source.root).iterdir() if path.is_dir())[:10]) or "none"
            )
            raise ValueError(
                f"set {source.name!r}, split {split!r}: no folder {part!r} in {source.root} (first of those there: {present}); "
                "`holdout` takes a share of the identities of 'train' for 'val'"
            )
        parts.append(_read(source, part, folder, findings=findings))
    return joined(parts)


def _folder(source: IdentitySource, split: str) -> Path | None:
    root = Path(source.root)
    if source.images is not None:
        folder = root / source.images.replace("{split}", split)
        return folder if folder.is_dir() and ("{split}" in source.images or split == _WHOLE_FOLDER) else None
    for name in split_names(split):
        if (root / name).is_dir():
            return root / name
    has_splits = any((root / name).is_dir() for known in SPLITS for name in split_names(known))
    return root if split == _WHOLE_FOLDER and not has_splits else None


def _read(source: IdentitySource, split: str, folder: Path, *, findings: Findings) -> RawPictures:
    columns = PictureColumns()
    for file in listed_images(folder, source.root, findings=findings):
        identity, _, base = file.below.rpartition("/")
        if identity:
            columns.add(file.name, file.path, identity=identity, camera=camera_in_name(base), role=role_of(split))
        else:
            value = f"{base!r} beside the folders of the identities, where <identity>/{base} belongs"
            findings.add("name_mismatch", file=file.path, value=value)
    return columns.pictures()
