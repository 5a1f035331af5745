"""The images that a measurement of memory takes."""

from typing import Any

import pytest
import torch
from accelerate import Accelerator

from accel_det.cli import compose_detection as compose
from accel_det.cli.micro_batch import measured_bound
from accel_det.config.detection import DetectionConfig
from accel_det.data.collate import join_objects
from accel_det.engine.console import Console
from accel_det.types import BoxTarget, Frame, Sample


@pytest.mark.parametrize(
    ("resize", "shape"),
    [
        ({"mode": "letterbox", "size_px": 64}, (64, 64)),
        ({"mode": "letterbox", "size_px": 64, "train_sizes_px": [32, 96, 64]}, (96, 96)),
        # Street scenes are 96 x 64: the longer side follows, and both are rounded up to multiples of 32.
        ({"mode": "shortest_edge", "size_px": 64, "train_sizes_px": [64, 128]}, (128, 192)),
    ],
)
def test_a_measurement_takes_the_most_crowded_images_at_the_largest_size_and_always_the_same(
    resize: dict[str, Any], shape: tuple[int, int]
) -> None:
    tree = {
        "name": "a",
        "model": {"name": "yolov5n"},
        "data": {
            "sets": {"s": {"format": "street", "parameters": {"images": 8, "height": 64, "width": 96}}},
            "train": "s:train",
            "val": "s:val",
            "resize": resize,
        },
        "train": {"steps": 1},
    }
    config = DetectionConfig.model_validate(tree)
    table = compose.open_tables(config).train
    counts = table.counts().tolist()
    task = compose.make_task(config, table.classes)
    make = compose.crowded_batches(config, table, task)
    batch = make(3)
    assert tuple(batch.images.shape[2:]) == shape
    taken = [counts[frame.sample_id] for frame in batch.frames]
    if resize["mode"] == "letterbox":
        assert taken == sorted(counts, reverse=True)[:3]
    assert (make(3).images == batch.images).all()
    assert len(make(2 * len(table)).frames) == 2 * len(table), "a set that is smaller than a batch is taken again"


def test_a_cpu_without_a_bound_says_that_nothing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    tree = {
        "name": "a",
        "model": {"name": "yolov5n"},
        "data": {"sets": {"s": {"format": "street"}}, "train": "s:train", "val": "s:val"},
        "train": {"steps": 1, "max_images_per_forward": "auto"},
    }
    nothing: Any = None
    bound = measured_bound(
        Accelerator(cpu=True),
        DetectionConfig.model_validate(tree),
        nothing,
        model=nothing,
        optimizer=nothing,
        folder=None,
        console=Console(speaks=True),
    )
    assert bound is None
    assert "nothing bounds the memory here" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("resize", "augment", "members"),
    [
        ("letterbox", {"scale": [1.0, 3.0], "translate": 1.0, "degrees": 30}, 1),
        ("stretch", {"zoom_out": 1.0, "iou_crop": 1.0, "min_visible": 0.9}, 1),
        ("shortest_edge", {"iou_crop": 1.0, "copy_paste": 0.5}, 2),
        ("letterbox", {"mosaic": 0.5}, 4),
        ("letterbox", {"mosaic": 1.0, "mosaic_tiles": 9}, 9),
        ("letterbox", {"mosaic": 1.0, "mixup": 0.1}, 8),
        ("letterbox", {"mosaic": 1.0, "mixup": 0.1, "copy_paste": 0.1}, 10),
    ],
)
def test_a_measurement_holds_all_objects_of_as_many_crowded_images_as_training_puts_into_one(
    resize: str, augment: dict[str, Any], members: int
) -> None:
    tree = {
        "name": "a",
        "model": {"name": "yolov5n"},
        "data": {
            "sets": {"s": {"format": "street", "parameters": {"images": 30, "height": 64, "width": 96}}},
            "train": "s:train",
            "val": "s:val",
            "resize": {"mode": resize, "size_px": 256},
            "augment": augment,
        },
        "train": {"steps": 1},
    }
    config = DetectionConfig.model_validate(tree)
    table = compose.open_tables(config).train
    task = compose.make_task(config, table.classes)
    batch = compose.crowded_batches(config, table, task)(2)
    counts = sorted(table.counts().tolist(), reverse=True)
    found = [len(target.labels) for target in batch.targets]
    assert counts[0] > counts[-1] > 0
    if resize == "shortest_edge":
        # The widest and the tallest image, each with the objects of a crowded one.
        assert sum(found) == 2 * table.counts()[0] + sum(counts[2:4])
    else:
        assert sum(found) == sum(counts[: 2 * members])
    height, width = batch.images.shape[2:]
    assert all(bool((target.boxes <= torch.tensor([width, height] * 2)).all()) for target in batch.targets)


def test_joined_objects_keep_their_share_of_the_image() -> None:
    def sample(height: int, width: int, *corners: tuple[float, ...], regions: bool) -> Sample[BoxTarget]:
        boxes = torch.tensor(corners)
        target = BoxTarget(boxes, torch.arange(len(boxes)), torch.zeros(len(boxes), dtype=torch.bool), boxes[:, 2])
        pixels = torch.zeros((3, height, width), dtype=torch.uint8)
        return Sample(pixels, target, Frame(height, "a", height, width), boxes if regions else None)

    first = sample(10, 20, (0.0, 0, 20, 10), (1.0, 2, 3, 4), regions=True)
    second = sample(40, 40, (20.0, 10, 40, 40), regions=True)
    joined = join_objects([first, second])
    expected = torch.tensor([[0.0, 0, 20, 10], [1.0, 2, 3, 4], [10.0, 2.5, 20, 10]])
    assert torch.equal(joined.target.boxes, expected)
    assert joined.target.labels.tolist() == [0, 1, 0]
    assert joined.proposals is not None and torch.equal(joined.proposals, expected)
    assert joined.frame == first.frame
    assert join_objects([sample(10, 20, (0.0, 0, 20, 10), regions=False)]).proposals is None
