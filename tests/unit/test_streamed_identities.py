"""Streamed pictures of identities: who is in them, as on disk, from files, tar files, folders and servers."""

import io
import json
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
from file_server import Fault, FileServer
from identity_shards import (
    Shot,
    write_identity_folder,
    write_identity_lines,
    write_identity_parquet,
    write_identity_tars,
)
from identity_trees import picture_bytes
from pyarrow import parquet
from stream_cases import shorten_pauses

from accel_det.data.augment.identity import IdentityAugmentation
from accel_det.data.defects import Defect
from accel_det.data.identities import IdentityTable, with_quarter_turns
from accel_det.data.identity_images import IdentityEvaluationImages, IdentityImages
from accel_det.data.identity_order import GroupRule
from accel_det.data.identity_sources import open_identities
from accel_det.data.identity_stream import GroupPlan, IdentityStream
from accel_det.data.order import EpochOrder
from accel_det.data.sources import SetSpec
from accel_det.data.stream_feed import StreamFeed, evaluation_feed, shard_lengths
from accel_det.types import Role

LENGTHS = (10, 0, 19, 1)


def shots(prefix: str, count: int = 30, *, first: int = 0) -> list[Shot]:
    """Identities p0, p1, ... of three pictures each, by cameras 0 and 1."""
    return [Shot(picture_bytes(first + i), f"{prefix}/{i:03}.png", f"p{(first + i) // 3}", i % 2) for i in range(count)]


TRAIN = shots("train")
QUERY, GALLERY = shots("query", 6, first=300), shots("gallery", 9, first=300)


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shorten_pauses(monkeypatch)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "set"
    write_identity_parquet(folder / "data", "train", TRAIN, LENGTHS)
    write_identity_parquet(folder / "data", "query", QUERY, (6,))
    write_identity_parquet(folder / "data", "gallery", GALLERY, (4, 5))
    return folder


def stream(
    root: Path | str, split: str = "train", *, training: bool | None = None, **fields: object
) -> tuple[IdentityTable, list[Defect]]:
    spec = SetSpec("s", "hub", str(root), streaming=True)._replace(**fields)  # type: ignore[arg-type]
    return open_identities({"s": spec}, f"s:{split}", training=split == "train" if training is None else training)


def assert_shots(table: IdentityTable, expected: list[Shot]) -> None:
    assert len(table) == len(expected)
    for index, shot in enumerate(expected):
        target = table.target(index)
        assert table.identities[target.identity] == f"s/{shot.identity}"
        assert table.cameras[target.camera] == f"s/c{shot.camera}"
        assert table.image_bytes(index) == shot.data and table.path(index) is None


def test_parquet_shards_are_the_split_that_they_hold(root: Path) -> None:
    table, defects = stream(root)
    assert not defects
    assert_shots(table, TRAIN)
    assert table.streamed is not None and shard_lengths(table.streamed) == list(LENGTHS)
    plain, _ = stream(root, streaming=False)
    assert table.names() == plain.names() and table.fingerprint == plain.fingerprint
    assert table.name(3) == "s/train/003.png" and table.paths() == [None] * 30
    assert_shots(pickle.loads(pickle.dumps(table)), TRAIN)


def test_a_test_split_is_its_queries_and_its_gallery(root: Path) -> None:
    table, _ = stream(root, "test")
    assert_shots(table, [*QUERY, *GALLERY])
    assert table.roles().tolist() == [int(Role.QUERY)] * 6 + [int(Role.GALLERY)] * 9
    plain, _ = stream(root, "test", streaming=False)
    assert table.fingerprint == plain.fingerprint
    parts = {"s": SetSpec("s", "hub", str(root), streaming=True)}
    named, _ = open_identities(parts, "s:query + s:gallery", training=False)
    assert named.fingerprint == table.fingerprint
    with pytest.raises(ValueError, match=r"split 'other'|no split 'other'"):
        stream(root, "other", training=True)


@pytest.mark.parametrize("kind", ["tar", "lines", "folder"])
def test_tar_files_and_json_lines_and_folders_say_who_is_where(tmp_path: Path, kind: str) -> None:
    if kind == "tar":
        write_identity_tars(tmp_path / "set", "train", TRAIN, (10, 19, 1))
    elif kind == "lines":
        write_identity_lines(tmp_path / "set", "train", TRAIN, (10, 19, 1))
    else:
        write_identity_folder(tmp_path / "set", "train", TRAIN)
    table, defects = stream(tmp_path / "set")
    assert not defects
    assert_shots(table, TRAIN)
    assert table.name(3) == ("s/train/003" if kind == "tar" else "s/train/003.png")


