"""Where frames come from."""

import sys
from pathlib import Path

import numpy as np
import pytest
from footage_cases import HEIGHT, WIDTH, number_of, numbered, write_images, write_sequence, write_video
from PIL import Image

from accel_det.video.footage import VideoFile, open_footage, require_pixels


def seen(source: Path) -> list[tuple[int, int]]:
    """The number of each frame as the footage counts it, and as its picture shows it."""
    (footage,) = open_footage([str(source)])
    return [(frame.number, number_of(require_pixels(frame))) for frame in footage]


def test_images_of_a_folder_come_in_the_order_of_the_numbers_in_their_names(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "walk", ["f1.png", "f2.png", "f10.png", "f11.png", "g3.png"])
    assert seen(folder) == [(number, number) for number in range(1, 6)]


def test_a_video_gives_every_frame_once_in_red_green_blue(tmp_path: Path) -> None:
    file = write_video(tmp_path / "walk.mp4", frames=12)
    (footage,) = open_footage([str(file)])
    assert (footage.name, footage.frames_per_s, footage.num_frames) == ("walk", 10.0, 12)
    frames = list(footage)
    assert [(frame.number, number_of(require_pixels(frame))) for frame in frames] == [(n, n) for n in range(1, 13)]
    first = require_pixels(frames[0])
    assert first.shape == (HEIGHT, WIDTH, 3) and first.dtype == np.uint8
    assert np.abs(first[:8].mean(axis=(0, 1)) - (200, 20, 20)).max() < 12


def test_a_sequence_has_the_name_and_rate_that_its_file_states(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "Street-01")
    (footage,) = open_footage([str(folder)])
    assert (footage.name, footage.frames_per_s, footage.num_frames) == ("Street-01", 5.0, 4)
    assert seen(folder) == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_a_folder_of_sequences_gives_all_and_a_folder_of_videos_too(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_sequence(tmp_path / "set" / name)
    (tmp_path / "films").mkdir()
    for name in ("y.mp4", "x.mp4"):
        write_video(tmp_path / "films" / name)
    assert [footage.name for footage in open_footage([str(tmp_path / "set")])] == ["a", "b"]
    assert [footage.name for footage in open_footage([str(tmp_path / "films")])] == ["x", "y"]


def test_footages_of_one_name_keep_apart(tmp_path: Path) -> None:
    for place in ("one", "two"):
        write_images(tmp_path / place / "walk", ["1.png"])
    names = [footage.name for footage in open_footage([str(tmp_path / place / "walk") for place in ("one", "two")])]
    assert names == ["walk", "walk-2"]


def test_a_missing_frame_of_a_sequence_is_named_instead_of_shifting_all_after_it(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "walk")
    (folder / "img1" / "000003.png").unlink()
    with pytest.raises(ValueError, match=r"img1: frame 3 is missing, for 000004\.png comes in its place"):
        open_footage([str(folder)])


def test_a_video_that_was_cut_says_how_many_frames_are_missing(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mp4", frames=30).read_bytes()
    # Its index lies at the end, so without it nothing can be read; a text file is no better.
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.mp4").write_text("no video\n" * 50)
    (tmp_path / "empty.mp4").touch()
    for name in ("cut", "text", "empty"):
        with pytest.raises(ValueError, match=rf"{name}\.mp4: no video that can be decoded"):
            VideoFile(tmp_path / f"{name}.mp4")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", r"nowhere: no such file or folder; expected a video file, folder of images"),
        ("empty", r"empty: no images, videos or MOTChallenge sequences in it"),
        ("one.png", r"one\.png: one image, expected a video file"),
        ("camera:9", r"camera:9: no such camera"),
    ],
)
def test_what_is_no_footage_is_refused_by_name(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    Image.fromarray(numbered(1)).save(tmp_path / "one.png")
    with pytest.raises(ValueError, match=message):
        open_footage([name if name.startswith("camera") else str(tmp_path / name)])


def test_an_image_that_cannot_be_read_is_named_when_its_turn_comes(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "walk", ["1.png", "2.png", "3.png"])
    (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:40])
    frames = iter(open_footage([str(folder)])[0])
    assert next(frames).number == 1
    with pytest.raises(ValueError, match=r"2\.png"):
        next(frames)


def test_without_opencv_a_video_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write_video(tmp_path / "walk.mp4")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ValueError, match=r"video needs OpenCV: `pip install 'accel_det\[video\]'`"):
        open_footage([str(file)])
