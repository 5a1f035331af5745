"""Small files of sets, and what holds of every split that is read: for tests that break them."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from accel_det.data.identities import IdentityTable
from accel_det.data.records import DetectionTable

WIDTH, HEIGHT = 40, 30

Files = Mapping[str, bytes | str]
"""Contents by place."""


def png(seed: int = 0, *, width: int = WIDTH, height: int = HEIGHT) -> bytes:
    """A noise image whose bytes differ from seed to seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_files(root: Path, *layers: Files) -> None:
    """Files by place; what a later layer has too is written over."""
    for place, content in {place: content for layer in layers for place, content in layer.items()}.items():
        path = root / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def assert_sound_boxes(table: DetectionTable) -> None:
    """Every box is finite, has an area, and lies in its image; every label is one of the classes."""
    for index in range(len(table)):
        height, width = table.size(index)
        truth = table.truth(index)
        x1, y1, x2, y2 = truth.boxes.reshape(-1, 4).T
        assert bool(((x1 >= 0) & (x1 < x2) & (x2 <= width) & (y1 >= 0) & (y1 < y2) & (y2 <= height)).all())
        assert bool(((truth.labels >= 0) & (truth.labels < len(table.classes))).all())
        assert bool((truth.areas > 0).all()) and bool(truth.areas.isfinite().all())


def assert_sound_identities(table: IdentityTable) -> None:
    """Every picture has bytes, a role, and a label and a camera that are known or -1."""
    for index in range(len(table)):
        target = table.target(index)
        assert -1 <= target.identity < len(table.identities) and -1 <= target.camera < len(table.cameras)
        assert int(target.role) in (1, 2, 3) and table.image_bytes(index)
