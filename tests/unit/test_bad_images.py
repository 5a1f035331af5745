"""Images that cannot be read: left out of their update, counted, and without a trace in the gradient."""

import io
from collections.abc import Sequence
from itertools import islice

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn

from accel_det.data.bad_images import Collate, Failure, Read, leave_out, repeat_identity
from accel_det.data.box_images import EvaluationImages, TrainingImages
from accel_det.data.collate import PADDING_VALUE, collate_boxes
from accel_det.data.loaders import TrainingStream, evaluation_batches
from accel_det.data.order import EpochOrder, Share
from accel_det.data.transforms import Augmentation, ResizeRule
from accel_det.engine.left_out import LeftOut
from accel_det.engine.step import train_step
from accel_det.types import Batch, BoxTarget, Frame, IdentityTarget, LossTerm, Sample

LENGTH = 6
RULE = ResizeRule("letterbox", 32)
HARD = Augmentation(mosaic=1.0, mixup=1.0, copy_paste=1.0, scale=(0.5, 1.5))


class Table:
    """Images of one color each, image i of color 40 i; some of them are damaged."""

    def __init__(self, damaged: Sequence[int] = ()) -> None:
        self.damaged = damaged

    def __len__(self) -> int:
        return LENGTH

    def name(self, index: int) -> str:
        return f"{index}.png"

    def size(self, index: int) -> tuple[int, int]:
        return 24, 32

    def image_bytes(self, index: int) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(np.full((24, 32, 3), 40 * index, np.uint8)).save(stream, "PNG")
        return stream.getvalue()[: 50 if index in self.damaged else None]

    def truth(self, index: int) -> BoxTarget:
        return BoxTarget(
            torch.tensor([[4.0, 4, 20, 20]]), torch.tensor([index]), torch.tensor([False]), torch.tensor([256.0])
        )

    def proposals(self, index: int) -> Tensor | None:
        return None


def batches(table: Table, count: int, *, images: int, workers: int = 0) -> list[Batch[BoxTarget]]:
    stream = TrainingStream(
        TrainingImages(table, rule=RULE, augmentation=Augmentation(), mends=True),
        order=EpochOrder(LENGTH, seed=1),
        share=Share(images, 1, 0, 1),
        collate=collate_boxes,
        workers=workers,
        pin_memory=False,
        mend=leave_out,
    )
    return [update[0] for update in islice(stream.updates(0), count)]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_image_is_left_out_of_every_epoch_and_the_others_keep_their_places(workers: int) -> None:
    bad, good = (batches(Table(damaged), 6, images=3, workers=workers) for damaged in ([2], []))
    for found, whole in zip(bad, good, strict=True):
        assert [f for f in whole.frames if f.sample_id != 2] == found.frames
        assert len(found.left_out) == 3 - len(found.frames)
        assert not found.void
    lines = [line for batch in bad for line in batch.left_out]
    assert len(lines) == 3, "once in each of three epochs"
    assert {line.partition(":")[0] for line in lines} == {"2.png"}


def test_a_batch_of_bad_images_alone_is_one_grey_image_of_the_right_size_and_void() -> None:
    found = batches(Table(range(LENGTH)), 3, images=2)
    for batch in found:
        assert batch.void
        assert len(batch.left_out) == 2
        assert batch.images.unique().tolist() == [PADDING_VALUE]
        assert tuple(batch.images.shape) == (1, 3, 32, 32)
        assert len(batch.targets[0].labels) == 0


def test_a_bad_companion_of_a_mosaic_costs_no_other_image_its_turn() -> None:
    order = EpochOrder(LENGTH, seed=1)
    images = TrainingImages(Table([3]), rule=RULE, augmentation=HARD, mends=True)
    strict = TrainingImages(Table([3]), rule=RULE, augmentation=HARD)
    failed = 0
    for draw in (order.draw(position) for position in range(5 * LENGTH)):
        try:
            labels = images[draw].target.labels.tolist()
        except ValueError as error:
            assert draw.index == 3, "the image that has its turn is a good one"
            assert str(error).startswith("3.png: ")
            continue
        assert 3 not in labels, "nothing of a bad image may be taught"
        try:
            expected = strict[draw].target.labels.tolist()
        except ValueError:
            failed += 1
        else:
            assert labels == expected
    assert failed >= 5, "hardly any mosaic asked for the bad image: change this test"


