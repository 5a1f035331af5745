"""Any classifier of torchvision, or any image model in the Hub's format, as a backbone."""

import difflib

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import get_model, list_models
from transformers import AutoModel

from accel_det.models.reid.options import AnyBackboneOptions, ReidOptions
from accel_det.models.reid.pretrained import open_pretrained

_PROBE_PX = 64
_KINDS = ("torchvision", "transformers")
_CLASSIFIERS = ("fc", "classifier", "head", "heads")


class TorchvisionBackbone(nn.Module):
    """A classifier of torchvision whose last layers are taken off."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.body = network
        name = next(name for name in _CLASSIFIERS if hasattr(network, name))
        setattr(network, name, nn.Identity())
        self.channels = _channels_of(self)

    def forward(self, pixels: Tensor, cameras: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, C); cameras are not read."""
        found: Tensor = self.body(pixels)
        return found


class HubBackbone(nn.Module):
    """An image model of transformers: its last map, or the first token of its last layer."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.body = network
        if getattr(network, "pooler", None) is not None and any(True for _ in network.pooler.parameters()):  # type: ignore[union-attr]
            network.pooler = None  # type: ignore[assignment]
        self.channels = _channels_of(self)

    def forward(self, pixels: Tensor, cameras: Tensor) -> Tensor:
        """(B, 3, H, W) -> a (B, C, h, w) map or (B, C); cameras are not read."""
        found: Tensor = self.body(pixel_values=pixels.contiguous()).last_hidden_state
        return found if found.ndim == 4 else found[:, 0]


def make_backbone(name: str, options: ReidOptions) -> TorchvisionBackbone | HubBackbone:
    """The network that `options.backbone` names.

    Raises:
        ValueError: there is none, or it does not take pictures.
    """
    assert isinstance(options, AnyBackboneOptions)
    kind, colon, which = options.backbone.partition(":")
    if not colon or kind not in _KINDS or not which:
        raise ValueError(
            f"model.options.backbone is {options.backbone!r}, expected torchvision:NAME, transformers:FOLDER or "
            "transformers:owner/name"
        )
    if kind == "transformers":
        return HubBackbone(open_pretrained(_automatic(), which, revision=options.revision))
    known = models.list_models(module=models)
    if which not in known:
        near = difflib.get_close_matches(which, known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ValueError(f"model.options.backbone: torchvision has no classifier {which!r}; {hint}it has {len(known)}")
    return TorchvisionBackbone(models.get_model(which, weights=None, **_without_helpers(which)))


def _without_helpers(name: str) -> dict[str, bool]:
    """Classifiers beside the last one would get no gradient."""
    return {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}


def _channels_of(backbone: nn.Module) -> int:
    """How many channels come out, found by trying."""
    side = _PROBE_PX
    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        while True:
            try:
                with torch.no_grad():
                    found: Tensor = backbone(torch.zeros((1, 3, side, side)), torch.zeros(1, dtype=torch.int64))
                return int(found.shape[1])
            except (RuntimeError, AssertionError, ValueError):
                if side >= 512:
                    raise
                side = 224 if side < 224 else 512
    finally:
        for module, training in modes:
            module.training = training
