"""Batches from workers: each sample once, in the order of the pure functions, with the same pixels for any workers."""

import io
import multiprocessing
import os
import random
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from accel_det.data import loaders
from accel_det.data.box_images import EvaluationImages, TrainingImages
from accel_det.data.collate import collate_boxes
from accel_det.data.loaders import TrainingStream, evaluation_batches
from accel_det.data.order import EpochOrder, Share, positions
from accel_det.data.transforms import Augmentation, ResizeRule
from accel_det.types import Batch, BoxTarget

LENGTH = 13
AUGMENTATION = Augmentation(flip=0.5, scale=(0.5, 2.0), translate=1.0, brightness=0.3, saturation=0.3, hue=0.1)
RULE = ResizeRule("letterbox", 32)


@lru_cache(maxsize=64)
def png(index: int) -> bytes:
    pixels = np.random.default_rng(index).integers(0, 256, (20 + index, 30, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


class Table:
    """A data set of noise images in memory; one of them may be damaged, another may be unreadable."""

    def __init__(self, *, damaged: int | None = None, unreadable: int | None = None) -> None:
        self._damaged = damaged
        self._unreadable = unreadable

    def __len__(self) -> int:
        return LENGTH

    def name(self, index: int) -> str:
        return f"image_{index}.png"

    def size(self, index: int) -> tuple[int, int]:
        return 20 + index, 30

    def image_bytes(self, index: int) -> bytes:
        if index == self._unreadable:
            raise PermissionError(13, "Permission denied", self.name(index))
        return png(index)[:60] if index == self._damaged else png(index)

    def proposals(self, index: int) -> torch.Tensor | None:
        return None

    def truth(self, index: int) -> BoxTarget:
        boxes = torch.tensor([[2.0, 3, 20, 15]] * (index % 3)).reshape(-1, 4)
        count = len(boxes)
        return BoxTarget(boxes, torch.full((count,), index), torch.zeros(count, dtype=torch.bool), torch.ones(count))


def stream(
    *, workers: int, table: Table | None = None, world: int = 1, rank: int = 0, micro_batches: int = 1
) -> TrainingStream[BoxTarget]:
    return TrainingStream(
        TrainingImages(table or Table(), rule=RULE, augmentation=AUGMENTATION),
        order=EpochOrder(LENGTH, seed=5),
        share=Share(4, world, rank, micro_batches),
        collate=collate_boxes,
        workers=workers,
        pin_memory=False,
    )


def updates(source: TrainingStream[BoxTarget], start: int, count: int) -> list[list[Batch[BoxTarget]]]:
    return list(islice(source.updates(start), count))


def content(batch: Batch[BoxTarget]) -> tuple[object, ...]:
    """Everything of a batch as plain values, for comparison bit by bit."""
    targets = [tuple(field.tolist() for field in target) for target in batch.targets]
    return batch.images.numpy().tobytes(), batch.sizes.tolist(), targets, batch.frames


def contents(found: list[list[Batch[BoxTarget]]]) -> list[tuple[object, ...]]:
    return [content(batch) for update in found for batch in update]


@pytest.fixture(scope="module")
def reference() -> list[tuple[object, ...]]:
    """26 updates of 4 images: 8 epochs of 13 samples."""
    return contents(updates(stream(workers=0), 0, 26))


@pytest.mark.parametrize("workers", [0, 2])
def test_every_sample_comes_once_per_epoch_in_the_order_of_the_pure_function(workers: int) -> None:
    order = EpochOrder(LENGTH, seed=5)
    found = [f for update in updates(stream(workers=workers), 0, 26) for batch in update for f in batch.frames]
    assert [(frame.sample_id, frame.draw_seed) for frame in found] == [
        (order.draw(p).index, order.draw(p).seed) for p in range(104)
    ]
    for epoch in range(8):
        assert sorted(f.sample_id for f in found[epoch * LENGTH : (epoch + 1) * LENGTH]) == list(range(LENGTH))
    assert len({frame.draw_seed for frame in found}) == 104


@pytest.mark.parametrize("workers", [1, 2])
def test_samples_are_the_same_bits_for_any_number_of_workers(workers: int, reference: list[tuple[object, ...]]) -> None:
    assert contents(updates(stream(workers=workers), 0, 9)) == reference[:9]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_taken_up_at_any_step_gives_the_rest(workers: int, reference: list[tuple[object, ...]]) -> None:
    for start in (1, 3, 4, 17) if workers == 0 else (3,):
        assert contents(updates(stream(workers=workers), start, 5)) == reference[start : start + 5]


@pytest.mark.parametrize(("world", "micro_batches"), [(2, 1), (4, 1), (1, 2), (2, 2), (1, 4)])
def test_processes_and_micro_batches_together_see_the_same_samples(world: int, micro_batches: int) -> None:
    whole = updates(stream(workers=0), 0, 7)
    parts = [updates(stream(workers=0, world=world, rank=r, micro_batches=micro_batches), 0, 7) for r in range(world)]
    for step in range(7):
        assert [len(part[step]) for part in parts] == [micro_batches] * world
        images = torch.cat([batch.images for part in parts for batch in part[step]])
        assert torch.equal(images, whole[step][0].images)
        frames = [frame for part in parts for batch in part[step] for frame in batch.frames]
        assert frames == whole[step][0].frames


def test_the_first_batch_is_that_of_step_0_whatever_step_a_run_is_at(reference: list[tuple[object, ...]]) -> None:
    source = stream(workers=0)
    updates(source, 6, 1)
    assert content(source.first_batch()) == reference[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_drawing_batches_leaves_the_global_generators_alone(workers: int) -> None:
    torch.manual_seed(1)
    random.seed(1)
    before = torch.get_rng_state(), random.getstate()
    updates(stream(workers=workers), 0, 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_image_becomes_one_error_line_that_names_it(workers: int) -> None:
    with pytest.raises(ValueError, match=r"^image_4\.png: ") as error:
        updates(stream(workers=workers, table=Table(damaged=4)), 0, 4)
    assert "\n" not in str(error.value)
    assert "Traceback" not in str(error.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_before_a_damaged_image_still_arrive(workers: int) -> None:
    order = EpochOrder(LENGTH, seed=5)
    bad = order.draw(9).index
    source = stream(workers=workers, table=Table(damaged=bad)).updates(0)
    assert [len(update[0].frames) for update in islice(source, 2)] == [4, 4]
    with pytest.raises(ValueError, match=rf"^image_{bad}\.png: "):
        next(source)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_may_not_be_read_becomes_one_error_line(workers: int) -> None:
    with pytest.raises(ValueError, match=r"Permission denied: 'image_7\.png'") as error:
        list(evaluation(Table(unreadable=7), workers=workers))
    assert "\n" not in str(error.value)


def test_no_worker_outlives_an_error_or_the_end_of_its_stream() -> None:
    with pytest.raises(ValueError, match="image_4"):
        updates(stream(workers=2, table=Table(damaged=4)), 0, 4)
    assert multiprocessing.active_children() == []
    source = stream(workers=2).updates(0)
    next(source)
    assert len(multiprocessing.active_children()) == 2
    source.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []
    assert len(list(evaluation(Table(), workers=2))) == 4
    assert multiprocessing.active_children() == []


def test_workers_ignore_a_signal_to_the_whole_group_and_obey_their_trainer() -> None:
    """A scheduler signals every process; the trainer saves a checkpoint, for which it may need its workers."""
    source = stream(workers=2).updates(0)
    next(source)
    workers = multiprocessing.active_children()
    for name in ("TERM", "INT"):
        subprocess.run(["kill", f"-{name}", *(str(worker.pid) for worker in workers)], check=True)
    assert [len(next(source)[0].frames) for _ in range(8)] == [4] * 8
    assert all(worker.is_alive() for worker in workers)
    for worker in workers:
        worker.terminate()
        worker.join(5)
    assert [worker.exitcode for worker in workers] == [0, 0]
    source.close()  # type: ignore[attr-defined]


def test_a_signal_that_comes_before_a_worker_is_ready_does_not_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    start = loaders._start_worker

    def signalled_first(number: int) -> None:
        for name in ("TERM", "INT"):
            subprocess.run(["kill", f"-{name}", str(os.getpid())], check=True)
        start(number)

    monkeypatch.setattr(loaders, "_start_worker", signalled_first)
    found = islice(stream(workers=2).updates(0), 8)
    assert [len(batches[0].frames) for batches in found] == [4] * 8


def evaluation(
    table: Table, *, workers: int, indices: range = range(LENGTH), batch_size: int = 4
) -> Iterator[Batch[BoxTarget]]:
    images = EvaluationImages(table, rule=RULE)
    return evaluation_batches(
        images, indices, batch_size=batch_size, collate=collate_boxes, workers=workers, pin_memory=False
    )


def test_evaluation_sees_each_sample_once_in_order_and_the_same_for_any_workers() -> None:
    single, several = (list(evaluation(Table(), workers=workers)) for workers in (0, 2))
    assert [frame.sample_id for batch in single for frame in batch.frames] == list(range(LENGTH))
    assert [len(batch.frames) for batch in single] == [4, 4, 4, 1]
    assert [content(batch) for batch in single] == [content(batch) for batch in several]


def test_evaluation_keeps_targets_in_pixels_of_the_file() -> None:
    for batch in evaluation(Table(), workers=0):
        for frame, target in zip(batch.frames, batch.targets, strict=True):
            assert torch.equal(target.boxes, Table().truth(frame.sample_id).boxes)
            assert (frame.height, frame.width) == Table().size(frame.sample_id)
            assert frame.placement.scale_x == pytest.approx(32 / max(frame.height, 30), rel=0.05)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_process_without_samples_gets_no_batches(workers: int) -> None:
    assert list(evaluation(Table(), workers=workers, indices=range(5, 5))) == []


def test_more_workers_than_batches_are_harmless() -> None:
    found = list(evaluation(Table(), workers=2, indices=range(3), batch_size=4))
    assert [frame.sample_id for batch in found for frame in batch.frames] == [0, 1, 2]


def test_positions_of_the_first_batch_are_those_of_the_first_update() -> None:
    share = Share(4, 2, 1, 1)
    source = stream(workers=0, world=2, rank=1)
    order = EpochOrder(LENGTH, seed=5)
    expected = [order.draw(p).index for p in positions(0, 0, share)]
    assert [frame.sample_id for frame in source.first_batch().frames] == expected
