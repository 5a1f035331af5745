"""VeRi-776 and vehicles named like it."""

from accel_det.data.defects import Findings
from accel_det.data.formats.identity_names import VERI
from accel_det.data.formats.identity_raw import IdentitySource, RawPictures
from accel_det.data.formats.market1501 import read_folders

_FOLDERS = {"train": "image_train", "query": "image_query", "gallery": "image_test"}


def read(source: IdentitySource, split: str, *, findings: Findings) -> RawPictures:
    """One split of a set named like VeRi-776: 0001_c001_00016450_0.jpg.

    "train" is `image_train`, "query" is `image_query`, "gallery" is `image_test`, "test" is both of them.

    Raises:
        ValueError: there is no such split.

    Source: Liu et al., A Deep Learning-Based Approach to Progressive Vehicle Re-identification, 2016.
    """
    return read_folders(source, split, folders=_FOLDERS, form=VERI, findings=findings)
