"""The DETR family: names, options, construction."""

from typing import Any

from accel_det.models.base import Inference
from accel_det.models.transformers.construction import TransformersOptions, build_network
from accel_det.models.transformers.criterion import Criterion
from accel_det.models.transformers.denoising import NoiseRule
from accel_det.models.transformers.detector import TransformersDetector
from accel_det.models.transformers.distribution import BinRule
from accel_det.models.transformers.kinds import Kind
from accel_det.models.transformers.losses import ClassRule
from accel_det.models.transformers.matching import MatchRule
from accel_det.models.transformers.sizes import SIZES

__all__ = ["TransformersDetector", "TransformersOptions", "build"]


def build(name: str, *, num_classes: int, inference: Inference, options: TransformersOptions) -> TransformersDetector:
    """One of SIZES, with fresh or stored weights.

    Raises:
        ValueError: the name is unknown, there is no class, or the stored weights do not fit.
    """
    if name not in SIZES:
        raise ValueError(f"model {name!r} is unknown: expected one of {', '.join(SIZES)}")
    if num_classes < 1:
        raise ValueError(f"num_classes: expected at least 1, got {num_classes}")
    built = build_network(name, num_classes=num_classes, options=options)
    criterion = _criterion(built.kind, built.network.config, num_classes=num_classes, class_weight=options.class_weight)
    return TransformersDetector(built, criterion=criterion, num_classes=num_classes, inference=inference)


def _criterion(kind: Kind, config: Any, *, num_classes: int, class_weight: float) -> Criterion:
    """What transformers' configuration says of the losses, and its defaults where its losses have them built in."""
    if kind.denoises:
        return _rt_criterion(kind, config, num_classes=num_classes, class_weight=class_weight)
    softmax = kind.classes == "softmax"
    alpha = 0.25 if softmax else config.focal_alpha
    return Criterion(
        classes=ClassRule(kind.classes, alpha=alpha, no_object=config.eos_coefficient if softmax else 0.0),
        matching=MatchRule(
            "softmax" if softmax else "focal",
            label=config.class_cost,
            box=config.bbox_cost,
            giou=config.giou_cost,
            groups=getattr(config, "group_detr", 1),
        ),
        label=class_weight * getattr(config, "class_loss_coefficient", 1),
        box=config.bbox_loss_coefficient,
        giou=config.giou_loss_coefficient,
    )


def _rt_criterion(kind: Kind, config: Any, *, num_classes: int, class_weight: float) -> Criterion:
    bins = None
    if getattr(config, "weight_loss_fgl", 0) or getattr(config, "weight_loss_ddf", 0):
        bins = BinRule(
            config.max_num_bins,
            config.up,
            config.reg_scale,
            fine=config.weight_loss_fgl,
            distill=config.weight_loss_ddf,
        )
    label, alpha = getattr(config, "weight_loss_vfl", 1.0), config.focal_loss_alpha
    if kind.classes == "matchability":
        label, alpha = config.weight_loss_mal, 1.0 if config.mal_alpha is None else config.mal_alpha
    return Criterion(
        classes=ClassRule(kind.classes, alpha=alpha, gamma=config.focal_loss_gamma),
        matching=MatchRule(
            "focal", label=config.matcher_class_cost, box=config.matcher_bbox_cost, giou=config.matcher_giou_cost
        ),
        label=class_weight * label,
        box=config.weight_loss_bbox,
        giou=config.weight_loss_giou,
        noise=NoiseRule(config.num_denoising, config.label_noise_ratio, config.box_noise_scale, num_classes),
        bins=bins,
    )
