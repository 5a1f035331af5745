"""The networks for re-identification of the zoo; parameters without what tells the training's identities apart."""

from accel_det.models.card import ModelCard

_DEEP_SORT = "Wojke et al., Simple Online and Realtime Tracking with a Deep Association Metric, 2017"
_BASELINE = "He et al., Deep Residual Learning, 2016; Luo et al., Bag of Tricks for Person Re-identification, 2019"
_IBN = f"{_BASELINE}; Pan et al., IBN-Net, 2018"
_RESNEXT = "Xie et al., Aggregated Residual Transformations, 2017; Luo et al., Bag of Tricks for Person Re-identification, 2019"
_OSNET = "Zhou et al., Omni-Scale Feature Learning for Person Re-Identification, 2019"
_AIN = "Zhou et al., Learning Generalisable Omni-Scale Representations for Person Re-Identification, 2021"
_V2 = "Sandler et al., MobileNetV2, 2018"
_V3 = "Howard et al., Searching for MobileNetV3, 2019"
_VIT = "Dosovitskiy et al., An Image is Worth 16x16 Words, 2021; He et al., TransReID, 2021"
_DINO = "Oquab et al., DINOv2, 2023; He et al., TransReID, 2021"
_ANY = "that of the network"


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


_TORCHVISION = "BSD-3-Clause"

CARDS = (
    _card("deepsort_cnn", "DeepSortOptions", 2.802, 0.5888, _DEEP_SORT, size_px=(128, 64)),
    _card("deepsort_resnet", "DeepSortOptions", 11.17, 2.243, _DEEP_SORT, size_px=(128, 64)),
    _card("reid_resnet18", "ResNetOptions", 11.18, 3.979, _BASELINE, licence=_TORCHVISION),
    _card("reid_resnet34", "ResNetOptions", 21.29, 7.301, _BASELINE, licence=_TORCHVISION),
    _card("reid_resnet50", "ResNetOptions", 23.51, 8.107, _BASELINE, licence=_TORCHVISION),
    _card("reid_resnet50_ibn", "ResNetOptions", 23.51, 8.107, _IBN, licence=_TORCHVISION),
    _card("reid_resnet101", "ResNetOptions", 42.5, 12.96, _BASELINE, licence=_TORCHVISION),
    _card("reid_resnet101_ibn", "ResNetOptions", 42.5, 12.96, _IBN, licence=_TORCHVISION),
    _card("reid_resnext50", "ResNetOptions", 22.98, 8.109, _RESNEXT, licence=_TORCHVISION),
    _card("osnet_x1_0", "OSNetOptions", 2.17, 1.958, _OSNET),
    _card("osnet_x0_75", "OSNetOptions", 1.286, 1.144, _OSNET),
    _card("osnet_x0_5", "OSNetOptions", 0.63, 0.5458, _OSNET),
    _card("osnet_x0_25", "OSNetOptions", 0.2019, 0.1646, _OSNET),
    _card("osnet_ain_x1_0", "OSNetOptions", 2.17, 1.958, _AIN),
    _card("reid_mobilenet_v2", "ReidOptions", 2.226, 0.3912, _V2, licence=_TORCHVISION),
    _card("reid_mobilenet_v3_small", "ReidOptions", 0.9282, 0.07202, _V3, licence=_TORCHVISION),
    _card("reid_mobilenet_v3_large", "ReidOptions", 2.974, 0.2807, _V3, licence=_TORCHVISION),
    _card("reid_vit_small", "TransformerOptions", 21.64, 5.861, _VIT),
    _card("reid_vit_base", "TransformerOptions", 85.75, 22.68, _VIT),
    _card("reid_dinov2_small", "TransformerOptions", 21.59, 7.485, _DINO),
    _card("reid_dinov2_base", "TransformerOptions", 85.66, 28.81, _DINO),
    _card("reid_backbone", "AnyBackboneOptions", 4.01, 0.5027, _ANY, licence=_TORCHVISION),
)
