"""accel_det: object detectors and re-identification networks, trained by one Accelerate loop.

import accel_det
detector = accel_det.load("runs/street")
found = detector.detect(["photo.jpg"])
embedder = accel_det.load("runs/people")
features = embedder.embed(["one.jpg", "other.jpg"])
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accel_det.inference import Detector, Embedder, ImageDetections, load

__all__ = ["Detector", "Embedder", "ImageDetections", "load"]


def __getattr__(name: str) -> object:
    # On first use, because importing torch takes seconds that `accel-det --help` does not need.
    if name in __all__:
        from accel_det import inference

        return getattr(inference, name)
    raise AttributeError(f"module 'accel_det' has no attribute {name!r}")
