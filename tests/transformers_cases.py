"""Small networks of the DETR family, and scenes to show them."""

import torch

from accel_det.models.base import Inference
from accel_det.models.transformers.build import TransformersDetector, TransformersOptions, build
from accel_det.models.transformers.sizes import SIZES
from accel_det.types import Batch, BoxTarget, Frame

NUM_CLASSES = 3
# The first network of every type.
KINDS_TO_TEST = tuple({size.kind: name for name, size in reversed(SIZES.items())}.values())[::-1]


def build_tiny(name: str, **options: str) -> TransformersDetector:
    torch.manual_seed(0)
    settings = TransformersOptions(scale="tiny", dropout=0.0, **options)  # type: ignore[arg-type]
    return build(name, num_classes=NUM_CLASSES, inference=Inference(), options=settings)


def scene(numbers: tuple[int, ...], *, size_px: int, seed: int = 3) -> Batch[BoxTarget]:
    """Random pixels, and so many random boxes in each image."""
    draw = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (len(numbers), 3, size_px, size_px), generator=draw, dtype=torch.uint8)
    targets = []
    for number in numbers:
        corners = torch.rand((number, 2), generator=draw) * 0.6 * size_px
        sides = (0.05 + 0.3 * torch.rand((number, 2), generator=draw)) * size_px
        labels = torch.randint(0, NUM_CLASSES, (number,), generator=draw)
        crowd = torch.zeros(number, dtype=torch.bool)
        targets.append(BoxTarget(torch.cat((corners, corners + sides), dim=1), labels, crowd, sides.prod(dim=1)))
    frames = [Frame(index, f"image {index}", size_px, size_px, draw_seed=100 + index) for index in range(len(numbers))]
    return Batch(images, torch.tensor([[size_px, size_px]] * len(numbers)), targets, frames)
