"""The defects that are on record for hand-written YOLOv3 trainings, each as what holds here instead.

What is on record, and below it the test of what holds here; without a file it is in this one.

the rate divided by the number of GPUs:
    test_the_learning_rate_goes_up_with_the_batch_between_its_limits

the least rate a constant:
    test_the_final_learning_rate_is_a_share_of_the_peak_whatever_the_batch

the schedule applied after each epoch, no warm-up:
    test_the_first_update_has_the_rate_of_the_warm_up_and_the_last_twentieth_the_final_one

the schedule defined for several processes alone:
    test_the_schedule_does_not_know_how_many_processes_there_are

the first process evaluates through the wrapping, and hangs:
    test_engine_fit.py: test_what_is_evaluated_is_never_wrapped_and_has_the_buffers_of_the_first_process_before_it_predicts

its buffers are not those of the others:
    test_data_and_evaluation.py: test_every_process_evaluates_with_the_statistics_of_the_first

the first process evaluates its part alone:
    test_every_process_evaluates_its_part_and_together_they_evaluate_every_image_once

losses of one process reported, none in float32:
    test_recipes.py: test_the_gradient_is_that_of_the_loss_times_all_images_on_any_number_of_processes

a checkpoint without epoch, schedule and random state:
    test_yolov3_training.py: test_a_run_that_is_taken_up_again_ends_as_if_it_had_not_stopped_and_exports_its_anchors

the same for the engine, killed anywhere:
    test_kill_and_resume.py: test_a_run_whose_process_is_killed_continues_bit_for_bit

where the best is saved the last is not:
    test_engine_fit.py: test_best_and_last_are_both_written_after_one_evaluation_that_is_the_best_and_the_last

norms that nothing uses, find_unused_parameters:
    test_yolov3_network.py: test_every_norm_belongs_to_a_convolution_and_the_linear_ones_have_none

the same, seen in the gradient:
    test_a_batch_without_objects_reaches_every_parameter

local rank 0 writes files, on every machine:
    test_no_decision_is_left_to_the_first_process_of_each_machine

decay of norms and biases:
    test_norms_and_biases_do_not_decay_and_all_kernels_do

the gradient is not clipped:
    test_engine_fit.py: test_the_gradient_of_the_multiplied_loss_is_clipped

anchors moved with .cuda():
    test_anchors_follow_the_network_to_any_device_and_type

the loss changes predictions and targets in place:
    test_the_same_batch_has_the_same_loss_again

the same, for each loss:
    test_yolov3_loss.py: test_the_loss_of_the_same_predictions_is_the_same_twice_and_changes_neither_them_nor_the_targets

an exponent without a bound:
    test_yolov3_loss.py: test_an_exponent_of_a_thousand_gives_finite_losses_gradients_and_boxes

a precision of 0 with the wrong file of classes:
    test_a_network_for_the_wrong_number_of_classes_is_told_so_by_the_image
"""

import inspect
import re
from pathlib import Path

import pytest
import torch

import accel_det
from accel_det.config.schema import OptimizerSection, ScheduleSection
from accel_det.data.order import evaluation_slice
from accel_det.engine.optimize import make_optimizer
from accel_det.engine.schedule import Course, peak_learning_rate, schedule_factor
from accel_det.models import zoo
from accel_det.models.yolov3.model import YoloV3
from accel_det.types import Batch, BoxTarget, Frame, Losses

# Stochastic gradient descent of the trainings on record: a rate of 0.01 for 64 images, within 5e-4 and 5e-2.
SGD = OptimizerSection(lr=0.01, lr_rule="linear", reference_images=64, lr_limits=[5e-4, 5e-2])
COSINE = ScheduleSection(name="cosine", warmup_steps=100, warmup_power=2, warmup_start=0.1, final=0.01, flat_end=0.05)


@pytest.fixture(scope="module")
def model() -> YoloV3:
    torch.manual_seed(0)
    built = zoo.build("yolov3_tiny", num_classes=3, options={"width": 0.125})
    assert isinstance(built, YoloV3)
    return built


def batch(*, count: int) -> Batch[BoxTarget]:
    target = BoxTarget(
        torch.tensor([[4.0, 6.0, 40.0, 50.0]]).repeat(count, 1),
        torch.zeros(count, dtype=torch.int64),
        torch.zeros(count, dtype=torch.bool),
        torch.ones(count),
    )
    pixels = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Batch(pixels, torch.tensor([[64, 64]]), [target], [Frame(0, "image", 64, 64)])


def test_the_learning_rate_goes_up_with_the_batch_between_its_limits() -> None:
    """On record: divided by the number of GPUs."""
    rates = [peak_learning_rate(SGD, images)[0] for images in (1, 16, 64, 128, 512)]
    assert rates == pytest.approx([5e-4, 0.0025, 0.01, 0.02, 0.05], rel=1e-12)


def test_the_final_learning_rate_is_a_share_of_the_peak_whatever_the_batch() -> None:
    """On record: clamped between two equal numbers, so the same for any batch."""
    for images in (16, 64, 128):
        peak, _ = peak_learning_rate(SGD, images)
        assert Course(SGD, COSINE, peak, 1000, 100).lr(999) == pytest.approx(0.01 * peak, rel=1e-12)


