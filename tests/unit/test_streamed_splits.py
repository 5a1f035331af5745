"""Streamed splits: the same images, boxes and fingerprint as those of the set on disk, from files, folders and servers."""

import io
import json
import pickle
import random
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import datasets
import numpy as np
import pytest
from file_server import Fault, FileServer
from huggingface_hub import constants
from stream_cases import assert_split, features, jpeg, record, shorten_pauses, stream, write_parquet

from accel_det.data.formats.raw import StreamedImages
from accel_det.data.order import EpochOrder
from accel_det.data.sources import SetSpec, open_split
from accel_det.data.stream_feed import StreamFeed, evaluation_feed, read_images, shard_lengths
from accel_det.data.stream_order import StreamPlan, StreamTurns


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_pauses(monkeypatch)


@pytest.mark.parametrize("sized", [True, False], ids=["sizes annotated", "sizes measured"])
def test_parquet_shards_are_the_split_that_they_hold(tmp_path: Path, sized: bool) -> None:
    write_parquet(tmp_path / "set", sized=sized)
    table, defects = stream(tmp_path / "set")
    assert {defect.kind for defect in defects} == {"image_without_annotations"}
    assert_split(table, 12)
    assert table.name(3) == "s/03.jpg" and table.path(3) is None and table.image_length(3) == -1
    assert table.streamed is not None and shard_lengths(table.streamed) == [4, 0, 7, 1]
    downloaded, _ = open_split({"s": SetSpec("s", "hub", str(tmp_path / "set"))}, "s:train")
    assert table.fingerprint == downloaded.fingerprint
    again = pickle.loads(pickle.dumps(table))
    assert_split(again, 12)


def test_annotations_are_read_without_images_and_gathered_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "set")
    with FileServer(tmp_path / "set") as server:
        fields = {"annotations": "{split}-{0..3}.parquet"}
        stream(server.url, **fields)
        first = len(server.requests)
        table, _ = stream(server.url, **fields)
        again = server.requests[first:]
        assert any("bytes=" in request for request in server.requests[:first])
        assert not any("bytes=" in request for request in again)  # asked whether they are there, not read
        assert_split(table, 12)
    # Whoever changes a shard gets another index.
    shutil.copy(tmp_path / "set" / "train-3.parquet", tmp_path / "set" / "train-1.parquet")
    assert len(stream(tmp_path / "set")[0]) == 13


