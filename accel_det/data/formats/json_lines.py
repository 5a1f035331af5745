"""JSON lines that are streamed: images by their paths below the root, or their bytes as base64 text."""

import base64
import binascii
from pathlib import PurePosixPath
from typing import Any

import datasets

from accel_det.data.locate import Folder
from accel_det.data.shards import Refusal


def holds_images(feature: Any) -> bool:
    """Whether a column can be one of images: texts, or objects with a text in `bytes` or `path`."""
    fields = feature if isinstance(feature, dict) else {"path": feature}
    found = [field for name, field in fields.items() if name in ("bytes", "path")]
    return bool(found) and all(field == datasets.Value("string") for field in found)


def with_images(dataset: datasets.IterableDataset, column: str, *, root: str) -> datasets.IterableDataset:
    """The rows with the images of a column as `datasets` stores them undecoded: bytes, or the address of a file.

    Args:
        root: folder, or address, that paths begin at and that they must not leave.
    """
    features = datasets.Features({**dataset.features, column: datasets.Image(decode=False)})
    return dataset.map(lambda row: {column: _image(row[column], root)}, features=features)


def _image(value: Any, root: str) -> dict[str, Any] | None:
    """Bytes and path; no bytes where they are in a file. None where there is no image.

    Raises:
        Refusal: the text of `bytes` is no base64, or the path leads out of the root.
    """
    found = value if isinstance(value, dict) else {"path": value}
    data, path = found.get("bytes"), found.get("path")
    if data is not None:
        try:
            return {"bytes": base64.b64decode(data, validate=True), "path": path}
        except binascii.Error as error:
            raise Refusal(f"image {path or ''}: `bytes` is no base64 text: {error}") from error
    return None if path is None else {"bytes": None, "path": _below(path, root)}


def _below(path: str, root: str) -> str:
    written = PurePosixPath(path)
    inside = bool(written.name) and not written.is_absolute() and ".." not in written.parts and "://" not in path
    if inside and "://" not in root:
        found = Folder(root).find(path)
        inside = found is None or found.inside
    if not inside:
        raise Refusal(f"image {path!r} leads out of {root}; write its path from there")
    return f"{root.rstrip('/')}/{path}"
