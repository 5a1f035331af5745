"""Small split of images with boxes in the Hub's convention, and its shards, for the tests of streams."""

import io
from collections.abc import Sequence
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from accel_det.data import shards
from accel_det.data.defects import Defect
from accel_det.data.records import DetectionTable
from accel_det.data.sources import SetSpec, open_split

CLASSES = ("cat", "dog", "owl")


def shorten_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts to read follow each other at once."""
    monkeypatch.setattr(shards, "_PAUSES_S", (0.01, 0.01, 0.01))
    for what in ("READ", "OPEN"):
        monkeypatch.setattr(datasets.config, f"STREAMING_{what}_RETRY_INTERVAL", 0.01)
        monkeypatch.setattr(datasets.config, f"STREAMING_{what}_MAX_RETRIES", 2)


def jpeg(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((20 + number, 40, 3), number * 5, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def record(number: int, *, texts: bool = False) -> dict[str, object]:
    """Image number 4, 9, ... has no object."""
    count = 0 if number % 5 == 4 else 1 + number % 3
    labels: list[object] = [CLASSES[(number + i) % 3] if texts else (number + i) % 3 for i in range(count)]
    boxes = [[1.0 + i, 2.0, 5.0 + number / 8, 6.0] for i in range(count)]
    return {"bbox": boxes, "category": labels}


def features(*, sized: bool) -> datasets.Features:
    sides = {"width": datasets.Value("int64"), "height": datasets.Value("int64")} if sized else {}
    return datasets.Features(
        {
            "image": datasets.Image(),
            **sides,
            "objects": {
                "bbox": datasets.List(datasets.List(datasets.Value("float64"))),
                "category": datasets.List(datasets.ClassLabel(names=list(CLASSES))),
            },
        }
    )


def write_parquet(folder: Path, lengths: Sequence[int] = (4, 0, 7, 1), *, sized: bool = True) -> Path:
    """Files train-0.parquet, ...; row groups of three."""
    folder.mkdir(parents=True, exist_ok=True)
    start = 0
    for number, length in enumerate(lengths):
        rows = [
            {"image": {"bytes": jpeg(i), "path": f"{i:02}.jpg"}, "objects": record(i)}
            | ({"width": 40, "height": 20 + i} if sized else {})
            for i in range(start, start + length)
        ]
        kinds = features(sized=sized)
        data = datasets.Dataset.from_dict({name: [row[name] for row in rows] for name in kinds}, features=kinds)
        data.to_parquet(str(folder / f"train-{number}.parquet"), batch_size=3)
        start += length
    return folder


def stream(root: Path | str, split: str = "train", **fields: object) -> tuple[DetectionTable, list[Defect]]:
    spec = SetSpec("s", "hub", str(root), streaming=True)._replace(**fields)  # type: ignore[arg-type]
    return open_split({"s": spec}, f"s:{split}")


def assert_split(table: DetectionTable, count: int) -> None:
    assert table.classes == CLASSES and len(table) == count
    for index in range(count):
        assert table.size(index) == (20 + index, 40)
        assert table.image_bytes(index) == jpeg(index)
        expected = record(index)
        truth = table.truth(index)
        assert truth.labels.tolist() == expected["category"]
        xywh = torch.tensor(expected["bbox"]).reshape(-1, 4)
        assert torch.allclose(truth.boxes, torch.cat((xywh[:, :2], xywh[:, :2] + xywh[:, 2:]), dim=1))
