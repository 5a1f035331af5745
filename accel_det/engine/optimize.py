"""Parameter groups, optimizers, and what each group's learning rate is in an update."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from accel_det.config.schema import OptimizerSection
from accel_det.engine.schedule import Course

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)


class Trained(NamedTuple):
    """A parameter that is trained, and what kind it is."""

    name: str
    parameter: nn.Parameter
    decays: bool
    is_bias: bool


def make_optimizer(model: nn.Module, section: OptimizerSection) -> Optimizer:
    """An optimizer over what is trainable, in groups of like weight decay and learning rate.

    Raises:
        ValueError: the backbone is to learn at another rate, and the network has none that is trained.
    """
    groups = parameter_groups(model, section)
    fused = all(p.device.type == "cuda" for p in model.parameters())
    if section.name == "sgd":
        return SGD(groups, lr=section.lr, momentum=section.momentum, nesterov=section.nesterov, fused=fused)
    kind = Adam if section.name == "adam" else AdamW
    return kind(groups, lr=section.lr, betas=(section.momentum, section.beta2), fused=fused)


def parameter_groups(model: nn.Module, section: OptimizerSection) -> list[dict[str, object]]:
    """What torch.optim takes, with two keys more: `rate_factor`, and `is_bias` where biases warm up their own way."""
    parameters = trained_parameters(model)
    backbone = _backbone_factors(model, parameters, section)
    own_course = section.warmup_bias_lr is not None
    groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
    for one in parameters:
        factor = backbone.get(one.name, 1.0) * (section.bias_factor if one.is_bias else 1.0)
        key = (section.weight_decay if one.decays else 0.0, factor, one.is_bias and own_course)
        groups.setdefault(key, []).append(one.parameter)
    return [
        {"params": group, "weight_decay": decay, "rate_factor": factor, "is_bias": is_bias}
        for (decay, factor, is_bias), group in groups.items()
    ]


def trained_parameters(model: nn.Module) -> list[Trained]:
    """What is trainable, each parameter once: biases, normalisation layers and vectors do not decay."""
    found: list[Trained] = []
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            is_bias = name.endswith("bias")
            decays = not (is_bias or isinstance(module, _NORMS) or parameter.ndim <= 1)
            found.append(Trained(f"{module_name}.{name}" if module_name else name, parameter, decays, is_bias))
    return found


def set_rates(optimizer: Optimizer, course: Course, step: int, *, lr_factor: float = 1.0) -> None:
    """Give every group the learning rate and momentum of update number `step` (0-based).

    Args:
        lr_factor: of the phase.
    """
    momentum = course.momentum(step)
    for group in optimizer.param_groups:
        group["lr"] = course.lr(step, factor=lr_factor * group["rate_factor"], is_bias=group["is_bias"])
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        else:
            group["momentum"] = momentum


def gradient_norm(model: nn.Module) -> torch.Tensor:
    """() L2 norm of all gradients: not finite exactly where one of them is not, or overflows."""
    return torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])


def _backbone_factors(model: nn.Module, parameters: list[Trained], section: OptimizerSection) -> dict[str, float]:
    """Name -> factor of the learning rate, of the parameters of the backbone.

    Its last layer has `backbone_factor`, each one before it `layer_decay` times that of the next. Layers are counted over
    the whole backbone, also where the first ones are frozen.
    """
    if section.backbone_factor == 1 and section.layer_decay == 1:
        return {}
    layer_of: Callable[[str], int | None] = getattr(model, "layer_of", lambda name: None)
    layers = {name: layer for name, _ in model.named_parameters() if (layer := layer_of(name)) is not None}
    from_the_end = {layer: place for place, layer in enumerate(sorted(set(layers.values()), reverse=True))}
    if not any(one.name in layers for one in parameters):
        key = "backbone_factor" if section.backbone_factor != 1 else "layer_decay"
        raise ValueError(
            f"optimizer.{key} is {getattr(section, key):g}, but this network has no backbone that is trained: leave it "
            "at 1, or freeze less"
        )
    return {
        name: section.backbone_factor * section.layer_decay ** from_the_end[layer] for name, layer in layers.items()
    }
