"""Streamed data on real processes: nothing lost, nothing twice, the same numbers, and a killed run that goes on bit for bit."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import run_world
from small_run import IMAGES_PER_UPDATE, NUM_TRAIN, write_config
from streamed_lives import assert_it_goes_on_after_a_kill_bit_for_bit, assert_it_goes_on_on_other_numbers_of_processes

from accel_det.cli.compose import parts_of, share_of
from accel_det.config.load import load_config
from accel_det.config.schema import RuntimeSection
from accel_det.data.prepare import Preparation, write_split
from accel_det.data.sources import SetSpec, open_split
from accel_det.engine.runtime import make_accelerator

KINDS = ("parquet", "webdataset")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, drawn_images: Path) -> Path:
    """Folders `parquet` and `webdataset`, of 6 and 2 shards; the first of each is empty in parquet."""
    sets = {"drawn": SetSpec("drawn", "coco", str(drawn_images))}
    train, _ = open_split(sets, "drawn:train")
    val, _ = open_split(sets, "drawn:val", classes=train.classes)
    root = tmp_path_factory.mktemp("shards")
    for kind in KINDS:
        for split, table in (("train", train), ("val", val)):
            count = len(write_split(table, split, root / kind, Preparation(kind, shard_mb=1), workers=1))
            assert count == 1
    _cut(root / "parquet" / "data")
    return root


def _cut(folder: Path) -> None:
    """One file of train into five, of 0, 1, 12, 2 and 8 images."""
    from pyarrow import parquet

    whole = folder / "train-00000-of-00001.parquet"
    table = parquet.read_table(whole)
    whole.unlink()
    start = 0
    for number, length in enumerate((0, 1, 12, 2, 8)):
        parquet.write_table(table.slice(start, length), folder / f"train-{number}.parquet", row_group_size=3)
        start += length
    assert start == NUM_TRAIN


def streamed_config(folder: Path, shards: Path, *, kind: str = "parquet", **data: object) -> Path:
    file = write_config(folder, images=shards)
    config = yaml.safe_load(file.read_text())
    config["data"]["sets"]["drawn"] = {"format": "hub", "root": str(shards / kind)}
    config["data"] |= {"streaming": True, "streams": 4, "stream_window": 5, **data}
    config["data"]["augment"]["mosaic"] = 0.5
    file.write_text(yaml.safe_dump(config))
    return file


def consume(file: str, overrides: list[str], steps: int) -> list[list[tuple[int, int, float]]]:
    """What this process sees in each update: sample, seed and a digest of the pixels."""
    world = make_accelerator(RuntimeSection(threads=1), deterministic=False, trackers=[], folder=".")
    config = load_config(file, overrides).config
    parts = parts_of(config)
    tables = parts.open_tables()
    share = share_of(config, world=world.num_processes, rank=world.process_index)
    stream = parts.training_stream(tables.train, parts.make_task(tables.val), share=share, pin_memory=False)
    updates = stream.updates(0)
    found = [_seen(next(updates)) for _ in range(steps)]
    updates.close()  # type: ignore[attr-defined]
    return found


def _seen(update: list[Any]) -> list[tuple[int, int, float]]:
    return [
        (frame.sample_id, frame.draw_seed, float(image.double().sum()))
        for batch in update
        for frame, image in zip(batch.frames, batch.images, strict=True)
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.timeout(300)
def test_processes_and_workers_see_what_one_sees_and_every_image_once_an_epoch(
    tmp_path: Path, shards: Path, kind: str
) -> None:
    file = str(streamed_config(tmp_path, shards, kind=kind))
    steps = 4 * NUM_TRAIN // IMAGES_PER_UPDATE
    one = consume(file, ["--data.workers", "0"], steps)
    flat = [seen for update in one for seen in update]
    for epoch in range(len(flat) // NUM_TRAIN):
        ids = Counter(sample for sample, _, _ in flat[epoch * NUM_TRAIN : (epoch + 1) * NUM_TRAIN])
        assert ids == Counter(range(NUM_TRAIN))
    for world, workers, micro in ((2, 2, 2), (3, 1, 4)):
        overrides = ["--data.workers", str(workers), "--train.max_images_per_forward", str(micro)]
        found = run_world(consume, world, file, overrides, steps, folder=tmp_path / f"world-{world}")
        joined = [[seen for process in found for seen in process[step]] for step in range(steps)]
        assert joined == one


@pytest.mark.timeout(300)
def test_a_killed_streamed_run_continues_bit_for_bit(tmp_path: Path, shards: Path) -> None:
    file = streamed_config(tmp_path, shards)
    assert_it_goes_on_after_a_kill_bit_for_bit(file, tmp_path, images_per_update=IMAGES_PER_UPDATE)


@pytest.mark.timeout(300)
def test_a_streamed_run_continues_on_other_numbers_of_processes(tmp_path: Path, shards: Path) -> None:
    file = streamed_config(tmp_path, shards, kind="webdataset")
    scores = assert_it_goes_on_on_other_numbers_of_processes(
        file, tmp_path, images_per_update=IMAGES_PER_UPDATE, metric="AP"
    )
    assert len(scores) > 0
