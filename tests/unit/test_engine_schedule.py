"""Learning rate and momentum of every update against plain arithmetic, and the rules of the published recipes."""

import itertools
import math
from typing import Any

import pytest

from accel_det.config.schema import OptimizerSection, ScheduleSection
from accel_det.engine.schedule import Course, peak_learning_rate, schedule_factor, warmup_length

TOTAL = 101


def factor(step: int, schedule: ScheduleSection) -> float:
    return schedule_factor(step, schedule=schedule, total_steps=TOTAL, warmup_steps=schedule.warmup_steps)


def test_the_warm_up_rises_in_a_straight_line_from_its_start_to_the_peak() -> None:
    schedule = ScheduleSection(name="constant", warmup_steps=10, warmup_start=0.1)
    assert [factor(step, schedule) for step in (0, 5, 10, 100)] == pytest.approx([0.1, 0.55, 1.0, 1.0], abs=1e-15)
    assert factor(9, schedule) == pytest.approx(0.1 + 0.9 * 9 / 10)


@pytest.mark.parametrize(
    ("name", "middle"), [("cosine", 0.01 + 0.99 * (1 + math.cos(math.pi / 2)) / 2), ("linear", 0.505)]
)
def test_cosine_and_linear_go_from_the_peak_in_the_first_update_to_the_final_share_in_the_last(
    name: str, middle: float
) -> None:
    schedule = ScheduleSection.model_validate({"name": name, "final": 0.01})
    assert factor(0, schedule) == 1.0
    assert factor(50, schedule) == pytest.approx(middle, rel=1e-12)
    assert factor(TOTAL - 1, schedule) == pytest.approx(0.01, rel=1e-12)
    assert factor(TOTAL + 5, schedule) == pytest.approx(0.01, rel=1e-12), "beyond the budget nothing changes"
    every = [factor(step, schedule) for step in range(TOTAL)]
    assert all(later < earlier for earlier, later in itertools.pairwise(every))


def test_after_a_warm_up_the_course_begins_at_the_peak_and_still_ends_at_the_final_share() -> None:
    schedule = ScheduleSection(name="cosine", warmup_steps=20, final=0.1)
    assert factor(20, schedule) == 1.0
    assert factor(60, schedule) == pytest.approx(0.55, rel=1e-12)
    assert factor(TOTAL - 1, schedule) == pytest.approx(0.1, rel=1e-12)


def test_steps_decay_at_the_first_update_past_each_milestone() -> None:
    schedule = ScheduleSection(name="step", milestones=[0.5, 0.9], decay=0.1)
    # Milestones are at updates 50.5 and 90.9 of 101.
    found = [factor(step, schedule) for step in (0, 50, 51, 90, 91, 100)]
    assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01], rel=1e-12)


def test_one_cycle_rises_to_its_peak_and_falls_to_the_final_share() -> None:
    schedule = ScheduleSection(name="one_cycle", peak=0.3, warmup_start=0.04, final=0.002)
    assert factor(0, schedule) == pytest.approx(0.04)
    assert factor(15, schedule) == pytest.approx((1 + 0.04) / 2)
    assert factor(30, schedule) == pytest.approx(1.0)
    assert factor(65, schedule) == pytest.approx((1 + 0.002) / 2)
    assert factor(TOTAL - 1, schedule) == pytest.approx(0.002)


@pytest.mark.parametrize("name", ["constant", "linear", "cosine", "step", "one_cycle"])
def test_a_budget_of_one_update_has_a_learning_rate(name: str) -> None:
    schedule = ScheduleSection.model_validate({"name": name})
    assert 0 < schedule_factor(0, schedule=schedule, total_steps=1, warmup_steps=0) <= 1


@pytest.mark.parametrize(("rule", "expected"), [("none", 0.02), ("linear", 0.02 * 64 / 16), ("sqrt", 0.02 * 2)])
def test_the_learning_rate_follows_the_images_per_update_by_its_rule(rule: str, expected: float) -> None:
    section = OptimizerSection.model_validate({"lr": 0.02, "lr_rule": rule, "reference_images": 16})
    rate, words = peak_learning_rate(section, 64)
    assert rate == pytest.approx(expected, rel=1e-15)
    assert "64" in words or rule == "none"


