"""What can be chosen about a network for re-identification.

The defaults are the strong baseline, a batch norm as neck between triplet and identity loss, without its label smoothing,
which the losses with a margin do not know.

Source: Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, 2019.
"""

import math
from dataclasses import dataclass
from typing import Literal

from accel_det.models.reid.losses.settings import IdentityLossKind, LossSettings, MetricLossKind
from accel_det.models.reid.neck import NeckKind
from accel_det.models.reid.pooling import PoolKind

PixelKind = Literal["imagenet", "half", "none"]
FeatureKind = Literal["after_neck", "before_neck"]


@dataclass(frozen=True)
class ReidOptions(LossSettings):
    """What every network knows, beside its losses: `LossSettings` says what those settings do.

    Attributes:
        pixels: how pixels become numbers: "imagenet" takes ImageNet's mean off and divides by its standard deviation,
            "half" brings them to [-1, 1], "none" to [0, 1].
        embedding_channels: a linear layer makes so many numbers of the backbone's feature; 0 takes that as it is.
        neck: what is between the feature that the metric losses compare, and the one that identities are told apart by:
            "bn" a batch norm whose shift stays 0, or "none". Without an identity loss there is none.
        embedding: which of the two is the embedding.
        dropout: share of the feature that the identity loss does not see, in [0, 1).
    """

    metric_loss: MetricLossKind = "triplet"
    pixels: PixelKind = "imagenet"
    embedding_channels: int = 0
    neck: NeckKind = "bn"
    embedding: FeatureKind = "after_neck"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.embedding_channels < 0:
            raise ValueError(
                f"embedding_channels is {self.embedding_channels}, expected at least 1, or 0 for the backbone's own"
            )
        _check_share("dropout", self.dropout)


@dataclass(frozen=True)
class MapOptions(ReidOptions):
    """Of networks whose last map is pooled.

    Attributes:
        pooling: "avg" the mean of the map, "max" its maximum, "gem" the generalized mean, whose exponent is learnt and
            begins with 3.
    """

    pooling: PoolKind = "avg"


@dataclass(frozen=True)
class ResNetOptions(MapOptions):
    """Of a ResNet.

    Attributes:
        last_stride: of the last stage; with 1 its map is twice as high and wide as ImageNet's networks have it.
        ibn: half of the channels of the first norm of each block of the first three stages are normalised by their own
            picture: IBN-a.
    """

    last_stride: Literal[1, 2] = 1
    ibn: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.last_stride not in (1, 2):
            raise ValueError(f"last_stride is {self.last_stride}, expected 1 or 2")


@dataclass(frozen=True)
class IbnResNetOptions(ResNetOptions):
    """Of a ResNet with IBN-a."""

    ibn: bool = True


@dataclass(frozen=True)
class DeepSortResNetOptions(ResNetOptions):
    """Of the 512-d network of the PyTorch Deep SORT, whose last stage halves its map."""

    last_stride: Literal[1, 2] = 2


@dataclass(frozen=True)
class OSNetOptions(MapOptions):
    """Of OSNet, whose feature is normalised by its own last layer, and was published with the softmax alone and no neck."""

    metric_loss: MetricLossKind = "none"
    neck: NeckKind = "none"


@dataclass(frozen=True)
class DeepSortOptions(ReidOptions):
    """Of the original Deep SORT network, published with the cosine softmax alone.

    Attributes:
        input_px: height and width of the pictures, for which its dense layer is made; the data sets it in a run.
        block_dropout: inside its residual units, and before the dense layer, in [0, 1).
    """

    identity_loss: IdentityLossKind = "cosine_softmax"
    metric_loss: MetricLossKind = "none"
    neck: NeckKind = "none"
    input_px: tuple[int, int] = (128, 64)
    block_dropout: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_input(self.input_px, least=8)
        _check_share("block_dropout", self.block_dropout)


@dataclass(frozen=True)
class TransformerOptions(ReidOptions):
    """Of a vision transformer.

    Attributes:
        pretrained: weights to start from in the Hub's format, a folder or `owner/name`; None draws fresh ones. The
            configuration then comes from there as well.
        revision: commit, tag or branch on the Hub, for `pretrained`.
        configuration: JSON of transformers' configuration, in place of the network's own. Exports of networks that began
            with stored weights hold it, so that they need these weights no more.
        num_layers: so many of its layers, from the first one; 0 takes all of them.
        input_px: height and width of the pictures that positions are learnt for; for pictures of another size they are
            interpolated. The data sets it in a run.
        stride_px: from one patch to the next; 0 is the size of a patch, less lets them overlap.
        pooling: of the last layer's tokens: the "class_token", or "avg" and "max" of all others.
        camera_embedding: a vector that is learnt for each camera is added to every token, times this number; 0 for none.
            Nothing is added where the camera is not known.
        num_cameras: of the training data, which sets it in a run.
    """

    pretrained: str | None = None
    revision: str | None = None
    configuration: str | None = None
    num_layers: int = 0
    input_px: tuple[int, int] = (256, 128)
    stride_px: int = 0
    pooling: Literal["class_token", "avg", "max"] = "class_token"
    camera_embedding: float = 0.0
    num_cameras: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.revision is not None and self.pretrained is None:
            raise ValueError(f"revision is {self.revision!r} without pretrained: name the repository, or leave it out")
        if self.pretrained is not None and self.configuration is not None:
            raise ValueError(f"configuration comes with pretrained ({self.pretrained}): leave it out")
        for name in ("num_layers", "stride_px", "num_cameras"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or a number above it")
        if not 0 <= self.camera_embedding < math.inf:
            raise ValueError(f"camera_embedding is {self.camera_embedding}, expected 0 or a number above it")
        if self.camera_embedding > 0 and self.num_cameras == 0:
            raise ValueError(
                f"camera_embedding is {self.camera_embedding}, but no picture of the training data has a camera "
                "(num_cameras is 0): name the cameras, or set camera_embedding to 0"
            )
        _check_input(self.input_px, least=1)


@dataclass(frozen=True)
class VitOptions(TransformerOptions):
    """Of a ViT, published with pixels in [-1, 1]."""

    pixels: PixelKind = "half"


@dataclass(frozen=True)
class AnyBackboneOptions(ReidOptions):
    """Of any network that classifies pictures, without its classifier.

    Attributes:
        backbone: "torchvision:NAME" with fresh weights; "transformers:PLACE" with the weights of a folder or of
            `owner/name` on the Hub; "transformers:TYPE", as "transformers:convnext", with fresh weights and the
            configuration that transformers has for the type.
        revision: commit, tag or branch on the Hub.
        configuration: JSON of transformers' configuration, in place of that of the backbone; see `TransformerOptions`.
    """

    backbone: str = "torchvision:resnet50"
    revision: str | None = None
    configuration: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        library, _, name = self.backbone.partition(":")
        if library not in ("torchvision", "transformers") or not name:
            raise ValueError(
                f"backbone is {self.backbone!r}, expected torchvision:NAME, as torchvision:efficientnet_b0, or "
                "transformers:FOLDER, transformers:owner/name or transformers:TYPE"
            )
        for key in ("revision", "configuration"):
            if getattr(self, key) is not None and library != "transformers":
                raise ValueError(
                    f"{key} is for backbones of transformers, but backbone is {self.backbone}: leave it out"
                )


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} is {value}, expected a number in [0, 1)")


def _check_input(input_px: tuple[int, int], *, least: int) -> None:
    if min(input_px) < least:
        raise ValueError(f"input_px is {list(input_px)}, expected height and width, at least {least} each")
