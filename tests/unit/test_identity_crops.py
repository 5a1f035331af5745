"""Pictures that are cut out of the frames of sequences, and out of frames that a table names; and those of the street."""

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from identity_trees import kinds, opened, rows
from PIL import Image

from accel_det.data import street
from accel_det.data.cache import cached
from accel_det.data.encoded import image_table
from accel_det.data.sources import SetSpec
from accel_det.types import Role

QUERY, GALLERY, BOTH = int(Role.QUERY), int(Role.GALLERY), int(Role.BOTH)
HEIGHT, WIDTH = 48, 64


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def write_frame(path: Path, *, seed: int) -> np.ndarray:
    """A frame of 16 flat blocks, which JPEG keeps nearly as they are."""
    blocks = np.random.default_rng(seed).integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8)
    pixels = blocks.repeat(16, axis=0).repeat(16, axis=1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "PNG")
    return pixels


def write_sequence(root: Path, name: str, lines: str, *, frames: int = 3, seed: int = 0) -> list[np.ndarray]:
    (root / name / "gt").mkdir(parents=True)
    (root / name / "gt" / "gt.txt").write_text(lines)
    (root / name / "seqinfo.ini").write_text("[Sequence]\nimDir=frames\nimExt=.png\nnote=50%\n")
    return [write_frame(root / name / "frames" / f"{n:06d}.png", seed=seed + n) for n in range(1, frames + 1)]


def pixels_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(np.int64)


def test_sequences_give_pictures_of_tracks_with_the_sequence_as_camera(tmp_path: Path) -> None:
    frames = write_sequence(tmp_path, "A", "1,7,16,16,32,32,1,1,1\n2,7,-8,0,24,20,1,1,0.5\n1,9,0,0,16,16,0,1,1\n")
    write_sequence(tmp_path, "B", "3,7,0.4,15.6,15.2,16,1,1,1\n", seed=50)
    table, defects = opened(SetSpec("k", "crops", str(tmp_path)))
    assert defects == []  # a flag of 0 is no defect, nor is a box that leaves its frame
    assert rows(table) == [
        ("k/A/frames/000001.png#7", "k/A/7", "k/A", BOTH),
        ("k/A/frames/000002.png#7", "k/A/7", "k/A", BOTH),
        ("k/B/frames/000003.png#7", "k/B/7", "k/B", BOTH),
    ]
    first, second, third = (pixels_of(table.image_bytes(index)) for index in range(3))
    assert np.abs(first - frames[0][16:48, 16:48]).max() <= 4
    assert second.shape == (20, 16, 3) and np.abs(second - frames[1][:20, :16]).max() <= 4
    assert third.shape == (17, 16, 3)  # from 15.6 to 31.6 and 0.4 to 15.6, widened to whole pixels
    assert table.path(0) is None


def test_small_hidden_repeated_and_impossible_boxes_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = [
        *("1,1,0,0,20,20,1,1,1", "1,2,0,0,7,20,1,1,1", "1,3,60,0,20,20,1,1,1", "1,4,0,0,20,20,1,1,0.1"),
        *("2,1,0,0,20,20,1,1,-1", "2,1,5,5,20,20,1,1,1", "2,5,0,0,0,20,1,1,1", "2,6,900,0,20,20,1,1,1"),
        *("2,8,nan,0,20,20,1,1,1", "two,1,0,0,20,20,1,1,1", "2,9.5,0,0,20,20,1,1,1", "1,1", "0,3,0,0,20,20,1,1,1"),
        *("9,1,0,0,20,20,1,1,1", "", "3,1,1,1,20,20,1,-1,-1,-1"),
    ]
    write_sequence(tmp_path, "A", "\n".join(lines))
    spec = SetSpec("k", "crops", str(tmp_path))
    table, defects = opened(spec)
    assert [row[0] for row in rows(table)] == [f"k/A/frames/00000{frame}.png#1" for frame in (1, 2, 3)]
    assert kinds(defects) == {
        "malformed_record": 4,
        "duplicate_box": 1,
        "zero_side": 1,
        "outside_image": 1,
        "nan_box": 1,
        "missing_file": 1,
        "unclear_box": 1,
    }
    unclear = next(defect for defect in defects if defect.kind == "unclear_box")
    assert unclear.value.startswith("3 boxes") and unclear.repair == "drop_box"
    outside = next(defect for defect in defects if defect.kind == "outside_image")
    assert outside.record == "line 8" and outside.repair is None and "A/frames/000002.png#6" in outside.value
    rule: dict[str, int | float | str] = {"min_side_px": 4, "min_visibility": 0, "every": 2}
    looser = opened(spec._replace(parameters=rule))[0]
    assert [row[0].rpartition("/")[2] for row in rows(looser)] == [
        *(f"000001.png#{track}" for track in (1, 2, 3, 4)),
        "000003.png#1",
    ]


