"""The filter of all tracks at once: a constant velocity of center, aspect and height.

Letters: T tracks, N detections. A state is (x, y, a, h) and their velocities per frame: center in pixels, aspect = width
/ height, height in pixels. A measurement is (x, y, a, h). All arrays are float64.

Source: Wojke et al., Simple Online and Realtime Tracking with a Deep Association Metric, 2017, section 2.1. The covariance is
updated in Joseph's form, which stays symmetric and positive whatever the rounding.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_det.tracking.settings import TrackerSettings

Floats = NDArray[np.float64]

ASPECT, HEIGHT = 2, 3
TRANSITION = np.eye(8) + np.eye(8, k=4)
SMALLEST_SIDE_PX = 1e-3
TINY = np.finfo(np.float64).tiny
OBSERVED = np.eye(4, 8)


class States(NamedTuple):
    """Where tracks are believed to be.

    Attributes:
        mean: (T, 8).
        covariance: (T, 8, 8).
    """

    mean: Floats
    covariance: Floats

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> "States":
        return States(self.mean[rows], self.covariance[rows])

    def put(self, rows: NDArray[np.int64], states: "States") -> None:
        """Write other states in place of the rows."""
        self.mean[rows], self.covariance[rows] = states


def measure(boxes: Floats) -> Floats:
    """(N, 4) xyxy with positive sides -> (N, 4) x, y, aspect, height."""
    size = boxes[:, 2:] - boxes[:, :2]
    return np.column_stack((boxes[:, :2] + size / 2, size[:, 0] / size[:, 1], size[:, 1]))


def corners(measured: Floats) -> Floats:
    """(N, 4 or more) x, y, aspect, height, ... -> (N, 4) xyxy."""
    half = measured[:, HEIGHT, None] * np.column_stack((measured[:, ASPECT], np.ones(len(measured)))) / 2
    return np.hstack((measured[:, :2] - half, measured[:, :2] + half))


def initiate(measured: Floats, settings: TrackerSettings) -> States:
    """States of new tracks, at rest on their first measurements (N, 4)."""
    mean = np.hstack((measured, np.zeros_like(measured)))
    height_velocity = settings.initial_height_velocity_std
    std = _deviations(
        measured[:, HEIGHT],
        position=settings.initial_position_std,
        velocity=settings.initial_velocity_std,
        height_velocity=settings.initial_velocity_std if height_velocity is None else height_velocity,
        aspect=settings.initial_aspect_std,
        aspect_velocity=settings.initial_aspect_velocity_std,
    )
    return States(mean, _diagonals(std**2))


def predict(states: States, settings: TrackerSettings) -> States:
    """States one frame later. A size that would no longer be positive stays as it is, at rest."""
    height_velocity = settings.process_height_velocity_std
    std = _deviations(
        states.mean[:, HEIGHT],
        position=settings.process_position_std,
        velocity=settings.process_velocity_std,
        height_velocity=settings.process_velocity_std if height_velocity is None else height_velocity,
        aspect=settings.process_aspect_std,
        aspect_velocity=settings.process_aspect_velocity_std,
    )
    mean = states.mean @ TRANSITION.T
    for size in (ASPECT, HEIGHT):
        gone = mean[:, size] <= 0
        mean[gone, size], mean[gone, size + 4] = states.mean[gone, size], 0.0
    return States(mean, TRANSITION @ states.covariance @ TRANSITION.T + _diagonals(std**2))


def project(states: States, settings: TrackerSettings) -> tuple[Floats, Floats]:
    """The measurements that are expected: means (T, 4) and covariances (T, 4, 4), the detector's noise included."""
    return states.mean[:, :4], states.covariance[:, :4, :4] + _measurement_noise(states, settings)


def update(states: States, measured: Floats, settings: TrackerSettings) -> States:
    """States after a measurement (T, 4) of each was taken in."""
    expected, spread = project(states, settings)
    gain = np.linalg.solve(spread, states.covariance[:, :4, :]).transpose(0, 2, 1)
    mean = states.mean + (gain @ (measured - expected)[:, :, None])[:, :, 0]
    kept = np.eye(8) - gain @ OBSERVED
    noise = _measurement_noise(states, settings)
    covariance = kept @ states.covariance @ kept.transpose(0, 2, 1) + gain @ noise @ gain.transpose(0, 2, 1)
    return States(mean, covariance)


def squared_distances(states: States, measured: Floats, settings: TrackerSettings, *, num_parts: int) -> Floats:
    """(T, N) squared Mahalanobis distances of measurements (N, 4) from what is expected.

    Args:
        num_parts: 4 for center, aspect and height, 2 for the center alone.
    """
    expected, spread = project(states, settings)
    variances, axes = np.linalg.eigh(spread[:, :num_parts, :num_parts])
    whiten = (axes / np.sqrt(np.maximum(variances, TINY))[:, None, :]).transpose(0, 2, 1)
    mapped = whiten.reshape(-1, num_parts) @ measured[:, :num_parts].T
    apart = mapped.reshape(len(whiten), num_parts, len(measured)) - whiten @ expected[:, :num_parts, None]
    distances: Floats = np.einsum("tpn,tpn->tn", apart, apart)
    return distances


def _measurement_noise(states: States, settings: TrackerSettings) -> Floats:
    """(T, 4, 4) of the detector."""
    height = np.maximum(states.mean[:, HEIGHT, None], SMALLEST_SIDE_PX)
    std = np.repeat(settings.measured_position_std * height, 4, axis=1)
    std[:, ASPECT] = settings.measured_aspect_std
    return _diagonals(std**2)


def _deviations(
    height: Floats, *, position: float, velocity: float, height_velocity: float, aspect: float, aspect_velocity: float
) -> Floats:
    """(T, 8) standard deviations: shares of the height (T,), except for those of the aspect."""
    shares: Floats = np.array((position, position, 0, position, velocity, velocity, 0, height_velocity))
    plain: Floats = np.array((0, 0, aspect, 0, 0, 0, aspect_velocity, 0))
    return np.maximum(height, SMALLEST_SIDE_PX)[:, None] * shares + plain


def _diagonals(values: Floats) -> Floats:
    """(T, D) -> (T, D, D)."""
    return values[:, :, None] * np.eye(values.shape[1])
