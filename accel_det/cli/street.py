"""`accel-det street FOLDER`: pictures of the synthetic street."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from accel_det.cli.failures import DONE
from accel_det.data import street
from accel_det.engine.console import Console


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="accel-det street", description="Draw scenes of the synthetic street, with their boxes as JSON."
    )
    parser.add_argument("folder", type=Path, help="where to write the pictures")
    parser.add_argument("--images", type=int, default=12, help="number of scenes")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another street")
    parser.add_argument("--height", type=int, default=240, help="pixels")
    parser.add_argument("--width", type=int, default=320, help="pixels")
    options = parser.parse_args(list(arguments))
    options.folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for index in range(options.images):
        scene = street.scene(options.seed, index, height=options.height, width=options.width)
        name = f"scene-{index:04d}.png"
        Image.fromarray(scene.image).save(options.folder / name)
        labels = [street.CLASSES[label] for label in scene.labels]
        truth[name] = [
            {"class": c, "box_xyxy": [float(v) for v in b]} for c, b in zip(labels, scene.boxes, strict=True)
        ]
    (options.folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    Console(speaks=True).say(f"{options.images} scenes: {options.folder}")
    return DONE
