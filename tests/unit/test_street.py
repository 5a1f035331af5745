"""The synthetic street: what is drawn, and the truth about it."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from accel_det.data.cache import cache_folder
from accel_det.data.sources import SetSpec, open_split
from accel_det.data.street import CLASSES, Scene, crops, read, scene, sequence, table
from accel_det.data.street.layout import Street, street_of
from accel_det.data.street.light import Light
from accel_det.data.street.parallel import in_order
from accel_det.data.street.scenes import IDENTITIES_PER_STREET, camera_of
from accel_det.data.street.stage import MUCH_OF_IMAGE, SMALLEST, VISIBLE_AT_ALL, VISIBLE_ENOUGH, Stage
from accel_det.data.street.traffic import Actor, actors_at, traffic_of
from accel_det.data.street.view import View

HEIGHT, WIDTH = 240, 320
# Half of a fringe pixel on either side of an antialiased outline belongs to nobody.
FRINGE_PX = 2
SMALL = {"images": 4, "height": 96, "width": 128}


def digest(scenes: list[Scene]) -> str:
    """sha256 over everything in the scenes."""
    whole = hashlib.sha256()
    for drawn in scenes:
        for column in drawn:
            whole.update(np.ascontiguousarray(column).tobytes())
    return whole.hexdigest()


def drawn_for_digest() -> list[Scene]:
    scenes = [scene(5, index, height=HEIGHT, width=WIDTH) for index in range(3)]
    scenes += sequence(5, frames=2, camera=1)
    empty = scenes[0]._replace(boxes=scenes[0].boxes[:0])
    return scenes + [empty._replace(image=crop.image) for crop in crops(5, identities=2, cameras=4, per_camera=1)]


@pytest.fixture(scope="module")
def many() -> list[Scene]:
    return [scene(0, index, height=HEIGHT, width=WIDTH) for index in range(80)]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def a_street(crowding: float = 1.0) -> tuple[Street, View, Light, list[Actor]]:
    """A busy street by day without what is not an object: every pixel belongs to one thing."""
    street = street_of(3, "tested", crowding=crowding)._replace(props=())
    view, light = camera_of(3, 0, height=HEIGHT, width=WIDTH)
    return street, view, light.plain(), actors_at(traffic_of(street, duration_s=20.0), 7.0)


def changed(first: Scene, second: Scene) -> NDArray[np.bool_]:
    """(H, W), the pixels that differ."""
    different: NDArray[np.bool_] = (first.image != second.image).any(axis=2)
    return different


def test_another_process_draws_the_same_bytes() -> None:
    code = "from tests.unit.test_street import digest, drawn_for_digest; print(digest(drawn_for_digest()))"
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "7"}
    other = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == digest(drawn_for_digest())


def test_another_seed_or_index_gives_another_picture() -> None:
    pictures = [scene(seed, index, height=96, width=128).image for seed, index in ((0, 0), (0, 1), (1, 0))]
    assert len({picture.tobytes() for picture in pictures}) == 3


def test_a_box_fits_the_pixels_that_its_object_changes() -> None:
    street, view, light, actors = a_street()
    stage = Stage(street, view=view, light=light)
    empty = stage.render([], noise_key=("tested",))
    compared = set()
    for actor in actors:
        alone = stage.render([actor], noise_key=("tested",))
        if len(alone.boxes) == 0 or alone.ignored[0]:
            continue
        rows, columns = np.nonzero(changed(alone, empty))
        extent = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(alone.boxes[0], extent, atol=FRINGE_PX)
        compared.add(actor.label)
    assert compared == set(range(len(CLASSES)))


def test_the_visible_share_is_that_of_the_pixels_which_others_leave() -> None:
    street, view, light, actors = a_street(crowding=3.0)
    stage = Stage(street, view=view, light=light)
    empty, full = (stage.render(present, noise_key=("tested",)) for present in ([], actors))
    errors, hidden = [], 0
    for box, identity, share in zip(full.boxes, full.identities.tolist(), full.visibility.tolist(), strict=True):
        inside = box[0] > 0 and box[1] > 0 and box[2] < WIDTH and box[3] < HEIGHT
        if not inside or (box[2] - box[0]) * (box[3] - box[1]) < 400:
            continue
        own = changed(stage.render([a for a in actors if a.identity == identity], noise_key=("tested",)), empty)
        others = stage.render([a for a in actors if a.identity != identity], noise_key=("tested",))
        errors.append(abs(share - (changed(full, others) & own).sum() / own.sum()))
        hidden += share < 0.8
    # A fringe counts as changed here and belongs to nobody there, which matters where little is seen.
    assert len(errors) >= 8 and hidden >= 3
    assert np.mean(errors) < 0.05 and max(errors) < 0.2


def test_what_is_too_hidden_or_too_small_is_ignored_and_the_invisible_is_left_out() -> None:
    street, view, light, actors = a_street(crowding=3.0)
    full = Stage(street, view=view, light=light).render(actors, noise_key=("tested",))
    sides = full.boxes[:, 2:] - full.boxes[:, :2]
    whole = ~(full.boxes == (0, 0, WIDTH, HEIGHT)).any(axis=1) & (sides.prod(axis=1) < MUCH_OF_IMAGE * HEIGHT * WIDTH)
    expected = (full.visibility < VISIBLE_ENOUGH) | (sides.max(axis=1) < SMALLEST * HEIGHT)
    np.testing.assert_array_equal(full.ignored[whole], expected[whole])
    assert whole.sum() > 10
    assert full.visibility.min() >= VISIBLE_AT_ALL
    assert 0 < full.ignored.sum() < len(full.ignored)


def test_a_vehicle_cut_off_by_the_edge_is_asked_for_when_what_is_seen_is_large(many: list[Scene]) -> None:
    large = 0
    for drawn in many:
        sides = drawn.boxes[:, 2:] - drawn.boxes[:, :2]
        mostly_unseen = drawn.visibility < VISIBLE_ENOUGH
        large += int((mostly_unseen & ~drawn.ignored).sum())
        assert (sides.prod(axis=1) >= MUCH_OF_IMAGE * HEIGHT * WIDTH)[mostly_unseen & ~drawn.ignored].all()
    assert large > 0


def test_a_typical_scene_has_a_handful_of_objects_large_enough_to_learn(many: list[Scene]) -> None:
    counts = np.array([int((~drawn.ignored).sum()) for drawn in many])
    assert 5 <= np.median(counts) <= 12
    asked = np.concatenate([drawn.boxes[~drawn.ignored] for drawn in many])
    heights, widths = asked[:, 3] - asked[:, 1], asked[:, 2] - asked[:, 0]
    assert (heights >= 20).mean() > 0.97 and (widths >= 6).mean() > 0.95
    assert (heights > 60).mean() > 0.1, "near ones are larger: perspective"


def test_every_class_is_common_and_people_are_the_most(many: list[Scene]) -> None:
    labels = np.concatenate([drawn.labels[~drawn.ignored] for drawn in many])
    shares = np.bincount(labels, minlength=len(CLASSES)) / len(labels)
    assert CLASSES == ("person", "cyclist", "car", "bus")
    assert shares.min() > 0.05 and shares.argmax() == 0


def test_boxes_lie_in_the_image_and_have_an_area(many: list[Scene]) -> None:
    for drawn in many:
        assert drawn.image.shape == (HEIGHT, WIDTH, 3) and drawn.image.dtype == np.uint8
        assert (drawn.boxes >= 0).all() and (drawn.boxes <= (WIDTH, HEIGHT, WIDTH, HEIGHT)).all()
        assert (drawn.boxes[:, 2:] > drawn.boxes[:, :2]).all()


def test_a_scene_is_lit_by_day_at_dusk_by_night_or_through_fog(many: list[Scene]) -> None:
    brightness = np.array([drawn.image.mean() for drawn in many])
    assert brightness.min() < 60 and brightness.max() > 150


def test_more_crowding_means_more_road_users() -> None:
    def count(crowding: float) -> int:
        return sum(len(scene(1, i, height=HEIGHT, width=WIDTH, crowding=crowding).boxes) for i in range(12))

    assert count(0.2) < count(0.5) < count(1.2)


def test_a_longer_sequence_begins_with_the_shorter_one() -> None:
    long, short = list(sequence(2, frames=4)), list(sequence(2, frames=2))
    assert digest(long[:2]) == digest(short)


def test_objects_move_smoothly_and_keep_their_identity_and_class() -> None:
    frames = list(sequence(2, frames=20, frames_per_s=10.0))
    tracks: dict[int, list[tuple[int, int, NDArray[np.float32]]]] = {}
    for number, drawn in enumerate(frames):
        assert len(set(drawn.identities.tolist())) == len(drawn.identities)
        for box, label, identity in zip(drawn.boxes, drawn.labels, drawn.identities.tolist(), strict=True):
            tracks.setdefault(identity, []).append((number, int(label), box))
    steps = 0
    for track in tracks.values():
        assert len({label for _, label, _ in track}) == 1
        for (before, _, old), (after, _, new) in pairwise(track):
            if after == before + 1:
                center = np.abs((new[:2] + new[2:]) - (old[:2] + old[2:])) / 2
                assert (center <= 0.35 * max(old[2:] - old[:2]) + 2).all(), (track[0], before, old, new)
                steps += 1
    assert steps > 200
    assert any(len(track) == len(frames) for track in tracks.values())


def test_two_cameras_see_the_same_people_from_different_places() -> None:
    first, second = (next(sequence(2, frames=1, camera=camera)) for camera in (0, 1))
    assert set(first.identities.tolist()) & set(second.identities.tolist())
    assert np.abs(first.image.astype(int) - second.image).mean() > 20


def colours(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean colours of six bands of the middle of a crop, on a logarithmic scale: a cast is an addition."""
    middle = image[:, image.shape[1] // 4 : -image.shape[1] // 4].astype(np.float64)
    bands = np.array_split(middle[image.shape[0] // 8 :], 6)
    return np.concatenate([np.log(band.mean(axis=(0, 1)) + 8) for band in bands])


def test_a_person_looks_more_like_itself_in_another_camera_than_like_others() -> None:
    people, cameras = 24, 2
    features = np.zeros((cameras, people, 18))
    for crop in crops(4, identities=people, cameras=cameras, per_camera=4):
        assert crop.image.shape == (128, 64, 3)
        features[crop.camera, crop.identity] += colours(crop.image) / 4
    features -= features.mean(axis=1, keepdims=True)
    distance = np.linalg.norm(features[0][:, None] - features[1][None], axis=-1)
    found = (distance.argmin(axis=1) == np.arange(people)).mean()
    assert found > 0.5, f"nearest is the same person for {found:.0%}, by chance it would be {1 / people:.0%}"


def test_train_and_val_share_neither_a_scene_nor_an_identity() -> None:
    train, val = (read(split, {"images": 20, "height": 64, "width": 64})[0] for split in ("train", "val"))
    assert len({row["bytes"] for row in [*train["image"], *val["image"]]}) == 40
    for data, first in ((train, 0), (val, 1_000_000)):
        drawn = scene(0, first + 3, height=64, width=64)
        boxes = np.array(data[3]["objects"]["bbox"]).reshape(-1, 4)
        np.testing.assert_array_equal(boxes[:, :2] + boxes[:, 2:], drawn.boxes[:, 2:])
        assert (drawn.identities // IDENTITIES_PER_STREET == first + 3).all()


def test_the_table_is_ready_to_train_on() -> None:
    spec = SetSpec("street", "street", "", parameters={"images": 20, "seed": 1, "height": 120, "width": 160})
    opened, defects = open_split({"street": spec}, "street:train")
    assert defects == [] and opened.classes == CLASSES and len(opened) == 20
    assert opened.name(12) == "street/street-train-000012.jpg" and opened.size(12) == (120, 160)
    drawn, truth = scene(1, 12, height=120, width=160), opened.truth(12)
    np.testing.assert_array_equal(truth.boxes.numpy(), drawn.boxes)
    np.testing.assert_array_equal(truth.labels.numpy(), drawn.labels)
    np.testing.assert_array_equal(truth.crowd.numpy(), drawn.ignored)


def refuse_to_draw(*_: object, **__: object) -> Scene:
    raise AssertionError("drawn again")


def test_a_table_is_drawn_once_and_then_read(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = read("val", SMALL)
    monkeypatch.setattr(table, "scene", refuse_to_draw)
    second, classes = read("val", SMALL)
    assert second.data.equals(first.data) and second.features == first.features and classes == CLASSES
    with pytest.raises(AssertionError, match="drawn again"):
        read("val", {**SMALL, "seed": 1})


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, flipped, lambda data: b""], ids=["cut short", "one bit", "empty"])
def test_a_damaged_cache_file_is_noticed_and_drawn_again(damage: Callable[[bytes], bytes]) -> None:
    first, _ = read("val", SMALL)
    (file,) = cache_folder("street").glob("*.arrow")
    whole = file.read_bytes()
    file.unlink()  # `first` is pages of it, and stays
    file.write_bytes(damage(whole))
    assert read("val", SMALL)[0].data.equals(first.data)
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_no_error(own_cache: Path) -> None:
    own_cache.write_text("a file where the folder should be")
    assert len(read("val", SMALL)[0]) == 4
    assert own_cache.is_file()


def test_the_results_are_in_order_whatever_the_number_of_processes() -> None:
    asked = [list(in_order(lambda index: (index, index**2), 50, workers=workers)) for workers in (1, 2, 3)]
    assert asked == [[(index, index**2) for index in range(50)]] * 3


def test_what_a_lost_process_leaves_undone_is_done_by_the_caller() -> None:
    caller = os.getpid()

    def fragile(index: int) -> int:
        if index == 21 and os.getpid() != caller:
            os._exit(9)
        return -index

    assert list(in_order(fragile, 40, workers=2)) == [-index for index in range(40)]


def test_an_error_in_a_process_is_raised_in_the_caller() -> None:
    def failing(index: int) -> int:
        if index == 30:
            raise ValueError("index 30 is bad")
        return index

    with pytest.raises(ValueError, match="index 30 is bad"):
        list(in_order(failing, 40, workers=2))


@pytest.mark.parametrize(
    ("split", "parameters", "message"),
    [
        ("test", {}, "no split 'test'; it has train and val"),
        ("train", {"scenes": 3}, "unknown parameter 'scenes'; known are seed, images, height, width, crowding, view"),
        ("train", {"seed": -1}, "parameter seed: -1 is not a whole number >= 0"),
        ("train", {"images": 0}, "parameter images: 0 is not a whole number >= 1"),
        ("train", {"images": 2_000_000}, "parameter images: 2000000 is more than a split has"),
        ("train", {"height": 240.0}, "parameter height: 240.0 is not a whole number >= 32"),
        ("train", {"width": "wide"}, "parameter width: 'wide' is not a whole number >= 32"),
        ("train", {"view": "sky"}, "parameter view: 'sky' is none of street, sidewalk"),
        ("train", {"crowding": 0}, r"parameter crowding: 0 is not a number in \(0, 4\]"),
    ],
)
def test_a_wrong_parameter_is_named_with_what_is_expected(
    split: str, parameters: dict[str, int | float | str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        read(split, parameters)


def test_a_picture_too_small_or_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32 x 32 pixels, got height 16, width 320"):
        scene(0, 0, height=16, width=WIDTH)
    with pytest.raises(ValueError, match="must be >= 0, got -1"):
        scene(-1, 0, height=HEIGHT, width=WIDTH)
