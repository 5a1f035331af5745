"""Prepared shards and JSON lines on a server that speaks S3: the same splits in the same order as from disk."""

import base64
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import fsspec
import pytest
import yaml
from identity_shards import Shot, write_identity_lines, write_identity_parquet, write_identity_tars
from identity_trees import picture_bytes
from stream_cases import assert_split, jpeg, record, stream, write_parquet

from accel_det.cli import check, compose_detection
from accel_det.cli.failures import BAD_INPUT, DONE, guarded
from accel_det.config.load import load_detection
from accel_det.data import s3, shards
from accel_det.data.formats.raw import StreamedImages
from accel_det.data.identity_sources import open_identities
from accel_det.data.order import EpochOrder
from accel_det.data.prepare import SUFFIXES, Kind, Preparation, write_split
from accel_det.data.records import DetectionTable
from accel_det.data.sources import SetSpec, open_split
from accel_det.data.stream_feed import StreamFeed, shard_lengths
from accel_det.data.stream_order import StreamPlan, StreamTurns

moto = pytest.importorskip("moto.server", reason="moto is not installed: pip install 'accel_det[dev]'")
pytest.importorskip("s3fs", reason="s3fs is not installed: pip install 'accel_det[s3]'")
SECRET = "PlantedSecretOfTheLocalServer"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server, which needs credentials; they are in the environment."""
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "tester")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield "http://{}:{}".format(*running.get_host_and_port())
    running.stop()


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder to run in, a cache of its own, and no patience."""
    monkeypatch.setattr(shards, "_PAUSES_S", (0.01, 0.01, 0.01))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def upload(folder: Path, server: str, bucket: str) -> str:
    """The address of a folder's files in a bucket of its own."""
    system = fsspec.filesystem("s3", endpoint_url=server)
    system.mkdir(bucket)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            system.pipe_file(f"{bucket}/set/{path.relative_to(folder).as_posix()}", path.read_bytes())
    return f"s3://{bucket}/set"


def write_config(file: str, root: str, storage: Mapping[str, object]) -> str:
    """A configuration that streams the set."""
    sets = {"made": {"format": "hub", "root": root, "storage": dict(storage)}}
    data = {"sets": sets, "train": "made:train", "val": "made:val", "streaming": True, "workers": 0}
    document = {"name": "tiny", "model": {"name": "yolov5n"}, "data": data, "train": {"steps": 1}}
    Path(file).write_text(yaml.safe_dump(document))
    return file


