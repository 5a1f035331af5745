"""The camera moves: what that does to the states of tracks, and how it is found from two frames.

Letters: T tracks, H and W height and width of a frame in pixels.
"""

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel_det.tracking import kalman
from accel_det.tracking.kalman import States

Floats = NDArray[np.float64]
Grey = NDArray[np.uint8]

MOST_ZOOM = 10.0
LONGEST_SIDE_PX = 1000
MOST_CORNERS = 1000
LEAST_CORNERS = 8
LEAST_SHARE = 0.25


def admit_motion(motion: NDArray[np.floating], *, frame: int) -> Floats:
    """A map of pixels as float64.

    Raises:
        ValueError: it is not a finite (2, 3) matrix that makes sides at most ten times longer or shorter.
    """
    found = np.asarray(motion, dtype=np.float64)
    sound = found.shape == (2, 3) and np.isfinite(found).all()
    if not sound or not 1 / MOST_ZOOM <= _scale(found) <= MOST_ZOOM:
        raise ValueError(
            f"frame {frame}: camera motion {found.tolist()}, expected a finite (2, 3) affine map, of x and y in the frame "
            f"before to x and y in this one, that zooms by no more than {MOST_ZOOM:g}"
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


class CameraMotion:
    """How the camera moves, frame by frame: corners of the background are followed by sparse optical flow, and the rotation,
    scale and shift that most of them agree on is taken.

    Raises:
        ValueError: OpenCV is not installed.
    """

    def __init__(self) -> None:
        if find_spec("cv2") is None:
            raise ValueError(
                "camera motion needs OpenCV, which is not installed: pip install 'accel_det[video]', or track without it"
            )
        self._before: Grey | None = None
        self._objects = np.zeros((0, 4))

    def estimate(self, pixels: NDArray[np.uint8], objects: NDArray[np.floating]) -> Floats | None:
        """The map from the pixels of the frame before to those of this one.

        Args:
            pixels: (H, W, 3) uint8 RGB, the next frame.
            objects: (N, 4) xyxy, boxes of what moves by itself in it, and is looked away from.

        Returns:
            (2, 3) affine map of x and y; None for a first frame, or where fewer than 8 or a quarter of the corners agree, as
            without texture or after a cut.

        Raises:
            ValueError: the frame has another size than the one before.
        """
        import cv2

        grey = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
        before, away = self._before, self._objects
        if before is not None and before.shape != grey.shape:
            raise ValueError(
                f"camera motion: the frame is {_size(grey)} pixels, and the one before was {_size(before)}"
            )
        self._before, self._objects = grey, np.asarray(objects, dtype=np.float64)
        return None if before is None else _common_motion(before, grey, background=_background(before.shape, away))


def _common_motion(before: Grey, after: Grey, *, background: Grey) -> Floats | None:
    """(2, 3) map of the background's pixels, or None where it cannot be told. Large frames are looked at in a smaller size."""
    import cv2

    shrink = -(-max(before.shape) // LONGEST_SIDE_PX)
    first, second = (
        cv2.resize(g, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_AREA) for g in (before, after)
    )
    mask = cv2.resize(background, None, fx=1 / shrink, fy=1 / shrink, interpolation=cv2.INTER_NEAREST)
    corners: Any = cv2.goodFeaturesToTrack(first, MOST_CORNERS, 0.01, 5, mask=mask)
    if corners is None:
        return None
    followed, is_found, _ = cv2.calcOpticalFlowPyrLK(first, second, corners, np.zeros_like(corners))
    kept = is_found[:, 0] == 1
    if kept.sum() < LEAST_CORNERS:
        return None
    motion: Any
    motion, agrees = cv2.estimateAffinePartial2D(corners[kept], followed[kept], method=cv2.RANSAC)
    if motion is None or agrees.sum() < max(LEAST_CORNERS, LEAST_SHARE * kept.sum()):
        return None
    found: Floats = np.asarray(motion, dtype=np.float64) * (1, 1, shrink)
    return found if 1 / MOST_ZOOM <= _scale(found) <= MOST_ZOOM else None


def _background(shape: tuple[int, ...], objects: Floats) -> Grey:
    """(H, W) uint8: 0 where an object is, 255 elsewhere."""
    height, width = shape
    mask = np.full(shape, 255, dtype=np.uint8)
    whole = np.hstack((np.floor(objects[:, :2]), np.ceil(objects[:, 2:])))
    inside = np.clip(np.nan_to_num(whole), 0, (width, height, width, height)).astype(np.int64)
    for x1, y1, x2, y2 in inside:
        mask[y1:y2, x1:x2] = 0
    return mask


def _size(grey: Grey) -> str:
    return f"{grey.shape[1]}x{grey.shape[0]}"
