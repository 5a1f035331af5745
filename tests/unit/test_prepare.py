"""Prepared shards hold what the split holds, however they were written and however often the writing was interrupted."""

import io
import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image
from stream_cases import CLASSES, assert_split, record, stream, write_parquet

from accel_det.data import prepare
from accel_det.data.prepare import Kind, Preparation, write_split
from accel_det.data.records import DetectionTable
from accel_det.data.sources import SetSpec, open_split


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def split(tmp_path: Path) -> DetectionTable:
    return open_split({"s": SetSpec("s", "hub", str(write_parquet(tmp_path / "set")))}, "s:train")[0]


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_prepared_shards_hold_the_split_unchanged(tmp_path: Path, split: DetectionTable, kind: Kind) -> None:
    made = write_split(split, "train", tmp_path / "made", Preparation(kind), workers=2)
    assert [shard.images for shard in made] == [12] and made[0].file.startswith("data/train-00000-of-00001.")
    table, _ = stream(tmp_path / "made")
    assert table.streamed is not None
    assert_split(table, 12)


def test_prepared_parquet_opens_in_plain_datasets(tmp_path: Path, split: DetectionTable) -> None:
    write_split(split, "train", tmp_path / "made", Preparation(), workers=1)
    rows = datasets.load_dataset("parquet", data_dir=str(tmp_path / "made" / "data"), split="train")
    assert rows.features["objects"]["category"].feature.names == list(CLASSES)
    for number, row in enumerate(rows):
        assert row["image"].size == (40, 20 + number) == (row["width"], row["height"])
        assert row["objects"]["bbox"] == record(number)["bbox"]
        assert row["objects"]["category"] == record(number)["category"]


def test_many_shards_are_about_equally_large_and_what_was_interrupted_goes_on(
    tmp_path: Path, split: DetectionTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare, "_BYTES_OF_MB", 1000)
    how = Preparation(shard_mb=2)
    made = write_split(split, "train", tmp_path, how, workers=2)
    assert len(made) > 2 and max(shard.images for shard in made) - min(shard.images for shard in made) <= 1
    assert_split(stream(tmp_path)[0], 12)
    kept, gone = tmp_path / made[0].file, tmp_path / made[1].file
    written = kept.stat().st_mtime_ns
    gone.rename(gone.with_name(gone.name + ".part"))
    assert write_split(split, "train", tmp_path, how, workers=1) == made
    assert kept.stat().st_mtime_ns == written and not gone.with_name(gone.name + ".part").exists()
    with pytest.raises(ValueError, match=r"holds shards of other data, or written otherwise .*; choose another folder"):
        write_split(split, "train", tmp_path, how._replace(reencode=True), workers=1)


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_smaller_images_take_their_boxes_along(tmp_path: Path, split: DetectionTable, kind: Kind) -> None:
    write_split(split, "train", tmp_path / "made", Preparation(kind, max_side_px=20), workers=1)
    table, _ = stream(tmp_path / "made")
    for index in range(12):
        scale = 20 / max(split.size(index))
        height = round(split.size(index)[0] * scale)
        assert table.size(index) == (height, round(40 * scale))
        with Image.open(io.BytesIO(table.image_bytes(index))) as image:
            assert image.format == "JPEG" and image.size == (table.size(index)[1], height)
            assert abs(float(np.asarray(image).mean()) - index * 5) < 3
        expected = split.truth(index).boxes.numpy() * np.array([table.size(index)[1] / 40, height / (20 + index)] * 2)
        assert np.allclose(table.truth(index).boxes.numpy(), expected, atol=1e-4)


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path, split: DetectionTable) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (23, 40, 3), np.uint8)).save(file, "JPEG")
    half = file.getvalue()[: len(file.getvalue()) * 3 // 4]
    rows = [{"image": {"bytes": half, "path": "half.jpg"}, "width": 40, "height": 23, "objects": record(3)}]
    folder = tmp_path / "half"
    folder.mkdir()
    kinds = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "set" / "train-0.parquet"), split="train"
    ).features
    datasets.Dataset.from_list(rows, features=kinds).to_parquet(str(folder / "train.parquet"))
    table, _ = open_split({"s": SetSpec("s", "hub", str(folder))}, "s:train")
    with pytest.raises(ValueError, match=r"^s/half\.jpg: "):
        write_split(table, "train", tmp_path / "made", Preparation(reencode=True), workers=1)
    assert json.loads((tmp_path / "made" / "data" / ".train.json").read_text())["shards"] == 1
    assert not list((tmp_path / "made" / "data").glob("*.parquet"))
