"""Data sets in memory whose objects are red rectangles on black, so that the pixels themselves say where they are."""

import random
from collections.abc import Iterable

import torch
from torch import Tensor

from accel_det import boxes
from accel_det.types import BoxTarget

Corners = tuple[int, int, int, int]


def target_of(*corners: Iterable[float]) -> BoxTarget:
    given = torch.tensor([list(box) for box in corners], dtype=torch.float32).reshape(-1, 4)
    count = len(given)
    return BoxTarget(given, torch.arange(count), torch.zeros(count, dtype=torch.bool), boxes.area(given))


def rectangle(height: int, width: int, *corners: Corners) -> Tensor:
    image = torch.zeros((3, height, width), dtype=torch.uint8)
    for left, top, right, bottom in corners:
        image[0, top:bottom, left:right] = 255
    return image


class PaintedPictures:
    """`length` pictures of odd sizes; those of `painted` hold one red rectangle, the others nothing.

    Attributes:
        reads: the indices of the pictures that were read.
    """

    def __init__(self, length: int, *, painted: Iterable[int], seed: int = 0) -> None:
        rng = random.Random(seed)
        self._length = length
        self._sizes = {}
        self._objects: dict[int, Corners] = {}
        self._painted = set(painted)
        for index in self._painted:
            height, width = rng.randint(50, 130), rng.randint(50, 130)
            left, top = rng.randint(0, width - 30), rng.randint(0, height - 30)
            self._sizes[index] = height, width
            self._objects[index] = (left, top, rng.randint(left + 20, width), rng.randint(top + 20, height))
        self.reads: list[int] = []

    def __len__(self) -> int:
        return self._length

    def size(self, index: int) -> tuple[int, int]:
        return self._sizes.get(index, (60 + index % 50, 110 - index % 50))

    def image(self, index: int) -> Tensor:
        self.reads.append(index)
        objects = [self._objects[index]] if index in self._painted else []
        return rectangle(*self.size(index), *objects)

    def target(self, index: int) -> BoxTarget:
        return target_of(self._objects[index]) if index in self._painted else target_of()


def redness(image: Tensor) -> Tensor:
    """(H, W) how much more red than green: 0 for black and grey."""
    return image[0].int() - image[1].int()


def thick(pixels: Tensor) -> bool:
    """Whether (H, W) booleans hold anywhere on a square of 3 x 3."""
    return bool((torch.nn.functional.avg_pool2d(pixels[None].float(), 3, stride=1) > 0.99).any())


def extent(image: Tensor) -> tuple[float, float, float, float] | None:
    """xyxy of the pixels that are at least half as red as the reddest; None where nothing is red."""
    red = redness(image)
    if int(red.max()) < 64:
        return None
    rows, columns = torch.nonzero(red >= int(red.max()) / 2, as_tuple=True)
    return float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)
