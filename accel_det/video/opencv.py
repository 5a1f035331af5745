"""OpenCV, which decodes and encodes video: optional, so imported here alone, when it is needed."""

import os
from importlib import import_module
from typing import Any


def cv2_module() -> Any:
    """The module `cv2`, which is quiet: errors are told by those who call it.

    Raises:
        ValueError: it is not installed.
    """
    # FFmpeg writes to stderr by itself; what a person must know is in our errors.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        cv2 = import_module("cv2")
    except ImportError:
        raise ValueError("video needs OpenCV: `pip install 'accel_det[video]'`, or opencv-python-headless") from None
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    return cv2
