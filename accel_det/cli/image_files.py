"""The images that a person names on a command line: files, folders, patterns."""

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

IMAGES_HELP = "images, folders, or patterns such as 'photos/*.jpg'"

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".avif", ".heic"}


def find_images(patterns: Sequence[str]) -> Iterator[Path]:
    """Files of paths, folders and patterns, in this order, sorted within each.

    Raises:
        ValueError: one of them gives nothing.
    """
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            found = sorted(entry for entry in path.rglob("*") if entry.suffix.lower() in _SUFFIXES)
        elif path.exists():
            found = [path]
        else:
            matches = glob.glob(pattern, recursive=True)  # noqa: PTH207 (patterns may be absolute)
            found = sorted(path for path in map(Path, matches) if path.is_file())
        if not found:
            raise ValueError(f"{pattern}: no image there; expected an image file, a folder with images, or a pattern")
        yield from found
