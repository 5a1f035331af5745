"""A backbone, a feature, an embedding, and the losses that teach it.

Letters: B pictures, C channels of the backbone, D of the embedding, H and W pixels of a picture.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accel_det.models.base import Inference, ZooModel
from accel_det.models.layers.precision import precise
from accel_det.models.reid.losses.build import IdentityLosses, make_losses
from accel_det.models.reid.options import AnyBackboneOptions as AnyBackboneOptions
from accel_det.models.reid.options import DeepSortOptions as DeepSortOptions
from accel_det.models.reid.options import OSNetOptions as OSNetOptions
from accel_det.models.reid.options import ReidOptions as ReidOptions
from accel_det.models.reid.options import ResNetOptions as ResNetOptions
from accel_det.models.reid.options import TransformerOptions as TransformerOptions
from accel_det.models.reid.pooling import POOLS
from accel_det.types import Batch, IdentityTarget, Losses

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HEADS = "heads."
_MODULES = {
    "deepsort": "accel_det.models.reid.deepsort",
    "reid_resnet": "accel_det.models.reid.resnet",
    "reid_resnext": "accel_det.models.reid.resnet",
    "osnet": "accel_det.models.reid.osnet",
    "reid_mobilenet": "accel_det.models.reid.mobilenet",
    "reid_vit": "accel_det.models.reid.vision_transformer",
    "reid_dinov2": "accel_det.models.reid.vision_transformer",
    "reid_backbone": "accel_det.models.reid.any_backbone",
}
"""What a network's name begins with -> the module whose `make_backbone` builds it; imported when first needed."""


class Backbone(Protocol):
    """(B, 3, H, W) normalised pixels and (B,) camera numbers -> a (B, C, h, w) map or a (B, C) feature."""

    channels: int

    def __call__(self, pixels: Tensor, cameras: Tensor) -> Tensor: ...


class EmbeddingNetwork(nn.Module):
    """Pixels -> the feature before and after the neck, (B, D) each."""

    def __init__(self, backbone: Backbone, options: ReidOptions) -> None:
        super().__init__()
        self.backbone = cast(nn.Module, backbone)
        self.pool = POOLS[options.pooling]()
        channels = options.embedding_channels or backbone.channels
        self.dropout = nn.Dropout(options.dropout)
        self.reduce = nn.Linear(backbone.channels, channels, bias=False) if options.embedding_channels else nn.Identity()
        self.neck: nn.Module = nn.Identity()
        if options.neck == "bn":
            self.neck = nn.BatchNorm1d(channels)
            self.neck.bias.requires_grad_(False)
        self.channels = channels

    def forward(self, pixels: Tensor, cameras: Tensor) -> tuple[Tensor, Tensor]:
        found = self.backbone(pixels, cameras)
        feature = self.reduce(self.dropout(self.pool(found) if found.ndim == 4 else found))
        return feature, self.neck(feature)


class ReidModel(ZooModel[IdentityTarget, Tensor]):
    """Embeds pictures so that those of one identity lie close together.

    Args:
        num_identities: of the training data; 0 makes a network that embeds and cannot be trained.
    """

    def __init__(self, backbone: Backbone, *, num_identities: int, options: ReidOptions) -> None:
        super().__init__()
        self.options = options
        self.network = EmbeddingNetwork(backbone, options)
        self.heads: IdentityLosses | None = None
        if num_identities:
            self.heads = make_losses(
                options, feature_channels=self.network.channels, num_identities=num_identities
            )

    def losses(self, batch: Batch[IdentityTarget]) -> Losses:
        if self.heads is None:
            raise ValueError("this network was built to embed, without identities to learn; train one with num_classes")
        before, after = self._features(batch)
        found: Losses = self.heads(before, after, self._labels(batch))
        return found

    def predict(self, batch: Batch[IdentityTarget]) -> list[Tensor]:
        """One embedding per picture: (D,) float32 of unit length."""
        before, after = self._features(batch)
        chosen = after if self.options.embedding == "after_neck" else before
        return list(F.normalize(precise(chosen), dim=1).float().unbind())

    def counts(self, batch: Batch[IdentityTarget]) -> dict[str, Tensor] | None:
        return None if self.heads is None else self.heads.counts(self._labels(batch))

    def compilable(self) -> list[nn.Module]:
        return [self.network]

    def _features(self, batch: Batch[IdentityTarget]) -> tuple[Tensor, Tensor]:
        dtype = next(self.network.parameters()).dtype
        pixels = batch.images.to(dtype, memory_format=torch.channels_last) / 255
        if self.options.pixels == "imagenet":
            for channel, (center, spread) in enumerate(zip(_MEAN, _STD, strict=True)):  # scalars: no copy from the host
                pixels[:, channel].sub_(center).div_(spread)
        cameras = torch.tensor([target.camera for target in batch.targets])
        found: tuple[Tensor, Tensor] = self.network(pixels, cameras.to(pixels.device, non_blocking=True))
        return found

    def _labels(self, batch: Batch[IdentityTarget]) -> Tensor:
        labels = torch.tensor([target.identity for target in batch.targets])
        return labels.to(batch.images.device, non_blocking=True)


class WithMirror(nn.Module):
    """Embeds each picture and its mirror image, and takes the mean direction."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch[IdentityTarget]) -> list[Tensor]:
        views = [self.model(batch), self.model(batch._replace(images=batch.images.flip(-1)))]
        return list(F.normalize(torch.stack([torch.stack(view) for view in views]).sum(dim=0), dim=1).unbind())


def build(name: str, *, num_classes: int, inference: Inference, options: ReidOptions) -> ReidModel:
    """A network with fresh weights.

    Args:
        num_classes: identities to learn; 0 for a network that only embeds.
        inference: not read: an embedding has no candidates.
    """
    module = import_module(next(place for start, place in _MODULES.items() if name.startswith(start)))
    return ReidModel(module.make_backbone(name, options), num_identities=num_classes, options=options)


def without_heads(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What embeds: the weights without those that only training needs."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith(_HEADS)}

