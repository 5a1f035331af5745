"""The learning rate and the momentum of every update: pure functions of its number.

So they are the same for any number of processes and micro-batches, after a resume, and after skipped updates.
"""

import dataclasses
import math

from accel_det.config.schema import OptimizerSection, ScheduleSection


def peak_learning_rate(optimizer: OptimizerSection, images_per_update: int) -> tuple[float, str]:
    """The learning rate before the schedule, and the rule behind it in words."""
    rate, words = optimizer.lr, f"{optimizer.lr:g} as given, whatever the images per update"
    if optimizer.lr_rule != "none":
        ratio = images_per_update / optimizer.reference_images
        rate *= ratio if optimizer.lr_rule == "linear" else math.sqrt(ratio)
        formula = "x" if optimizer.lr_rule == "linear" else "x sqrt of"
        words = f"{optimizer.lr:g} {formula} {images_per_update}/{optimizer.reference_images} images per update"
    if optimizer.lr_limits is not None:
        low, high = optimizer.lr_limits
        inside = min(max(rate, low), high)
        words += f", kept within {low:g} and {high:g}" + ("" if inside == rate else f", which {rate:g} is not")
        rate = inside
    if optimizer.loss_times_images:
        words += f"; the loss is multiplied by {images_per_update} images per update"
    return rate, words


def warmup_length(schedule: ScheduleSection, *, num_samples: int, images_per_update: int) -> int:
    """Updates of the warm-up: the longer of its two lengths, a part of an update counts as one."""
    return max(schedule.warmup_steps, math.ceil(schedule.warmup_epochs * num_samples / images_per_update))


@dataclasses.dataclass(frozen=True)
class Course:
    """Learning rates and momentum of a run.

    Attributes:
        peak_lr: learning rate after the warm-up.
        total_steps: budget in updates; warmup_steps: of them, those in which the rate rises.
    """

    optimizer: OptimizerSection
    schedule: ScheduleSection
    peak_lr: float
    total_steps: int
    warmup_steps: int

    def __post_init__(self) -> None:
        keys = [key for key in ("warmup_momentum", "warmup_bias_lr") if getattr(self.optimizer, key) is not None]
        if keys and not self.warmup_steps:
            raise ValueError(
                f"optimizer.{keys[0]} is set, but there is no warm-up in which it could act: set "
                "schedule.warmup_steps or schedule.warmup_epochs, or leave the key out"
            )

    def lr(self, step: int, *, factor: float = 1.0, is_bias: bool = False) -> float:
        """The learning rate of update number `step` (0-based).

        Args:
            factor: of the parameter group and of the phase.
            is_bias: of a group of biases, whose rate may fall in the warm-up where that of the others rises.
        """
        rate = self.peak_lr * factor
        bias_lr = self.optimizer.warmup_bias_lr
        if is_bias and bias_lr is not None and step < self.warmup_steps:
            return bias_lr + (rate - bias_lr) * step / self.warmup_steps
        return rate * schedule_factor(
            step, schedule=self.schedule, total_steps=self.total_steps, warmup_steps=self.warmup_steps
        )

    def momentum(self, step: int) -> float:
        """SGD's momentum, or beta 1, of update number `step` (0-based)."""
        start, end = self.optimizer.warmup_momentum, self.optimizer.momentum
        if start is None or step >= self.warmup_steps:
            return end
        return start + (end - start) * step / self.warmup_steps


def schedule_factor(step: int, *, schedule: ScheduleSection, total_steps: int, warmup_steps: int) -> float:
    """The share of the peak learning rate that update number `step` (0-based) uses.

    Source: the power of the warm-up is Darknet's burn-in (Redmon and Farhadi, YOLOv3, 2018, its published settings).
    """
    if step < warmup_steps:
        risen: float = (step / warmup_steps) ** schedule.warmup_power
        return schedule.warmup_start + (1 - schedule.warmup_start) * risen
    last = (1 - schedule.flat_end) * total_steps - 1
    done = min(1.0, (step - warmup_steps) / max(1, last - warmup_steps))
    if schedule.name == "constant":
        return 1.0
    if schedule.name == "step":
        return schedule.decay ** sum(step >= milestone * total_steps for milestone in schedule.milestones)
    if schedule.name == "linear":
        return 1 + (schedule.final - 1) * done
    if schedule.name == "cosine":
        return _cosine(1.0, schedule.final, done)
    if done < schedule.peak:
        return _cosine(schedule.warmup_start, 1.0, done / schedule.peak)
    return _cosine(1.0, schedule.final, (done - schedule.peak) / max(1e-12, 1 - schedule.peak))


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