def test_a_sequence_that_is_there_three_times_is_taken_once(tmp_path: Path) -> None:
    for detector in ("DPM", "FRCNN", "SDP"):
        write_sequence(tmp_path / "train", f"02-{detector}", "1,1,0,0,20,20,1,1,1\n")
    write_sequence(tmp_path / "train", "04-DPM", "1,1,0,0,20,20,1,1,1\n", seed=9)
    table, defects = opened(SetSpec("k", "crops", str(tmp_path)))
    assert table.identities == ("k/02-DPM/1", "k/04-DPM/1")
    assert kinds(defects) == {"duplicate_sequence": 2} and defects[0].repair == "keep_first"
    with pytest.raises(ValueError, match=r"no split 'test'; it has sequences with gt/gt\.txt in <root>/<split>"):
        opened(SetSpec("k", "crops", str(tmp_path)), "test")


def test_a_sequence_cannot_name_frames_outside_of_it(tmp_path: Path) -> None:
    write_frame(tmp_path / "secret" / "000001.png", seed=1)
    write_sequence(tmp_path / "set", "A", "1,1,0,0,20,20,1,1,1\n")
    write_sequence(tmp_path / "set", "B", "1,1,0,0,20,20,1,1,1\n", seed=5)
    (tmp_path / "set" / "A" / "seqinfo.ini").write_text("[Sequence]\nimDir=../../secret\nimExt=.png\n")
    table, defects = opened(SetSpec("k", "crops", str(tmp_path / "set")))
    assert kinds(defects) == {"outside_root": 1} and len(table) == 1
    (tmp_path / "set" / "A" / "seqinfo.ini").write_text("no section\n")
    with pytest.raises(ValueError, match=r"seqinfo\.ini: cannot be read") as caught:
        opened(SetSpec("k", "crops", str(tmp_path / "set")))
    assert "\n" not in str(caught.value)


