"""A run that is small and real: YOLOv5n at 64 pixels on two dozen drawn images, and what it leaves, read back."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from PIL import Image

STEPS = 8
IMAGES_PER_UPDATE = 12
NUM_TRAIN, NUM_VAL = 23, 7
_SIDE_PX = 80
# How fast it went is not part of what a run computes.
_MEASURED = ("images_per_s", "data_wait", "memory_gb")


class Result(NamedTuple):
    """What a finished run computed.

    Attributes:
        entries: of the journal, numbers as hexadecimal text: equal means equal bit for bit.
        digests: file of the last checkpoint -> sha256.
    """

    entries: list[dict[str, str]]
    digests: dict[str, str]


def write_images(root: Path) -> None:
    """Splits `train` and `val` in COCO's format: rectangles on noise; every fifth image is without objects."""
    draw = np.random.default_rng(0)
    for split, count in (("train", NUM_TRAIN), ("val", NUM_VAL)):
        folder = root / split
        folder.mkdir(parents=True)
        images: list[dict[str, object]] = []
        annotations: list[dict[str, object]] = []
        for number in range(count):
            pixels = draw.integers(0, 90, (_SIDE_PX, _SIDE_PX, 3), dtype=np.uint8)
            for _ in range(0 if number % 5 == 4 else int(draw.integers(1, 5))):
                (x, y), (w, h), label = draw.integers(0, 40, 2), draw.integers(12, 40, 2), int(draw.integers(0, 2))
                pixels[y : y + h, x : x + w, label] = 250
                box = [int(x), int(y), int(w), int(h)]
                entry = {"id": len(annotations), "image_id": number, "bbox": box, "area": int(w * h), "iscrowd": 0}
                annotations.append(entry | {"category_id": label})
            Image.fromarray(pixels).save(folder / f"{number:02}.png")
            images.append({"id": number, "file_name": f"{number:02}.png", "height": _SIDE_PX, "width": _SIDE_PX})
        categories = [{"id": 0, "name": "red"}, {"id": 1, "name": "green"}]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (folder / "_annotations.coco.json").write_text(json.dumps(document))


def write_config(folder: Path, *, images: Path, name: str = "small") -> Path:
    """A configuration with everything that has state switched on: moving average, momentum, evaluation, augmentation."""
    config = {
        "name": name,
        "model": {"name": "yolov5n"},
        "data": {
            "sets": {"drawn": {"format": "coco", "root": str(images)}},
            "train": "drawn:train",
            "val": "drawn:val",
            "resize": {"size_px": 64},
            "augment": {"scale": [0.6, 1.4], "translate": 0.5, "brightness": 0.2},
            "workers": 0,
        },
        "optimizer": {"name": "adamw", "lr": 0.002, "max_grad_norm": 1.0},
        "schedule": {"name": "cosine", "warmup_steps": 3},
        "train": {"steps": STEPS, "images_per_update": IMAGES_PER_UPDATE},
        "ema": {"decay": 0.9, "ramp_steps": 4.0},
        "evaluate": {"every_steps": 4, "images_per_forward": 1},
        "checkpoint": {"every_steps": 2},
        "journal": {"every_steps": 1, "trackers": []},
        "runtime": {"output": str(folder), "timeout_s": 60, "threads": 1},
    }
    file = folder / f"{name}.yaml"
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(yaml.safe_dump(config))
    return file


def entries(run: Path, kind: str = "train") -> list[dict[str, Any]]:
    """Whole lines of the journal, also while it is written."""
    file = run / "metrics.jsonl"
    lines = file.read_text().split("\n")[:-1] if file.exists() else []
    return [entry for entry in map(json.loads, lines) if entry["kind"] == kind]


def last_step(run: Path) -> int:
    """Of the journal, while it is written; 0 before the first line."""
    found = entries(run)
    return int(found[-1]["step"]) if found else 0


def result(run: Path, *, step: int = STEPS) -> Result:
    manifest = json.loads((run / "checkpoints" / f"step-{step:08d}" / "manifest.json").read_text())
    digests = {name: entry["sha256"] for name, entry in manifest["files"].items() if name.endswith(".safetensors")}
    assert set(digests) == {"model.safetensors", "ema.safetensors", "optimizer.safetensors"}
    every = sorted(entries(run) + entries(run, "val"), key=lambda entry: (entry["step"], entry["kind"]))
    exact = [{key: _exact(value) for key, value in entry.items() if key not in _MEASURED} for entry in every]
    return Result(exact, digests)


def exit_facts(run: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((run / "exit.json").read_text())
    return facts


def _exact(value: object) -> str:
    return value.hex() if isinstance(value, float) else str(value)
