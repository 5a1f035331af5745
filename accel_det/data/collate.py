"""Samples of different sizes -> one batch."""

from collections.abc import Sequence
from typing import TypeVar

import torch

from accel_det import boxes
from accel_det.types import Batch, BoxTarget, Placement, Sample

TargetT = TypeVar("TargetT")

PADDING_VALUE = 114
"""The gray, of 255, that fills what an image leaves free: near the mean of natural images."""


def collate_boxes(samples: Sequence[Sample[TargetT]], *, multiple_px: int = 1) -> Batch[TargetT]:
    """Stack images from the top left, padded at the bottom and right; boxes and placements therefore stay as they are.

    Args:
        samples: at least one; images (3, H, W) uint8, of any sizes.
        multiple_px: height and width of the batch image are the largest of the samples, rounded up to a multiple of
            this: the stride of a network that needs one.

    Raises:
        ValueError: no samples, an image of another type or shape, or multiple_px below 1.
    """
    if not samples or multiple_px < 1:
        raise ValueError(
            f"batch of {len(samples)} samples at multiples of {multiple_px} px, expected at least 1 of each; "
            "correct the caller"
        )
    for sample in samples:
        image = sample.image
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise ValueError(
                f"{sample.frame.name}: image is {image.dtype} of shape {tuple(image.shape)}, expected uint8 of shape "
                "(3, H, W); convert it to RGB when it is decoded"
            )
    sizes = torch.tensor([sample.image.shape[1:] for sample in samples], dtype=torch.int64)
    height, width = (-(-int(extent) // multiple_px) * multiple_px for extent in sizes.amax(dim=0))
    if bool((sizes == sizes.new_tensor((height, width))).all()):
        images = torch.stack([sample.image for sample in samples])
    else:
        images = torch.full((len(samples), 3, height, width), PADDING_VALUE, dtype=torch.uint8)
        for canvas, sample in zip(images, samples, strict=True):
            canvas[:, : sample.image.shape[1], : sample.image.shape[2]] = sample.image
    given = [sample.proposals for sample in samples if sample.proposals is not None]
    return Batch(
        images,
        sizes,
        [sample.target for sample in samples],
        [sample.frame for sample in samples],
        given if len(given) == len(samples) else None,
    )


def join_objects(samples: Sequence[Sample[BoxTarget]]) -> Sample[BoxTarget]:
    """The first sample with the objects and given regions of all: what a mosaic or a blend holds at most.

    Boxes lie at the same shares of the image as in their own one.

    Args:
        samples: at least one.
    """
    first = samples[0]
    height, width = first.image.shape[1:]
    moves = [Placement(width / sample.image.shape[2], height / sample.image.shape[1]) for sample in samples]
    targets = [
        sample.target._replace(boxes=boxes.place(sample.target.boxes, move))
        for sample, move in zip(samples, moves, strict=True)
    ]
    regions = [
        boxes.place(sample.proposals, move)
        for sample, move in zip(samples, moves, strict=True)
        if sample.proposals is not None
    ]
    return first._replace(
        target=BoxTarget(*(torch.cat(columns) for columns in zip(*targets, strict=True))),
        proposals=torch.cat(regions) if regions else None,
    )
