"""The filter of all tracks at once against one track at a time, and what camera motion does to it."""

import numpy as np
import pytest
from numpy.typing import NDArray

from accel_det.tracking import kalman
from accel_det.tracking.association import gates
from accel_det.tracking.camera_motion import admit_motion, move, move_measured
from accel_det.tracking.kalman import States
from accel_det.tracking.settings import TrackerSettings

PAPER = TrackerSettings()
Floats = NDArray[np.float64]


def random_boxes(rng: np.random.Generator, number: int) -> Floats:
    low = rng.uniform(-50, 500, (number, 2))
    return np.hstack((low, low + rng.uniform(5, 200, (number, 2))))


def paper_step(mean: Floats, covariance: Floats, measured: Floats) -> tuple[Floats, Floats]:
    """Predict and update of one track, as textbooks write it, with the published noise."""
    step = np.eye(8)
    step[:4, 4:] = np.eye(4)
    h = mean[3]
    q = np.diag(np.array((h / 20, h / 20, 1e-2, h / 20, h / 160, h / 160, 1e-5, h / 160)) ** 2)
    mean, covariance = step @ mean, step @ covariance @ step.T + q
    h = mean[3]
    spread = covariance[:4, :4] + np.diag(np.array((h / 20, h / 20, 1e-1, h / 20)) ** 2)
    gain = covariance[:, :4] @ np.linalg.inv(spread)
    return mean + gain @ (measured - mean[:4]), (np.eye(8) - gain @ np.eye(4, 8)) @ covariance


