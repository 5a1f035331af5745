"""Augmented samples: the same on any number of processes and workers, all different, and with their regions."""

import io
import math
from functools import lru_cache
from itertools import islice

import numpy as np
import pytest
import torch
from painted_pictures import PaintedPictures, target_of
from PIL import Image

from accel_det.data.box_images import TrainingImages
from accel_det.data.collate import collate_boxes
from accel_det.data.loaders import TrainingStream
from accel_det.data.order import Draw, EpochOrder, Share
from accel_det.data.transforms import Augmentation, ResizeRule, augment, augment_from
from accel_det.types import Batch, BoxTarget, Placement, Sample

LENGTH = 11
RULE = ResizeRule("letterbox", 32)
EVERYTHING = Augmentation(
    flip=0.5,
    flip_vertical=0.5,
    scale=(0.5, 1.5),
    translate=0.2,
    brightness=0.3,
    hue=0.1,
    degrees=10,
    shear=5,
    perspective=0.001,
    aspect=0.2,
    mosaic=0.7,
    mixup=0.3,
    copy_paste=0.3,
    distort=0.3,
    zoom_out=0.3,
    iou_crop=0.3,
    gray=0.1,
    blur=0.1,
)


@lru_cache(maxsize=64)
def png(index: int) -> bytes:
    pixels = np.random.default_rng(index).integers(0, 256, (40 + index, 50, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


class Table:
    """Noise images in memory, with two objects each and, if asked for, three given regions."""

    def __init__(self, *, with_proposals: bool = False, wrong_size: bool = False) -> None:
        self._with_proposals = with_proposals
        self._wrong_size = wrong_size
        self.read: list[int] = []

    def __len__(self) -> int:
        return LENGTH

    def name(self, index: int) -> str:
        return f"image_{index}.png"

    def size(self, index: int) -> tuple[int, int]:
        return (40 + index, 50) if not self._wrong_size else (50, 40 + index)

    def image_bytes(self, index: int) -> bytes:
        self.read.append(index)
        return png(index)

    def truth(self, index: int) -> BoxTarget:
        return target_of((2, 3, 20, 15), (10 + index, 12, 40, 38))

    def proposals(self, index: int) -> torch.Tensor | None:
        if not self._with_proposals:
            return None
        return torch.cat((self.truth(index).boxes, torch.tensor([[0.0, 0, 50, 40 + index]])))


def samples(*, world: int = 1, rank: int = 0, workers: int = 0, count: int = 6) -> list[tuple[object, ...]]:
    """What one process sees, sample by sample, as plain values."""
    stream = TrainingStream(
        TrainingImages(Table(with_proposals=True), rule=RULE, augmentation=EVERYTHING),
        order=EpochOrder(LENGTH, seed=9),
        share=Share(4, world, rank, 1),
        collate=collate_boxes,
        workers=workers,
        pin_memory=False,
    )
    return [values for update in islice(stream.updates(0), count) for batch in update for values in contents(batch)]


def contents(batch: Batch[BoxTarget]) -> list[tuple[object, ...]]:
    assert batch.proposals is not None
    rows = zip(batch.images, batch.targets, batch.frames, batch.proposals, strict=True)
    return [
        (frame, image.numpy().tobytes(), tuple(column.numpy().tobytes() for column in target), given.numpy().tobytes())
        for image, target, frame, given in rows
    ]


@pytest.fixture(scope="module")
def reference() -> list[tuple[object, ...]]:
    """6 updates of 4 images: more than two epochs of 11."""
    return samples()


@pytest.mark.parametrize(("world", "workers"), [(1, 2), (2, 0), (2, 2), (4, 0)])
def test_two_processes_with_workers_see_the_mosaics_of_one_bit_for_bit(
    world: int, workers: int, reference: list[tuple[object, ...]]
) -> None:
    parts = [samples(world=world, rank=rank, workers=workers) for rank in range(world)]
    size = 4 // world
    together = [part[i] for step in range(6) for part in parts for i in range(step * size, (step + 1) * size)]
    assert together == reference


def test_no_two_draws_are_alike_over_processes_workers_and_epochs(reference: list[tuple[object, ...]]) -> None:
    """YOLOv5 lost 7 AP where every process drew the same augmentation: 30.4 instead of 37.4 (its issue 9547)."""
    assert len({pixels for _, pixels, *_ in reference}) == len(reference) == 24
    first = {seen[0].sample_id: seen[1] for seen in reference[:LENGTH]}  # type: ignore[attr-defined]
    again = {seen[0].sample_id: seen[1] for seen in reference[LENGTH : 2 * LENGTH]}  # type: ignore[attr-defined]
    assert first.keys() == again.keys() == set(range(LENGTH))
    assert all(first[index] != again[index] for index in first)
    left, right = (samples(world=2, rank=rank, workers=1) for rank in range(2))
    assert {pixels for _, pixels, *_ in left}.isdisjoint({pixels for _, pixels, *_ in right})


def test_a_sample_is_a_function_of_its_draw_whatever_was_drawn_before() -> None:
    images = TrainingImages(Table(), rule=RULE, augmentation=EVERYTHING)
    draws = [Draw(index, 0, 100 + index) for index in range(LENGTH)]
    before = torch.get_rng_state()
    forward = [images[draw].image for draw in draws]
    backward = [images[draw].image for draw in reversed(draws)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(forward, backward, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_switching_one_change_on_leaves_the_draws_of_the_others_alone() -> None:
    pictures = PaintedPictures(5, painted=range(5))
    plain = Augmentation(scale=(0.5, 2.0), translate=1.0)
    for seed in range(20):
        before = augment_from(pictures, 1, rule=RULE, augmentation=plain, seed=seed)
        after = augment_from(pictures, 1, rule=RULE, augmentation=plain._replace(flip_vertical=1.0), seed=seed)
        assert torch.equal(before.image.flip(-2), after.image)
        blurred = augment_from(pictures, 1, rule=RULE, augmentation=plain._replace(blur=1.0), seed=seed)
        assert blurred.placement == before.placement
        assert torch.equal(blurred.target.boxes, before.target.boxes)


def test_a_mosaic_comes_as_often_as_it_should_and_its_frame_is_that_of_its_own_image() -> None:
    images = TrainingImages(Table(), rule=RULE, augmentation=Augmentation(mosaic=0.4, flip=0.5))
    found = [images[Draw(seed % LENGTH, 0, seed)] for seed in range(300)]
    # A letterboxed image of 50 x 40 + index has a scale; a mosaic has none. 120 of 300 within 5 deviations of 8.5.
    mosaics = [sample for sample in found if abs(sample.frame.placement.scale_x) == 1]
    assert 78 <= len(mosaics) <= 162
    for sample in mosaics:
        frame = sample.frame
        assert (frame.height, frame.width, frame.name) == (40 + frame.sample_id, 50, f"image_{frame.sample_id}.png")
        assert frame.placement in (Placement(), Placement(-1.0, 1.0, 32.0, 0.0))


def test_the_last_epochs_are_plain() -> None:
    several = Augmentation(mosaic=1.0, mixup=1.0, copy_paste=1.0, scale=(0.5, 1.5), flip=0.5)
    images = TrainingImages(Table(), rule=RULE, augmentation=several, plain_from_epoch=2.5)
    plain = TrainingImages(Table(), rule=RULE, augmentation=several.plain())
    for epoch, is_plain in ((0, False), (2, False), (3, True), (9, True)):
        same = [torch.equal(images[d].image, plain[d].image) for d in (Draw(i, epoch, 7 * i + epoch) for i in range(8))]
        assert all(same) if is_plain else not any(same)
    table = Table()
    TrainingImages(table, rule=RULE, augmentation=several, plain_from_epoch=0.0)[Draw(3, 0, 1)]
    assert table.read == [3]


def test_mixup_blends_by_a_share_of_the_beta_distribution_and_keeps_the_boxes_of_both() -> None:
    """Image 0 is white and the others, of which there are many, black: white that became grey is the share of the first."""

    class WhiteAndBlack(PaintedPictures):
        def image(self, index: int) -> torch.Tensor:
            return torch.full((3, *self.size(index)), 255 if index == 0 else 0, dtype=torch.uint8)

        def target(self, index: int) -> BoxTarget:
            return target_of((0, 0, 100, 60), (20, 20, 50, 50))

    pictures = WhiteAndBlack(100_000, painted=())
    single, blended = Augmentation(mosaic=1.0), Augmentation(mosaic=1.0, mixup=1.0, mixup_beta=8.0)
    shares = []
    for seed in range(250):
        alone = augment_from(pictures, 0, rule=RULE, augmentation=single, seed=seed)
        both = augment_from(pictures, 0, rule=RULE, augmentation=blended, seed=seed)
        count = len(alone.target.labels)
        assert torch.equal(both.target.boxes[:count], alone.target.boxes)
        assert len(both.target.labels) > count
        white = both.image[(alone.image == 255)].unique()
        # What is white is blended with black, or with a bar of grey.
        if len(white) and int(white[0]) < 255:
            shares.append(int(white[0]) / 255)
    # Beta(8, 8): mean 1/2, variance 1 / (4 (2 * 8 + 1)).
    assert len(shares) >= 150
    assert np.mean(shares) == pytest.approx(0.5, abs=0.05)
    assert np.std(shares) == pytest.approx(math.sqrt(1 / 68), rel=0.2)


def test_the_second_mosaic_of_a_blend_is_laid_out_anew() -> None:
    """With one image in the set, a second mosaic that was laid out like the first would change nothing."""
    pictures = PaintedPictures(1, painted=[0])
    single, blended = Augmentation(mosaic=1.0), Augmentation(mosaic=1.0, mixup=1.0)
    for seed in range(10):
        alone = augment_from(pictures, 0, rule=RULE, augmentation=single, seed=seed)
        both = augment_from(pictures, 0, rule=RULE, augmentation=blended, seed=seed)
        assert not torch.equal(alone.image, both.image)


def test_mixup_comes_as_often_as_it_should() -> None:
    pictures = PaintedPictures(30, painted=range(30))
    single, sometimes = Augmentation(mosaic=1.0), Augmentation(mosaic=1.0, mixup=0.25)
    differ = 0
    for seed in range(200):
        alone = augment_from(pictures, 3, rule=RULE, augmentation=single, seed=seed)
        differ += not torch.equal(
            alone.image, augment_from(pictures, 3, rule=RULE, augmentation=sometimes, seed=seed).image
        )
    # 50 of 200, within 5 deviations of 6.1.
    assert 20 <= differ <= 80


def matches(some: torch.Tensor, others: torch.Tensor) -> bool:
    """Whether each row of `some` is a row of `others`."""
    return all(bool((others - box).abs().amax(dim=1).min() < 1e-3) for box in some)


@pytest.mark.parametrize("name", ["single", "mosaic"])
def test_given_regions_follow_the_same_geometry_as_the_objects(name: str) -> None:
    augmentation = EVERYTHING._replace(mosaic=float(name == "mosaic"), mixup=0.0, copy_paste=0.0)
    images = TrainingImages(Table(with_proposals=True), rule=RULE, augmentation=augmentation)
    objects = regions = 0
    for seed in range(60):
        sample: Sample[BoxTarget] = images[Draw(seed % LENGTH, 0, seed)]
        assert sample.proposals is not None and sample.proposals.dtype == torch.float32
        # Two of each image's regions are its objects.
        assert matches(sample.target.boxes, sample.proposals)
        assert bool((sample.target.labels >= 0).all())
        assert bool((sample.proposals >= 0).all()) and bool((sample.proposals <= 32).all())
        assert bool(((sample.proposals[:, 2:] - sample.proposals[:, :2]) > 0).all())
        objects += len(sample.target.boxes)
        regions += len(sample.proposals)
    # Regions are not dropped where little of them is left, as objects are.
    assert objects >= 60 and regions > 1.5 * objects


def test_without_given_regions_a_sample_has_none() -> None:
    images = TrainingImages(Table(), rule=RULE, augmentation=EVERYTHING)
    assert all(images[Draw(i, 0, i)].proposals is None for i in range(5))


def test_a_file_that_changed_its_size_since_the_start_is_named() -> None:
    images = TrainingImages(Table(wrong_size=True), rule=RULE, augmentation=Augmentation(mosaic=1.0))
    with pytest.raises(ValueError, match=r"^image_\d+\.png: is 50x\d+ pixels, expected \d+x50 .*; restore the file$"):
        for seed in range(5):
            images[Draw(3, 0, seed)]


def test_augment_alone_makes_a_mosaic_of_the_one_image_it_has() -> None:
    image = torch.full((3, 32, 32), 9, dtype=torch.uint8)
    found = augment(image, target_of((4, 4, 28, 28)), rule=RULE, augmentation=Augmentation(mosaic=1.0), seed=1)
    assert set(found.image.unique().tolist()) == {9}
    assert 1 <= len(found.target.boxes) <= 4
