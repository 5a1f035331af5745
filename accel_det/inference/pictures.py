"""Pictures in the forms that people have them."""

import io
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor

from accel_det.data.decode import decode

Picture = str | Path | Tensor | Image.Image


def read_picture(picture: Picture, position: int) -> tuple[Tensor, str]:
    """(3, H, W) uint8 RGB upright, and its name: the file, or "image 3" for the one at position 3.

    Raises:
        ValueError: a file cannot be read, or a tensor has another shape or type.
    """
    name = f"image {position}"
    if isinstance(picture, Tensor):
        if picture.dtype != torch.uint8 or picture.ndim != 3 or picture.shape[0] != 3 or picture.numel() == 0:
            raise ValueError(
                f"{name}: a {picture.dtype} tensor of shape {tuple(picture.shape)}, expected uint8 (3, H, W), RGB"
            )
        return picture.cpu(), name
    if isinstance(picture, Image.Image):
        buffer = io.BytesIO()
        # TIFF holds every mode that Pillow has, so that one decoder says what each means in RGB.
        ImageOps.exif_transpose(picture).save(buffer, format="TIFF")
        return decode(buffer.getvalue(), name=name), name
    try:
        data = Path(picture).read_bytes()
    except OSError as error:
        raise ValueError(f"{picture}: cannot be read ({error.strerror}); correct the path") from None
    return decode(data, name=str(picture)), str(picture)
