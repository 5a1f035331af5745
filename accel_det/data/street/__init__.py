"""The synthetic street: pictures with boxes, classes and identities from a seed, without network or files."""

from accel_det.data.street.scenes import Crop, crops, scene, sequence
from accel_det.data.street.stage import CLASSES, Scene
from accel_det.data.street.table import read

__all__ = ["CLASSES", "Crop", "Scene", "crops", "read", "scene", "sequence"]
