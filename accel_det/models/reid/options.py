"""What a run may set about a network for re-identification; the defaults are those of the strong baseline.

Source: Luo et al., Bag of Tricks and A Strong Baseline for Deep Person Re-identification, 2019.
"""

import math
from dataclasses import dataclass
from typing import Literal

from accel_det.models.reid.losses.settings import IdentityLossKind, LossSettings, MetricLossKind


@dataclass(frozen=True)
class ReidOptions(LossSettings):
    """The settings of every network, beside those of its losses.

    Attributes:
        pooling: of the last map: "avg", "max", or "gem", the generalized mean with a learned exponent.
        neck: "bn" normalises the feature before identities are classified, with a shift that stays 0; "none" does not.
        embedding: which feature a picture is embedded by.
        embedding_channels: a linear layer brings the feature to so many; 0: as many as the backbone gives.
        dropout: share of the feature that is dropped in training, before the linear layer.
        pixels: "imagenet" subtracts ImageNet's mean and divides by its deviation; "unit" leaves values in [0, 1].
    """

    label_smoothing: float = 0.1
    metric_loss: MetricLossKind = "triplet"
    pooling: Literal["avg", "max", "gem"] = "avg"
    neck: Literal["bn", "none"] = "bn"
    embedding: Literal["after_neck", "before_neck"] = "after_neck"
    embedding_channels: int = 0
    dropout: float = 0.0
    pixels: Literal["imagenet", "unit"] = "imagenet"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding_channels < 0:
            raise ValueError(f"embedding_channels is {self.embedding_channels}, expected 0 or the number of channels")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected a share in [0, 1)")


@dataclass(frozen=True)
class ResNetOptions(ReidOptions):
    """Of a ResNet.

    Attributes:
        last_stride: of the last stage: 1 keeps a larger map, 2 is as published for classification.
    """

    last_stride: Literal[1, 2] = 1


@dataclass(frozen=True)
class DeepSortOptions(ReidOptions):
    """Of Deep SORT's networks, which are trained by the cosine softmax alone, and have no neck behind their last norm.

    Source: Wojke and Bewley, Deep Cosine Metric Learning for Person Re-identification, 2018.
    """

    identity_loss: IdentityLossKind = "cosine_softmax"
    identity_scale_decay: float = 0.1
    label_smoothing: float = 0.0
    metric_loss: MetricLossKind = "none"
    neck: Literal["bn", "none"] = "none"
    pixels: Literal["imagenet", "unit"] = "unit"
    block_dropout: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.block_dropout < 1:
            raise ValueError(f"block_dropout is {self.block_dropout}, expected a share in [0, 1)")


@dataclass(frozen=True)
class OSNetOptions(ReidOptions):
    """Of an OSNet, whose own last layer is what embeds: trained by the softmax alone.

    Source: Zhou et al., Omni-Scale Feature Learning for Person Re-Identification, 2019.
    """

    metric_loss: MetricLossKind = "none"
    neck: Literal["bn", "none"] = "none"


@dataclass(frozen=True)
class TransformerOptions(ReidOptions):
    """Of a vision transformer.

    Attributes:
        height_px, width_px: of the pictures that its position embeddings are made for; the data set gives them.
        pretrained: folder in the Hub's format, or owner/name on the Hub; safetensors only. Empty: random weights.
        revision: of the Hub's repository: a commit.
        camera_embedding: strength with which a learned embedding of the camera is added to every token; 0 leaves it out.
            Source: He et al., TransReID, 2021, section 3.3, there 3.0.
        num_cameras: the data set gives it.
    """

    height_px: int = 256
    width_px: int = 128
    pretrained: str = ""
    revision: str = "main"
    camera_embedding: float = 0.0
    num_cameras: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.height_px, self.width_px) < 16:
            raise ValueError(f"height_px and width_px are {self.height_px} and {self.width_px}, expected at least 16")
        if not 0 <= self.camera_embedding < math.inf:
            raise ValueError(f"camera_embedding is {self.camera_embedding}, expected 0 or a strength above it")


@dataclass(frozen=True)
class AnyBackboneOptions(ReidOptions):
    """Of a network that only its name tells.

    Attributes:
        backbone: "torchvision:efficientnet_b0", any classifier of torchvision, or "transformers:FOLDER", an image model in the
            Hub's format, or "transformers:owner/name".
        revision: of the Hub's repository: a commit.
    """

    backbone: str = "torchvision:efficientnet_b0"
    revision: str = "main"
