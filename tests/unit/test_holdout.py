"""Hold-out by names, by groups and by classes: disjoint, complete, and the same however the files are listed."""

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from data_sets import write_yolo

from accel_det.cli import check
from accel_det.cli.failures import BAD_INPUT, DONE, guarded
from accel_det.data.formats.raw import ObjectColumns, RawSplit
from accel_det.data.holdout import group_keys, held_out, place_of

CLASSES = ("bird", "cat", "dog", "eel")
GROUP = r"^(.*)_frame\d+"


def split(rows: Sequence[tuple[str, tuple[int, ...]]]) -> RawSplit:
    """Images by name and the classes of their objects."""
    objects = ObjectColumns("line")
    for owner, (_, labels) in enumerate(rows):
        for number, label in enumerate(labels):
            objects.add(owner, (0, 0, 1, 1), label=label, record=number)
    names = [name for name, _ in rows]
    return RawSplit(CLASSES, names, names, None, names, np.zeros((len(rows), 2), np.int64), objects.arrays())


def drawn(seed: int, *, videos: int = 60, frames: int = 7) -> list[tuple[str, tuple[int, ...]]]:
    """Frames of videos of different lengths; class 0 is on 60 % of the images, class 3 on 2 %, and some show nothing."""
    draw = random.Random(seed)
    return [
        (
            f"clips/v{video}_frame{frame}.png",
            tuple(label for label, p in enumerate((0.6, 0.3, 0.1, 0.02)) if draw.random() < p),
        )
        for video in range(videos)
        for frame in range(draw.randint(1, frames))
    ]


def val_of(rows: Sequence[tuple[str, tuple[int, ...]]], **how: object) -> set[str]:
    """Names of the images in val."""
    mask = held_out(split(rows), share=0.2, **how)  # type: ignore[arg-type]
    return {name for (name, _), taken in zip(rows, mask.tolist(), strict=True) if taken}


WAYS: list[dict[str, object]] = [
    {},
    {"group": GROUP},
    {"stratified": True},
    {"group": GROUP, "stratified": True},
]


@pytest.mark.parametrize("how", WAYS, ids=str)
def test_the_order_of_the_files_does_not_matter_and_about_a_fifth_is_held_out(how: dict[str, object]) -> None:
    for seed in range(20):
        rows = drawn(seed)
        val = val_of(rows, **how)
        # 60 groups of 4 images on average: 48 of 240 with a standard deviation of 4 * sqrt(60 * .2 * .8), 12; within four.
        assert 0 < len(val) < 96
        random.Random(seed).shuffle(rows)
        assert val_of(rows, **how) == val


@pytest.mark.parametrize("how", [way for way in WAYS if "group" in way], ids=str)
def test_a_group_is_never_parted(how: dict[str, object]) -> None:
    swept = 0
    for seed in range(20):
        rows = drawn(seed)
        val = val_of(rows, **how)
        sides: dict[str, set[bool]] = {}
        for name, _ in rows:
            sides.setdefault(name.split("_")[0], set()).add(name in val)
        assert all(len(side) == 1 for side in sides.values())
        swept += len(sides)
    assert swept == 20 * 60


@pytest.mark.parametrize("how", [{}, {"group": GROUP}], ids=str)
def test_images_that_are_added_move_no_other_to_the_other_side(how: dict[str, object]) -> None:
    rows = drawn(0)
    val = val_of(rows, **how)
    for seed in range(1, 20):
        added = [(name.replace("/v", f"/w{seed}-"), labels) for name, labels in drawn(seed)]
        added += [("clips/v3_frame99.png", ())]
        grown = val_of(rows + added, **how)
        assert {name for name, _ in rows} & grown == val
        if how:
            assert ("clips/v3_frame99.png" in grown) == ("clips/v3_frame0.png" in val)


def test_of_images_that_show_one_class_each_class_gives_its_share_to_within_rounding() -> None:
    for seed in range(50):
        draw = random.Random(seed)
        rows = [
            (f"{number}.png", (draw.choices(range(4), (50, 30, 15, 5))[0],)) for number in range(draw.randint(40, 300))
        ]
        rows += [(f"empty{number}.png", ()) for number in range(draw.randint(0, 30))]
        val = val_of(rows, stratified=True)
        for label in range(4):
            of_class = {name for name, labels in rows if label in labels}
            assert abs(len(of_class & val) - 0.2 * len(of_class)) <= 0.5
        # Four roundings, and one more for the images without objects.
        assert abs(len(val) - 0.2 * len(rows)) <= 5 * 0.5


