"""The pinhole view of a street.

World: metres; x across the street to the right, y along it, z up; the ground is z = 0 and the street's middle is x = 0.
Image: pixels; x to the right, y down. Letters: N points.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Point = tuple[float, float]

NEAR_M = 0.4


class View(NamedTuple):
    """Where a camera stands, where it looks, and its image.

    Attributes:
        x, y, z: position, metres.
        yaw: radians to the right of the street's direction; pitch: radians downwards.
        focal, center_x, center_y: pixels.
        height, width: of the image, pixels.
    """

    x: float
    y: float
    z: float
    yaw: float
    pitch: float
    focal: float
    center_x: float
    center_y: float
    height: int
    width: int

    def camera_space(self, points: Array) -> Array:
        """(..., 3) world metres -> (..., 3) right, down, forward metres from the camera."""
        origin, axes = _frame(self.x, self.y, self.z, self.yaw, self.pitch)
        seen: Array = (points - origin) @ axes
        return seen

    def project(self, points: Array) -> tuple[Array, Array]:
        """(..., 3) world metres -> (..., 2) pixels and (...) depth in metres; what lies behind is held at the near plane."""
        seen = self.camera_space(points)
        depth = seen[..., 2]
        scale = self.focal / np.maximum(depth, NEAR_M)
        pixels = seen[..., :2] * scale[..., None]
        pixels += (self.center_x, self.center_y)
        return pixels, depth

    def outline(self, polygon: Array) -> list[Point]:
        """(N, 3) flat polygon, world metres -> its pixels, cut at the near plane; empty if it lies behind the camera."""
        seen = self.camera_space(polygon).tolist()
        kept: list[list[float]] = []
        for i, here in enumerate(seen):
            before = seen[i - 1]
            if (here[2] >= NEAR_M) != (before[2] >= NEAR_M):
                t = (NEAR_M - before[2]) / (here[2] - before[2])
                kept.append([b + t * (h - b) for b, h in zip(before, here, strict=True)])
            if here[2] >= NEAR_M:
                kept.append(here)
        return [(x * self.focal / z + self.center_x, y * self.focal / z + self.center_y) for x, y, z in kept]

    def window(self, *, left: float, top: float, scale: float, height: int, width: int) -> "View":
        """The same camera, seeing only a part of its image that starts at (left, top) pixels, magnified by scale."""
        return self._replace(
            focal=self.focal * scale,
            center_x=(self.center_x - left) * scale,
            center_y=(self.center_y - top) * scale,
            height=height,
            width=width,
        )

    @property
    def horizon(self) -> float:
        """The image row of the horizon, pixels; may lie outside the image."""
        return self.center_y - self.focal * math.tan(self.pitch)


@lru_cache(maxsize=64)
def _frame(x: float, y: float, z: float, yaw: float, pitch: float) -> tuple[Array, Array]:
    """The camera's place (3,), and (3, 3) whose columns are its directions right, down and forward, in the world."""
    sin_y, cos_y, sin_p, cos_p = math.sin(yaw), math.cos(yaw), math.sin(pitch), math.cos(pitch)
    right = (cos_y, -sin_y, 0.0)
    down = (-sin_y * sin_p, -cos_y * sin_p, -cos_p)
    forward = (sin_y * cos_p, cos_y * cos_p, -sin_p)
    return np.array((x, y, z)), np.array((right, down, forward)).T
