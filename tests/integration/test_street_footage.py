"""Footage of the synthetic street, as `accel-det street --frames` writes it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from accel_det.cli import street
from accel_det.cli.failures import BAD_INPUT, DONE, guarded
from accel_det.metrics.mot import mot_counts, mot_scores
from accel_det.metrics.mot_files import MotBoxes, read_sequence_info, read_truth
from accel_det.video.footage import open_footage, require_pixels

SIZE = ("--height", "120", "--width", "160", "--frames", "6", "--seed", "3")


def test_it_is_a_sequence_of_motchallenge_whose_truth_scored_as_results_is_perfect(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    assert guarded(street.run, [str(folder), *SIZE, "--sidewalk"]) == DONE
    info = read_sequence_info(folder / "seqinfo.ini")
    assert (info.name, info.num_frames, info.frame_rate, info.width_px, info.height_px) == ("walk", 6, 10, 160, 120)
    (footage,) = open_footage([str(folder)])
    assert [require_pixels(frame).shape for frame in footage] == [(120, 160, 3)] * 6
    truth = read_truth(folder / "gt" / "gt.txt")
    assert truth.classes is not None and set(truth.frames) == set(range(1, 7))
    people = (truth.classes == 1) & truth.counted
    assert people.sum() > 6
    # People, and those who are too hidden or too small to be asked for: results on these are forgiven.
    found = people | (truth.classes == 8)
    assert found.sum() > people.sum()
    rows = MotBoxes(truth.frames[found], truth.ids[found], truth.boxes[found], np.ones(int(found.sum())))
    scores = mot_scores([mot_counts(truth, rows)])
    assert scores["MOTA"] == scores["IDF1"] == 1.0 and scores["TP"] == people.sum()


def test_the_sidewalk_shows_people_larger_than_the_street(tmp_path: Path) -> None:
    tallest = {}
    for name, more in (("street", []), ("sidewalk", ["--sidewalk"])):
        assert guarded(street.run, [str(tmp_path / name), *SIZE, *more]) == DONE
        truth = read_truth(tmp_path / name / "gt" / "gt.txt")
        assert truth.classes is not None
        tallest[name] = np.median(truth.boxes[truth.counted & (truth.classes == 1), 3])
    assert tallest["sidewalk"] > 1.2 * tallest["street"]
    with Image.open(tmp_path / "sidewalk" / "img1" / "000006.jpg") as picture:
        assert picture.size == (160, 120)


def test_several_footages_are_those_of_the_seeds_and_cameras_that_follow(tmp_path: Path) -> None:
    assert guarded(street.run, [str(tmp_path / "many"), *SIZE, "--footages", "3"]) == DONE
    assert guarded(street.run, [str(tmp_path / "last"), *SIZE, "--seed", "5", "--camera", "2"]) == DONE
    assert sorted(folder.name for folder in (tmp_path / "many").iterdir()) == ["0003", "0004", "0005"]
    truths = [(folder / "gt" / "gt.txt").read_bytes() for folder in sorted((tmp_path / "many").iterdir())]
    assert len(set(truths)) == 3 and truths[2] == (tmp_path / "last" / "gt" / "gt.txt").read_bytes()


@pytest.mark.parametrize("words", [["--frames", "0"], ["--frames", "5", "--footages", "0"], ["--footages", "2"]])
def test_no_footage_and_no_frames_are_refused(words: list[str], tmp_path: Path) -> None:
    assert guarded(street.run, [str(tmp_path / "walk"), *words]) == BAD_INPUT
    assert not (tmp_path / "walk").exists()