def test_of_images_that_show_several_classes_the_rarest_gives_its_share_and_all_are_nearer_to_it_than_by_names() -> (
    None
):
    by_classes, by_names = [], []
    for seed in range(50):
        rows = drawn(seed, videos=100, frames=5)
        for way, off in (({"stratified": True}, by_classes), ({}, by_names)):
            val = val_of(rows, **way)
            found = [{name for name, labels in rows if label in labels} for label in range(4)]
            off.append([abs(len(images & val) - 0.2 * len(images)) for images in found])
    assert max(row[3] for row in by_classes) <= 0.5
    assert np.mean(by_classes) < 0.5 * np.mean(by_names)
    assert np.mean(by_classes, axis=0).max() <= 1.0


def test_a_stratified_split_of_groups_is_off_by_half_of_the_largest_group_at_most_for_its_rarest_class() -> None:
    for seed in range(20):
        rows = drawn(seed)
        val = val_of(rows, stratified=True, group=GROUP)
        showing = [name for name, labels in rows if 3 in labels]
        sizes = [sum(name.startswith(f"clips/v{video}_") for name in showing) for video in range(60)]
        assert abs(sum(name in val for name in showing) - 0.2 * len(showing)) <= max(1, *sizes) / 2


def test_augmented_copies_of_one_picture_are_held_out_together() -> None:
    copies = [f"train/a_jpg.rf.{character * 32}.jpg" for character in "0123456789abcdef"]
    other = "b_jpg.rf." + "0" * 32 + ".jpg"
    (key,) = set(group_keys(copies, None))
    assert place_of(key) != place_of(group_keys([other], None)[0])


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        (
            "(",
            "holdout_group '(' is no regular expression: missing ), unterminated subpattern at position 0; correct it",
        ),
        ("frame", "holdout_group 'frame' has no group; put what frames of one video share in parentheses"),
        (r"clips/(v1\d)_", "finds no group in 3 of 5 names, the first 'clips/v0_frame0.png'; correct it"),
        (r"clips/v(x)?", "finds no group in 5 of 5 names"),
        (r"(clips)/", "0.2 of 1 group(s) leaves none for "),
    ],
)
def test_an_expression_that_does_not_tell_groups_apart_is_refused_in_one_line(pattern: str, message: str) -> None:
    rows = [(f"clips/v{video}_frame0.png", ()) for video in (0, 1, 2, 11, 12)]
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        val_of(rows, group=pattern)
    assert "\n" not in str(error.value)


CONFIG = """
name: tiny
model: {name: yolov5n}
data:
  sets: {clips: {format: yolo, root: set, holdout: 0.2}}
  train: clips:train
  val: clips:val
train: {steps: 1}
"""


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration, and its set: six videos of five frames, of which every third shows class 0 and the others class 1."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "clips.yaml").write_text(CONFIG)
    labels = {f"v{n // 5}_frame{n}": f"{int(n % 3 > 0)} .5 .5 .1 .1" for n in range(30)}
    write_yolo(tmp_path / "set", dict(labels))
    return tmp_path


def test_the_keys_of_a_set_reach_the_splits(clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = "--data.sets.clips.holdout"
    assert guarded(check.run, ["clips.yaml", "--json", f"{key}_stratified", "true"]) == DONE
    val = json.loads(capsys.readouterr().out)["splits"]["val"]
    assert (val["images"], val["class_counts"]) == (6, {"cat": 2, "dog": 4})
    assert guarded(check.run, ["clips.yaml", "--json", f"{key}_group", "(v.)_"]) == DONE
    assert json.loads(capsys.readouterr().out)["splits"]["val"]["images"] % 5 == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("_group (v", "set 'clips', holdout: holdout_group '(v' is no regular expression: "),
        (
            " 0 --data.sets.clips.holdout_group (v.)_",
            "holdout_group is set, but holdout is 0: set holdout to the share",
        ),
        (" 0 --data.sets.clips.holdout_stratified true", "holdout_stratified is set, but holdout is 0: set holdout"),
    ],
)
def test_keys_that_cannot_be_meant_so_are_one_line(
    clips: Path, capsys: pytest.CaptureFixture[str], arguments: str, message: str
) -> None:
    assert guarded(check.run, ["clips.yaml", *f"--data.sets.clips.holdout{arguments}".split()]) == BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
