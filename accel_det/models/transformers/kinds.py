"""What sets the types of `AutoModelForObjectDetection` apart; nothing is imported."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from accel_det.models.transformers.losses import ClassKind


@dataclass(frozen=True)
class Kind:
    """One type of transformers.

    Attributes:
        model_type: as `AutoConfig` names it.
        classes: how classes are learnt.
        masked: the network sees which pixels are padding, and gives boxes as shares of the image without it.
        denoises: noisy copies of the true boxes are trained along.
        layers_second: its stacked outputs have the layers as second dimension.
        processor: class of transformers that prepares its images.
        normalized: the network sees colors less their mean, over their deviation, on ImageNet; else shares of 255.
        backbone: parameter names that begin so are the backbone's.
        convolutional: whether the backbone is a ResNet or an HGNet, not a vision transformer.
        never_trained: parameters that no output depends on in training; they are frozen, because a distributed step
            waits for the gradient of every trained one.
    """

    model_type: str
    classes: ClassKind
    processor: str
    masked: bool = False
    denoises: bool = False
    layers_second: bool = False
    normalized: bool = True
    backbone: str = "model.backbone."
    convolutional: bool = True
    never_trained: tuple[str, ...] = ()


def _real_time(model_type: str, classes: ClassKind, *, backbone: str = "model.backbone.") -> Kind:
    return Kind(
        model_type,
        classes,
        "RTDetrImageProcessor",
        denoises=True,
        layers_second=True,
        normalized=False,
        backbone=backbone,
    )


DINO = "deimv2_dinov3"
KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "detr": Kind("detr", "softmax", "DetrImageProcessor", masked=True),
        "table-transformer": Kind("table-transformer", "softmax", "DetrImageProcessor", masked=True),
        "conditional_detr": Kind("conditional_detr", "focal", "ConditionalDetrImageProcessor", masked=True),
        "dab-detr": Kind("dab-detr", "focal", "ConditionalDetrImageProcessor", masked=True),
        "deformable_detr": Kind("deformable_detr", "focal", "DeformableDetrImageProcessor", masked=True),
        "rt_detr": _real_time("rt_detr", "varifocal"),
        "rt_detr_v2": _real_time("rt_detr_v2", "varifocal"),
        "d_fine": _real_time("d_fine", "varifocal"),
        "deimv2": _real_time("deimv2", "matchability", backbone="model.conv_encoder.model."),
        DINO: Kind(
            "deimv2",
            "matchability",
            "RTDetrImageProcessor",
            denoises=True,
            layers_second=True,
            backbone="model.conv_encoder.backbone.",
            convolutional=False,
            never_trained=("model.conv_encoder.backbone.embeddings.mask_token",),
        ),
        "lw_detr": Kind("lw_detr", "iou_aware", "DeformableDetrImageProcessor", masked=True, convolutional=False),
        "rf_detr": Kind(
            "rf_detr",
            "iou_aware",
            "RfDetrImageProcessor",
            masked=True,
            convolutional=False,
            never_trained=("model.backbone.backbone.embeddings.mask_token",),
        ),
        "yolos": Kind("yolos", "softmax", "YolosImageProcessor", backbone="vit.", convolutional=False),
    }
)


def kind_of(config: Any) -> str:
    """Key of KINDS for a configuration of transformers, or its own type where that is not among them."""
    backbone = getattr(getattr(config, "backbone_config", None), "model_type", "")
    return DINO if config.model_type == "deimv2" and backbone == "dinov3_vit" else str(config.model_type)
