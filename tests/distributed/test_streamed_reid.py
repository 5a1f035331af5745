"""Streamed groups of identities on real processes: the same pictures in the same order, whole groups, and exact resumes."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import run_world
from identity_shards import Shot, write_identity_parquet, write_identity_tars
from reid_run import GROUP, IMAGES_PER_UPDATE, write_config, write_people
from streamed_lives import assert_it_goes_on_after_a_kill_bit_for_bit, assert_it_goes_on_on_other_numbers_of_processes

from accel_det.cli.compose import parts_of, share_of
from accel_det.config.load import load_config
from accel_det.config.schema import RuntimeSection
from accel_det.engine.runtime import make_accelerator

LENGTHS = (0, 1, 20, 2, 13)
"""Of the shards of train: 36 pictures of nine identities."""
KINDS = {"parquet": write_identity_parquet, "tar": write_identity_tars}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `parquet` and `tar`, with splits train, query and gallery."""
    people, root = tmp_path_factory.mktemp("people"), tmp_path_factory.mktemp("shards")
    write_people(people)
    for split, folder in (("train", "bounding_box_train"), ("query", "query"), ("gallery", "bounding_box_test")):
        shots = [
            Shot(file.read_bytes(), file.name, file.name[:4], int(file.name[6]))
            for file in sorted((people / folder).iterdir())
        ]
        for kind, write in KINDS.items():
            lengths = [length for length in LENGTHS if length or kind == "parquet"]
            write(root / kind, split, shots, lengths if split == "train" else [len(shots)])
    return root


def streamed_config(folder: Path, shards: Path, *, kind: str = "parquet", **data: object) -> Path:
    file = write_config(folder, people=shards)
    config = yaml.safe_load(file.read_text())
    config["data"]["sets"]["people"] = {"format": "hub", "root": str(shards / kind)}
    config["data"] |= {"streaming": True, "streams": 4, "stream_window": 8, **data}
    file.write_text(yaml.safe_dump(config))
    return file


def consume(file: str, overrides: list[str], steps: int) -> list[list[tuple[int, int, int, float]]]:
    """What this process sees in each update: picture, identity, seed and a digest of the pixels."""
    world = make_accelerator(RuntimeSection(threads=1), deterministic=False, trackers=[], folder=".")
    config = load_config(file, overrides).config
    parts = parts_of(config)
    tables = parts.open_tables()
    share = share_of(config, world=world.num_processes, rank=world.process_index, unit=parts.unit)
    stream = parts.training_stream(tables.train, parts.make_task(tables.val), share=share, pin_memory=False)
    updates = stream.updates(0)
    found = [_seen(next(updates)) for _ in range(steps)]
    updates.close()  # type: ignore[attr-defined]
    return found


def _seen(update: list[Any]) -> list[tuple[int, int, int, float]]:
    return [
        (frame.sample_id, target.identity, frame.draw_seed, float(image.double().sum()))
        for batch in update
        for frame, target, image in zip(batch.frames, batch.targets, batch.images, strict=True)
    ]


@pytest.mark.parametrize(("kind", "streams", "window"), [("parquet", 4, 8), ("tar", 16, 32)])
@pytest.mark.timeout(300)
def test_processes_and_workers_see_what_one_sees_in_whole_groups_and_every_picture_each_epoch(
    tmp_path: Path, shards: Path, kind: str, streams: int, window: int
) -> None:
    """One block at a time of four small windows, or a stream for each group of an update."""
    file = str(streamed_config(tmp_path, shards, kind=kind, streams=streams, stream_window=window))
    config = load_config(file, []).config
    parts = parts_of(config)
    train = parts.open_tables().train
    length = parts.turns_per_epoch(train)
    steps = -(-3 * length // IMAGES_PER_UPDATE)
    one = consume(file, ["--data.workers", "0"], steps)
    flat = [seen for update in one for seen in update]
    for epoch in range(3):
        assert {seen[0] for seen in flat[epoch * length : (epoch + 1) * length]} == set(range(sum(LENGTHS)))
    for start in range(0, len(flat), GROUP):
        assert sorted(Counter(seen[1] for seen in flat[start : start + GROUP]).values()) == [2, 2]
    for world, workers, micro in ((2, 2, GROUP), (4, 1, GROUP)):
        overrides = ["--data.workers", str(workers), "--train.max_images_per_forward", str(micro)]
        found = run_world(consume, world, file, overrides, steps, folder=tmp_path / f"world-{world}")
        joined = [[seen for process in found for seen in process[step]] for step in range(steps)]
        assert joined == one


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_streamed_run_continues_bit_for_bit(tmp_path: Path, shards: Path) -> None:
    file = streamed_config(tmp_path, shards)
    assert_it_goes_on_after_a_kill_bit_for_bit(file, tmp_path, images_per_update=IMAGES_PER_UPDATE)


@pytest.mark.timeout(300)
def test_a_streamed_run_continues_on_other_numbers_of_processes(tmp_path: Path, shards: Path) -> None:
    file = streamed_config(tmp_path, shards, kind="tar")
    scores = assert_it_goes_on_on_other_numbers_of_processes(
        file, tmp_path, images_per_update=IMAGES_PER_UPDATE, metric="mAP"
    )
    assert all(score > 0 for score in scores)
