"""The objects of a batch as set prediction takes them.

Letters: B images, T boxes of all images together.
"""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from accel_det import boxes as box_ops
from accel_det.models.layers.targets import pack_targets
from accel_det.types import BoxTarget


class Objects(NamedTuple):
    """The boxes of a batch, image after image; crowd regions stand among them, marked, and are never matched.

    Attributes:
        image: (T,) int64, position of the box's image in the batch.
        boxes: (T, 4) float, center x, center y, width, height, as shares of the frame: see `pack_objects`.
        labels: (T,) int64.
        crowd: (T,) bool.
        per_image: number of boxes of each image, known without asking the device.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    per_image: tuple[int, ...]

    def number_of_each(self) -> Tensor:
        """(B,) float, objects of each image without its crowd regions."""
        numbers = self.boxes.new_zeros(len(self.per_image))
        return numbers.index_add(0, self.image, (~self.crowd).to(numbers.dtype))


def pack_objects(targets: Sequence[BoxTarget], frames: Tensor) -> Objects:
    """Join the targets of a batch; nothing is read back to the host.

    Args:
        targets: one per image.
        frames: (B, 2) float on the device, (height, width) in pixels of what boxes are given as shares of: the image
            before padding for a network that sees a mask of it, else the batch image.
    """
    packed = pack_targets(targets, device=frames.device, dtype=frames.dtype)
    scale = frames.flip(1).repeat(1, 2)[packed.image]
    return Objects(
        packed.image,
        box_ops.xyxy_to_cxcywh(packed.boxes) / scale,
        packed.labels,
        packed.crowd,
        tuple(target.boxes.shape[0] for target in targets),
    )
