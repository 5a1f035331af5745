"""OpenCV, which decodes and encodes video and follows corners between frames: optional, so imported here alone, when needed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any


def cv2_module(purpose: str) -> Any:
    """The module `cv2`, quiet: errors are told by those who call it.

    Args:
        purpose: what needs it, for the message.

    Raises:
        ValueError: it is not installed.
    """
    # FFmpeg writes to stderr by itself, unless it is told before the module is there.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        cv2 = import_module("cv2")
    except ImportError:
        raise ValueError(f"{purpose} needs OpenCV, which is not installed: pip install 'accel_det[video]'") from None
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2


@contextmanager
def without_chatter() -> Iterator[None]:
    """Nothing goes to stderr while the block runs: opening a VP8 encoder says each time that a tag is not needed."""
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