def test_columns_may_have_other_names_and_labels_may_be_numbers_or_classes(tmp_path: Path) -> None:
    features = datasets.Features(
        {
            "crop": datasets.Image(),
            "who": datasets.ClassLabel(names=["ann", "bob", "cid"]),
            "seen_by": datasets.Value("float64"),
        }
    )
    rows = {
        "crop": [{"bytes": picture_bytes(i), "path": None} for i in range(6)],
        "who": [0, 1, 2, 0, 1, 2],
        "seen_by": [1.0, None, -1.0, 2.0, 1.0, 2.0],
    }
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "set" / "train.parquet"))
    named = {"image": "crop", "identity": "who", "camera": "seen_by"}
    table, _ = stream(tmp_path / "set", parameters=named)
    plain, _ = stream(tmp_path / "set", parameters=named, streaming=False)
    assert table.identities == ("s/ann", "s/bob", "s/cid") and table.fingerprint == plain.fingerprint
    assert table.camera_numbers().tolist() == [0, -1, -1, 1, 0, 1]
    assert [table.image_bytes(i) for i in range(6)] == [picture_bytes(i) for i in range(6)]
    with pytest.raises(ValueError, match=r"parameters\.identity: no column 'pid' in .*train\.parquet"):
        stream(tmp_path / "set", parameters={**named, "identity": "pid"})
    with pytest.raises(ValueError, match=r"parameters\.split: the format hub has splits of its own"):
        stream(tmp_path / "set", parameters={**named, "split": "who"})


def test_who_is_where_is_read_without_pictures_and_once(root: Path) -> None:
    with FileServer(root) as server:
        place = {"annotations": "data/{split}-{0..3}.parquet"}
        table, _ = stream(server.url, **place)
        first = len(server.requests)
        stream(server.url, **place)
        assert not any("bytes=" in request for request in server.requests[first:])
        assert_shots(table, TRAIN)
    # Other columns are another index.
    with pytest.raises(ValueError, match=r"parameters\.identity: no column 'pid'"):
        stream(root, parameters={"identity": "pid"})


def test_pictures_without_an_identity_are_noted_and_distractors_left_out_of_training(tmp_path: Path) -> None:
    found = [shot._replace(identity={4: "", 5: "-1"}.get(i, shot.identity)) for i, shot in enumerate(TRAIN)]
    write_identity_parquet(tmp_path / "set", "train", found, (3, 27))
    table, defects = stream(tmp_path / "set")
    assert_shots(table, [*TRAIN[:4], *TRAIN[6:]])
    kinds = {defect.kind: defect for defect in defects}
    assert set(kinds) == {"malformed_record", "distractor_in_training"}
    assert kinds["malformed_record"].file.endswith("train-1.parquet") and kinds["malformed_record"].record == "row 1"
    assert table.streamed is not None and shard_lengths(table.streamed) == [3, 25]


def test_holdouts_and_joined_sets_are_streamed_too(tmp_path: Path, root: Path) -> None:
    write_identity_tars(tmp_path / "b", "train", shots("b", 9, first=60), (4, 5))
    sets = {
        "a": SetSpec("a", "hub", str(root), streaming=True, holdout=0.3),
        "b": SetSpec("b", "hub", str(tmp_path / "b"), streaming=True),
    }
    train, _ = open_identities(sets, "a:train + b:train", training=True)
    val, _ = open_identities(sets, "a:val", training=False)
    assert len(train) + len(val) == 39 and not set(train.identities) & set(val.identities)
    data = {shot.data for shot in [*TRAIN, *shots("b", 9, first=60)]}
    read = [table.image_bytes(i) for table in (train, val) for i in range(len(table))]
    assert len(read) == 39 and set(read) == data


def test_quarter_turns_of_a_streamed_picture_follow_one_another(root: Path) -> None:
    table = with_quarter_turns(stream(root)[0])
    plain = with_quarter_turns(stream(root, streaming=False)[0])
    assert len(table) == 120 and table.identities == plain.identities
    assert [table.quarter_turns(i) for i in range(8)] == [0, 1, 2, 3, 0, 1, 2, 3]
    for i in range(120):
        other = i % 4 * 30 + i // 4
        assert table.name(i) == plain.name(other) and table.target(i) == plain.target(other)
        assert table.image_bytes(i) == plain.image_bytes(other)
    assert table.streamed is not None and shard_lengths(table.streamed) == [4 * length for length in LENGTHS]


def test_a_feed_of_groups_delivers_the_pictures_that_have_their_turn_from_any_position(root: Path) -> None:
    table, _ = stream(root)
    assert table.streamed is not None
    turns = IdentityStream(
        shard_lengths(table.streamed),
        table.labels(),
        GroupRule(2, 2),
        GroupPlan(2, 1, 2, 4),
        cameras=table.camera_numbers(),
        seed=1,
    )
    order = EpochOrder(30, seed=1, turns=turns)
    augmentation = IdentityAugmentation(flip=0.5)
    images = IdentityImages(table, size_px=(16, 8), augmentation=augmentation)
    for start in (0, 8, turns.length - 4, 2 * turns.length + 4):
        feed = StreamFeed(table.streamed, turns, seed=1)
        for first in range(start, start + 3 * turns.length, 4):
            where = range(first, first + 4)
            draws = order.draws(0, where)
            for draw, delivered in zip(draws, feed.deliver(where, draws), strict=True):
                assert delivered.images == {draw.index: TRAIN[draw.index].data}
                assert images[delivered].image.equal(images[draw].image)
            assert len(feed._here) <= 4 and len(feed._ahead) <= 4
        feed.close()