def test_two_hundred_steps_of_fifty_tracks_equal_those_of_one_track_at_a_time() -> None:
    rng = np.random.default_rng(0)
    boxes, speed = random_boxes(rng, 50), rng.normal(0, 2, (50, 2))
    states = kalman.initiate(kalman.measure(boxes), PAPER)
    h = states.mean[:, 3]
    np.testing.assert_allclose(states.covariance[:, 0, 0], (2 * h / 20) ** 2)
    np.testing.assert_allclose(states.covariance[:, 4, 4], (10 * h / 160) ** 2)
    single = [(mean.copy(), covariance.copy()) for mean, covariance in zip(*states, strict=True)]
    for number in range(200):
        moved = boxes + np.tile(speed * number, 2) + rng.normal(0, 1, boxes.shape)
        measured = kalman.measure(moved)
        states = kalman.update(kalman.predict(states, PAPER), measured, PAPER)
        single = [paper_step(*one, z) for one, z in zip(single, measured, strict=True)]
    np.testing.assert_allclose(states.mean, np.array([mean for mean, _ in single]), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(states.covariance, np.array([c for _, c in single]), rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(states.mean[:, 4:6], speed, atol=1.5)


def test_the_covariance_stays_symmetric_and_positive_after_three_thousand_exact_detections() -> None:
    settings = TrackerSettings(measured_position_std=1e-7, measured_aspect_std=1e-7)
    measured = kalman.measure(np.array(((0.0, 0.0, 1e-3, 1e-3), (0.0, 0.0, 1e6, 1e7))))
    states = kalman.initiate(measured, settings)
    for _ in range(3000):
        states = kalman.update(kalman.predict(states, settings), measured, settings)
    largest = states.covariance.diagonal(axis1=1, axis2=2).max(axis=1)
    for covariance, scale in zip(states.covariance, largest, strict=True):
        np.testing.assert_allclose(covariance, covariance.T, rtol=1e-6, atol=1e-12 * scale)
        assert np.linalg.eigvalsh((covariance + covariance.T) / 2).min() > -1e-12 * scale


def test_boxes_survive_the_way_to_measurements_and_back() -> None:
    boxes = random_boxes(np.random.default_rng(1), 100)
    np.testing.assert_allclose(kalman.corners(kalman.measure(boxes)), boxes, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(kalman.measure(np.array(((10.0, 20.0, 40.0, 80.0),))), ((25.0, 50.0, 0.5, 60.0),))


@pytest.mark.parametrize("num_parts", [4, 2])
def test_squared_distances_equal_those_by_the_inverse_pair_by_pair(num_parts: int) -> None:
    rng = np.random.default_rng(2)
    states = kalman.initiate(kalman.measure(random_boxes(rng, 20)), PAPER)
    for _ in range(3):
        states = kalman.predict(states, PAPER)
    measured = kalman.measure(random_boxes(rng, 30))
    found = kalman.squared_distances(states, measured, PAPER, num_parts=num_parts)
    for t in range(20):
        h = states.mean[t, 3]
        spread = states.covariance[t, :4, :4] + np.diag(np.array((h / 20, h / 20, 1e-1, h / 20)) ** 2)
        inverse = np.linalg.inv(spread[:num_parts, :num_parts])
        for n in range(30):
            apart = (measured[n] - states.mean[t, :4])[:num_parts]
            assert found[t, n] == pytest.approx(apart @ inverse @ apart, rel=1e-9)


def test_the_published_gates_are_the_chi_square_quantiles_and_grow_with_misses_where_asked() -> None:
    ages = np.array((1, 2, 11))
    assert gates(ages, PAPER) == pytest.approx([9.4877] * 3, abs=1e-4)
    assert gates(ages, TrackerSettings(gate="position")) == pytest.approx([5.9915] * 3, abs=1e-4)
    assert gates(ages, TrackerSettings(gate_widening=0.5)) == pytest.approx([9.4877, 14.2316, 56.9263], abs=1e-3)
    assert np.isinf(gates(ages, TrackerSettings(gate="none"))).all()


def test_a_size_that_shrinks_away_stays_positive_and_at_rest() -> None:
    mean = np.array(((50.0, 50.0, 0.5, 10.0, 1.0, 0.0, -0.6, -12.0),))
    ahead = kalman.predict(States(mean, np.eye(8)[None]), PAPER)
    np.testing.assert_allclose(ahead.mean, ((51.0, 50.0, 0.5, 10.0, 1.0, 0.0, 0.0, 0.0),))


def test_heights_may_have_a_noise_of_their_own() -> None:
    settings = TrackerSettings(
        initial_velocity_std=0.5,
        initial_height_velocity_std=0.01,
        process_velocity_std=0.2,
        process_height_velocity_std=0.02,
    )
    start = kalman.initiate(np.array(((0.0, 0.0, 1.0, 10.0),)), settings)
    assert np.sqrt(start.covariance[0].diagonal()[[4, 5, 7]]) == pytest.approx((5.0, 5.0, 0.1))
    ahead = kalman.predict(start, settings)
    added = ahead.covariance[0].diagonal()[[4, 5, 7]] - start.covariance[0].diagonal()[[4, 5, 7]]
    assert np.sqrt(added) == pytest.approx((2.0, 2.0, 0.2))


def test_camera_motion_maps_states_as_it_maps_points_that_are_drawn_from_them() -> None:
    rng = np.random.default_rng(3)
    start = kalman.initiate(np.array(((100.0, 60.0, 0.5, 40.0),)), PAPER)
    states = kalman.predict(kalman.predict(start, PAPER), PAPER)
    states.mean[0, 4:] = (3.0, -1.0, 0.0, 0.5)
    turn, zoom = 0.3, 1.2
    linear = zoom * np.array(((np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))))
    motion = np.column_stack((linear, (7.0, -4.0)))
    moved = move(states, motion)
    draws = rng.multivariate_normal(states.mean[0], states.covariance[0], 200_000)
    mapped = np.column_stack(
        (
            draws[:, :2] @ linear.T + (7.0, -4.0),
            draws[:, 2],
            zoom * draws[:, 3],
            draws[:, 4:6] @ linear.T,
            draws[:, 6],
            zoom * draws[:, 7],
        )
    )
    spread = np.sqrt(moved.covariance[0].diagonal())
    np.testing.assert_allclose((moved.mean[0] - mapped.mean(axis=0)) / spread, np.zeros(8), atol=0.01)
    np.testing.assert_allclose(moved.covariance[0] / np.outer(spread, spread), np.corrcoef(mapped.T), atol=0.01)
    np.testing.assert_allclose(move_measured(states.mean[:, :4], motion), moved.mean[:, :4])


@pytest.mark.parametrize(
    "motion",
    [np.eye(3), np.zeros((2, 3)), np.full((2, 3), np.nan), np.array(((100.0, 0, 0), (0, 100.0, 0)))],
    ids=["3x3", "flat", "nan", "zoom 100"],
)
def test_a_motion_that_is_no_camera_motion_is_refused_with_its_frame(motion: Floats) -> None:
    with pytest.raises(ValueError, match=r"^frame 7: camera motion .*, expected a finite \(2, 3\) affine map"):
        admit_motion(motion, frame=7)
