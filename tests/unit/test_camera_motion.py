"""How the camera moves, told from two frames of painted texture."""

import importlib.util

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from accel_det.tracking.camera_motion import CameraMotion

NO_OBJECTS = np.zeros((0, 4))


def texture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """(H, W, 3) soft blobs with corners to follow."""
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))


def turned(angle: float, zoom: float, x_px: float, y_px: float) -> NDArray[np.float64]:
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    return np.array(((cos, -sin, x_px), (sin, cos, y_px)))


@pytest.mark.parametrize(("height", "width"), [(240, 320), (1205, 1603)])
def test_a_turn_a_zoom_and_a_shift_are_found_to_a_tenth_of_a_pixel(height: int, width: int) -> None:
    before, motion = texture(height, width), turned(0.01, 1.01, 6.0, -3.5)
    after = cv2.warpAffine(before, motion, (width, height))
    camera = CameraMotion()
    assert camera.estimate(before, NO_OBJECTS) is None
    found = camera.estimate(after, NO_OBJECTS)
    assert found is not None
    points = np.array(((0.0, 0, 1), (width, 0, 1), (0, height, 1), (width, height, 1)))
    np.testing.assert_allclose(points @ found.T, points @ motion.T, atol=0.1 * max(1, width / 1000))


def test_objects_that_fill_most_of_the_frame_do_not_pass_for_the_camera() -> None:
    before, paint = texture(240, 320), texture(240, 320, seed=1)
    after = np.roll(before, (2, 3), axis=(0, 1))
    box = np.array(((40.0, 30.0, 300.0, 220.0),))
    before[30:220, 40:300] = paint[30:220, 40:300]
    after[30:220, 40:300] = np.roll(paint, (-4, -9), axis=(0, 1))[30:220, 40:300]
    looking_away, not_looking_away = CameraMotion(), CameraMotion()
    looking_away.estimate(before, box)
    not_looking_away.estimate(before, NO_OBJECTS)
    found, fooled = looking_away.estimate(after, box), not_looking_away.estimate(after, NO_OBJECTS)
    assert found is not None and fooled is not None
    np.testing.assert_allclose(found, turned(0, 1, 3, 2), atol=0.05)
    np.testing.assert_allclose(fooled[:, 2], (-9, -4), atol=0.5)


def test_a_frame_without_texture_tells_nothing_and_the_next_one_starts_anew() -> None:
    camera, flat, painted = CameraMotion(), np.full((100, 100, 3), 128, dtype=np.uint8), texture(100, 100)
    assert camera.estimate(flat, NO_OBJECTS) is None
    assert camera.estimate(painted, NO_OBJECTS) is None
    assert camera.estimate(flat, NO_OBJECTS) is None
    everywhere = np.array(((-5.0, -5.0, 200.0, np.inf),))
    assert camera.estimate(painted, everywhere) is None
    assert camera.estimate(painted, NO_OBJECTS) is None
    np.testing.assert_allclose(camera.estimate(painted, NO_OBJECTS), turned(0, 1, 0, 0), atol=1e-3)


def test_a_cut_to_another_scene_is_no_motion() -> None:
    for seed in range(10):
        camera = CameraMotion()
        camera.estimate(texture(240, 320, seed), NO_OBJECTS)
        assert camera.estimate(texture(240, 320, seed + 100), NO_OBJECTS) is None


def test_the_same_frames_give_the_same_motion_bit_for_bit() -> None:
    before = texture(240, 320)
    after = cv2.warpAffine(before, turned(0.02, 1.0, 3, 1), (320, 240))
    found = []
    for _ in range(2):
        camera = CameraMotion()
        camera.estimate(before, NO_OBJECTS)
        found.append(camera.estimate(after, NO_OBJECTS))
    assert found[0] is not None and np.array_equal(found[0], found[1])


def test_a_frame_of_another_size_is_refused() -> None:
    camera = CameraMotion()
    camera.estimate(texture(96, 128), NO_OBJECTS)
    with pytest.raises(ValueError, match="the frame is 64x96 pixels, and the one before was 128x96"):
        camera.estimate(texture(96, 64), NO_OBJECTS)


def test_without_opencv_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accel_det.tracking.camera_motion.find_spec", lambda name: None)
    assert importlib.util.find_spec("cv2") is not None
    with pytest.raises(ValueError, match=r"needs OpenCV, which is not installed: pip install 'accel_det\[video\]'"):
        CameraMotion()
