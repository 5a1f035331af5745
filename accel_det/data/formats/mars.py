"""MARS: tracklets of people, as pictures."""

from pathlib import Path

import numpy as np

from accel_det.data.defects import Findings
from accel_det.data.formats.identity_names import MARS, read_named
from accel_det.data.formats.identity_raw import IdentitySource, RawPictures, listed_images, no_split, split_folder
from accel_det.data.formats.raw import Ints
from accel_det.data.lines import in_one_line
from accel_det.data.matlab import read_matlab_file
from accel_det.types import Role

_FOLDERS = {"train": "bbox_train", "test": "bbox_test"}
_INFO = "info"


def read(source: IdentitySource, split: str, *, findings: Findings) -> RawPictures:
    """One split of MARS: `bbox_train` or `bbox_test`, as 0001/0001C1T0001F001.jpg; a picture of its own for every frame.

    In "test", the pictures of the official query tracklets are queries and the others gallery, where the folder `info` is
    (`annotations` names another one); without it each picture is both. Identity 0000 is a distractor, 00-1 is junk.

    Raises:
        ValueError: there is no such split, or `info` cannot be read.

    Source: Zheng et al., MARS: A Video Benchmark for Large-Scale Person Re-identification, 2016, and the readme of the set.
    """
    if split not in _FOLDERS:
        raise no_split(source, split, known=tuple(_FOLDERS))
    folder = split_folder(source, split, usual=[_FOLDERS[split]])
    files = []
    for file in listed_images(folder, source.root, findings=findings):
        above, _, base = file.below.rpartition("/")
        if above.rpartition("/")[2] == base[:4]:
            files.append(file)
        else:
            value = f"{file.below!r} where {base[:4]}/{base} belongs: the folder is the identity; {MARS.expected}"
            findings.add("name_mismatch", file=file.path, value=value)
    found = read_named(files, MARS, role=Role.BOTH, where=str(folder), findings=findings)
    info = Path(source.root) / (source.annotations or _INFO)
    if split != "test" or (source.annotations is None and not info.is_dir()):
        return found
    asked = _query_names(source.name, info)
    roles = [Role.QUERY if name.rpartition("/")[2] in asked else Role.GALLERY for name in found.names]
    return found._replace(roles=np.array([int(role) for role in roles], np.int64))


def _query_names(set_name: str, info: Path) -> frozenset[str]:
    """The file names of all query tracklets.

    `tracks_test_info.mat` has a row for each tracklet: its first and last line of `test_name.txt`, identity and camera;
    `query_IDX.mat` has the rows of the queries. All of them count from 1.
    """
    try:
        names = (info / "test_name.txt").read_text("utf-8-sig").split()
        tracks = _whole_numbers(info / "tracks_test_info.mat", "track_test_info")
        queries = _whole_numbers(info / "query_IDX.mat", "query_IDX").reshape(-1)
        spans = tracks[queries - 1, :2]
    except (OSError, ValueError, IndexError) as error:
        raise ValueError(
            f"set {set_name!r}: {info} cannot be read as MARS's lists (test_name.txt, tracks_test_info.mat, query_IDX.mat): "
            f"{in_one_line(error)}; restore them, or remove the folder"
        ) from error
    return frozenset(name for first, last in spans.tolist() for name in names[first - 1 : last])


def _whole_numbers(file: Path, name: str) -> Ints:
    found = read_matlab_file(file, [name]).get(name)
    if found is None or isinstance(found, str) or found.dtype.kind not in "iuf":
        raise ValueError(f"{file.name} has no numbers called {name}")
    return np.asarray(found, np.int64)
