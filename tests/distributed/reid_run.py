"""A small, real run of re-identification: OSNet x0.25 on drawn people, with groups, and what it leaves."""

from pathlib import Path

import numpy as np
import yaml
from PIL import Image

STEPS = 8
GROUP = 4
IMAGES_PER_UPDATE = 16
NUM_IDENTITIES, NUM_CAMERAS = 9, 2
_HEIGHT_PX, _WIDTH_PX = 48, 24


def write_people(root: Path) -> None:
    """Market-1501's layout: every identity a pattern of its own under noise, 3 to 5 pictures; two are held out by name."""
    draw = np.random.default_rng(0)
    for identity in range(NUM_IDENTITIES + 3):
        split = "bounding_box_train" if identity < NUM_IDENTITIES else ""
        pattern = draw.integers(0, 200, (6, 3, 3), dtype=np.uint8).repeat(8, axis=0).repeat(8, axis=1)
        for shot in range(3 + identity % 3):
            camera = shot % NUM_CAMERAS
            folder = root / (split or ("query" if shot == 0 else "bounding_box_test"))
            folder.mkdir(parents=True, exist_ok=True)
            noise = draw.integers(0, 55, pattern.shape, dtype=np.uint8)
            name = f"{identity + 1:04d}_c{camera + 1}s1_{shot:06d}_00.png"
            Image.fromarray(pattern + noise).save(folder / name)


def write_config(folder: Path, *, people: Path, name: str = "people") -> Path:
    """A configuration with everything that has state switched on, and weights that are laid out unlike a checkpoint's."""
    config = {
        "name": name,
        "task": "reid",
        "model": {
            "name": "osnet_x0_25",
            "channels_last": True,
            "options": {"identity_loss": "cosine_softmax", "metric_loss": "triplet_soft", "center_weight": 0.01},
        },
        "data": {
            "sets": {"people": {"format": "market1501", "root": str(people)}},
            "train": "people:train",
            "val": "people:test",
            "size_px": [_HEIGHT_PX, _WIDTH_PX],
            "augment": {"flip": 0.5, "pad_px": 2, "erase": 0.3, "brightness": 0.2},
            "identities_per_group": 2,
            "images_per_identity": 2,
            "workers": 0,
        },
        "optimizer": {"name": "adamw", "lr": 0.002, "max_grad_norm": 5.0},
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
