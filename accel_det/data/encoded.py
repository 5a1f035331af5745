"""Encoded images as the Arrow tables hold them: their bytes, or the file that they are in."""

from collections.abc import Mapping
from pathlib import Path


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
    if isinstance(data, bytes):
        return data
    try:
        return Path(str(image["path"])).read_bytes()
    except OSError as error:
        raise ValueError(f"{image['path']}: cannot be read: {error.strerror or error}; restore the file") from error
