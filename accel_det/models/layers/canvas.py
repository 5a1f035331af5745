"""The canvas of a batch: the images on it, their sizes, and their pixels as networks want them.

Letters: B images, H and W height and width of the canvas in pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from accel_det.types import Batch, BoxTarget

Sizes = list[tuple[int, int]]


def image_sizes(batch: Batch[BoxTarget]) -> Sizes:
    """(height, width) of each image before padding, pixels of the batch; `sizes` is on the CPU, so nothing waits."""
    return [(height, width) for height, width in batch.sizes.tolist()]


def unit_canvas(images: Tensor, *, multiple_px: int, dtype: torch.dtype) -> Tensor:
    """(B, 3, H, W) uint8 -> [0, 1], channels last, with which the convolutions of a small network are a sixth faster on a CPU.

    Raises:
        ValueError: a side is no multiple of `multiple_px`.
    """
    height, width = images.shape[-2:]
    if height % multiple_px or width % multiple_px:
        raise ValueError(
            f"images of {height}x{width} pixels: this network takes multiples of {multiple_px}; "
            "set the image size, or pad to such a multiple"
        )
    return images.to(dtype, memory_format=torch.channels_last) / 255


def normalized_canvas(
    images: Tensor,
    sizes: Sizes,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    divisor: int,
    dtype: torch.dtype,
) -> Tensor:
    """(B, 3, H, W) uint8 -> (value / 255 - mean) / std, exactly 0 outside each image, as torchvision pads.

    Args:
        sizes: (height, width) of each image inside the canvas, pixels.
        mean, std: per channel, of values in [0, 1].
        divisor: the sides of the result are multiples of it; what is added at the bottom and the right is 0.
    """
    height, width = images.shape[-2:]
    pixels = images.to(dtype) / 255
    for channel, (center, spread) in enumerate(zip(mean, std, strict=True)):  # scalars: no copy from the host
        pixels[:, channel].sub_(center).div_(spread)
    limits = torch.tensor(sizes).to(images.device, non_blocking=True)  # made on the device, it would wait for it
    rows = torch.arange(height, device=images.device) < limits[:, :1]
    columns = torch.arange(width, device=images.device) < limits[:, 1:]
    pixels *= (rows[:, :, None] & columns[:, None, :])[:, None]
    padded_height, padded_width = padded_canvas(height, width, divisor=divisor)
    return F.pad(pixels, (0, padded_width - width, 0, padded_height - height))


def padded_canvas(height: int, width: int, *, divisor: int) -> tuple[int, int]:
    """Both sides rounded up to multiples of `divisor`, pixels."""
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor
