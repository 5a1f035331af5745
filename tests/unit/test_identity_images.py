"""Samples of identities: decoded, sized, framed; errors name the file."""

import io
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from PIL import Image

from accel_det import boxes
from accel_det.data.augment.identity import IdentityAugmentation, augment_identity
from accel_det.data.collate import collate_boxes
from accel_det.data.identity_images import IdentityEvaluationImages, IdentityImages
from accel_det.data.identity_order import GroupRule, IdentityGroups
from accel_det.data.loaders import TrainingStream, evaluation_batches
from accel_det.data.order import Draw, EpochOrder, Share, positions
from accel_det.types import IdentityTarget, Placement, Role

SIZE = (64, 32)
AUGMENTATION = IdentityAugmentation(flip=0.5, pad_px=4, erase=0.5, auto_augment=0.3, brightness=0.2)


class Album:
    """PNG files in memory of 2 pictures per identity and of every shape; some may be spoiled."""

    def __init__(self, length: int, *, spoiled: Mapping[int, bytes] | None = None, quarter_turns: int = 0) -> None:
        rng = np.random.default_rng(0)
        shapes = rng.integers(10, 150, (length, 2)).tolist()
        self.pixels = [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in shapes]
        self._spoiled = dict(spoiled or {})
        self._quarter_turns = quarter_turns

    def __len__(self) -> int:
        return len(self.pixels)

    def name(self, index: int) -> str:
        return f"market/{index // 2:04}_c{index % 2 + 1}.png"

    def image_bytes(self, index: int) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(self.pixels[index]).save(stream, "PNG")
        return self._spoiled.get(index, stream.getvalue())

    def target(self, index: int) -> IdentityTarget:
        return IdentityTarget(index // 2, index % 2, Role.GALLERY)

    def quarter_turns(self, index: int) -> int:
        return self._quarter_turns


def test_a_training_sample_is_what_its_draw_says() -> None:
    album = Album(6)
    images = IdentityImages(album, size_px=SIZE, augmentation=AUGMENTATION)
    assert len(images) == 6
    for index in range(6):
        draw = Draw(index, epoch=2, seed=1000 + index)
        sample = images[draw]
        file = torch.from_numpy(album.pixels[index]).permute(2, 0, 1)
        expected = augment_identity(file, size_px=SIZE, augmentation=AUGMENTATION, seed=draw.seed)
        assert torch.equal(sample.image, expected)
        assert sample.target == IdentityTarget(index // 2, index % 2, Role.GALLERY)
        frame = sample.frame
        assert (frame.sample_id, frame.name, frame.draw_seed) == (index, album.name(index), draw.seed)
        assert (frame.height, frame.width) == album.pixels[index].shape[:2]
        assert torch.equal(images[draw].image, sample.image)


def test_without_augmentation_and_in_evaluation_the_whole_picture_is_resized_alone() -> None:
    album = Album(8)
    plain = IdentityImages(album, size_px=SIZE, augmentation=IdentityAugmentation())
    evaluated = IdentityEvaluationImages(album, size_px=SIZE)
    assert len(evaluated) == 8
    for index in range(8):
        sample = evaluated[index]
        assert sample.image.shape == (3, *SIZE) and sample.image.dtype == torch.uint8
        assert torch.equal(sample.image, plain[Draw(index, 0, index)].image)
        assert sample.target == album.target(index)
        assert (sample.frame.sample_id, sample.frame.name, sample.frame.draw_seed) == (index, album.name(index), 0)


def test_the_placement_of_evaluation_leads_from_the_corners_of_the_file_to_those_of_the_batch() -> None:
    album = Album(5)
    for index in range(5):
        frame = IdentityEvaluationImages(album, size_px=SIZE)[index].frame
        assert (frame.placement.offset_x, frame.placement.offset_y) == (0, 0)
        corners = torch.tensor([[0, 0, frame.width, frame.height]], dtype=torch.float64)
        placed = boxes.place(corners, frame.placement)[0]
        assert placed.tolist() == pytest.approx([0, 0, SIZE[1], SIZE[0]])


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_a_picture_is_turned_before_it_is_resized_and_augmented(turns: int) -> None:
    album = Album(3, quarter_turns=turns)
    draw = Draw(2, epoch=0, seed=5)
    file = torch.from_numpy(np.rot90(album.pixels[2], turns).copy()).permute(2, 0, 1)
    sample = IdentityImages(album, size_px=SIZE, augmentation=AUGMENTATION)[draw]
    assert torch.equal(sample.image, augment_identity(file, size_px=SIZE, augmentation=AUGMENTATION, seed=draw.seed))
    assert (sample.frame.height, sample.frame.width) == file.shape[1:]


def test_a_draw_with_a_size_of_its_own_has_it() -> None:
    images = IdentityImages(Album(1), size_px=SIZE, augmentation=AUGMENTATION)
    assert images[Draw(0, 0, 7, size_px=(48, 48))].image.shape == (3, 48, 48)
    assert images[Draw(0, 0, 7)].frame.placement == Placement()


def test_a_file_that_is_no_picture_is_named_in_one_line() -> None:
    whole = Album(1).image_bytes(0)
    album = Album(4, spoiled={1: b"no picture", 2: whole[: len(whole) // 2]})
    for index, name in ((1, "market/0000_c2.png"), (2, "market/0001_c1.png")):
        for read in (
            lambda i: IdentityImages(album, size_px=SIZE, augmentation=IdentityAugmentation())[Draw(i, 0, 0)],
            lambda i: IdentityEvaluationImages(album, size_px=SIZE)[i],
        ):
            with pytest.raises(ValueError, match=f"^{name}: ") as caught:
                read(index)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_whole_groups_are_the_same_from_any_number_of_workers(workers: int) -> None:
    album, P, K = Album(16), 3, 2
    images = IdentityImages(album, size_px=SIZE, augmentation=AUGMENTATION)
    labels = np.array([album.target(index).identity for index in range(16)])
    groups = IdentityGroups(labels, GroupRule(P, K), cameras=None, seed=3)
    order = EpochOrder(16, seed=3, turns=groups)
    share = Share(images_per_update=4 * P * K, world=2, rank=1, micro_batches=2)
    stream = TrainingStream(images, order=order, share=share, collate=collate_boxes, workers=workers, pin_memory=False)
    updates = stream.updates(5)
    for step in (5, 6):
        for micro_batch, batch in enumerate(next(updates)):
            assert batch.images.shape == (P * K, 3, *SIZE)
            assert len({target.identity for target in batch.targets}) == P
            draws = order.draws(step, positions(step, micro_batch, share))
            assert torch.equal(batch.images, torch.stack([images[draw].image for draw in draws]))
    updates.close()  # type: ignore[attr-defined]


def test_evaluation_gives_each_picture_once_in_order() -> None:
    images = IdentityEvaluationImages(Album(7), size_px=SIZE)
    batches = evaluation_batches(images, range(7), batch_size=3, collate=collate_boxes, workers=0, pin_memory=False)
    assert [frame.sample_id for batch in batches for frame in batch.frames] == list(range(7))