def test_an_evaluation_leaves_bad_images_out() -> None:
    images = EvaluationImages(Table([0, 1, 4]), rule=RULE)
    found = list(
        evaluation_batches(
            images,
            range(LENGTH),
            batch_size=2,
            collate=collate_boxes,
            workers=0,
            pin_memory=False,
            mend=leave_out,
        )
    )
    assert [batch.void for batch in found] == [True, False, False]
    assert [f.sample_id for batch in found if not batch.void for f in batch.frames] == [2, 3, 5]
    assert sum(len(batch.left_out) for batch in found) == 3


def picture(identity: int, value: int) -> Sample[IdentityTarget]:
    pixels = torch.full((3, 4, 2), value, dtype=torch.uint8)
    return Sample(pixels, IdentityTarget(identity), Frame(value, f"{value}.jpg", 4, 2))


def test_a_group_stays_whole_because_another_picture_of_the_identity_repeats() -> None:
    collate: Collate[IdentityTarget] = collate_boxes
    samples: list[Read[IdentityTarget]] = [picture(0, 1), picture(0, 2), picture(1, 3), picture(1, 4)]
    samples[2] = Failure("3.jpg: broken", picture(1, 114))
    found = repeat_identity(samples, collate)
    assert isinstance(found, Batch)
    assert [frame.name for frame in found.frames] == ["1.jpg", "2.jpg", "4.jpg", "4.jpg"]
    assert found.left_out == ("3.jpg: broken",)
    samples[3] = Failure("4.jpg: broken", picture(1, 114))
    stopped = repeat_identity(samples, collate)
    assert isinstance(stopped, Failure), "no picture of the identity is left"
    assert stopped.message == "3.jpg: broken"


class Mean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batch: Batch[BoxTarget]) -> dict[str, LossTerm]:
        values = batch.images.float().mean(dim=(1, 2, 3)) * self.weight
        return {"mean": LossTerm(values.sum(), torch.tensor(float(len(batch.images))))}

    def counts(self, batch: Batch[BoxTarget]) -> dict[str, Tensor]:
        return {"mean": torch.tensor(float(len(batch.images)))}


def test_an_update_learns_from_what_is_left_exactly() -> None:
    """Two micro-batches of one image each; the mean of the readable one alone is the loss and its gradient."""
    accelerator = Accelerator(cpu=True)
    void = batches(Table(range(LENGTH)), 1, images=1)[0]
    good = next(batch for batch in batches(Table(), 6, images=1) if batch.frames[0].sample_id == 5)
    model = Mean()
    wrapped, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=1.0))
    result = train_step(accelerator, wrapped, optimizer, [good, void], seed=0)
    expected = float(good.images.float().mean())
    assert result.losses["mean"] == pytest.approx(expected, rel=1e-6)
    assert result.gradient_norm == pytest.approx(expected, rel=1e-6)
    assert result.left_out == 1
    alone = train_step(accelerator, wrapped, optimizer, [void], seed=0)
    assert alone.losses == {"mean": 0.0, "total": 0.0}
    assert alone.gradient_norm == 0.0


def test_bad_images_are_told_once_and_end_the_run_above_the_cap() -> None:
    account = LeftOut(most=3, already=1)
    device = torch.device("cpu")
    assert account.add(["b.jpg: cut", "a.jpg: cut\nshort"], device) == ["a.jpg: cut short", "b.jpg: cut"]
    assert account.add(["b.jpg: cut"], device) == []
    with pytest.raises(
        ValueError, match=r"^4 images cannot be read, more than data\.max_bad_images, 3; the last: c\.jpg"
    ):
        account.add(["c.jpg: cut"], device)
