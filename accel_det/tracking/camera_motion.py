"""The camera moves: what that does to the states of tracks, and how it is found from two frames.

Letters: T tracks, H and W height and width of a frame in pixels.
"""

import numpy as np
from numpy.typing import NDArray

from accel_det.tracking import kalman
from accel_det.tracking.kalman import States

Floats = NDArray[np.float64]


def admit_motion(motion: NDArray[np.floating], *, frame: int) -> Floats:
    """A map of pixels as float64.

    Raises:
        ValueError: it is not a finite (2, 3) matrix that turns areas into areas.
    """
    found = np.asarray(motion, dtype=np.float64)
    if found.shape != (2, 3) or not np.isfinite(found).all() or not abs(np.linalg.det(found[:, :2])) > 1e-6:
        raise ValueError(
            f"frame {frame}: camera motion {found.tolist()}, expected a finite (2, 3) affine map, of x and y in the frame "
            "before to x and y in this one, that keeps areas above 0"
        )
    return found


def move(states: States, motion: Floats) -> States:
    """States in the pixels of the next frame: centers and velocities are mapped, heights and their velocities scaled.

    The scale is the root of what the map does to areas; the aspect stays, as it must where the map is a similarity.
    """
    linear = motion[:, :2]
    step = np.zeros((4, 4))
    step[:2, :2], step[kalman.ASPECT, kalman.ASPECT], step[kalman.HEIGHT, kalman.HEIGHT] = linear, 1.0, _scale(motion)
    both = np.kron(np.eye(2), step)
    mean = states.mean @ both.T
    mean[:, :2] += motion[:, 2]
    return States(mean, both @ states.covariance @ both.T)


def move_measured(measured: Floats, motion: Floats) -> Floats:
    """(T, 4) x, y, aspect, height in the pixels of the next frame."""
    center = measured[:, :2] @ motion[:, :2].T + motion[:, 2]
    return np.column_stack((center, measured[:, kalman.ASPECT], measured[:, kalman.HEIGHT] * _scale(motion)))


def _scale(motion: Floats) -> float:
    return float(np.sqrt(abs(np.linalg.det(motion[:, :2]))))
