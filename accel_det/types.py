"""The exchange vocabulary: every value that crosses a border between packages.

All are NamedTuples, because accelerate and torch move tensors by walking tuples, lists and mappings, and leave other
classes on the old device.

Letters: B images in a batch, N boxes of one image, H and W height and width of the batch image in pixels.
"""

from enum import IntFlag
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

TargetT = TypeVar("TargetT")


class Placement(NamedTuple):
    """Where a file's pixels lie in the batch image: x_batch = x_file * scale_x + offset_x, and y likewise.

    A mirrored image has a negative scale_x. Scales are batch pixels per file pixel, offsets are batch pixels.
    """

    scale_x: float = 1.0
    scale_y: float = 1.0
    offset_x: float = 0.0
    offset_y: float = 0.0


class Frame(NamedTuple):
    """What is known about one image beside its pixels.

    Attributes:
        sample_id: position in its split, unique there; metrics recognise an image by it.
        name: the file or record, for people to read in messages.
        height, width: pixels of the file after its EXIF orientation is applied.
        placement: from the pixels of the file to those of the batch image.
        draw_seed: every random choice about this image, in augmentation or in a model, derives from this number, which is
            a pure function of (seed, epoch, sample_id), and of the turn where a sample has several in an epoch: so no draw
            depends on the process or worker that makes it.
    """

    sample_id: int
    name: str
    height: int
    width: int
    placement: Placement = Placement()
    draw_seed: int = 0


class BoxTarget(NamedTuple):
    """The objects of one image.

    Attributes:
        boxes: (N, 4) float32, xyxy, pixels of the batch image in training, pixels of the file in evaluation
            (a model reads targets only in training; a metric only in evaluation).
        labels: (N,) int64, 0-based class index; there is no background class.
        crowd: (N,) bool, regions to be ignored: not trained on as objects, not counted as misses.
        areas: (N,) float32, square pixels of the file: COCO's area, by which small, medium and large are told apart.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    areas: Tensor

    def keep(self, mask: Tensor) -> "BoxTarget":
        """The objects for which the (N,) boolean mask, or index, holds."""
        return BoxTarget(self.boxes[mask], self.labels[mask], self.crowd[mask], self.areas[mask])

    @staticmethod
    def empty() -> "BoxTarget":
        return BoxTarget(
            torch.zeros((0, 4)), torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool), torch.zeros(0)
        )


class Role(IntFlag):
    """What a picture is in an evaluation by retrieval: asked for, looked through, or both."""

    QUERY = 1
    GALLERY = 2
    BOTH = 3


class IdentityTarget(NamedTuple):
    """Who is in a picture. Plain numbers: a model brings those of a batch to its device in one tensor.

    Attributes:
        identity: 0-based; in training the class to learn, in evaluation a number of its own for every identity of the split,
            or -1 for a distractor: somebody whom no query shows.
        camera: 0-based; -1 where it is not known.
        role: a `Role`; read in evaluation alone.
    """

    identity: int
    camera: int = -1
    role: int = Role.BOTH


class Sample(NamedTuple, Generic[TargetT]):
    """One image on its way to a batch.

    Attributes:
        image: (3, H, W) uint8 RGB.
        proposals: (P, 4) float32, xyxy, pixels of the batch image: regions that were given with the image, as those of
            selective search; None where the data has none.
    """

    image: Tensor
    target: TargetT
    frame: Frame
    proposals: Tensor | None = None


class Batch(NamedTuple, Generic[TargetT]):
    """What a model takes.

    Attributes:
        images: (B, 3, H, W) uint8 RGB, padded to one size; the model converts and normalises on its own device.
        sizes: (B, 2) int64, (height, width) of each image before padding, pixels of the batch image; always on the CPU.
        targets: one per image.
        frames: one per image: the way back to the file.
        proposals: one (P, 4) float32 per image, xyxy, pixels of the batch image, also in evaluation; None where the data
            has none.
        left_out: what is wrong with each image that should have been here and cannot be read, for people; it names the image.
        void: all were left out, and a grey image stands here: nothing is to be learned from it, nor scored.
    """

    images: Tensor
    sizes: Tensor
    targets: list[TargetT]
    frames: list[Frame]
    proposals: list[Tensor] | None = None
    left_out: tuple[str, ...] = ()
    void: bool = False


class LossTerm(NamedTuple):
    """One part of a loss, not yet divided by anything.

    Attributes:
        sum: () float, weight applied, summed over what this process saw.
        count: () float, detached: what the sum is divided by once all processes have added theirs; at least 0.
        watched: it is told beside the loss and is no part of it, as the share of wrong answers; then without a gradient.
    """

    sum: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count, which nothing calls
    watched: bool = False


Losses = dict[str, LossTerm]


class Detections(NamedTuple):
    """What a detector says about one image, best score first.

    Attributes:
        boxes: (N, 4) float32, xyxy, pixels of the batch image.
        scores: (N,) float32 in [0, 1].
        labels: (N,) int64, 0-based class index.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class DetectionRow(NamedTuple):
    """Truth and prediction of one image for the metrics: CPU tensors, xyxy boxes in pixels of the file, float64."""

    sample_id: int
    height: int
    width: int
    truth: BoxTarget
    detections: Detections


class EmbeddingRow(NamedTuple):
    """One picture for the metrics of retrieval: whom it shows, where it was taken, its role, and what the network made of it.

    Attributes:
        identity, camera, role: as in `IdentityTarget`.
        embedding: (D,) float32, of unit length, on the CPU.
    """

    sample_id: int
    identity: int
    camera: int
    role: int
    embedding: Tensor
