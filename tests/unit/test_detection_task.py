"""Batches, rows, transport and scores of the detection task."""

import math

import pytest
import torch
from detection_cases import random_rows

from accel_det.boxes import compose, letterbox, place
from accel_det.data.collate import PADDING_VALUE
from accel_det.tasks.base import Task
from accel_det.tasks.detection import DetectionTask
from accel_det.types import BoxTarget, DetectionRow, Detections, Frame, Placement, Sample


def sample(index: int, *, height: int, width: int) -> Sample[BoxTarget]:
    image = torch.full((3, height, width), index, dtype=torch.uint8)
    return Sample(image, BoxTarget.empty(), Frame(index, f"{index}.jpg", height, width))


def test_images_of_one_size_are_stacked_as_they_are() -> None:
    batch = DetectionTask(["a"]).collate([sample(i, height=30, width=50) for i in range(3)])
    assert batch.images.shape == (3, 3, 30, 50)
    assert batch.images.dtype == torch.uint8
    assert batch.sizes.tolist() == [[30, 50]] * 3
    assert [frame.sample_id for frame in batch.frames] == [0, 1, 2]


def test_images_of_different_sizes_are_padded_at_the_bottom_and_right() -> None:
    samples = [sample(1, height=30, width=50), sample(2, height=40, width=20)]
    batch = DetectionTask(["a"], multiple_px=32).collate(samples)
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.sizes.tolist() == [[30, 50], [40, 20]]
    for canvas, one in zip(batch.images, samples, strict=True):
        height, width = one.image.shape[1:]
        assert torch.equal(canvas[:, :height, :width], one.image)
        assert int((canvas != PADDING_VALUE).sum()) == one.image.numel()


def test_an_image_that_is_not_rgb_bytes_is_refused_by_name() -> None:
    wrong = sample(7, height=8, width=8)._replace(image=torch.zeros(1, 8, 8, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"7\.jpg: image is torch.uint8 of shape \(1, 8, 8\)"):
        DetectionTask(["a"]).collate([wrong])
    with pytest.raises(ValueError, match="batch of 0 samples"):
        DetectionTask(["a"]).collate([])


def test_classes_must_be_named_once_each() -> None:
    for classes, message in (([], "no names"), (["a", "b", "a"], "a more than once")):
        with pytest.raises(ValueError, match=message):
            DetectionTask(classes)


@pytest.mark.parametrize("flipped", [False, True])
def test_a_row_finds_the_way_back_through_letterbox_and_flip(flipped: bool) -> None:
    boxes = torch.tensor([[3.25, 7.5, 701.0, 333.0], [0, 0, 1, 1], [100, 200, 1281, 853]], dtype=torch.float64)
    _, _, placement = letterbox(height=853, width=1281, canvas_height=640, canvas_width=640)
    if flipped:
        placement = compose(placement, Placement(scale_x=-1.0, offset_x=640.0))
    frame = Frame(5, "street.jpg", 853, 1281, placement)
    prediction = Detections(place(boxes, placement).float(), torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0, 0, 0]))
    row = DetectionTask(["a"]).row(frame, BoxTarget.empty(), prediction)
    assert row.detections.boxes.dtype == row.detections.scores.dtype == row.truth.boxes.dtype == torch.float64
    assert float((row.detections.boxes - boxes).abs().max()) < 1e-4
    assert (row.sample_id, row.height, row.width) == (5, 853, 1281)


def test_predictions_beyond_the_image_are_cut_to_the_file() -> None:
    frame = Frame(1, "a.jpg", 50, 80, Placement(2.0, 2.0, 10.0, 0.0))
    boxes = torch.tensor([[-100.0, -100.0, 1000.0, 1000.0]])
    row = DetectionTask(["a"]).row(frame, BoxTarget.empty(), Detections(boxes, torch.ones(1), torch.zeros(1).long()))
    assert row.detections.boxes.tolist() == [[0, 0, 80, 50]]


def equal(first: DetectionRow, second: DetectionRow) -> bool:
    tensors = zip((*first.truth, *first.detections), (*second.truth, *second.detections), strict=True)
    return first[:3] == second[:3] and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in tensors)


@pytest.mark.parametrize("number", [0, 1, 9])
def test_rows_survive_packing_bit_for_bit(number: int) -> None:
    task = DetectionTask(["a", "b"])
    rows = random_rows(number, num_images=number, num_classes=2)
    packed = task.pack(rows)
    kinds = {name: (tensor.dtype, tensor.shape[1:]) for name, tensor in packed.items()}
    assert kinds == {name: (tensor.dtype, tensor.shape[1:]) for name, tensor in task.pack([]).items()}
    unpacked = task.unpack(packed)
    assert len(unpacked) == number
    assert all(equal(row, other) for row, other in zip(rows, unpacked, strict=True))


def test_parts_of_different_packs_are_refused() -> None:
    task = DetectionTask(["a", "b"])
    packed = task.pack(random_rows(0, num_images=4, num_classes=2))
    with pytest.raises(ValueError, match="packed rows: detections holds"):
        task.unpack({**packed, "detections": packed["detections"][1:]})


@pytest.mark.parametrize("num_processes", [2, 3, 4])
def test_scores_do_not_depend_on_the_number_of_processes(num_processes: int) -> None:
    task: Task[BoxTarget, Detections, DetectionRow] = DetectionTask(["a", "b", "c"])
    rows = random_rows(8, num_images=21, num_classes=3)
    per_process = math.ceil(21 / num_processes)
    padded = [rows[i % 21] for i in range(per_process * num_processes)]
    gathered = [row for rank in range(num_processes) for row in task.unpack(task.pack(padded[rank::num_processes]))]
    assert task.score(gathered) == task.score(rows)


def test_the_scores_hold_both_families_and_the_fitness() -> None:
    task = DetectionTask(["a", "b", "c"])
    scores = task.score(random_rows(8, num_images=21, num_classes=3))
    per_class = {f"{kind}/{name}" for kind in ("AP", "AP50", "VOC07/AP", "VOC12/AP") for name in "abc"}
    twelve = {"AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"}
    assert set(scores) == twelve | per_class | {"VOC07/mAP", "VOC12/mAP"}
    assert 0 < scores[task.fitness] < 1


def test_an_empty_split_and_empty_predictions_have_a_score() -> None:
    task = DetectionTask(["a"])
    assert task.score([])[task.fitness] == -1
    frame = Frame(1, "a.jpg", 50, 80)
    truth = BoxTarget(torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([0]), torch.tensor([False]), torch.tensor([81.0]))
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    missed = task.row(frame, truth, nothing)
    negative = task.row(frame._replace(sample_id=2), BoxTarget.empty(), nothing)
    assert task.score([missed, negative])[task.fitness] == 0.0