def write_tars(folder: Path, lengths: Sequence[int] = (4, 5, 3)) -> Path:
    import tarfile

    folder.mkdir(parents=True)
    start = 0
    for number, length in enumerate(lengths):
        with tarfile.open(folder / f"train-{number}.tar", "w") as archive:
            for i in range(start, start + length):
                facts = json.dumps({"objects": record(i, texts=True)}).encode()
                for suffix, data in (("jpg", jpeg(i)), ("json", facts)):
                    member = tarfile.TarInfo(f"{i:03}.{suffix}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
        start += length
    return folder


def write_images(folder: Path, count: int = 12) -> Path:
    (folder / "train").mkdir(parents=True)
    lines = [json.dumps({"file_name": f"{i:02}.jpg", "objects": record(i, texts=True)}) for i in range(count)]
    (folder / "train" / "metadata.jsonl").write_text("\n".join(lines))
    for i in range(count):
        (folder / "train" / f"{i:02}.jpg").write_bytes(jpeg(i))
    return folder


def write_arrow(folder: Path) -> Path:
    folder.mkdir(parents=True)
    rows = [{"image": {"bytes": jpeg(i), "path": f"{i:02}.jpg"}, "objects": record(i)} for i in range(12)]
    datasets.Dataset.from_list(rows, features=features(sized=False)).save_to_disk(str(folder / "saved"))
    shutil.copy(folder / "saved" / "data-00000-of-00001.arrow", folder / "train.arrow")
    shutil.rmtree(folder / "saved")
    return folder


@pytest.mark.parametrize("write", [write_tars, write_images, write_arrow], ids=["tar", "folder of images", "arrow"])
def test_whatever_datasets_streams_is_read(tmp_path: Path, write) -> None:  # type: ignore[no-untyped-def]
    table, _ = stream(write(tmp_path / "set"))
    assert_split(table, 12)
    assert table.streamed is not None
    rng = random.Random(0)
    for _ in range(60):  # back and forth, so readers are taken up again, or begin anew
        start = rng.randrange(12)
        shard = next(i for i, end in enumerate(np.cumsum(table.streamed.shards.lengths)) if start < end)
        stop = rng.randint(start + 1, int(np.cumsum(table.streamed.shards.lengths)[shard]))
        assert read_images(table.streamed, (range(start, stop),)) == {i: jpeg(i) for i in range(start, stop)}


def feed_of(images: StreamedImages, *, companions: int = 0) -> tuple[StreamTurns, StreamFeed]:
    turns = StreamTurns(shard_lengths(images), StreamPlan(2, 2, 4), seed=3)
    return turns, StreamFeed(images, turns, seed=3, companions=companions)


def test_a_feed_delivers_every_draw_with_its_image_and_others_of_its_window(tmp_path: Path) -> None:
    table, _ = stream(write_parquet(tmp_path / "set"))
    assert table.streamed is not None
    turns, feed = feed_of(table.streamed, companions=2)
    order = EpochOrder(12, seed=3, turns=turns)
    for start in range(0, 60, 4):
        where = range(start, start + 4)
        draws = order.draws(0, where)
        for position, draw, delivered in zip(where, draws, feed.deliver(where, draws), strict=True):
            assert delivered.key == draw and delivered.members[0] == draw.index
            assert delivered.images == {index: jpeg(index) for index in delivered.members}
            window = turns.place(*divmod(position, 12)).window
            others = {row for stretch in window for row in stretch} - {draw.index}
            assert set(delivered.members[1:]) <= others
            assert len(set(delivered.members)) == 1 + min(2, len(others))
        assert len(feed._here) <= 4 and len(feed._ahead) <= 4  # two streams, and at the border two epochs
    feed.close()


def test_a_feed_that_begins_anywhere_gives_what_one_gives_that_began_at_the_start(tmp_path: Path) -> None:
    table, _ = stream(write_parquet(tmp_path / "set"))
    assert table.streamed is not None
    turns, whole = feed_of(table.streamed, companions=3)
    order = EpochOrder(12, seed=3, turns=turns)
    expected = [whole.deliver([p], [order.draw(p)])[0] for p in range(30)]
    whole.close()
    for start in (1, 7, 12, 17, 29):
        _, feed = feed_of(table.streamed, companions=3)
        assert [feed.deliver([p], [order.draw(p)])[0] for p in range(start, 30)] == expected[start:]
        feed.close()


@pytest.mark.parametrize("window", [1, 3, 100])
def test_an_evaluation_is_delivered_in_order_also_from_the_middle(tmp_path: Path, window: int) -> None:
    table, _ = stream(write_parquet(tmp_path / "set"))
    assert table.streamed is not None
    deliver = evaluation_feed(table.streamed, window=window)
    for chunks in ([[0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [10, 11]], [[5], [6], [7, 8]], []):
        found = list(deliver(chunks))
        assert [[one.key for one in chunk] for chunk in found] == chunks
        assert all(one.images == {one.key: jpeg(one.key)} for chunk in found for one in chunk)


def test_images_that_are_left_out_leave_no_gap(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set", (6,), sized=False)
    broken = [
        {"image": {"bytes": b"no image" if i == 2 else jpeg(i), "path": f"{i:02}.jpg"}, "objects": record(i)}
        for i in range(6)
    ]
    datasets.Dataset.from_list(broken, features=features(sized=False)).to_parquet(str(tmp_path / "set/train-0.parquet"))
    table, defects = stream(tmp_path / "set", accept=("unreadable_file",))
    assert [d.file for d in defects if d.kind == "unreadable_file"] == [str(tmp_path / "set/train-0.parquet")]
    assert [table.image_bytes(i) for i in range(len(table))] == [jpeg(i) for i in (0, 1, 3, 4, 5)]
    assert table.streamed is not None
    assert read_images(table.streamed, (range(1, 4),)) == {1: jpeg(1), 2: jpeg(3), 3: jpeg(4)}


def test_joined_sets_and_holdouts_are_streamed_too(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a", (5, 2))
    write_parquet(tmp_path / "b", (3,))
    sets = {name: SetSpec(name, "hub", str(tmp_path / name), streaming=True, holdout=0.3) for name in ("a", "b")}
    train, _ = open_split(sets, "a:train + b:train")
    val, _ = open_split(sets, "a:val + b:val")
    plain = {name: spec._replace(streaming=False) for name, spec in sets.items()}
    for found, selection in ((train, "a:train + b:train"), (val, "a:val + b:val")):
        expected, _ = open_split(plain, selection)
        assert found.names() == expected.names() and found.fingerprint == expected.fingerprint
        assert [found.image_bytes(i) for i in range(len(found))] == [
            expected.image_bytes(i) for i in range(len(expected))
        ]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[FileServer]:
    write_parquet(tmp_path / "set")
    write_tars(tmp_path / "tars")
    with FileServer(tmp_path) as running:
        yield running


PLACES = {"parquet": ("set", "{split}-{0..3}.parquet"), "tar": ("tars", "{split}-{0..2}.tar")}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["error", "cut", "short", "slow"])
def test_a_server_that_fails_now_and_then_is_asked_again(server: FileServer, place: str, kind: str) -> None:
    folder, pattern = PLACES[place]
    server.faults.append(Fault("train-2", kind, times=2, after=1))
    table, _ = stream(f"{server.url}/{folder}", annotations=pattern)
    server.faults.append(Fault("train-0", kind, times=2))
    assert_split(table, 12)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["error", "cut", "wrong"])
def test_a_server_that_fails_for_good_ends_in_one_line_that_names_the_shard(
    server: FileServer, place: str, kind: str
) -> None:
    folder, pattern = PLACES[place]
    table, _ = stream(f"{server.url}/{folder}", annotations=pattern)
    server.faults.append(Fault("train-2", kind))
    with pytest.raises(ValueError, match=r"train-2\.\w+: cannot be read after 4 attempts: ") as caught:
        [table.image_bytes(index) for index in range(len(table))]
    assert "\n" not in str(caught.value) and "restore the file, or see to its server" in str(caught.value)


def test_a_shard_that_is_not_there_is_named_at_once(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"FileNotFoundError: Unable to find .*train-4\.parquet"):
        stream(f"{server.url}/set", annotations="{split}-{0..4}.parquet")
    table, _ = stream(tmp_path / "set")
    (tmp_path / "set" / "train-2.parquet").unlink()
    with pytest.raises(ValueError, match=r"train-2\.parquet: cannot be read: FileNotFoundError"):
        table.image_bytes(6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"annotations": "other-*.parquet"}, r"no shards at .*; looked for other-\*\.parquet"),
        ({"annotations": "*"}, r"shards of the kinds .*\.parquet, \.txt.* expected one of"),
        ({"root": "no/such-set"}, "'no/such-set' cannot be streamed"),
    ],
)
def test_what_cannot_be_streamed_is_refused(
    tmp_path: Path, fields: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    write_parquet(tmp_path / "set")
    (tmp_path / "set" / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=message) as caught:
        stream(**{"root": tmp_path / "set", **fields})  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_a_set_without_objects_is_refused_by_its_columns(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set", (2,))
    file = tmp_path / "set" / "train-0.parquet"
    data = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "hf"))
    data.remove_columns(["objects"]).to_parquet(str(file))
    with pytest.raises(ValueError, match=r"has the columns .*without \['objects'\]"):
        stream(tmp_path / "set")


def test_threads_may_read_one_shard_together(tmp_path: Path) -> None:
    for folder in (write_parquet(tmp_path / "set", (12,)), write_tars(tmp_path / "tars", (12,))):
        table, _ = stream(folder)
        assert table.streamed is not None
        wrong: list[int] = []

        def read(seed: int, images: StreamedImages = table.streamed, wrong: list[int] = wrong) -> None:
            rng = random.Random(seed)
            for _ in range(30):
                start = rng.randrange(12)
                if read_images(images, (range(start, 12),)) != {i: jpeg(i) for i in range(start, 12)}:
                    wrong.append(start)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
