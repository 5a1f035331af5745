"""The nine box detectors of torchvision.models.detection and SSD512: names, input, options, construction.

Nothing is downloaded: networks start from torchvision's random initialisation. Weights from a file of torchvision's
fit under the prefix `network.`; with them, torchvision itself trains with `norm="frozen"` and
`trainable_backbone_layers=3` (4 for ssd300_vgg16, 6 and live norms for ssdlite320_mobilenet_v3_large, live norms for
the two `_v2`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

from torch import nn
from torchvision.models import detection
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.ssd import SSD
from torchvision.ops import FrozenBatchNorm2d

from accel_det.models.base import Inference
from accel_det.models.torchvision.base import Pixels, TorchvisionDetector
from accel_det.models.torchvision.dense import FCOSDetector, RetinaNetDetector, SSDDetector
from accel_det.models.torchvision.geometry import AtLeastWide, pyramid, vgg512_grid, vgg_grid
from accel_det.models.torchvision.rcnn import FasterRCNNDetector
from accel_det.models.torchvision.ssd512 import make_ssd512, set_box_scales

__all__ = ["INPUTS", "NAMES", "InputHint", "TorchvisionDetector", "TorchvisionOptions", "build"]


@dataclass(frozen=True)
class TorchvisionOptions:
    """What can be chosen about a torchvision detector.

    Attributes:
        trainable_backbone_layers: so many of the backbone's stages, counted from its end, are trained; None trains all.
            ResNet-50 and VGG-16 have 5, MobileNetV3 has 6.
        norm: "batch" keeps torchvision's layers for training from scratch; "frozen" replaces every BatchNorm2d of the
            network by FrozenBatchNorm2d, whose statistics and scales do not change: for fine-tuning with few images a
            process. ssd300_vgg16 and ssd512_vgg16 have no such layer.
        frozen_norm_eps: added to a frozen variance; None keeps each layer's own. torchvision's COCO_V1 files of
            fasterrcnn_resnet50_fpn and retinanet_resnet50_fpn were made with 0.
        anchors_per_image: anchors that Faster R-CNN's proposal loss is sampled from; None is torchvision's 256.
        rois_per_image: regions that Faster R-CNN's detection loss is sampled from; None is torchvision's 512.
        box_scales: sides of SSD's default boxes as parts of the image's, one per level and one more. None is what its
            paper has for COCO (ssd300_vgg16) and for Pascal VOC (ssd512_vgg16), and torchvision's for SSDLite.
    """

    trainable_backbone_layers: int | None = None
    norm: Literal["batch", "frozen"] = "batch"
    frozen_norm_eps: float | None = None
    anchors_per_image: int | None = None
    rois_per_image: int | None = None
    box_scales: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.norm not in ("batch", "frozen"):
            raise ValueError(f'norm is {self.norm!r}, expected "batch" or "frozen": choose one of them')
        if self.frozen_norm_eps is not None and self.norm != "frozen":
            raise ValueError('frozen_norm_eps is set but norm is "batch": set norm to "frozen" or leave the eps out')
        for name, least in (("anchors_per_image", 1), ("rois_per_image", 1), ("trainable_backbone_layers", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise ValueError(
                    f"{name} is {value!r}, expected a whole number from {least} on: change it or leave it out"
                )


class InputHint(NamedTuple):
    """The input that a detector was designed for.

    Attributes:
        short_px, long_px: the shorter side is brought to short_px unless the longer one would exceed long_px; equal
            numbers mean a square.
        stride_px: sides of the canvas are best multiples of it; others are padded.
        mean, std: per channel, of values in [0, 1].
    """

    short_px: int
    long_px: int
    stride_px: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

INPUTS: dict[str, InputHint] = {
    "fasterrcnn_resnet50_fpn": InputHint(800, 1333, 32, IMAGENET_MEAN, IMAGENET_STD),
    "fasterrcnn_resnet50_fpn_v2": InputHint(800, 1333, 32, IMAGENET_MEAN, IMAGENET_STD),
    "fasterrcnn_mobilenet_v3_large_fpn": InputHint(800, 1333, 32, IMAGENET_MEAN, IMAGENET_STD),
    "fasterrcnn_mobilenet_v3_large_320_fpn": InputHint(320, 640, 32, IMAGENET_MEAN, IMAGENET_STD),
    "retinanet_resnet50_fpn": InputHint(800, 1333, 32, IMAGENET_MEAN, IMAGENET_STD),
    "retinanet_resnet50_fpn_v2": InputHint(800, 1333, 32, IMAGENET_MEAN, IMAGENET_STD),
    "fcos_resnet50_fpn": InputHint(800, 1333, 32, IMAGENET_MEAN, IMAGENET_STD),
    "ssd300_vgg16": InputHint(300, 300, 1, (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)),
    "ssd512_vgg16": InputHint(512, 512, 1, (0.48235, 0.45882, 0.40784), (1 / 255, 1 / 255, 1 / 255)),
    "ssdlite320_mobilenet_v3_large": InputHint(320, 320, 1, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
NAMES: tuple[str, ...] = tuple(INPUTS)

# Stages of each backbone, first to last, by the beginnings of their parameters' names: what torchvision freezes as one.
_RESNET_STAGES = (("body.conv1.", "body.bn1."), *((f"body.layer{number}.",) for number in range(1, 5)))
_MOBILENET_STARTS = (0, 2, 4, 7, 13, 16)
_VGG_STARTS = (0, 4, 9, 16, 23)


def build(
    name: str, *, num_classes: int, inference: Inference, options: TorchvisionOptions | None = None
) -> TorchvisionDetector:
    """One of NAMES with random weights.

    Args:
        num_classes: classes of the data, without background.
        inference: thresholds of `predict`.
        options: None for all defaults.

    Raises:
        ValueError: the name is unknown, or an option does not fit the model.
    """
    if name not in INPUTS:
        raise ValueError(f"there is no detector {name!r} here, expected one of {', '.join(NAMES)}")
    if num_classes < 1:
        raise ValueError(f"num_classes is {num_classes}, expected at least 1: count the classes of the data")
    options = options or TorchvisionOptions()
    detector = _detector(name, num_classes=num_classes)
    _configure(detector, inference=inference, options=options, name=name)
    _freeze_stages(detector, name=name, trainable=options.trainable_backbone_layers)
    if options.norm == "frozen":
        _freeze_norms(detector.network, eps=options.frozen_norm_eps)
    return detector


def _detector(name: str, *, num_classes: int) -> TorchvisionDetector:
    hint = INPUTS[name]
    pixels = Pixels(hint.mean, hint.std, hint.stride_px)
    if name == "ssd512_vgg16":
        made = make_ssd512(num_classes=num_classes + 1, mean=hint.mean, std=hint.std, side_px=hint.short_px)
        return SSDDetector(made, pixels=pixels, grid=vgg512_grid)
    make = cast(Callable[..., nn.Module], getattr(detection, name))
    num_background = 0 if name.startswith(("retinanet", "fcos")) else 1
    network = make(weights=None, weights_backbone=None, num_classes=num_classes + num_background)
    if name.startswith("retinanet"):
        return RetinaNetDetector(network, pixels=pixels, grid=pyramid(3, 4, 5, 6, 7))
    if name.startswith("fcos"):
        return FCOSDetector(network, pixels=pixels, grid=pyramid(3, 4, 5, 6, 7))
    if name == "ssdlite320_mobilenet_v3_large":
        return SSDDetector(network, pixels=pixels, grid=pyramid(4, 5, 6, 7, 8, 9))
    if isinstance(network, SSD):
        extra = cast(nn.ModuleList, network.backbone.extra)
        for block in (3, 4):
            extra[block] = AtLeastWide(cast(nn.Sequential, extra[block]), cells=3)
        return SSDDetector(network, pixels=pixels, grid=vgg_grid)
    assert isinstance(network, FasterRCNN)
    if "mobilenet" in name:
        return FasterRCNNDetector(network, pixels=pixels, grid=pyramid(5, 5, 6), pooled_halvings=(5, 5))
    return FasterRCNNDetector(network, pixels=pixels, grid=pyramid(2, 3, 4, 5, 6), pooled_halvings=(2, 3, 4, 5))


def _configure(detector: TorchvisionDetector, *, inference: Inference, options: TorchvisionOptions, name: str) -> None:
    """Hand sample sizes to the torchvision modules that read them, and thresholds to ours."""
    detector.inference = inference
    network = detector.network
    if isinstance(network, FasterRCNN):
        roi_heads: Any = network.roi_heads  # torchvision declares its settings as modules
        rpn = cast(RegionProposalNetwork, network.rpn)
        if options.anchors_per_image is not None:
            rpn.fg_bg_sampler.batch_size_per_image = options.anchors_per_image
        if options.rois_per_image is not None:
            roi_heads.fg_bg_sampler.batch_size_per_image = options.rois_per_image
    elif options.anchors_per_image is not None or options.rois_per_image is not None:
        raise ValueError(
            f"{name} does not sample: leave anchors_per_image and rois_per_image out, or take a Faster R-CNN"
        )
    if isinstance(network, SSD) and options.box_scales is not None:
        set_box_scales(network, options.box_scales)
    elif options.box_scales is not None:
        raise ValueError(f"{name} has no default boxes: leave box_scales out, or take an SSD")


def _freeze_stages(detector: TorchvisionDetector, *, name: str, trainable: int | None) -> None:
    """Take the gradient from all but the last `trainable` stages of the backbone."""
    stages = _backbone_stages(name)
    if trainable is None:
        return
    if not 0 <= trainable <= len(stages):
        raise ValueError(f"trainable_backbone_layers is {trainable}, expected 0 to {len(stages)} for {name}")
    frozen = tuple(f"backbone.{start}" for stage in stages[: len(stages) - trainable] for start in stage)
    for parameter_name, parameter in detector.network.named_parameters():
        if parameter_name.startswith(frozen):
            parameter.requires_grad_(False)


def _backbone_stages(name: str) -> tuple[tuple[str, ...], ...]:
    if "resnet50" in name:
        return _RESNET_STAGES
    if name in ("ssd300_vgg16", "ssd512_vgg16"):
        layers = [(f"features.{layer}.",) for layer in range(23)] + [(f"extra.0.{layer}.",) for layer in range(7)]
        return _merge(layers, starts=_VGG_STARTS)
    if name == "ssdlite320_mobilenet_v3_large":  # torchvision splits block 13 between two sequences
        before = [(f"features.0.{block}.",) for block in range(13)]
        after = [(f"features.1.{block - 13}.",) for block in range(14, 17)]
        return _merge([*before, ("features.0.13.", "features.1.0."), *after], starts=_MOBILENET_STARTS)
    return _merge([(f"body.{block}.",) for block in range(17)], starts=_MOBILENET_STARTS)


def _merge(layers: Sequence[tuple[str, ...]], *, starts: tuple[int, ...]) -> tuple[tuple[str, ...], ...]:
    """Join consecutive layers into stages that begin at the given layers."""
    ends = (*starts[1:], len(layers))
    return tuple(
        tuple(start for layer in layers[first:last] for start in layer)
        for first, last in zip(starts, ends, strict=True)
    )


def _freeze_norms(module: nn.Module, *, eps: float | None) -> None:
    """Replace every BatchNorm2d below the module by a FrozenBatchNorm2d of the same state."""
    for child_name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features, eps=child.eps if eps is None else eps)
            frozen.load_state_dict(child.state_dict())
            module.add_module(child_name, frozen)
        else:
            _freeze_norms(child, eps=eps)
