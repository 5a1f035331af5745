"""Streamed groups of identities on real processes: the same pictures in the same order, whole groups, and exact resumes."""

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import Life, run_world
from identity_shards import Shot, write_identity_parquet, write_identity_tars
from reid_run import GROUP, IMAGES_PER_UPDATE, STEPS, write_config, write_people
from small_run import entries, last_step, result

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


def start(file: Path, *, name: str, world: int, workers: int = 0) -> list[str]:
    return [
        str(file),
        *("--name", name, "--data.workers", str(workers)),
        *("--train.max_images_per_forward", str(IMAGES_PER_UPDATE // world)),
    ]


def finish(arguments: list[str], *, world: int, output: Path) -> None:
    with Life(arguments, world=world, output=output) as life:
        assert life.codes() == [0] * world, life.output()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_streamed_run_continues_bit_for_bit(tmp_path: Path, shards: Path) -> None:
    file = streamed_config(tmp_path, shards)
    finish(start(file, name="untouched", world=2), world=2, output=tmp_path)
    arguments = start(file, name="killed", world=2, workers=1)
    with Life(arguments, world=2, output=tmp_path) as life:
        life.wait_until(lambda: last_step(tmp_path / "killed") >= 5)
        life.send(signal.SIGKILL, rank=1)
        assert -signal.SIGKILL in life.codes(timeout_s=30)
    finish([*arguments, "--resume", "auto"], world=2, output=tmp_path)
    assert result(tmp_path / "killed") == result(tmp_path / "untouched")


@pytest.mark.timeout(300)
def test_a_streamed_run_continues_on_other_numbers_of_processes(tmp_path: Path, shards: Path) -> None:
    file = streamed_config(tmp_path, shards, kind="tar")
    common = ["--model.batch_norm", "frozen", "--optimizer.name", "sgd", "--optimizer.lr", "0.01"]
    run = tmp_path / "resized"
    for life_number, (world, stop_after) in enumerate(((2, 4), (1, STEPS))):
        resume = ["--resume", "auto"] if life_number else []
        with Life([*start(file, name="resized", world=world), *common, *resume], world=world, output=tmp_path) as life:
            if stop_after < STEPS:
                life.wait_until(lambda step=stop_after: last_step(run) >= step)  # type: ignore[misc]
                life.send(signal.SIGTERM, rank=world - 1)
            assert life.codes() == [143 if stop_after < STEPS else 0] * world, life.output()
    finish([*start(file, name="one", world=1), *common], world=1, output=tmp_path)
    for entry, other in zip(entries(run), entries(tmp_path / "one"), strict=True):
        assert entry["step"] == other["step"]
        assert entry["total"] == pytest.approx(other["total"], rel=1e-5)
    for entry, other in zip(entries(run, "val"), entries(tmp_path / "one", "val"), strict=True):
        assert other["mAP"] > 0
        assert entry["mAP"] == pytest.approx(other["mAP"], abs=1e-6)