def test_an_evaluation_is_delivered_as_it_is_read_from_disk(root: Path) -> None:
    table, _ = stream(root, "test")
    plain, _ = stream(root, "test", streaming=False)
    assert table.streamed is not None
    images = IdentityEvaluationImages(table, size_px=(16, 8))
    expected = IdentityEvaluationImages(plain, size_px=(16, 8))
    for chunk in evaluation_feed(table.streamed, window=4)([[0, 1, 2], [3, 4], [5, 6, 7, 8, 9]]):
        for delivered in chunk:
            sample, other = images[delivered], expected[delivered.key]
            assert sample.image.equal(other.image) and sample.target == other.target and sample.frame == other.frame
            assert images.blank(delivered).target == sample.target


@pytest.fixture
def server(tmp_path: Path, root: Path) -> Iterator[FileServer]:
    write_identity_tars(root / "tars", "train", TRAIN, (10, 10, 10))
    with FileServer(root) as running:
        yield running


@pytest.mark.parametrize("pattern", ["data/{split}-{0..3}.parquet", "tars/{split}-{0..2}.tar"])
def test_a_server_that_fails_is_asked_again_and_then_named(server: FileServer, pattern: str) -> None:
    server.faults.append(Fault("train-2", "error", times=2, after=1))
    table, _ = stream(server.url, annotations=pattern)
    server.faults.append(Fault("train-0", "cut", times=2))
    assert_shots(table, TRAIN)
    again, _ = stream(server.url, annotations=pattern)
    server.faults.append(Fault("train-2", "error"))
    with pytest.raises(ValueError, match=r"train-2\.\w+: cannot be read after 4 attempts: ") as caught:
        [again.image_bytes(index) for index in range(len(again))]
    assert "\n" not in str(caught.value)


def test_what_cannot_be_streamed_is_refused_in_one_line(tmp_path: Path, root: Path) -> None:
    (tmp_path / "paths").mkdir()
    parquet.write_table(
        pa.table({"image": ["a.png", "b.png"], "identity": ["1", "2"]}), tmp_path / "paths" / "train.parquet"
    )
    with pytest.raises(
        ValueError, match=r"column 'image' of .*train\.parquet holds string, .* data\.streaming to false"
    ):
        stream(tmp_path / "paths")
    sets = {
        "s": SetSpec("s", "hub", str(root), streaming=True),
        "market": SetSpec("market", "market1501", str(tmp_path), streaming=True),
    }
    for selection, training in (
        ("market:train", True),
        ("s:train + market:train", True),
        ("s:test + market:test", False),
    ):
        with pytest.raises(
            ValueError, match=r"the format of 'market' is market1501: set data\.streaming to false"
        ) as caught:
            open_identities(sets, selection, training=training)
        assert "\n" not in str(caught.value)


def test_paths_in_json_lines_stay_below_the_root_and_a_named_column_holds_pictures(tmp_path: Path) -> None:
    line = {"image": "../a.png", "identity": "p0", "camera": 1}
    (tmp_path / "a.png").write_bytes(picture_bytes(0))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text(json.dumps(line))
    no_pictures = r"^set 's', parameters\.image: column '{}' of .*set holds no pictures; name another one$"
    for parameters, message in (
        ({"image": "camera"}, no_pictures.format("camera")),
        ({"identity": "image"}, no_pictures.format("image")),
        ({}, r"image '\.\./a\.png' leads out of .*set; write its path from there$"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            stream(tmp_path / "set", parameters=parameters)
        assert "\n" not in str(caught.value)


def test_an_evaluation_may_be_of_files_while_training_is_streamed(tmp_path: Path) -> None:
    for name in ("query/0001_c1s1_000001_00.png", "bounding_box_test/0001_c2s1_000002_00.png"):
        file = tmp_path / "market" / name
        file.parent.mkdir(parents=True)
        file.write_bytes(picture_bytes(1))
    sets = {"market": SetSpec("market", "market1501", str(tmp_path / "market"), streaming=True)}
    table, _ = open_identities(sets, "market:test", training=False)
    assert len(table) == 2 and table.streamed is None


def test_cells_that_are_no_texts_are_refused(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    with tarfile.open(tmp_path / "set" / "train-0.tar", "w") as archive:
        for i in range(2):
            for suffix, data in (("png", picture_bytes(i)), ("json", json.dumps({"identity": [i]}).encode())):
                member = tarfile.TarInfo(f"{i}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    with pytest.raises(ValueError, match=r"^set 's': .*set: a cell holds \[0\], where a text or number belongs"):
        stream(tmp_path / "set")
