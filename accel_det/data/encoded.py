"""Encoded images as the Arrow tables hold them: their bytes, or the file that they are in.

Letters: N images.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image

IMAGE_FEATURES = datasets.Features({"image": datasets.Image(decode=False)})
"""Of a table with the one column "image", a struct of "bytes" and "path"."""

_JPEG_QUALITY = 95
# An array of binary ends at 2 GiB, for its offsets have 32 bits; small parts also let go of the drawn bytes early.
_PART_BYTES = 256 << 20


def path_of(image: Mapping[str, object]) -> str | None:
    """Where the image file is; None where the table holds its bytes.

    Args:
        image: "bytes" and "path", as the `Image` feature of `datasets` stores them.
    """
    return None if image["bytes"] is not None else str(image["path"])


def bytes_of(image: Mapping[str, object]) -> bytes:
    """The encoded image, from disk or from the table.

    Raises:
        ValueError: the file cannot be read any more.
    """
    data = image["bytes"]
    return data if isinstance(data, bytes) else file_bytes(str(image["path"]))


def length_of(image: Mapping[str, object]) -> int:
    """Bytes of the encoded image; -1 where its file has gone."""
    path = path_of(image)
    if path is None:
        return len(bytes_of(image))
    try:
        return Path(path).stat().st_size
    except OSError:
        return -1


def file_bytes(path: str) -> bytes:
    """What a file holds.

    Raises:
        ValueError: it cannot be read; the message names it.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}; restore the file") from error


def image_array(data: Sequence[bytes] | None, paths: Sequence[str]) -> pa.StructArray:
    """A column of images.

    Args:
        data: (N,) the encoded images, less than 2 GiB together; None where they are in files.
        paths: (N,) the files, or names for people where there are bytes.
    """
    contents = pa.nulls(len(paths), pa.binary()) if data is None else pa.array(data, pa.binary())
    return pa.StructArray.from_arrays([contents, pa.array(paths, pa.string())], names=["bytes", "path"])


def image_table(images: Iterable[tuple[bytes, str]], *, part_bytes: int = _PART_BYTES) -> pa.Table:
    """A table of `IMAGE_FEATURES` in chunks, so that it may be larger than one array can be.

    Args:
        images: encoded images, and a name for each.
        part_bytes: a chunk ends with the image with which it is so large or larger.
    """
    arrays: list[pa.StructArray] = []
    data: list[bytes] = []
    names: list[str] = []
    size = 0
    for content, name in images:
        data.append(content)
        names.append(name)
        size += len(content)
        if size >= part_bytes:
            arrays.append(image_array(data, names))
            data, names, size = [], [], 0
    if data or not arrays:
        arrays.append(image_array(data, names))
    return pa.concat_tables(pa.table({"image": array}) for array in arrays)


def jpeg(pixels: npt.NDArray[np.uint8], *, full_color: bool = False) -> bytes:
    """A picture as JPEG of quality 95.

    Args:
        pixels: (H, W, 3) uint8 RGB.
        full_color: keep the color of every pixel; else of every 2x2, as is Pillow's default.
    """
    file = io.BytesIO()
    chosen = {"subsampling": 0} if full_color else {}
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=_JPEG_QUALITY, **chosen)
    return file.getvalue()
