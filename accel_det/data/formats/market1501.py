"""Folders of a split with file names that say everything: Market-1501, DukeMTMC-reID, and what is named like them."""

from collections.abc import Mapping

from accel_det.data.defects import Findings
from accel_det.data.formats.identity_names import MARKET1501, NameForm, read_named
from accel_det.data.formats.identity_raw import (
    IdentitySource,
    RawPictures,
    joined,
    listed_images,
    no_split,
    parts_of,
    role_of,
    split_folder,
)

_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}


def read(source: IdentitySource, split: str, *, findings: Findings) -> RawPictures:
    """One split of a set named like Market-1501 (0002_c1s1_000451_03.jpg) or DukeMTMC-reID (0001_c2_f0046182.jpg).

    "train" is `bounding_box_train`, "query" is `query`, "gallery" is `bounding_box_test`, "test" is both of them. Identity 0
    is a distractor, -1 is junk.

    Raises:
        ValueError: there is no such split.

    Source: Zheng et al., Scalable Person Re-identification: A Benchmark, 2015, and the readme of the set.
    """
    return read_folders(source, split, folders=_FOLDERS, form=MARKET1501, findings=findings)


def read_folders(
    source: IdentitySource, split: str, *, folders: Mapping[str, str], form: NameForm, findings: Findings
) -> RawPictures:
    """One split of a set whose splits are folders.

    Args:
        folders: of train, query and gallery.

    Raises:
        ValueError: there is no such split.
    """
    if split not in (*folders, "test"):
        raise no_split(source, split, known=(*folders, "test"))
    parts = []
    for part in parts_of(split):
        folder = split_folder(source, part, usual=[folders[part]])
        files = listed_images(folder, source.root, findings=findings)
        parts.append(read_named(files, form, role=role_of(part), where=str(folder), findings=findings))
    return joined(parts)