def test_the_first_update_has_the_rate_of_the_warm_up_and_the_last_twentieth_the_final_one() -> None:
    """On record: the schedule was applied after each epoch, so the first one ran at the full rate."""
    course = Course(SGD, COSINE, 0.01, 1000, 100)
    assert course.lr(0) == pytest.approx(0.001, rel=1e-12)
    assert course.lr(50) == pytest.approx(0.01 * (0.1 + 0.9 * 0.25), rel=1e-12)
    assert course.lr(100) == pytest.approx(0.01, rel=1e-12)
    assert [course.lr(step) for step in range(949, 1000)] == pytest.approx([1e-4] * 51, rel=1e-12)


def test_the_schedule_does_not_know_how_many_processes_there_are() -> None:
    """On record: it was defined in the branch for several processes alone, and one process ended in a NameError."""
    known = {"world", "rank", "processes"}
    for function in (schedule_factor, peak_learning_rate, Course):
        assert not known & set(inspect.signature(function).parameters)


def test_darknets_burn_in_rises_by_the_fourth_power_to_the_thousandth_update() -> None:
    schedule = ScheduleSection(
        name="step", warmup_steps=1000, warmup_power=4, warmup_start=0, milestones=[400 / 500.2, 450 / 500.2]
    )
    course = Course(OptimizerSection(lr=0.001), schedule, 0.001, 500_200, 1000)
    expected = {0: 0.0, 100: 1e-7, 500: 6.25e-5, 999: 0.001 * 0.999**4, 1000: 0.001, 399_999: 0.001}
    expected |= {400_000: 1e-4, 449_999: 1e-4, 450_000: 1e-5, 500_199: 1e-5}
    assert {step: course.lr(step) for step in expected} == pytest.approx(expected, rel=1e-9, abs=1e-18)


def test_every_process_evaluates_its_part_and_together_they_evaluate_every_image_once() -> None:
    """On record: the data was shared out among all processes, and the first one alone evaluated its part."""
    for length in (1, 7, 87):
        for world in (1, 2, 3, 8):
            parts = [list(evaluation_slice(length, world=world, rank=rank)) for rank in range(world)]
            assert [image for part in parts for image in part] == list(range(length))
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_no_decision_is_left_to_the_first_process_of_each_machine() -> None:
    """On record: local rank 0 wrote the files, on every machine of a run on several."""
    files = list(Path(accel_det.__file__).parent.rglob("*.py"))
    assert len(files) >= 100
    words = ("is_local_main_process", "local_process_index == 0", 'environ["LOCAL_RANK"]', "local_rank == 0")
    assert [f.name for f in files if any(word in f.read_text("utf-8") for word in words)] == []


def test_norms_and_biases_do_not_decay_and_all_kernels_do(model: YoloV3) -> None:
    optimizer = make_optimizer(model, OptimizerSection(weight_decay=0.0005))
    decays = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    expected = {p: 0.0005 if p.ndim == 4 else 0.0 for p in model.parameters()}
    assert len(expected) == 13 + 2 * 11 + 2  # kernels, norms' scales and shifts, biases
    assert {p: decays[p] for p in expected} == expected


def test_a_batch_without_objects_reaches_every_parameter(model: YoloV3) -> None:
    """On record: three norms that nothing used, and `find_unused_parameters` to live with them."""
    model.train().zero_grad(set_to_none=True)
    torch.stack([term.sum for term in as_losses(model(batch(count=0))).values()]).sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_the_same_batch_has_the_same_loss_again(model: YoloV3) -> None:
    """On record: the loss replaced predictions by their sigmoid and targets by their logarithm, in place."""
    one = batch(count=2)
    model.train()
    first, second = as_losses(model(one)), as_losses(model(one))
    assert all(torch.equal(first[name].sum, second[name].sum) for name in first)
    assert one.targets[0].boxes[0].tolist() == [4, 6, 40, 50]


def test_anchors_follow_the_network_to_any_device_and_type(model: YoloV3) -> None:
    """On record: moved with `.cuda()`, so that nothing ran on a CPU."""
    assert dict(model.named_buffers())["anchors_px"] is model.anchors_px
    assert "anchors_px" in model.state_dict()
    with torch.device("meta"):
        assert zoo.build("yolov3_tiny", num_classes=3).to("meta").anchors_px.device.type == "meta"


def test_a_network_for_the_wrong_number_of_classes_is_told_so_by_the_image() -> None:
    """On record: a precision of 0 because the file with the names of the classes was another one."""
    wrong = batch(count=1)
    wrong.targets[0].labels.fill_(3)
    with pytest.raises(ValueError, match=r"image: class index 3 is not in 0\.\.2"):
        zoo.build("yolov3_tiny", num_classes=3, options={"width": 0.125}).train()(wrong)


def test_every_test_that_the_list_above_names_is_there() -> None:
    files = {file.name: file.read_text(encoding="utf-8") for file in Path(__file__).parents[1].rglob("test_*.py")}
    rows = re.findall(r"^    (?:(test_\w+\.py): )?(test_\w+)$", __doc__ or "", re.MULTILINE)
    assert len(rows) == (__doc__ or "").count(":\n    ") == 21
    missing = [name for file, name in rows if f"def {name}(" not in files[file or Path(__file__).name]]
    assert missing == []


def as_losses(found: object) -> Losses:
    assert isinstance(found, dict)
    return found
