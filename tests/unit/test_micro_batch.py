"""The images that a measurement of memory takes."""

from typing import Any

import pytest
from accelerate import Accelerator

from accel_det.cli import compose_detection as compose
from accel_det.cli.micro_batch import crowded_batches, measured_bound
from accel_det.config.detection import DetectionConfig
from accel_det.engine.console import Console


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
    make = crowded_batches(config, table, task)
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
        nothing,
        model=nothing,
        optimizer=nothing,
        folder=None,
        console=Console(speaks=True),
    )
    assert bound is None
    assert "nothing bounds the memory here" in " ".join(capsys.readouterr().out.split())