def test_pictures_are_cut_once_and_again_where_a_frame_or_a_box_changes(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sequence(tmp_path, "A", "1,7,16,16,32,32,1,1,1\n")
    spec = SetSpec("k", "crops", str(tmp_path))
    before = opened(spec)[0].image_bytes(0)
    files = sorted(own_cache.rglob("*.arrow"))
    assert len(files) == 1

    def refuse(frame: str, corners: object) -> list[bytes]:
        raise AssertionError(f"{frame} was cut again")

    with monkeypatch.context() as patch:
        patch.setattr("accel_det.data.formats.identity_boxes._cut", refuse)
        assert opened(spec)[0].image_bytes(0) == before
    write_frame(tmp_path / "A" / "frames" / "000001.png", seed=77)
    assert opened(spec)[0].image_bytes(0) != before
    (tmp_path / "A" / "gt" / "gt.txt").write_text("1,7,0,0,32,32,1,1,1\n")
    opened(spec)
    assert len(sorted(own_cache.rglob("*.arrow"))) == 3


def code_of(monkeypatch: pytest.MonkeyPatch, module: str, spec: SetSpec) -> list[str]:
    """The names of the files that the pictures of a set are keyed by."""
    seen: list[str] = []

    def noted(parameters: object, draw: object, *, code: Sequence[Path], **others: object) -> object:
        seen.extend(path.name for path in code)
        return cached(parameters, draw, code=code, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(f"accel_det.data.formats.{module}.cached", noted)
    opened(spec)
    return seen


def test_crops_are_keyed_by_what_cuts_them_and_people_by_what_draws_them(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sequence(tmp_path, "A", "1,7,16,16,32,32,1,1,1\n")
    spec = SetSpec("k", "crops", str(tmp_path))
    assert code_of(monkeypatch, "identity_boxes", spec) == ["identity_boxes.py", "decode.py", "encoded.py"]
    assert [path.parent.name for path in own_cache.rglob("*.arrow")] == ["crops"]
    drawing = sorted(path.name for path in Path(street.__file__).parent.glob("*.py"))
    assert {"people.py", "scenes.py", "stage.py"} <= set(drawing)
    assert code_of(monkeypatch, "identity_street", STREET) == [*drawing, "identity_street.py", "encoded.py"]
    assert sorted(path.parent.name for path in own_cache.rglob("*.arrow")) == ["crops", "street"]


def test_more_pictures_than_one_array_can_hold_are_kept_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "1,7,16,16,32,32,1,1,1\n2,7,0,0,32,32,1,1,1\n1,8,0,0,16,32,1,1,1\n3,8,8,8,16,16,1,1,1\n"
    write_sequence(tmp_path / "whole", "A", lines)
    write_sequence(tmp_path / "parts", "A", lines)
    crops = SetSpec("k", "crops", str(tmp_path / "whole"))
    whole, people = opened(crops)[0], opened(STREET)[0]
    for module in ("identity_boxes", "identity_street"):
        monkeypatch.setattr(f"accel_det.data.formats.{module}.image_table", partial(image_table, part_bytes=1))
    elsewhere = crops._replace(root=str(tmp_path / "parts"))
    others = opened(STREET._replace(parameters={**STREET.parameters, "identities": 4}))[0]
    for _ in range(2):  # as cut, and as found in the cache
        parts = opened(elsewhere)[0]
        assert parts.images.data.column("image").num_chunks == 4 and parts.paths() == [None] * 4
        assert [parts.image_bytes(i) for i in range(4)] == [whole.image_bytes(i) for i in range(4)]
    assert others.images.data.column("image").num_chunks == 16
    assert [others.image_bytes(i) for i in range(12)] == [people.image_bytes(i) for i in range(12)]


def test_a_folder_among_the_frames_is_passed_over_and_a_truth_that_is_no_text_is_named(tmp_path: Path) -> None:
    write_sequence(tmp_path, "A", "1,7,16,16,32,32,1,1,1\n")
    (tmp_path / "A" / "frames" / "000000").mkdir()
    spec = SetSpec("k", "crops", str(tmp_path))
    assert len(opened(spec)[0]) == 1
    (tmp_path / "A" / "gt" / "gt.txt").write_bytes(b"1,7,16,16,32,32,1,1,1\n\xff\n")
    with pytest.raises(ValueError, match=r"gt\.txt: cannot be read as lines of UTF-8: UnicodeDecodeError.*restore it"):
        opened(spec)


def test_frames_that_cannot_be_read_are_noted_or_named(tmp_path: Path) -> None:
    write_sequence(tmp_path, "A", "1,7,16,16,32,32,1,1,1\n2,7,16,16,32,32,1,1,1\n")
    frame = tmp_path / "A" / "frames" / "000002.png"
    whole = frame.read_bytes()
    frame.write_bytes(b"nothing")
    table, defects = opened(SetSpec("k", "crops", str(tmp_path)))
    assert len(table) == 1 and [(d.kind, d.record, d.repair) for d in defects] == [("unreadable_file", "line 2", None)]
    frame.write_bytes(whole[:60])
    with pytest.raises(ValueError, match=r"000002\.png: PNG of 64x48 pixels cannot be decoded"):
        opened(SetSpec("k", "crops", str(tmp_path)))


def test_a_table_of_boxes_with_an_identity_column(tmp_path: Path) -> None:
    frames = [write_frame(tmp_path / "img" / f"{index}.png", seed=index) for index in range(2)]
    (tmp_path / "boxes.csv").write_text(
        "path,pid,cam,split,x,y,w,h\n"
        "0.png,1,3,train,0,0,16,16\n0.png,2,3,train,16,16,16,32\n1.png,1,4,train,32,0,32,16\n"
        "1.png,9,4,query,0,0,16,16\n1.png,-1,4,gallery,16,0,16,16\n0.png,9,3,gallery,0,32,16,16\n"
        "0.png,,3,train,0,0,16,16\n0.png,1,3,train,zero,0,16,16\n2.png,1,3,train,0,0,16,16\n"
    )
    spec = SetSpec("b", "crops", str(tmp_path), images="img", annotations="boxes.csv")
    table, defects = opened(spec)
    assert rows(table) == [
        ("b/img/0.png#1@0,0", "b/1", "b/c3", BOTH),
        ("b/img/0.png#2@16,16", "b/2", "b/c3", BOTH),
        ("b/img/1.png#1@32,0", "b/1", "b/c4", BOTH),
    ]
    assert np.abs(pixels_of(table.image_bytes(2)) - frames[1][:16, 32:64]).max() <= 4
    assert [(defect.kind, defect.record) for defect in defects] == [
        *(("malformed_record", "line 8"), ("malformed_record", "line 9"), ("missing_file", "line 10"))
    ]
    assert [row[1:] for row in rows(opened(spec, "test")[0])] == [
        ("b/9", "b/c4", QUERY),
        (None, "b/c4", GALLERY),
        ("b/9", "b/c3", GALLERY),
    ]
    (tmp_path / "boxes.csv").write_text("path,pid,x,y\n0.png,1,0,0\n")
    with pytest.raises(ValueError, match="without width, height of the boxes"):
        opened(spec)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"every": 0}, r"parameters\.every: 0 is not a whole number >= 1"),
        ({"every": True}, r"parameters\.every: True"),
        ({"min_side_px": 2.5}, r"parameters\.min_side_px: 2\.5"),
        ({"min_visibility": 2}, r"parameters\.min_visibility: 2 is not a share"),
        ({"identity": "pid"}, "identity say nothing about sequences; known are every, min_visibility, min_side_px"),
    ],
)
def test_parameters_of_the_wrong_kind_are_refused(
    parameters: dict[str, int | float | str], message: str, tmp_path: Path
) -> None:
    write_sequence(tmp_path, "A", "1,7,16,16,32,32,1,1,1\n")
    with pytest.raises(ValueError, match=message):
        opened(SetSpec("k", "crops", str(tmp_path), parameters=parameters))


