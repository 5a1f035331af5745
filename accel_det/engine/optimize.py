"""Parameter groups, optimizers, and the learning rate as a pure function of the optimizer step."""

import math

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from accel_det.config.schema import OptimizerSection, ScheduleSection

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)


def peak_learning_rate(optimizer: OptimizerSection, images_per_update: int) -> tuple[float, str]:
    """The learning rate before the schedule, and the rule behind it in words."""
    ratio = images_per_update / optimizer.reference_images
    if optimizer.lr_rule == "none":
        return optimizer.lr, f"{optimizer.lr:g} as given, whatever the images per update"
    factor = ratio if optimizer.lr_rule == "linear" else math.sqrt(ratio)
    formula = "x" if optimizer.lr_rule == "linear" else "x sqrt of"
    return optimizer.lr * factor, (
        f"{optimizer.lr:g} {formula} {images_per_update}/{optimizer.reference_images} images per update"
    )


def schedule_factor(step: int, *, schedule: ScheduleSection, total_steps: int) -> float:
    """The share of the peak learning rate that update number `step` (0-based) uses.

    The same for any number of processes and micro-batches, after a resume, and after skipped updates.
    """
    if step < schedule.warmup_steps:
        return schedule.warmup_start + (1 - schedule.warmup_start) * step / schedule.warmup_steps
    done = min(1.0, (step - schedule.warmup_steps) / max(1, total_steps - 1 - schedule.warmup_steps))
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


def make_optimizer(model: nn.Module, section: OptimizerSection) -> Optimizer:
    """An optimizer over what is trainable; biases and normalisation layers do not decay."""
    decayed, kept = split_parameters(model)
    groups = [
        {"params": [p for _, p in decayed], "weight_decay": section.weight_decay},
        {"params": [p for _, p in kept], "weight_decay": 0.0},
    ]
    fused = all(p.device.type == "cuda" for p in model.parameters())
    if section.name == "sgd":
        return SGD(groups, lr=section.lr, momentum=section.momentum, nesterov=section.nesterov, fused=fused)
    kind = Adam if section.name == "adam" else AdamW
    return kind(groups, lr=section.lr, betas=(section.momentum, section.beta2), fused=fused)


def split_parameters(
    model: nn.Module,
) -> tuple[list[tuple[str, nn.Parameter]], list[tuple[str, nn.Parameter]]]:
    """Trainable parameters with their names: those that decay, and those that do not."""
    decayed: list[tuple[str, nn.Parameter]] = []
    kept: list[tuple[str, nn.Parameter]] = []
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            full_name = f"{module_name}.{name}" if module_name else name
            never = name.endswith("bias") or isinstance(module, _NORMS) or parameter.ndim <= 1
            (kept if never else decayed).append((full_name, parameter))
    return decayed, kept


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def gradient_norm(model: nn.Module) -> torch.Tensor:
    """() L2 norm of all gradients: not finite exactly where one of them is not, or overflows."""
    return torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
