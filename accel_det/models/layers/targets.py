"""The boxes of a whole batch as flat tensors, so that a loss needs no loop over images or boxes.

Letters: B images, T boxes of all images together.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from accel_det.types import BoxTarget, Frame


class PackedBoxes(NamedTuple):
    """The boxes of a batch, image after image.

    Attributes:
        image: (T,) int64, position of the box's image in the batch.
        boxes: (T, 4) float, xyxy, pixels of the batch image.
        labels: (T,) int64, 0-based class index.
        crowd: (T,) bool.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    crowd: Tensor


def pack_targets(targets: Sequence[BoxTarget], *, device: torch.device, dtype: torch.dtype) -> PackedBoxes:
    """Join the targets of a batch; nothing is read back to the host.

    Args:
        targets: one per image, at least one.
        device: of the result.
        dtype: of the boxes in the result.
    """
    lengths = [target.boxes.shape[0] for target in targets]
    image = torch.arange(len(targets)).repeat_interleave(torch.tensor(lengths), output_size=sum(lengths))
    return PackedBoxes(
        image.to(device, non_blocking=True),
        torch.cat([target.boxes for target in targets]).to(device, dtype, non_blocking=True),
        torch.cat([target.labels for target in targets]).to(device, non_blocking=True),
        torch.cat([target.crowd for target in targets]).to(device, non_blocking=True),
    )


def with_boxes_in(dtype: torch.dtype, targets: Sequence[BoxTarget]) -> list[BoxTarget]:
    """The same objects, their boxes in another number type."""
    return [target._replace(boxes=target.boxes.to(dtype)) for target in targets]


def check_labels(targets: Sequence[BoxTarget], frames: Sequence[Frame], *, num_classes: int) -> None:
    """Refuse class indices that the model has no output for.

    Targets on an accelerator are not read: that would wait for it. There the one-hot kernel stops the run instead.

    Raises:
        ValueError: naming the image, if a label is not in [0, num_classes).
    """
    for target, frame in zip(targets, frames, strict=True):
        labels = target.labels
        if labels.device.type != "cpu" or labels.numel() == 0:
            continue
        lowest, highest = (int(value) for value in labels.aminmax())
        if lowest < 0 or highest >= num_classes:
            wrong = lowest if lowest < 0 else highest
            raise ValueError(
                f"{frame.name}: class index {wrong} is not in 0..{num_classes - 1}; "
                "set num_classes to the number of classes of the data, or correct the label"
            )


def check_boxes(targets: Sequence[BoxTarget], frames: Sequence[Frame]) -> None:
    """Refuse boxes that have no place: NaN or infinite numbers would become indices outside every map.

    Targets on an accelerator are not read: that would wait for it.

    Raises:
        ValueError: naming the image and the box.
    """
    for target, frame in zip(targets, frames, strict=True):
        boxes = target.boxes
        if boxes.device.type != "cpu" or boxes.isfinite().all():
            continue
        worst = int((~boxes.isfinite()).any(dim=1).nonzero()[0])
        raise ValueError(
            f"{frame.name}: box {worst} is {boxes[worst].tolist()}, expected four finite numbers of pixels; "
            "correct the box or leave it out"
        )
