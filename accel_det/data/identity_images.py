"""Pictures of identities as samples: decoded, resized, and in training changed at random."""

from typing import Protocol

import torch
from torch import Tensor

from accel_det.data.augment.identity import IdentityAugmentation, augment_identity, prepare_identity
from accel_det.data.collate import PADDING_VALUE
from accel_det.data.decode import decode
from accel_det.data.order import Draw
from accel_det.data.stream_feed import Delivered
from accel_det.types import Frame, IdentityTarget, Placement, Sample


class PictureTable(Protocol):
    """What the samples need of a data set; see `identities.IdentityTable`."""

    def __len__(self) -> int: ...
    def name(self, index: int) -> str: ...
    def image_bytes(self, index: int) -> bytes: ...
    def target(self, index: int) -> IdentityTarget: ...
    def quarter_turns(self, index: int) -> int: ...


class IdentityImages:
    """`images[draw]` is a decoded, augmented sample; a pure function of the draw.

    Its frame has no placement, because nothing looks for the way back from a training picture to its file.

    Args:
        size_px: height and width of the pictures, unless a draw has a size of its own.
    """

    def __init__(self, table: PictureTable, *, size_px: tuple[int, int], augmentation: IdentityAugmentation) -> None:
        self._table = table
        self._size_px = size_px
        self._augmentation = augmentation

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, key: Draw | Delivered[Draw]) -> Sample[IdentityTarget]:
        draw = key.key if isinstance(key, Delivered) else key
        image, name = _read(self._table, draw.index, key)
        pixels = augment_identity(
            image, size_px=draw.size_px or self._size_px, augmentation=self._augmentation, seed=draw.seed
        )
        height, width = image.shape[-2:]
        frame = Frame(draw.index, name, height, width, draw_seed=draw.seed)
        return Sample(pixels, self._table.target(draw.index), frame)

    def blank(self, key: Draw | Delivered[Draw]) -> Sample[IdentityTarget]:
        """A grey picture, which shows its identity no more."""
        draw = key.key if isinstance(key, Delivered) else key
        return _blank(self._table, draw.index, size_px=draw.size_px or self._size_px)


class IdentityEvaluationImages:
    """`images[index]` is a decoded, resized sample.

    Args:
        size_px: height and width of the pictures; the aspect of the file is not kept.
    """

    def __init__(self, table: PictureTable, *, size_px: tuple[int, int]) -> None:
        self._table = table
        self._size_px = size_px

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, key: int | Delivered[int]) -> Sample[IdentityTarget]:
        index = key.key if isinstance(key, Delivered) else key
        image, name = _read(self._table, index, key)
        height, width = image.shape[-2:]
        placement = Placement(self._size_px[1] / width, self._size_px[0] / height)
        frame = Frame(index, name, height, width, placement)
        return Sample(prepare_identity(image, size_px=self._size_px), self._table.target(index), frame)

    def blank(self, key: int | Delivered[int]) -> Sample[IdentityTarget]:
        """A grey picture, which shows its identity no more."""
        index = key.key if isinstance(key, Delivered) else key
        return _blank(self._table, index, size_px=self._size_px)


def _blank(table: PictureTable, index: int, *, size_px: tuple[int, int]) -> Sample[IdentityTarget]:
    pixels = torch.full((3, *size_px), PADDING_VALUE, dtype=torch.uint8)
    return Sample(pixels, table.target(index), Frame(index, table.name(index), *size_px))


def _read(table: PictureTable, index: int, key: object) -> tuple[Tensor, str]:
    """A picture (3, H, W) uint8, turned as the table says, and its name.

    Args:
        key: what was asked for, perhaps delivered with the encoded picture.

    Raises:
        ValueError: the file cannot be read, or is no image; the message names it.
    """
    name = table.name(index)
    data = key.images[index] if isinstance(key, Delivered) else table.image_bytes(index)
    image = decode(data, name=name)
    return torch.rot90(image, table.quarter_turns(index), (1, 2)), name
