"""The networks for re-identification.

Parameters and operations are those of the network that embeds, with its neck and without what classifies identities.
"""

from accel_det.models.card import ModelCard

_DEEPSORT = "Wojke et al., Simple Online and Realtime Tracking with a Deep Association Metric, 2017"
_BASELINE = "Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, 2019"
_RESNET = f"He et al., Deep Residual Learning, 2015; {_BASELINE}"
_IBN = f"Pan et al., Two at Once (IBN-Net), 2018; {_BASELINE}"
_RESNEXT = f"Xie et al., Aggregated Residual Transformations, 2017; {_BASELINE}"
_OSNET = "Zhou et al., Omni-Scale Feature Learning for Person Re-Identification, 2019"
_OSNET_AIN = "Zhou et al., Learning Generalisable Omni-Scale Representations, 2021"
_MOBILE_V2 = "Sandler et al., MobileNetV2, 2018"
_MOBILE_V3 = "Howard et al., Searching for MobileNetV3, 2019"
_VIT = "Dosovitskiy et al., An Image is Worth 16x16 Words, 2021; He et al., TransReID, 2021"
_DINO = "Oquab et al., DINOv2, 2023; He et al., TransReID, 2021"


def _card(
    name: str,
    options: str,
    parameters_m: float,
    gflops: float,
    source: str,
    *,
    licence: str = "Apache-2.0",
    size_px: tuple[int, int] = (256, 128),
) -> ModelCard:
    return ModelCard(
        name,
        "reid",
        "reid.model",
        options,
        parameters_m,
        size_px[0],
        "stretch",
        1,
        source,
        gflops=gflops,
        licence=licence,
        width_px=size_px[1],
    )


def _of_torchvision(name: str, options: str, parameters_m: float, gflops: float, source: str) -> ModelCard:
    return _card(name, options, parameters_m, gflops, source, licence="BSD-3-Clause")


CARDS = (
    _card("deepsort_cnn", "DeepSortOptions", 2.801, 0.5888, _DEEPSORT, size_px=(128, 64)),
    _card(
        "deepsort_resnet",
        "DeepSortResNetOptions",
        11.17,
        2.243,
        f"The 512-d network of the PyTorch Deep SORT; {_DEEPSORT}",
        licence="BSD-3-Clause",
        size_px=(128, 64),
    ),
    _of_torchvision("reid_resnet18", "ResNetOptions", 11.18, 3.979, _RESNET),
    _of_torchvision("reid_resnet34", "ResNetOptions", 21.29, 7.301, _RESNET),
    _of_torchvision("reid_resnet50", "ResNetOptions", 23.51, 8.107, _RESNET),
    _of_torchvision("reid_resnet101", "ResNetOptions", 42.5, 12.96, _RESNET),
    _of_torchvision("reid_resnet50_ibn", "IbnResNetOptions", 23.51, 8.107, _IBN),
    _of_torchvision("reid_resnet101_ibn", "IbnResNetOptions", 42.5, 12.96, _IBN),
    _of_torchvision("reid_resnext50", "ResNetOptions", 22.98, 8.109, _RESNEXT),
    _card("osnet_x1_0", "OSNetOptions", 2.17, 1.958, _OSNET),
    _card("osnet_x0_75", "OSNetOptions", 1.286, 1.144, _OSNET),
    _card("osnet_x0_5", "OSNetOptions", 0.63, 0.5458, _OSNET),
    _card("osnet_x0_25", "OSNetOptions", 0.2019, 0.1646, _OSNET),
    _card("osnet_ain_x1_0", "OSNetOptions", 2.17, 1.958, _OSNET_AIN),
    _of_torchvision("reid_mobilenet_v2", "MapOptions", 2.226, 0.3912, _MOBILE_V2),
    _of_torchvision("reid_mobilenet_v3_small", "MapOptions", 0.9282, 0.072, _MOBILE_V3),
    _of_torchvision("reid_mobilenet_v3_large", "MapOptions", 2.974, 0.2807, _MOBILE_V3),
    _card("reid_vit_small", "VitOptions", 21.64, 5.861, _VIT),
    _card("reid_vit_base", "VitOptions", 85.75, 22.68, _VIT),
    _card("reid_dinov2_small", "TransformerOptions", 21.59, 7.485, _DINO),
    _card("reid_dinov2_base", "TransformerOptions", 85.65, 28.81, _DINO),
    _card(
        "reid_backbone",
        "AnyBackboneOptions",
        23.51,
        5.338,
        f"Any backbone of torchvision or transformers, by default ResNet-50; {_RESNET}",
        licence="BSD-3-Clause",
    ),
)
