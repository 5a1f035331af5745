"""Networks for re-identification as models of the zoo: batch in, losses or embeddings out.

Letters: B pictures, H and W their height and width, D channels of a feature.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from accel_det.models.base import Inference, ZooModel
from accel_det.models.layers.precision import precise
from accel_det.models.reid.backbone import Backbone
from accel_det.models.reid.losses.build import IdentityLosses
from accel_det.models.reid.neck import make_neck
from accel_det.models.reid.options import (
    AnyBackboneOptions,
    DeepSortOptions,
    DeepSortResNetOptions,
    IbnResNetOptions,
    MapOptions,
    OSNetOptions,
    PixelKind,
    ReidOptions,
    ResNetOptions,
    TransformerOptions,
    VitOptions,
)
from accel_det.types import Batch, IdentityTarget, Losses

__all__ = [
    "NAMES",
    "AnyBackboneOptions",
    "DeepSortOptions",
    "DeepSortResNetOptions",
    "IbnResNetOptions",
    "MapOptions",
    "OSNetOptions",
    "ReidModel",
    "ReidOptions",
    "ResNetOptions",
    "TransformerOptions",
    "VitOptions",
    "WithMirror",
    "build",
    "without_heads",
]

NAMES: Mapping[str, str] = MappingProxyType(
    {
        "deepsort_cnn": "deepsort",
        "deepsort_resnet": "resnet",
        "reid_resnet18": "resnet",
        "reid_resnet34": "resnet",
        "reid_resnet50": "resnet",
        "reid_resnet101": "resnet",
        "reid_resnet50_ibn": "resnet",
        "reid_resnet101_ibn": "resnet",
        "reid_resnext50": "resnet",
        "osnet_x1_0": "osnet",
        "osnet_x0_75": "osnet",
        "osnet_x0_5": "osnet",
        "osnet_x0_25": "osnet",
        "osnet_ain_x1_0": "osnet",
        "reid_mobilenet_v2": "mobilenet",
        "reid_mobilenet_v3_small": "mobilenet",
        "reid_mobilenet_v3_large": "mobilenet",
        "reid_vit_small": "vision_transformer",
        "reid_vit_base": "vision_transformer",
        "reid_dinov2_small": "vision_transformer",
        "reid_dinov2_base": "vision_transformer",
        "reid_backbone": "any_backbone",
    }
)
"""Network -> the module beside this one that makes its backbone; imported when first needed."""

_MEAN_AND_STD: Mapping[PixelKind, tuple[tuple[float, ...], tuple[float, ...]]] = MappingProxyType(
    {
        "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    }
)
_BODY = "network.backbone.body."
_HEADS = "heads."


class Features(NamedTuple):
    """What the network makes of pictures, (B, D) each, the same where there is no neck."""

    before_neck: Tensor
    after_neck: Tensor


class EmbeddingNetwork(nn.Module):
    """Backbone, linear layer where one is asked for, and neck; behind the backbone all is in float32 at least."""

    def __init__(self, backbone: Backbone, options: ReidOptions) -> None:
        super().__init__()
        self.backbone = backbone
        self.channels = options.embedding_channels or backbone.channels
        self.embedding: nn.Module = nn.Identity()
        if options.embedding_channels:
            self.embedding = nn.Linear(backbone.channels, self.channels, bias=options.neck == "none")
            nn.init.kaiming_normal_(self.embedding.weight, mode="fan_out")
            if self.embedding.bias is not None:
                nn.init.zeros_(self.embedding.bias)
        # What only the identity loss reads would learn nothing without it.
        self.neck = make_neck("none" if options.identity_loss == "none" else options.neck, channels=self.channels)

    def forward(self, pixels: Tensor, cameras: Tensor | None) -> Features:
        """(B, 3, H, W) float, and (B,) cameras where the backbone reads them."""
        features: Tensor = self.backbone(pixels, cameras)
        with torch.autocast(pixels.device.type, enabled=False):
            before = self.embedding(features.to(pixels.dtype))
            return Features(before, self.neck(before))


class ReidModel(ZooModel[IdentityTarget, Tensor]):
    """A network with the losses that teach it to tell identities apart.

    Attributes:
        network: what an export holds.
        heads: the losses with what they learn; None in a network that only embeds.
        loading_report: what of stored weights was not used, one line; empty for fresh ones.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, backbone: Backbone, *, num_identities: int, options: ReidOptions) -> None:
        """Args:
        num_identities: of the training data; 0 for a network that only embeds.
        """
        super().__init__()
        self.options = options
        self.num_identities = num_identities
        self.network = EmbeddingNetwork(backbone, options)
        self.loading_report = backbone.loading_report
        self.heads: IdentityLosses | None = None
        if num_identities:
            self.heads = IdentityLosses(options, feature_channels=self.network.channels, num_identities=num_identities)
        mean, std = (torch.tensor(values)[:, None, None] for values in _MEAN_AND_STD[options.pixels])
        self.register_buffer("scale", 1 / (255 * std), persistent=False)
        self.register_buffer("shift", -mean / std, persistent=False)

    def losses(self, batch: Batch[IdentityTarget]) -> Losses:
        """The terms of `IdentityLosses`.

        Raises:
            ValueError: an identity is none of the training data, or the network only embeds.
        """
        heads = self._trained_heads()
        labels, cameras = self._targets(batch)
        found = self._features(batch, cameras)
        after = F.dropout(found.after_neck, self.options.dropout, self.training)
        terms: Losses = heads(found.before_neck, after, labels)
        return terms

    def predict(self, batch: Batch[IdentityTarget]) -> list[Tensor]:
        """(D,) float32 of unit length for each picture, on the CPU: one copy for all of them.

        Targets are read for their cameras, and only where the network is told them. Whatever mode the network is in, norms
        use their statistics and keep them, so that an embedding does not depend on the other pictures.
        """
        cameras = None
        if self.network.backbone.reads_cameras:
            numbers = torch.tensor([target.camera for target in batch.targets], dtype=torch.int64)
            cameras = numbers.to(batch.images.device, non_blocking=True)
        with _evaluating(self.network):
            found = self._features(batch, cameras)
        chosen = found.after_neck if self.options.embedding == "after_neck" else found.before_neck
        return list(F.normalize(precise(chosen)).float().cpu().unbind())

    def counts(self, batch: Batch[IdentityTarget]) -> dict[str, Tensor]:
        return self._trained_heads().counts(self._targets(batch)[0])

    def compilable(self) -> list[nn.Module]:
        return [self.network.backbone]

    def layer_of(self, parameter_name: str) -> int | None:
        """The stage of a ResNet or OSNet, the block of another network; None behind the backbone."""
        if not parameter_name.startswith(_BODY):
            return None
        return self.network.backbone.layer_of(parameter_name.removeprefix(_BODY))

    def lasting_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.network.backbone.lasting_options(options)

    def _features(self, batch: Batch[IdentityTarget], cameras: Tensor | None) -> Features:
        dtype = next(self.network.parameters()).dtype
        pixels = batch.images.to(dtype, memory_format=torch.channels_last)
        found: Features = self.network(pixels.mul_(self.scale).add_(self.shift), cameras)
        return found

    def _targets(self, batch: Batch[IdentityTarget]) -> tuple[Tensor, Tensor]:
        """Identities and cameras, (B,) int64 each, brought to the device together."""
        for target, frame in zip(batch.targets, batch.frames, strict=True):
            if not 0 <= target.identity < self.num_identities:
                raise ValueError(
                    f"{frame.name}: its identity has number {target.identity}, expected one in [0, "
                    f"{self.num_identities}), as the network was built for; train on the data that it was built for"
                )
        table = torch.tensor([(target.identity, target.camera) for target in batch.targets], dtype=torch.int64)
        identities, cameras = table.reshape(-1, 2).to(batch.images.device, non_blocking=True).unbind(dim=1)
        return identities, cameras

    def _trained_heads(self) -> IdentityLosses:
        if self.heads is None:
            raise ValueError("this network was built for 0 identities: it embeds, and cannot be trained")
        return self.heads


