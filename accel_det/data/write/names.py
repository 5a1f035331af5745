"""File names that every format and file system takes."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath

from accel_det.data.locate import IMAGE_SUFFIXES
from accel_det.data.records import DetectionTable

_MAX_STEM_BYTES = 150
_DIGITS = 12
_FORBIDDEN = re.compile(r"[^\w.-]|^\.")
_JPEG = ".jpg"
_SIGNATURES = {
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"BM": ".bmp",
    b"RIFF": ".webp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}


def file_names(tables: Mapping[str, DetectionTable]) -> dict[str, list[str]]:
    """File names of all images, by split; their stems differ over all splits, whatever their case.

    A name stays as it is where it can. Where it cannot, a piece of the sha256 of its split and name tells it apart: so it
    depends on no other image but those whose stem it shares.
    """
    entries = [(split, index, name) for split, table in tables.items() for index, name in enumerate(table.names())]
    stems = [_stem(name) for _, _, name in entries]
    uses = Counter(stem.casefold() for stem in stems)
    names: dict[str, list[str]] = {split: [] for split in tables}
    for (split, index, name), stem in zip(entries, stems, strict=True):
        last = PurePosixPath(name).name
        suffix = _split(last)[1] or _suffix_of(tables[split].image_bytes(index))
        if uses[stem.casefold()] > 1 or stem + suffix != last:
            stem = f"{stem}-{hashlib.sha256(f'{split}/{name}'.encode()).hexdigest()[:_DIGITS]}"
        names[split].append(stem + suffix)
    chosen = {_split(name)[0].casefold() for part in names.values() for name in part}
    assert len(chosen) == len(entries)
    return names


def _split(name: str) -> tuple[str, str]:
    """Stem and suffix; what is no suffix of images belongs to the stem."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122
    return (stem, suffix) if suffix.lower() in IMAGE_SUFFIXES else (name, "")


def _stem(name: str) -> str:
    """The stem in letters, digits, `.`, `_` and `-`, at most so long, and without the look of a suffix of images.

    Letters of all scripts are composed, since some file systems take a composed one and its parts for the same.
    """
    composed = unicodedata.normalize("NFC", _split(PurePosixPath(name).name)[0])
    stem = _FORBIDDEN.sub("_", composed).encode()[:_MAX_STEM_BYTES].decode(errors="ignore")
    inner, suffix = _split(stem)
    return f"{inner}_{suffix[1:]}" if suffix else stem


def _suffix_of(data: bytes) -> str:
    return next((suffix for start, suffix in _SIGNATURES.items() if data.startswith(start)), _JPEG)
