"""Batches of drawn and rectangular sizes, in training and in evaluation, and the regions that come with images."""

import io
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from accel_det.boxes import unplace
from accel_det.data.box_images import EvaluationImages, TrainingImages
from accel_det.data.canvases import Canvases, LikeAspects, SizeRule
from accel_det.data.collate import collate_boxes
from accel_det.data.loaders import TrainingStream, evaluation_batches
from accel_det.data.order import EpochOrder, Share
from accel_det.data.transforms import Augmentation, ResizeRule
from accel_det.types import Batch, BoxTarget

SIZES = np.array([(20, 40), (40, 20), (30, 30), (40, 40), (10, 40), (36, 40), (40, 12)] * 3)


class Wide:
    """Images of several aspects: a white rectangle on black, with its box, and a region that is the same box."""

    def __len__(self) -> int:
        return len(SIZES)

    def name(self, index: int) -> str:
        return f"image_{index}.png"

    def size(self, index: int) -> tuple[int, int]:
        height, width = SIZES[index].tolist()
        return height, width

    def image_bytes(self, index: int) -> bytes:
        height, width = self.size(index)
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[4:8, 6:12] = 255
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue()

    def truth(self, index: int) -> BoxTarget:
        box = torch.tensor([[6.0, 4, 12, 8]])
        return BoxTarget(box, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.bool), torch.ones(1))

    def proposals(self, index: int) -> torch.Tensor | None:
        return self.truth(index).boxes if index % 2 else torch.zeros((0, 4))


def stream(*, world: int = 1, rank: int = 0, workers: int = 0) -> TrainingStream[BoxTarget]:
    order = LikeAspects(EpochOrder(21, seed=3), SIZES, images_per_update=4, seed=3)
    rule = SizeRule(64, (64, 96), 2, 32)
    return TrainingStream(
        TrainingImages(Wide(), rule=ResizeRule("letterbox", 64), augmentation=Augmentation(flip=0.5)),
        order=Canvases(order, rule, images_per_update=4, seed=3, sizes=SIZES),
        share=Share(4, world, rank, 1),
        collate=collate_boxes,
        workers=workers,
        pin_memory=False,
    )


def updates(source: TrainingStream[BoxTarget], start: int, count: int) -> list[Batch[BoxTarget]]:
    return [batch for (batch,) in islice(source.updates(start), count)]


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_of_an_update_has_its_canvas_and_its_epoch_loses_none(workers: int) -> None:
    found = updates(stream(workers=workers), 0, 21)
    shapes = [tuple(batch.images.shape[2:]) for batch in found]
    assert all((batch.sizes == torch.tensor(shape)).all() for batch, shape in zip(found, shapes, strict=True))
    assert {max(shape) for shape in shapes} == {64, 96}
    assert len(set(shapes)) > 3
    seen = [frame.sample_id for batch in found for frame in batch.frames]
    for epoch in range(4):
        assert sorted(seen[epoch * 21 : (epoch + 1) * 21]) == list(range(21))


def test_the_longer_side_of_each_image_fills_the_size_of_its_update() -> None:
    for batch in updates(stream(), 0, 21):
        side = max(batch.images.shape[2:])
        for frame in batch.frames:
            assert abs(frame.placement.scale_x) == pytest.approx(side / max(frame.height, frame.width), rel=0.1)


@pytest.mark.parametrize("world", [2, 4])
def test_processes_have_the_canvas_of_their_update_at_any_start(world: int) -> None:
    whole = updates(stream(), 0, 9)
    for start in (0, 5):
        parts = [updates(stream(world=world, rank=rank), start, 4) for rank in range(world)]
        for step in range(4):
            assert torch.equal(torch.cat([part[step].images for part in parts]), whole[start + step].images)


def evaluation(batch_size: int, *, indices: range = range(len(SIZES))) -> list[Batch[BoxTarget]]:
    rule = ResizeRule("letterbox", 64, rectangular=True)
    return list(
        evaluation_batches(
            EvaluationImages(Wide(), rule=rule),
            indices,
            batch_size=batch_size,
            collate=collate_boxes,
            workers=0,
            pin_memory=False,
            size_of=lambda index: rule.canvas(*Wide().size(index)),
        )
    )


def test_evaluation_in_rectangles_shows_each_image_alike_in_any_company() -> None:
    """Pixels and placement of an image do not depend on the batch size or on the other images."""
    alone = {batch.frames[0].sample_id: batch for batch in evaluation(1)}
    assert sorted(alone) == list(range(len(SIZES)))
    assert {tuple(batch.images.shape[2:]) for batch in alone.values()} == {(64, 64), (32, 64), (64, 32)}
    for batches in (evaluation(4), evaluation(100), evaluation(3, indices=range(5, 17))):
        frames = [frame.sample_id for batch in batches for frame in batch.frames]
        assert len(frames) == len(set(frames))
        for batch in batches:
            for image, frame in zip(batch.images, batch.frames, strict=True):
                assert torch.equal(image, alone[frame.sample_id].images[0])
                assert frame == alone[frame.sample_id].frames[0]
    assert [len(batch.frames) for batch in evaluation(100)] == [6, 6, 9]


def test_regions_come_along_in_pixels_of_the_batch_image() -> None:
    for batch in evaluation(4):
        assert batch.proposals is not None
        for frame, target, regions in zip(batch.frames, batch.targets, batch.proposals, strict=True):
            back = unplace(regions, frame.placement)
            assert torch.allclose(back, target.boxes[: frame.sample_id % 2], atol=1e-4)
            assert regions.dtype == torch.float32