def delivered(table: DetectionTable) -> list[tuple[int, bytes, list[list[float]]]]:
    """Index, encoded image and boxes of each turn of two epochs."""
    assert isinstance(table.streamed, StreamedImages)
    turns = StreamTurns(shard_lengths(table.streamed), StreamPlan(2, 2, 4), seed=3)
    order = EpochOrder(len(table), seed=3, turns=turns)
    feed = StreamFeed(table.streamed, turns, seed=3, companions=0)
    found = []
    for start in range(0, 2 * len(table), 4):
        where = range(start, start + 4)
        draws = order.draws(start // 4, where)
        for draw, item in zip(draws, feed.deliver(where, draws), strict=True):
            found.append((draw.index, item.images[draw.index], table.truth(draw.index).boxes.tolist()))
    feed.close()
    return found


@pytest.mark.parametrize("kind", SUFFIXES)
def test_prepared_shards_come_from_s3_in_the_order_and_with_the_boxes_of_those_on_disk(
    tmp_path: Path, server: str, kind: Kind
) -> None:
    source, _ = open_split({"s": SetSpec("s", "hub", str(write_parquet(tmp_path / "source")))}, "s:train")
    for split in ("train", "val"):
        write_split(source, split, tmp_path / "made", Preparation(kind), workers=1)
    address = upload(tmp_path / "made", server, f"prepared-{kind}")
    here, there = (
        compose_detection.open_tables(load_detection(write_config(f"{name}.yaml", root, storage), []))
        for name, root, storage in (
            ("disk", str(tmp_path / "made"), {}),
            ("s3", address, {"endpoint_url": server}),
        )
    )
    assert_split(there.train, 12)
    assert there.train.fingerprint == here.train.fingerprint and there.train.names() == here.train.names()
    found = delivered(there.train)
    assert found == delivered(here.train) and sorted({index for index, _, _ in found}) == list(range(12))


def write_json_lines(folder: Path, *, as_bytes: bool) -> Path:
    """Twelve images in two files of lines; paths are from the folder."""
    (folder / "pictures").mkdir(parents=True)
    lines = []
    for i in range(12):
        path = f"pictures/{i:02}.jpg"
        if not as_bytes:
            (folder / path).write_bytes(jpeg(i))
        image = {"bytes": base64.b64encode(jpeg(i)).decode(), "path": path} if as_bytes else path
        lines.append(json.dumps({"image": image, "objects": record(i, texts=True)}))
    for number, part in enumerate((lines[:7], lines[7:])):
        (folder / f"train-{number}.jsonl").write_text("\n".join(part) + "\n")
    return folder


@pytest.mark.parametrize("as_bytes", [True, False], ids=["bytes", "paths"])
def test_json_lines_give_the_same_from_disk_and_from_s3(tmp_path: Path, server: str, as_bytes: bool) -> None:
    folder = write_json_lines(tmp_path / "lines", as_bytes=as_bytes)
    here, _ = stream(folder)
    address = upload(folder, server, f"lines-{'bytes' if as_bytes else 'paths'}")
    there, _ = stream(address, storage={"endpoint_url": server})
    for table in (here, there):
        assert_split(table, 12)
        assert table.name(3) == "s/pictures/03.jpg"
        assert shard_lengths(table.streamed) == [7, 5]  # type: ignore[arg-type]
    assert there.fingerprint == here.fingerprint
    assert delivered(there) == delivered(here)


@pytest.mark.parametrize("kind", ["parquet", "tar", "jsonl"])
def test_pictures_of_identities_are_the_same_from_disk_and_from_s3(tmp_path: Path, server: str, kind: str) -> None:
    write = {"parquet": write_identity_parquet, "tar": write_identity_tars, "jsonl": write_identity_lines}[kind]
    shots = [Shot(picture_bytes(i), f"train/{i:02}.png", f"p{i // 2}", i % 2) for i in range(6)]
    write(tmp_path / "people", "train", shots, (4, 2))
    address = upload(tmp_path / "people", server, f"people-{kind}")
    here = SetSpec("s", "hub", str(tmp_path / "people"), streaming=True)
    there = here._replace(root=address, storage={"endpoint_url": server})
    tables = [open_identities({"s": spec}, "s:train", training=True)[0] for spec in (here, there)]
    assert tables[0].fingerprint == tables[1].fingerprint and tables[0].names() == tables[1].names()
    for table in tables:
        assert [table.image_bytes(i) for i in range(6)] == [shot.data for shot in shots]
        assert table.labels().tolist() == [0, 0, 1, 1, 2, 2] and table.camera_numbers().tolist() == [0, 1] * 3


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ("../outside.jpg", "image '../outside.jpg' leads out of "),
        ("/etc/passwd", "image '/etc/passwd' leads out of "),
        ("file:///etc/passwd", "image 'file:///etc/passwd' leads out of "),
        ("link.jpg", "image 'link.jpg' leads out of "),
        ({"bytes": "no base64!", "path": "a.jpg"}, "image a.jpg: `bytes` is no base64 text: "),
        ("gone.jpg", "gone.jpg"),
    ],
    ids=str,
)
def test_a_line_whose_image_must_not_or_cannot_be_read_is_refused_in_one_line(
    tmp_path: Path, image: object, message: str
) -> None:
    folder = tmp_path / "lines"
    folder.mkdir()
    (tmp_path / "outside.jpg").write_bytes(jpeg(0))
    (folder / "link.jpg").symlink_to(tmp_path / "outside.jpg")
    (folder / "train.jsonl").write_text(json.dumps({"image": image, "objects": record(0, texts=True)}) + "\n")
    with pytest.raises(ValueError) as error:
        stream(folder)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_the_server_that_the_environment_names_needs_no_key_in_the_configuration(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    table, _ = stream(upload(write_parquet(tmp_path / "set"), server, "named-by-environment"))
    assert_split(table, 12)


@pytest.mark.parametrize(
    ("root", "storage", "message"),
    [
        (
            "s3://no-such-bucket/set",
            {"endpoint_url": None},
            "cannot be read: FileNotFoundError: The specified bucket does not exist",
        ),
        ("here", {"endpoint_url": None}, "storage is for a server, but root is 'here'"),
        ("s3://a/set", {"key": SECRET}, "storage.key is secret, and configurations are copied to runs"),
        ("s3://a/set", {"secret": SECRET}, "storage.secret is secret"),
        ("s3://a/set", {"endpoint_url": f"http://me:{SECRET}@host"}, "storage.endpoint_url is secret"),
        ("s3://a/set", {"endpoint": None}, "unexpected keyword argument 'endpoint'"),
    ],
)
def test_what_cannot_be_streamed_is_one_line_without_secrets(
    server: str, capsys: pytest.CaptureFixture[str], root: str, storage: dict[str, str | None], message: str
) -> None:
    file = write_config("wrong.yaml", root, {name: value or server for name, value in storage.items()})
    assert guarded(check.run, [file]) == BAD_INPUT
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line and SECRET not in line


def test_without_s3fs_an_address_of_s3_is_one_line_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    s3.accept_block_sizes.cache_clear()
    with pytest.raises(ValueError, match=r"^s3:// needs s3fs: pip install 'accel_det\[s3\]'$"):
        stream("s3://bucket/set")


def test_the_check_of_a_set_on_s3_prints_neither_key_nor_password(
    tmp_path: Path, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_parquet(tmp_path / "set")
    for file in list((tmp_path / "set").iterdir()):
        (tmp_path / "set" / file.name.replace("train", "val")).write_bytes(file.read_bytes())
    file = write_config("good.yaml", upload(tmp_path / "set", server, "checked"), {"endpoint_url": server})
    assert guarded(check.run, [file, "--all"]) == DONE
    said = capsys.readouterr()
    assert "train: 12 images" in said.out and SECRET not in said.out + said.err and "tester" not in said.out + said.err
    assert guarded(check.run, [file, "--data.streaming", "false"]) == BAD_INPUT
    assert "sets.made.storage is for streaming, which is false: set data.streaming to true" in capsys.readouterr().err
