"""Small sets of pictures of identities on disk, for the tests of the readers."""

import io
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from accel_det.data.defects import Defect
from accel_det.data.identities import IdentityTable
from accel_det.data.identity_sources import open_identities
from accel_det.data.sources import SetSpec

DATA = Path(os.environ.get("ACCEL_DET_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))


def shared_data(name: str) -> Path:
    """A file or folder of the real data; the test is skipped, by name, where it is not there."""
    path = DATA / name
    if not path.exists():
        pytest.skip(f"{name} is not there: no {path}")
    return path


def picture_bytes(seed: int, *, height: int = 12, width: int = 6, kind: str = "PNG") -> bytes:
    """A noise picture whose bytes differ from seed to seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write_pictures(root: Path, names: Iterable[str]) -> Path:
    """A picture of its own for every name below the root."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture_bytes(zlib.crc32(name.encode())))
    return root


def market_names(
    identities: Sequence[int], *, cameras: Sequence[int] = (1, 2), folder: str = "bounding_box_train"
) -> list[str]:
    """One picture of every identity from every camera, named like Market-1501's."""
    return [
        f"{folder}/{identity:04d}_c{camera}s1_000{camera}51_00.jpg" for identity in identities for camera in cameras
    ]


def opened(spec: SetSpec, split: str = "train", *, training: bool | None = None) -> tuple[IdentityTable, list[Defect]]:
    """One split of one set; "train" is opened for training, others for evaluation."""
    return open_identities(
        {spec.name: spec}, f"{spec.name}:{split}", training=split == "train" if training is None else training
    )


def kinds(defects: Iterable[Defect]) -> dict[str, int]:
    return dict(Counter(defect.kind for defect in defects))


def rows(table: IdentityTable) -> list[tuple[str, str | None, str | None, int]]:
    """Name, identity, camera and role of every picture, in names."""
    found = []
    for index in range(len(table)):
        target = table.target(index)
        identity = None if target.identity < 0 else table.identities[target.identity]
        camera = None if target.camera < 0 else table.cameras[target.camera]
        found.append((table.name(index), identity, camera, int(target.role)))
    return found