@pytest.mark.parametrize("name", ["every", "min_visibility"])
def test_what_a_table_of_boxes_cannot_know_is_refused(name: str, tmp_path: Path) -> None:
    write_frame(tmp_path / "0.png", seed=0)
    (tmp_path / "boxes.csv").write_text("path,pid,x,y,w,h\n0.png,1,0,0,16,16\n")
    spec = SetSpec("b", "crops", str(tmp_path), annotations="boxes.csv", parameters={"min_side_px": 4})
    assert len(opened(spec)[0]) == 1
    message = (
        f"parameters: {name} say nothing about a table of boxes; known are min_side_px and the names of its columns"
    )
    with pytest.raises(ValueError, match=message):
        opened(spec._replace(parameters={"min_side_px": 4, name: 1}))


STREET = SetSpec(
    "s", "street", "", parameters={"identities": 3, "cameras": 2, "per_camera": 2, "height": 64, "width": 32}
)


def test_people_of_the_street_differ_between_splits_and_share_cameras() -> None:
    (train, found), (val, more) = opened(STREET), opened(STREET, "val")
    assert found == more == []
    assert train.identities == ("s/0000000", "s/0000001", "s/0000002")
    assert val.identities == ("s/1000000", "s/1000001", "s/1000002")
    assert train.cameras == val.cameras == ("s/c0", "s/c1")
    assert train.labels().tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert train.camera_numbers().tolist() == [0, 0, 1, 1] * 3
    assert train.name(6) == "s/train/0000001_c1_00.jpg" and (val.roles() == BOTH).all()
    drawn = list(street.crops(0, identities=3, cameras=2, per_camera=2, height=64, width=32))
    for index, crop in enumerate(drawn):
        assert (crop.identity, crop.camera) == tuple(train.target(index)[:2])
        found_pixels = pixels_of(train.image_bytes(index))
        assert found_pixels.shape == (64, 32, 3) and np.abs(found_pixels - crop.image).mean() < 6
    assert (
        len({train.image_bytes(index) for index in range(12)} | {val.image_bytes(index) for index in range(12)}) == 24
    )


def test_people_are_drawn_once_and_apart_from_the_scenes(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = opened(STREET)[0]
    monkeypatch.setattr("accel_det.data.formats.identity_street._draw", lambda asked: pytest.fail("drawn again"))
    again = opened(STREET)[0]
    assert [again.image_bytes(i) for i in range(12)] == [before.image_bytes(i) for i in range(12)]
    assert again.fingerprint == before.fingerprint and len(list(own_cache.rglob("*.arrow"))) == 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"images": 3}, "'images' is unknown; known are seed, identities, cameras, per_camera, height, width"),
        ({"identities": 0}, r"parameters\.identities: 0 is not a whole number >= 1"),
        ({"cameras": 1.5}, r"parameters\.cameras: 1\.5"),
        ({"height": 16}, r"parameters\.height: 16 is not a whole number >= 32"),
        ({"identities": 1_000_001}, "more than a split has, 1000000"),
    ],
)
def test_a_street_that_cannot_be_is_refused(parameters: dict[str, int | float | str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        opened(STREET._replace(parameters=parameters))
    with pytest.raises(ValueError, match="the street has no split 'test'; it has train and val"):
        opened(STREET, "test")
