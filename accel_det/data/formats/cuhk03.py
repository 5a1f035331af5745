"""CUHK03 as a folder of pictures, the layout that its converters write."""

from pathlib import Path

from accel_det.data.defects import Findings
from accel_det.data.formats.identity_names import CUHK03, read_named
from accel_det.data.formats.identity_raw import (
    IdentitySource,
    Listed,
    RawPictures,
    joined,
    listed_images,
    no_split,
    parts_of,
    role_of,
    split_folder,
)
from accel_det.data.lines import in_one_line, parse_json
from accel_det.types import Role

_FOLDERS = ("images_labeled", "images_detected")
_LISTS = ("train", "query", "gallery")


def read(source: IdentitySource, split: str, *, findings: Findings) -> RawPictures:
    """One split of CUHK03: pictures named <pair>_<person>_<view>_<shot>, as 1_001_1_01.png, in one folder.

    The folder is `images`, or else `images_labeled`, or else `images_detected`. The split is a JSON file, `annotations`, or
    else `splits_new_labeled.json` or `splits_new_detected.json`: the first entry of its list, with lists train, query and
    gallery of file names, or of [path, ...] of which the last part counts. "test" is query and gallery. Without such a file
    all pictures are "train". An identity is "<pair>_<person>"; a camera is one view of one pair, "<pair>_c<view>".

    Raises:
        ValueError: there is no such split, or the file of the splits cannot be read.

    Source: Li et al., DeepReID, 2014; the new splits: Zhong et al., Re-ranking Person Re-identification, 2017.
    """
    if split not in (*_LISTS, "test"):
        raise no_split(source, split, known=(*_LISTS, "test"))
    folder = split_folder(source, split, usual=_FOLDERS)
    files = listed_images(folder, source.root, findings=findings)
    splits = _splits_file(source, folder)
    if splits is None:
        if split != "train":
            raise ValueError(
                f"set {source.name!r}, split {split!r}: no file of splits in {source.root}; name it in `annotations`, or use "
                "`holdout` to make a val split out of train"
            )
        return _read(files, Role.BOTH, where=str(folder), findings=findings)
    lists = _read_splits(source.name, splits)
    by_name = {file.below: file for file in files}
    parts = []
    for part in parts_of(split):
        chosen = []
        for number, name in enumerate(lists[part]):
            if name in by_name:
                chosen.append(by_name[name])
            else:
                value = f"no file {name!r} in {folder}"
                findings.add("missing_file", file=str(splits), record=f"{part} {number}", value=value)
        parts.append(_read(chosen, role_of(part), where=str(folder), findings=findings))
    return joined(parts)


def _read(files: list[Listed], role: Role, *, where: str, findings: Findings) -> RawPictures:
    found = read_named(files, CUHK03, role=role, where=where, findings=findings)
    pairs = (identity.partition("_")[0] for identity in found.identities)
    return found._replace(cameras=[f"{pair}_{camera}" for pair, camera in zip(pairs, found.cameras, strict=True)])


def _splits_file(source: IdentitySource, folder: Path) -> Path | None:
    """The file of the splits; None where there is none and none is named.

    Raises:
        ValueError: the named one is not there.
    """
    kind = folder.name.removeprefix("images_")
    path = Path(source.root) / (source.annotations or f"splits_new_{kind}.json")
    if path.is_file():
        return path
    if source.annotations is not None:
        raise ValueError(f"set {source.name!r}, annotations: no file {path}; correct the name")
    return None


def _read_splits(set_name: str, path: Path) -> dict[str, list[str]]:
    """File names of train, query and gallery."""
    try:
        document = parse_json(path.read_bytes())
        first = document[0] if isinstance(document, list) else document
        return {part: [_last_part(entry) for entry in first[part]] for part in _LISTS}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(
            f"set {set_name!r}: {path} is no file of splits: {in_one_line(error)}; expected a list whose first "
            f"entry has the lists {', '.join(_LISTS)}"
        ) from error


def _last_part(entry: object) -> str:
    """The file name of an entry: a text, or a list that begins with one."""
    name = entry[0] if isinstance(entry, list) and entry else entry
    if not isinstance(name, str):
        raise TypeError(f"{entry!r} where a file name, or a list that begins with one, belongs")
    return name.replace("\\", "/").rpartition("/")[2]
