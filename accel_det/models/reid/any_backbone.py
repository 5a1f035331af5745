"""Any network of torchvision or transformers that takes pictures, without its classifier.

Letters: B pictures, H and W their height and width, C channels of a feature.
"""

import difflib
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models as torchvision_models
from torchvision.models import get_model, list_models  # type: ignore[attr-defined]
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel

from accel_det.models.reid.backbone import Backbone
from accel_det.models.reid.options import AnyBackboneOptions
from accel_det.models.stored import (
    configuration_text,
    first_line,
    read_configuration,
    stored_configuration,
    stored_network,
)

_PROBE_PX = 224
_NUM_CLASSES = 1000
_ONE_SIZE_ONLY = ("vit_", "maxvit_")
_WITH_SIDE_OUTPUTS = ("googlenet", "inception_v3")
_NUMBERED = re.compile(r"^(?:[^.]+\.)*?[^.]*\d[a-z]?\.")  # as layer1, features.0, encoder_layer_0, inception3a


class TorchvisionBackbone(Backbone):
    """A network of torchvision whose last layer is gone.

    Args:
        only_px: side of the only pictures that it takes; None: any.
    """

    def __init__(self, body: nn.Module, *, only_px: int | None) -> None:
        super().__init__(body, channels=0, layers=_layers(body))
        self._only_px = only_px
        self.channels = _explore(self)

    def forward(self, pixels: Tensor, cameras: Tensor | None = None) -> Tensor:
        height, width = pixels.shape[-2:]
        if self._only_px is not None and (height, width) != (self._only_px, self._only_px):
            raise ValueError(
                f"pictures of {height}x{width} pixels: {type(self.body).__name__} of torchvision takes "
                f"{self._only_px}x{self._only_px} alone; set data.size_px so, or take another network"
            )
        features: Tensor = self.body(pixels)
        return features.flatten(1)


class TransformersBackbone(Backbone):
    """A network of transformers; its feature is what it pools itself, or else the mean of its last map or tokens."""

    def __init__(self, body: nn.Module, config: Any, *, report: str) -> None:
        super().__init__(body, channels=0, layers=_layers(body))
        self._config = config
        self.loading_report = report
        self._interpolates = "interpolate_pos_encoding" in inspect.signature(body.forward).parameters
        self.channels = _explore(self, size_px=_side(config))

    def forward(self, pixels: Tensor, cameras: Tensor | None = None) -> Tensor:
        if self._interpolates:
            found = self.body(pixel_values=pixels, interpolate_pos_encoding=True)
        else:
            found = self.body(pixel_values=pixels)
        pooled: Tensor | None = getattr(found, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        last: Tensor = found.last_hidden_state
        return last.mean(dim=(2, 3)) if last.ndim == 4 else last.mean(dim=1)

    def lasting_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the configuration, and its type in place of a folder or repository."""
        kept = {key: value for key, value in options.items() if key != "revision"}
        configuration = configuration_text(self._config)
        return kept | {"backbone": f"transformers:{self._config.model_type}", "configuration": configuration}


def make_backbone(name: str, options: AnyBackboneOptions) -> Backbone:
    """What the option `backbone` names.

    Parameters that the feature does not depend on, as those of a token that masks, are not trained.

    Raises:
        ValueError: there is no such network, or it does not take pictures alone.
    """
    library, _, wanted = options.backbone.partition(":")
    return _of_torchvision(wanted) if library == "torchvision" else _of_transformers(wanted, options)


def _of_torchvision(name: str) -> TorchvisionBackbone:
    known: list[str] = list_models(module=torchvision_models)
    if name not in known:
        raise ValueError(f"backbone: torchvision has no network `{name}`{_near(name, known)}")
    if name in _WITH_SIDE_OUTPUTS:
        network = get_model(name, weights=None, aux_logits=False, init_weights=True, num_classes=_NUM_CLASSES)
    else:
        network = get_model(name, weights=None, num_classes=_NUM_CLASSES)
    _remove_classifier(network)
    return TorchvisionBackbone(network, only_px=_PROBE_PX if name.startswith(_ONE_SIZE_ONLY) else None)


def _remove_classifier(network: nn.Module) -> None:
    """Let what the last layer would read pass it."""
    last = [
        name
        for name, module in network.named_modules()
        if (isinstance(module, nn.Linear) and module.out_features == _NUM_CLASSES)
        or (isinstance(module, nn.Conv2d) and module.out_channels == _NUM_CLASSES)
    ][-1]
    parent, _, own = last.rpartition(".")
    setattr(network.get_submodule(parent), own, nn.Identity())


def _of_transformers(wanted: str, options: AnyBackboneOptions) -> TransformersBackbone:
    stored = wanted if Path(wanted).exists() or "/" in wanted else None
    if options.configuration is not None:
        config, stored = read_configuration(options.configuration), None
    elif stored is not None:
        config = stored_configuration(stored, revision=options.revision, key="backbone")
    elif wanted in CONFIG_MAPPING:
        config = AutoConfig.for_model(wanted)
    else:
        raise ValueError(
            f"backbone: there is no folder `{wanted}`, and transformers has no type of this name"
            f"{_near(wanted, list(CONFIG_MAPPING))}"
        )
    report = ""
    if stored is not None:
        network, report = stored_network(AutoModel, config, stored, revision=options.revision, key="backbone")
    else:
        try:
            network = AutoModel.from_config(config)  # type: ignore[no-untyped-call]
        except (ValueError, ImportError) as error:
            raise ValueError(f"backbone: transformers:{wanted} cannot be built ({first_line(error)})") from None
    if getattr(config, "without_pooler", False):
        network.pooler = None
    if network.main_input_name != "pixel_values":
        raise ValueError(
            f"backbone: transformers:{wanted} takes {network.main_input_name}, expected a network that takes pictures alone "
            "(pixel_values), as vit, dinov2, convnext, swin"
        )
    return TransformersBackbone(network, config, report=report)


def _explore(backbone: Backbone, *, size_px: int = _PROBE_PX) -> int:
    """Find the channels of the feature, and stop training what it does not depend on; nothing is drawn or learnt."""
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    backbone.eval()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        features = backbone(torch.zeros(1, 3, size_px, size_px))
        slopes = torch.autograd.grad(features.sum(), trained, allow_unused=True)
    backbone.train()
    for parameter, slope in zip(trained, slopes, strict=True):
        parameter.requires_grad_(slope is not None)
    return int(features.shape[1])


def _side(config: Any) -> int:
    size = getattr(config, "image_size", None) or _PROBE_PX
    return int(size if isinstance(size, int) else size[0])


def _layers(body: nn.Module) -> list[tuple[str, ...]]:
    """Each outermost part with a number at the end of its name is a layer, and so is each part of the network without any."""
    starts = []
    for name, _ in body.named_parameters():
        numbered = _NUMBERED.match(name)
        starts.append(numbered[0] if numbered else "".join(name.partition(".")[:2]))
    return [(start,) for start in dict.fromkeys(starts)]


def _near(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=2)
    return (
        f"; did you mean {' or '.join(f'`{one}`' for one in close)}?"
        if close
        else f": it has {', '.join(known[:8])}, ..."
    )
