"""Two real processes compute the gradient of one process on the same images, in float64, with the engine's own step."""

from pathlib import Path

import pytest
from gradients import Comparison, Work, compare
from harness import run_world
from zoo_cases import case

from accel_det.models import zoo

TOLERANCE = 1e-12  # relative L2; rounding alone gives about 1e-16, and 1e-13 through live norms of small maps

EVEN, UNEVEN = ((2,), (2,)), ((1,), (3,))
# Number of objects of the four images, and which process gets them.
SPLITS = {
    "2 and 2 images": ((3, 2, 1, 4), EVEN),
    "1 and 3 images with uneven boxes": ((1, 5, 0, 2), UNEVEN),
    "an image without objects": ((2, 0, 3, 1), EVEN),
    "a process without objects": ((0, 0, 3, 2), EVEN),
    "no object anywhere": ((0, 0, 0, 0), EVEN),
}
QUICK = "yolov5n"
NETWORKS = [name if case(name).quick else pytest.param(name, marks=pytest.mark.slow) for name in zoo.names("detection")]


def work(model: str, split: tuple[tuple[int, ...], tuple[tuple[int, ...], ...]], batch_norm: str = "frozen") -> Work:
    return Work(model, case(model).size_px, *split, batch_norm)


def check(found: list[list[Comparison]], works: list[Work]) -> None:
    """Of every process, for every work."""
    assert len(found) == 2
    for number, one in enumerate(works):
        for process in found:
            result = process[number]
            assert result.error <= TOLERANCE, (one, result.error)
            assert result.without == [], one
            assert result.values == pytest.approx(result.reference_values, rel=1e-12), one
        assert found[0][number].digest == found[1][number].digest, one


def test_the_zoo_has_the_networks_that_are_swept_here() -> None:
    assert len(NETWORKS) >= 14
    assert QUICK in zoo.names("detection")


@pytest.mark.parametrize("model", NETWORKS)
@pytest.mark.timeout(600)
def test_two_processes_compute_the_gradient_of_one(tmp_path: Path, model: str) -> None:
    works = [work(model, split) for split in SPLITS.values()]
    check(run_world(compare, 2, works, folder=tmp_path, timeout_s=560), works)


@pytest.mark.parametrize("model", [QUICK, pytest.param("ssdlite320_mobilenet_v3_large", marks=pytest.mark.slow)])
def test_synchronized_batch_norm_gives_two_processes_the_gradient_of_one_with_live_statistics(
    tmp_path: Path, model: str
) -> None:
    works = [work(model, split, "synchronized") for split in SPLITS.values()]
    check(run_world(compare, 2, works, folder=tmp_path), works)


def test_accumulation_on_two_processes_divides_by_the_counts_of_the_whole_window(tmp_path: Path) -> None:
    """Two processes with two micro-batches each: where counts are known, as one batch of all images."""
    works = [Work("yolov5n", 64, (3, 0, 1, 2, 0, 5), ((2, 1), (1, 2)))]
    check(run_world(compare, 2, works, folder=tmp_path), works)


@pytest.mark.slow
def test_accumulation_of_faster_rcnn_is_the_mean_of_globally_normalised_micro_batches(tmp_path: Path) -> None:
    works = [Work("fasterrcnn_mobilenet_v3_large_320_fpn", 64, (3, 0, 1, 2), ((1, 1), (1, 1)))]
    check(run_world(compare, 2, works, folder=tmp_path), works)


def test_a_step_costs_one_all_reduce_beside_the_gradients_and_one_more_for_a_window(tmp_path: Path) -> None:
    """DistributedDataParallel's buckets do not pass through `torch.distributed.all_reduce`; the engine's sums do."""
    single, double = Work("yolov5n", 64, (1, 2), ((1,), (1,))), Work("yolov5n", 64, (1, 2, 0, 3), ((1, 1), (1, 1)))
    found = run_world(compare, 2, [single, double], folder=tmp_path)
    assert [[result.all_reduces for result in process] for process in found] == [[1, 3], [1, 3]]
