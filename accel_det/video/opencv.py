"""OpenCV, which decodes and encodes video: optional, so imported here alone, when it is needed."""

from importlib import import_module
from typing import Any


def cv2_module() -> Any:
    """The module `cv2`, which speaks only of errors.

    Raises:
        ValueError: it is not installed.
    """
    try:
        cv2 = import_module("cv2")
    except ImportError:
        raise ValueError("video needs OpenCV: `pip install 'accel_det[video]'`, or opencv-python-headless") from None
    cv2.setLogLevel(2)
    return cv2
