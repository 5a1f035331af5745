"""Footage through finders and the tracker: which picture is embedded, in how many passes, and what settings a command takes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from footage_cases import HEIGHT, WIDTH, frame

from accel_det.cli.tracker_settings import (
    as_yaml,
    changed,
    read_settings,
    require_known,
    settings_text,
    without_appearance,
)
from accel_det.inference.tracking import EmbeddingFinder, Patches, Stopwatch, cut_patch, track_frames
from accel_det.tracking.frames import FrameDetections
from accel_det.tracking.settings import PRESETS
from accel_det.tracking.tracker import Tracker
from accel_det.video.saved import Found

SIZE = (32, 16)


def patch_of(box: tuple[float, float, float, float], patches: Patches) -> tuple[int, int, int, int]:
    """left, top, width and height of what is cut out of an image whose red says x and whose green says y."""
    image = torch.zeros((3, HEIGHT, WIDTH), dtype=torch.uint8)
    image[0] = torch.arange(WIDTH)[None, :]
    image[1] = torch.arange(HEIGHT)[:, None]
    cut = cut_patch(image, np.array(box), patches=patches, size_px=SIZE)
    return int(cut[0, 0, 0]), int(cut[1, 0, 0]), cut.shape[2], cut.shape[1]


@pytest.mark.parametrize(
    ("box", "patches", "expected"),
    [
        ((10, 8, 20, 28), Patches(), (10, 8, 10, 20)),
        # A tenth larger about its center (15, 18): 11 x 22, rounded outwards or inwards to whole pixels.
        ((10, 8, 20, 28), Patches(margin=0.2), (9, 6, 12, 24)),
        # The embedder's pictures are half as wide as tall: 20 tall is 10 wide already; 20 x 20 is narrowed to 10.
        ((10, 8, 30, 28), Patches(keep_aspect=True), (15, 8, 10, 20)),
        ((20, 8, 24, 28), Patches(keep_aspect=True), (17, 8, 10, 20)),
        # Cut at the border.
        ((-10, -5, 10, 15), Patches(), (0, 0, 10, 15)),
        ((60, 40, 80, 60), Patches(), (60, 40, 4, 8)),
        # Outside, or thinner than a pixel: one pixel at the nearest place.
        ((-30, -30, -10, -10), Patches(), (0, 0, 1, 1)),
        ((100, 100, 120, 120), Patches(), (63, 47, 1, 1)),
        ((10.1, 8.2, 10.2, 8.3), Patches(), (10, 8, 1, 1)),
    ],
)
def test_the_picture_of_a_box(
    box: tuple[float, float, float, float], patches: Patches, expected: tuple[int, int, int, int]
) -> None:
    assert patch_of(box, patches) == expected


class CountingEmbedder:
    """Stands in for an embedder: counts forward passes."""

    class Info:
        size_px = SIZE

    info = Info()

    def __init__(self) -> None:
        self.passes: list[int] = []

    def embed(self, images: list[torch.Tensor], *, batch_size: int) -> torch.Tensor:
        self.passes += [min(batch_size, len(images) - start) for start in range(0, len(images), batch_size)]
        found = torch.zeros((len(images), 3))
        for row, image in enumerate(images):
            found[row, int(image[0, -1, -1]) // 8 % 3] = 1
        return found


class FixedFinder:
    """Finds as many boxes in a frame as its number says."""

    def find(self, frames):  # type: ignore[no-untyped-def]
        return [Found(self.boxes(one.number), None) for one in frames]

    def boxes(self, count: int) -> FrameDetections:
        corners = np.array([[5.0 * i, 20, 5.0 * i + 8, 40] for i in range(count)]).reshape(-1, 4)
        return FrameDetections(corners, np.full(count, 0.9), np.zeros(count, dtype=np.int64), None)


def test_all_boxes_of_the_frames_together_take_one_forward_pass() -> None:
    embedder = CountingEmbedder()
    finder = EmbeddingFinder(FixedFinder(), embedder, patches=Patches(), watch=Stopwatch())  # type: ignore[arg-type]
    found = finder.find([frame(1), frame(3), frame(2)])
    assert embedder.passes == [6]
    assert [one.detections.embeddings.shape for one in found if one.detections.embeddings is not None] == [
        (1, 3),
        (3, 3),
        (2, 3),
    ]
    # Each frame's grey chooses the axis: the embeddings went back to the frame that they came from.
    assert [int(one.detections.embeddings[0].argmax()) for one in found if one.detections.embeddings is not None] == [
        1,
        0,
        2,
    ]


def test_batches_are_no_larger_than_asked_and_every_frame_comes_once() -> None:
    told: list[int] = []
    watch = Stopwatch()
    done = track_frames(
        (frame(number) for number in range(1, 8)),
        FixedFinder(),
        Tracker(without_appearance(PRESETS["deepsort"])),
        sinks=[],
        batch_size=3,
        watch=watch,
        report=lambda tracked: told.append(tracked.frames),
    )
    assert told == [3, 6, 7] and done.frames == 7
    assert watch.seconds["associate"] > 0 and watch.seconds["embed"] == 0


def test_settings_come_from_the_preset_then_the_file_then_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("preset: sort\nmax_age: 7\nn_init: 2\n")
    found = read_settings(None, file, ["--tracker.n_init", "5", "--tracker.gate=none"])
    assert (found.max_cosine_distance, found.max_age, found.n_init, found.min_confidence) == (None, 7, 5, 0.5)
    assert found.gate == "none"
    assert read_settings("bytetrack", file, []).low_confidence == 0.1
    assert read_settings(None, None, ["--tracker.max_cosine_distance", "none"]).max_cosine_distance is None


def test_what_is_written_as_yaml_reads_back_as_the_same_settings(tmp_path: Path) -> None:
    swept = 0
    for name, preset in PRESETS.items():
        for changes in ({}, {"max_age": "99", "motion_weight": "1.0"}, {"reported_box": "detected", "nms_iou": "0.75"}):
            settings = changed(preset, changes)
            file = tmp_path / f"{name}.yaml"
            file.write_text(as_yaml(settings, name))
            assert read_settings(None, file, []) == settings
            swept += 1
    assert swept == 3 * len(PRESETS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_ages: 3\n", r"mine\.yaml: the tracker has no setting `max_ages`; did you mean `max_age`\?"),
        ("preset: fastest\n", r"mine\.yaml: there is no preset `fastest`"),
        ("max_age: [1]\n", r"mine\.yaml: max_age: expected a whole number, got \[1\]"),
        ("- 1\n", r"mine\.yaml: expected keys"),
    ],
)
def test_mistakes_in_a_file_of_settings_are_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_settings(None, tmp_path / "mine.yaml", [])


def test_other_mistakes_of_settings_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nowhere\.yaml: no such file; --settings takes YAML"):
        read_settings(None, tmp_path / "nowhere.yaml", [])
    with pytest.raises(
        ValueError, match=r"--track\.max_age: no such option; settings are given as `--tracker.KEY VALUE`"
    ):
        read_settings(None, None, ["--track.max_age", "3"])
    with pytest.raises(ValueError, match="space: `speed` is no setting of the tracker"):
        require_known(["max_age", "speed"], place="space")


def test_the_list_of_settings_has_every_one_with_its_default() -> None:
    text = settings_text()
    names = list(vars(PRESETS["deepsort"]))
    assert len(names) >= 30
    assert all(f"{name} = " in text for name in names)
    assert "max_age = 30" in text and "low_confidence = none" in text