class WithMirror(nn.Module):
    """A network that looks at the mirrored picture as well: the embedding is the mean of both, of unit length again.

    Args:
        model: gives embeddings; shared, not copied. In train mode it answers alone.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, batch: Batch[IdentityTarget]) -> Losses | list[Tensor]:
        if self.training:
            losses: Losses = self.model(batch)
            return losses
        seen: list[Tensor] = self.model(batch)
        mirrored: list[Tensor] = self.model(batch._replace(images=batch.images.flip(-1)))
        return list(F.normalize(torch.stack(seen) + torch.stack(mirrored)).unbind())


def build(name: str, *, num_classes: int, inference: Inference, options: ReidOptions) -> ReidModel:
    """One of NAMES, with fresh or stored weights.

    Args:
        num_classes: identities of the training data; 0 for a network that only embeds.
        inference: is for detectors; nothing of it is read.

    Raises:
        ValueError: the name is unknown, or an option does not fit.
    """
    if name not in NAMES:
        raise ValueError(f"model {name!r} is unknown: expected one of {', '.join(NAMES)}")
    if num_classes < 0:
        raise ValueError(f"num_classes: expected the number of identities, got {num_classes}")
    make: Callable[[str, ReidOptions], Backbone] = import_module(f"accel_det.models.reid.{NAMES[name]}").make_backbone
    return ReidModel(make(name, options), num_identities=num_classes, options=options)


def without_heads(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a trained network without what tells the identities of its training data apart."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith(_HEADS)}


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Every part in eval mode, and afterwards in the mode that it had."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