def test_the_power_of_the_warm_up_gives_darknets_burn_in() -> None:
    """rate = peak * (update / burn_in)^4 (YOLOv3's published settings: burn_in=1000, power 4)."""
    schedule = ScheduleSection(name="constant", warmup_power=4.0, warmup_start=0.0)
    found = [
        schedule_factor(step, schedule=schedule, total_steps=5000, warmup_steps=1000) for step in (0, 250, 999, 1000)
    ]
    assert found == pytest.approx([0, 0.25**4, 0.999**4, 1], rel=1e-12)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_flat_end_reaches_the_final_share_early_and_stays_there(name: str) -> None:
    """20 updates of 100 are flat, so the course ends where one of 80 updates would."""
    schedule = ScheduleSection.model_validate({"name": name, "flat_end": 0.2, "final": 0.05, "warmup_steps": 10})
    short = schedule.model_copy(update={"flat_end": 0.0})
    for step in range(100):
        found = schedule_factor(step, schedule=schedule, total_steps=100, warmup_steps=10)
        expected = schedule_factor(step, schedule=short, total_steps=80, warmup_steps=10)
        assert found == pytest.approx(expected, rel=1e-12), step
        assert (found == pytest.approx(0.05, rel=1e-12)) == (step >= 79)


@pytest.mark.parametrize(
    ("epochs", "steps", "expected"),
    [(0.0, 0, 0), (0.0, 7, 7), (3.0, 0, 188), (3.0, 100, 188), (0.5, 100, 100), (0.01, 0, 1)],
)
def test_the_longer_of_the_two_warm_ups_counts_and_a_part_of_an_update_is_one(
    epochs: float, steps: int, expected: int
) -> None:
    """1,000 images in updates of 16: an epoch is 62.5 updates, three are 187.5."""
    schedule = ScheduleSection(warmup_epochs=epochs, warmup_steps=steps)
    assert warmup_length(schedule, num_samples=1000, images_per_update=16) == expected


def course(optimizer: dict[str, Any], schedule: dict[str, Any], *, images: int, total: int, warmup: int = 0) -> Course:
    section = OptimizerSection.model_validate(optimizer)
    peak, _ = peak_learning_rate(section, images)
    return Course(section, ScheduleSection.model_validate(schedule), peak, total, warmup)


def test_in_the_warm_up_of_yolov5_biases_fall_the_others_rise_and_momentum_rises() -> None:
    """Facts of its recipe: bias 0.1 -> 0.01, others 0 -> 0.01, momentum 0.8 -> 0.937, each by linear interpolation."""
    settings = {"lr": 0.01, "momentum": 0.937, "warmup_momentum": 0.8, "warmup_bias_lr": 0.1}
    found = course(settings, {"name": "linear", "warmup_start": 0.0}, images=64, total=10_000, warmup=1000)
    for step in range(0, 1000, 37):
        done = step / 1000
        assert found.lr(step) == pytest.approx(0.01 * done, rel=1e-12)
        assert found.lr(step, is_bias=True) == pytest.approx(0.1 * (1 - done) + 0.01 * done, rel=1e-12)
        assert found.momentum(step) == pytest.approx(0.8 * (1 - done) + 0.937 * done, rel=1e-12)
    for step in (1000, 5000, 9999):
        done = (step - 1000) / 8999
        assert found.lr(step) == pytest.approx(0.01 * (1 - done) + 0.01 * 0.01 * done, rel=1e-12)
        assert found.lr(step, is_bias=True) == found.lr(step)
        assert found.momentum(step) == 0.937


