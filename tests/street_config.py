"""A configuration with a handful of small scenes of the street, for tests of commands that write or push data."""

from pathlib import Path

import yaml

_CONFIG = {
    "name": "tiny",
    "model": {"name": "yolov5n"},
    "data": {
        "sets": {"street": {"format": "street", "parameters": {"seed": 5, "images": 6, "height": 64, "width": 96}}},
        "train": "street:train",
        "val": "street:val",
        "resize": {"size_px": 64},
    },
    "train": {"steps": 1},
}


def write_street_config(file: Path) -> None:
    """Six scenes of 64 x 96 pixels in each split."""
    file.write_text(yaml.safe_dump(_CONFIG))
