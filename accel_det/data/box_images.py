"""Images with boxes as samples: decoded, resized, and in training changed at random and put together."""

import math
from typing import Protocol

import torch
from torch import Tensor

from accel_det.boxes import place
from accel_det.data.augment.settings import PROPOSAL_LABEL
from accel_det.data.collate import PADDING_VALUE
from accel_det.data.decode import decode
from accel_det.data.order import Draw
from accel_det.data.stream_feed import Delivered
from accel_det.data.transforms import Augmentation, Augmented, ResizeRule, augment, augment_from, prepare_image
from accel_det.types import BoxTarget, Frame, Placement, Sample


class BoxTable(Protocol):
    """What the loaders need of a data set; see `records.DetectionTable`."""

    def __len__(self) -> int: ...
    def name(self, index: int) -> str: ...
    def size(self, index: int) -> tuple[int, int]: ...
    def image_bytes(self, index: int) -> bytes: ...
    def truth(self, index: int) -> BoxTarget: ...
    def proposals(self, index: int) -> Tensor | None: ...


class TrainingImages:
    """`images[draw]` is a decoded, augmented sample; a pure function of the draw.

    The frame is that of the image that has its turn, also where others are in the picture.

    Args:
        plain_from_epoch: draws of this epoch and later ones hold one image each: no mosaic, no mixup, no pasted objects.
        mends: where another image of a mosaic and the like cannot be read, the image that has its turn takes its place.
    """

    def __init__(
        self,
        table: BoxTable,
        *,
        rule: ResizeRule,
        augmentation: Augmentation,
        plain_from_epoch: float | None = None,
        mends: bool = False,
    ) -> None:
        self._table = table
        self._rule = rule
        self._augmentation = augmentation
        self._plain_from_epoch = math.inf if plain_from_epoch is None else plain_from_epoch
        self._mends = mends

    def __getitem__(self, key: Draw | Delivered[Draw]) -> Sample[BoxTarget]:
        draw = key.key if isinstance(key, Delivered) else key
        pictures = _Pictures(self._table, draw.index, key if isinstance(key, Delivered) else None, mends=self._mends)
        pixels, target, placement = self._augmented(pictures, draw)
        given = target.labels == PROPOSAL_LABEL
        proposals = None if self._table.proposals(draw.index) is None else target.boxes[given]
        return Sample(pixels, target.keep(~given), self._frame(draw, placement), proposals)

    def blank(self, key: Draw | Delivered[Draw]) -> Sample[BoxTarget]:
        """A grey image without objects, of the size that the draw would have."""
        draw = key.key if isinstance(key, Delivered) else key
        grey = _grey(*self._table.size(draw.index))
        made = augment(
            grey, BoxTarget.empty(), rule=self._rule, augmentation=Augmentation(), seed=0, canvas=draw.size_px
        )
        proposals = None if self._table.proposals(draw.index) is None else torch.zeros((0, 4))
        return Sample(made.image, made.target, self._frame(draw, made.placement), proposals)

    def _augmented(self, pictures: "_Pictures", draw: Draw) -> Augmented:
        plain = draw.epoch >= self._plain_from_epoch
        while True:
            try:
                return augment_from(
                    pictures,
                    pictures.own,
                    rule=self._rule,
                    augmentation=self._augmentation.plain() if plain else self._augmentation,
                    seed=draw.seed,
                    canvas=draw.size_px,
                )
            except _BadCompanion as bad:
                pictures.replace(bad.index)

    def _frame(self, draw: Draw, placement: Placement) -> Frame:
        height, width = self._table.size(draw.index)
        return Frame(draw.index, self._table.name(draw.index), height, width, placement, draw.seed)


class _BadCompanion(Exception):
    """An image cannot be read that is not the one that has its turn."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


class _Pictures:
    """The images that a sample may be made of: those of a table, or those that were delivered.

    Given regions are among their objects, under a label of their own.

    Args:
        index: in the table, of the image that has its turn; `own` is its number here.
        mends: raise `_BadCompanion` where another image cannot be read.
    """

    def __init__(self, table: BoxTable, index: int, delivered: Delivered[Draw] | None, *, mends: bool) -> None:
        self._table = table
        self._delivered = delivered
        self._mends = mends
        self._replaced: set[int] = set()
        self.own = index if delivered is None else 0

    def __len__(self) -> int:
        return len(self._table) if self._delivered is None else len(self._delivered.members)

    def size(self, index: int) -> tuple[int, int]:
        return self._table.size(self._in_table(index))

    def replace(self, index: int) -> None:
        """From now on the image that has its turn stands for this one."""
        self._replaced.add(index)

    def image(self, index: int) -> Tensor:
        """Decode an image.

        Raises:
            ValueError: not an image, or of another size than the table says.
        """
        try:
            return self._decoded(self._in_table(index))
        except (ValueError, OSError) as error:
            if self._mends and self._in_table(index) != self._in_table(self.own):
                raise _BadCompanion(index) from error
            raise

    def _decoded(self, index: int) -> Tensor:
        name = self._table.name(index)
        data = self._table.image_bytes(index) if self._delivered is None else self._delivered.images[index]
        image = decode(data, name=name)
        height, width = (int(side) for side in image.shape[-2:])
        if (height, width) != self._table.size(index):
            expected = "x".join(str(side) for side in reversed(self._table.size(index)))
            raise ValueError(
                f"{name}: is {width}x{height} pixels, expected {expected} as when the run started; restore the file"
            )
        return image

    def target(self, index: int) -> BoxTarget:
        index = self._in_table(index)
        found, given = self._table.truth(index), self._table.proposals(index)
        if given is None:
            return found
        count = len(given)
        return BoxTarget(
            torch.cat((found.boxes, given)),
            torch.cat((found.labels, torch.full((count,), PROPOSAL_LABEL, dtype=torch.int64))),
            torch.cat((found.crowd, torch.zeros(count, dtype=torch.bool))),
            torch.cat((found.areas, torch.zeros(count))),
        )

    def _in_table(self, index: int) -> int:
        index = self.own if index in self._replaced else index
        return index if self._delivered is None else self._delivered.members[index]


class EvaluationImages:
    """`images[index]` is a decoded, resized sample whose target stays in pixels of the file, as metrics want it."""

    def __init__(self, table: BoxTable, *, rule: ResizeRule) -> None:
        self._table = table
        self._rule = rule

    def __getitem__(self, key: int | Delivered[int]) -> Sample[BoxTarget]:
        index = key.key if isinstance(key, Delivered) else key
        name = self._table.name(index)
        data = key.images[index] if isinstance(key, Delivered) else self._table.image_bytes(index)
        image = decode(data, name=name)
        height, width = image.shape[-2:]
        pixels, placement = prepare_image(image, self._rule)
        given = self._table.proposals(index)
        frame = Frame(index, name, height, width, placement)
        return Sample(pixels, self._table.truth(index), frame, None if given is None else place(given, placement))

    def blank(self, key: int | Delivered[int]) -> Sample[BoxTarget]:
        """A grey image without objects, of the size that the image would have."""
        index = key.key if isinstance(key, Delivered) else key
        height, width = self._table.size(index)
        pixels, placement = prepare_image(_grey(height, width), self._rule)
        given = None if self._table.proposals(index) is None else torch.zeros((0, 4))
        return Sample(pixels, BoxTarget.empty(), Frame(index, self._table.name(index), height, width, placement), given)


def _grey(height: int, width: int) -> Tensor:
    return torch.full((3, height, width), PADDING_VALUE, dtype=torch.uint8)
