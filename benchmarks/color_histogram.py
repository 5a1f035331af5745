"""How far color alone gets in retrieval: the floor that a trained network has to beat, on the split of a configuration.

python benchmarks/color_histogram.py configs/reid/resnet18_grocery.yaml
"""

import json
import sys

import torch
from torch import Tensor
from torch.nn import functional as F

from accel_det.cli.compose import parts_of
from accel_det.config.load import load_config
from accel_det.data.augment.identity import prepare_identity
from accel_det.data.decode import decode
from accel_det.tasks.reid import ReidTask
from accel_det.types import EmbeddingRow

BINS = 8
SIDE_PX = 64


def main(arguments: list[str]) -> int:
    config = load_config(arguments[0], arguments[1:]).config
    parts = parts_of(config)
    table = parts.open_tables().val
    task = parts.make_task(table)
    assert isinstance(task, ReidTask)
    rows = []
    for index in range(len(table)):
        target = table.target(index)
        image = prepare_identity(decode(table.image_bytes(index), name=table.name(index)), size_px=(SIDE_PX, SIDE_PX))
        rows.append(EmbeddingRow(index, target.identity, target.camera, int(target.role), histogram(image)))
    scores = task.score(rows)
    sys.stdout.write(json.dumps({"val": config.data.val, "bins": BINS**3, **scores}, indent=1) + "\n")
    return 0


def histogram(image: Tensor) -> Tensor:
    """(3, H, W) uint8 -> (512,) float32 of unit length: the roots of the shares of 8 x 8 x 8 colors."""
    bins = image.long() * BINS // 256
    cells = (bins[0] * BINS + bins[1]) * BINS + bins[2]
    return F.normalize(torch.bincount(cells.flatten(), minlength=BINS**3).float().sqrt(), dim=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