def test_factors_of_a_group_multiply_its_rate_and_a_warming_bias_falls_to_its_own() -> None:
    settings = {"lr": 0.01, "warmup_bias_lr": 0.1}
    found = course(settings, {"name": "constant", "warmup_start": 0.5}, images=1, total=100, warmup=10)
    assert found.lr(5, factor=0.2) == pytest.approx(0.01 * 0.2 * 0.75, rel=1e-12)
    assert found.lr(5, factor=2.0, is_bias=True) == pytest.approx((0.1 + 0.02) / 2, rel=1e-12)
    assert found.lr(10, factor=2.0, is_bias=True) == pytest.approx(0.02, rel=1e-12)


@pytest.mark.parametrize("key", ["warmup_momentum", "warmup_bias_lr"])
def test_a_warm_up_of_momentum_or_bias_without_a_warm_up_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match=rf"optimizer.{key} is set, but there is no warm-up.*schedule.warmup_steps"):
        course({key: 0.1}, {}, images=16, total=10)


# Published rules of seed systems: settings, images per update -> peak learning rate and multiplier of the loss.
R_FCN = {"lr": 0.0005, "lr_rule": "linear", "reference_images": 1}
YOLOV5 = {"lr": 0.01, "loss_times_images": True}
YOLOV3_SGD = {"lr": 0.01, "lr_rule": "linear", "reference_images": 64, "lr_limits": [5e-4, 5e-2]}
YOLOV3_ADAM = {"lr": 1e-3, "lr_rule": "linear", "reference_images": 64, "lr_limits": [3e-4, 1e-3], "name": "adam"}
REID = {"lr": 0.001, "lr_rule": "linear", "reference_images": 32}
TENSORFLOW = {"lr": 0.04}


@pytest.mark.parametrize(
    ("settings", "images", "rate", "words"),
    [
        # The five published schedules of R-FCN: 0.0005 for each image of an update.
        *((R_FCN, images, rate, "0.0005 x ") for images, rate in ((1, 0.0005), (2, 0.001), (8, 0.004), (16, 0.008))),
        *((YOLOV5, images, 0.01, f"the loss is multiplied by {images} images") for images in (16, 64, 128)),
        (YOLOV3_SGD, 64, 0.01, "kept within 0.0005 and 0.05"),
        (YOLOV3_SGD, 16, 0.0025, "0.01 x 16/64 images per update, kept within 0.0005 and 0.05"),
        (YOLOV3_SGD, 1, 5e-4, "which 0.00015625 is not"),
        (YOLOV3_SGD, 640, 5e-2, "which 0.1 is not"),
        (YOLOV3_ADAM, 16, 3e-4, "which 0.00025 is not"),
        (YOLOV3_ADAM, 128, 1e-3, "which 0.002 is not"),
        # 32 images on each of 1, 2, 4 processes: the rate times the number of processes.
        *((REID, 32 * world, 0.001 * world, f"0.001 x {32 * world}/32") for world in (1, 2, 4)),
        *((TENSORFLOW, images, 0.04, "as given, whatever the images per update") for images in (8, 64)),
    ],
)
def test_the_peak_rate_follows_the_published_rule_and_the_words_say_which(
    settings: dict[str, Any], images: int, rate: float, words: str
) -> None:
    found, said = peak_learning_rate(OptimizerSection.model_validate(settings), images)
    assert found == pytest.approx(rate, rel=1e-12)
    assert words in said
    assert ("the loss is multiplied" in said) == bool(settings.get("loss_times_images"))


@pytest.mark.parametrize(
    ("section", "settings", "message"),
    [
        (ScheduleSection, {"name": "one_cycle", "warmup_steps": 3}, "one_cycle rises by itself"),
        (ScheduleSection, {"name": "one_cycle", "warmup_epochs": 0.5}, "one_cycle rises by itself"),
        (ScheduleSection, {"name": "step", "flat_end": 0.1}, "flat_end is for linear and cosine, but name is step"),
        (OptimizerSection, {"lr_limits": [0.1, 0.01]}, "lr_limits is .* expected .smallest, largest."),
        (OptimizerSection, {"lr_limits": [0.0, 0.01]}, "lr_limits is .* with 0 < smallest"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    section: type[ScheduleSection | OptimizerSection], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        section.model_validate(settings)
