"""Small data sets on disk for the tests of the readers."""

import copy
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from accel_det.data.defects import Defect
from accel_det.data.records import DetectionTable
from accel_det.data.sources import SetSpec, open_split

WIDTH, HEIGHT = 40, 30


def write_image(path: Path, *, seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> Path:
    """A noise image whose bytes differ from seed to seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, "PNG")
    return path


COCO: dict[str, list[dict[str, object]]] = {
    "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
    "images": [
        {"id": 10, "file_name": "a.png", "width": WIDTH, "height": HEIGHT},
        {"id": "b", "file_name": "b.png", "width": WIDTH, "height": HEIGHT},
    ],
    "annotations": [
        {"id": 1, "image_id": 10, "category_id": 7, "bbox": [1, 2, 10, 12], "area": 100.0, "iscrowd": 0},
        {"id": 2, "image_id": 10, "category_id": 3, "bbox": [5, 5, 20, 20], "iscrowd": 1},
        {"id": 3, "image_id": "b", "category_id": 3, "bbox": [0, 0, 4.5, 4]},
        {"id": 4, "image_id": "b", "category_id": 7, "bbox": [6, 6, 8, 8]},
    ],
}
"""Two images, four objects, none of them defect; cat is class 0, for its id is the smaller."""


def coco_document() -> dict[str, list[dict[str, object]]]:
    return copy.deepcopy(COCO)


def write_coco(root: Path, document: object, *, split: str = "train") -> SetSpec:
    """A set in Roboflow's layout, with both images of COCO."""
    for seed, name in enumerate(("a.png", "b.png")):
        write_image(root / split / name, seed=seed)
    text = document if isinstance(document, str) else json.dumps(document)
    (root / split / "_annotations.coco.json").write_text(text, "utf-8")
    return SetSpec("set", "coco", str(root))


def write_voc(root: Path, objects: str, *, name: str = "a", size: tuple[int, int] = (WIDTH, HEIGHT)) -> SetSpec:
    """One image with its XML file, in VOC's layout; `objects` is XML text."""
    write_image(root / "JPEGImages" / f"{name}.png", seed=len(name))
    folder = root / "Annotations"
    folder.mkdir(parents=True, exist_ok=True)
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    text = f"<annotation><filename>{name}.png</filename>{sides}{objects}</annotation>"
    (folder / f"{name}.xml").write_text(text, "utf-8")
    return SetSpec("set", "voc", str(root))


def voc_object(name: str, corners: Sequence[object], *, difficult: int = 0) -> str:
    tags = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    box = "".join(f"<{tag}>{value}</{tag}>" for tag, value in tags)
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{box}</bndbox></object>"


def write_yolo(root: Path, labels: dict[str, str | None], *, yaml: str | None = None) -> SetSpec:
    """Images with dots in their stems, and label files; None: no label file."""
    for seed, (stem, text) in enumerate(labels.items()):
        write_image(root / "train" / "images" / f"{stem}.png", seed=seed)
        folder = root / "train" / "labels"
        folder.mkdir(parents=True, exist_ok=True)
        if text is not None:
            (folder / f"{stem}.txt").write_text(text, "utf-8")
    default = "train: train/images\nval: valid/images\nnc: 2\nnames: [cat, dog]\n"
    (root / "data.yaml").write_text(default if yaml is None else yaml, "utf-8")
    return SetSpec("set", "yolo", str(root))


def open_set(spec: SetSpec, split: str = "train", **changes: object) -> tuple[DetectionTable, list[Defect]]:
    """Opens one split of one set; `changes` are fields of the specification."""
    return open_split({spec.name: spec._replace(**changes)}, f"{spec.name}:{split}")  # type: ignore[arg-type]


def kinds(defects: Sequence[Defect]) -> dict[str, int]:
    return dict(Counter(defect.kind for defect in defects))
