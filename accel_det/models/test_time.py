"""Test-time augmentation: an image is predicted at several sizes and mirrored, and all answers are merged.

Each view gives its scored candidates without suppression of its own, and one suppression over the candidates of all
views decides, as Detectron's test-time augmentation does: an object that only one view finds survives, and what several
views find votes together where voting is on. Letters: B images.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import functional

from accel_det import boxes as box_ops
from accel_det.models.base import Inference, ZooModel
from accel_det.models.layers.nms import Candidates, join, suppress
from accel_det.types import Batch, BoxTarget, Detections, Losses, Placement

PADDING_VALUE = 114
"""What fills the canvas beside an image: the gray of `data.collate`."""


class View(NamedTuple):
    """One way to look at a batch: a share of its size, mirrored or not."""

    scale: float
    flip: bool


def views(inference: Inference) -> list[View]:
    """All scales as they are, then, if asked for, all of them mirrored."""
    return [View(scale, flip) for flip in ((False, True) if inference.flip else (False,)) for scale in inference.scales]


def with_views(
    model: ZooModel[BoxTarget, Detections], inference: Inference, *, multiple_px: int
) -> ZooModel[BoxTarget, Detections]:
    """The network itself where one view is asked for, else the network behind several.

    Args:
        model: built with `inference.of_one_view`, as `zoo.build` does.
        multiple_px: heights and widths of batch images are multiples of this.
    """
    return model if inference.one_view else ManyViews(model, inference, multiple_px=multiple_px)


class ManyViews(ZooModel[BoxTarget, Detections]):
    """A detector that looks several times: one view of the whole batch after the other, so memory holds one at a time.

    Where suppression is "none", because the network by itself repeats nothing, its views do repeat each other: then they
    are merged by hard suppression.

    Args:
        model: shared, not copied; its losses are the wrapper's.
        inference: the views, and how their candidates are merged.
        multiple_px: see `with_views`.
    """

    def __init__(self, model: ZooModel[BoxTarget, Detections], inference: Inference, *, multiple_px: int) -> None:
        super().__init__()
        self.model = model
        self.training = model.training
        self.inference = inference._replace(nms="hard") if inference.nms == "none" else inference
        self.multiple_px = multiple_px

    def losses(self, batch: Batch[BoxTarget]) -> Losses:
        return self.model.losses(batch)

    def counts(self, batch: Batch[BoxTarget]) -> dict[str, Tensor] | None:
        return self.model.counts(batch)

    def compilable(self) -> list[nn.Module]:
        return self.model.compilable()

    def predict(self, batch: Batch[BoxTarget]) -> list[Detections]:
        parts = [self._candidates(batch, view) for view in views(self.inference)]
        height, width = batch.images.shape[-2:]
        return suppress(join(parts), self.inference, num_images=len(batch.images), height=height, width=width)

    def _candidates(self, batch: Batch[BoxTarget], view: View) -> Candidates:
        """What one view finds, in pixels of the batch image."""
        seen, placements = look(batch, view, multiple_px=self.multiple_px)
        parts = [
            Candidates(
                torch.full_like(found.labels, index),
                box_ops.unplace(found.boxes.double(), placement),
                found.scores,
                found.labels,
            )
            for index, (found, placement) in enumerate(zip(self.model.predict(seen), placements, strict=True))
        ]
        return join(parts)


def look(batch: Batch[BoxTarget], view: View, *, multiple_px: int) -> tuple[Batch[BoxTarget], list[Placement]]:
    """A batch as a view sees it, and for each image the way from its old pixels to its new ones.

    Each image is cut out of the canvas, mirrored, resized on its device, bilinear with antialiasing, and padded at the
    bottom and the right to a multiple of `multiple_px`. Given proposals follow. Targets stay as they are: predictions do
    not read them.
    """
    if view == View(1.0, flip=False):
        return batch, [Placement()] * len(batch.images)
    sizes = [(height, width) for height, width in batch.sizes.tolist()]
    new_sizes = [(max(1, round(h * view.scale)), max(1, round(w * view.scale))) for h, w in sizes]
    canvas = [-(-max(sides) // multiple_px) * multiple_px for sides in zip(*new_sizes, strict=True)]
    images = batch.images.new_full((len(sizes), 3, *canvas), PADDING_VALUE)
    placements = []
    for image, pixels, (height, width), (new_height, new_width) in zip(
        images, batch.images, sizes, new_sizes, strict=True
    ):
        own = pixels[:, :height, :width]
        own = own.flip(-1) if view.flip else own
        if (new_height, new_width) != (height, width):
            own = functional.resize(own, [new_height, new_width], antialias=True)  # type: ignore[attr-defined]
        image[:, :new_height, :new_width] = own
        scale_x, scale_y = new_width / width, new_height / height
        mirrored = Placement(-scale_x, scale_y, float(new_width), 0.0)
        placements.append(mirrored if view.flip else Placement(scale_x, scale_y))
    proposals = batch.proposals
    if proposals is not None:
        proposals = [box_ops.place(given, placement) for given, placement in zip(proposals, placements, strict=True)]
    seen = batch._replace(images=images, sizes=torch.tensor(new_sizes), proposals=proposals)
    return seen, placements
