"""Vision transformers: transformers' layers, with patches that may overlap and tokens that may know the camera.

Source: Dosovitskiy et al., An Image is Worth 16x16 Words, 2021; Oquab et al., DINOv2, 2023; He et al., TransReID, 2021,
sections 3.1 and 3.3, for overlapping patches and the embedding of side information.

Letters: B pictures, H and W their height and width, C channels of a token, N patches, T tokens: the class token, then N.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, Dinov2Model, ViTModel

from accel_det.models.layers.precision import precise
from accel_det.models.reid.backbone import Backbone
from accel_det.models.reid.options import TransformerOptions
from accel_det.models.reid.pooling import make_pool
from accel_det.models.stored import configuration_text, read_configuration, stored_configuration, stored_network

_STD = 0.02  # of what is drawn, as in the papers

_SMALL: Mapping[str, Any] = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
_BASE: Mapping[str, Any] = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
_SIZES: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "reid_vit_small": ("vit", {**_SMALL, "intermediate_size": 1536, "patch_size": 16}),
        "reid_vit_base": ("vit", {**_BASE, "intermediate_size": 3072, "patch_size": 16}),
        "reid_dinov2_small": ("dinov2", {**_SMALL, "mlp_ratio": 4, "patch_size": 14}),
        "reid_dinov2_base": ("dinov2", {**_BASE, "mlp_ratio": 4, "patch_size": 14}),
    }
)
"""Name -> transformers' type, and its configuration."""


class Patches(nn.Module):
    """(B, 3, H, W) -> (B, N, C), row by row."""

    def __init__(self, projection: nn.Conv2d) -> None:
        super().__init__()
        self.projection = projection

    def forward(self, pixels: Tensor) -> Tensor:
        projected: Tensor = self.projection(pixels)
        return projected.flatten(2).transpose(1, 2)


class Tokens(nn.Module):
    """Pictures to tokens: patches and the class token, at their positions, and seen by their cameras.

    Args:
        made: transformers' own, whose weights are taken over.
        stored_grid: rows and columns of patches that its positions are of; None where they are to be drawn.
    """

    def __init__(self, made: Any, *, stored_grid: tuple[int, int] | None, options: TransformerOptions) -> None:
        super().__init__()
        self.cls_token: nn.Parameter = made.cls_token
        projection: nn.Conv2d = made.patch_embeddings.projection
        stride_px = options.stride_px or int(projection.stride[0])
        projection.stride = (stride_px, stride_px)
        self.patch_embeddings = Patches(projection)
        self.grid = self._grid_of(*options.input_px)
        channels = projection.out_channels
        if stored_grid is None:
            positions = torch.empty(1, 1 + self.grid[0] * self.grid[1], channels)
            nn.init.trunc_normal_(positions, std=_STD)
        else:
            positions = interpolate_positions(made.position_embeddings.detach(), stored_grid, self.grid)
        self.position_embeddings = nn.Parameter(positions)
        self.dropout: nn.Module = made.dropout
        self.camera_strength = options.camera_embedding
        self.cameras: nn.Embedding | None = None
        if options.camera_embedding > 0:
            self.cameras = nn.Embedding(options.num_cameras, channels)
            nn.init.trunc_normal_(self.cameras.weight, std=_STD)

    def forward(self, pixels: Tensor, cameras: Tensor | None) -> Tensor:
        """(B, 3, H, W) and (B,) cameras, -1 where not known -> (B, T, C)."""
        grid = self._grid_of(*pixels.shape[-2:])
        patches = self.patch_embeddings(pixels)
        positions: Tensor = self.position_embeddings
        if grid != self.grid:
            positions = interpolate_positions(positions, self.grid, grid)
        tokens = torch.cat((self.cls_token.expand(len(pixels), -1, -1), patches), dim=1) + positions
        if self.cameras is not None and cameras is not None:
            known = (cameras >= 0) & (cameras < self.cameras.num_embeddings)
            seen = self.cameras(cameras.where(known, 0)) * known[:, None]
            tokens = tokens + self.camera_strength * seen[:, None]
        dropped: Tensor = self.dropout(tokens)
        return dropped

    def _grid_of(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches of a picture.

        Raises:
            ValueError: the picture is smaller than a patch.
        """
        projection = self.patch_embeddings.projection
        patch_px, stride_px = projection.kernel_size[0], projection.stride[0]
        if min(height, width) < patch_px:
            raise ValueError(
                f"pictures of {height}x{width} pixels: a patch of this network has {patch_px}x{patch_px}; set a larger "
                "data.size_px"
            )
        return (height - patch_px) // stride_px + 1, (width - patch_px) // stride_px + 1


class VisionTransformer(nn.Module):
    """Tokens through all layers; the parts are named as transformers names those of a ViT."""

    def __init__(self, embeddings: Tokens, layers: nn.ModuleList, layernorm: nn.Module) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.layers = layers
        self.layernorm = layernorm

    def forward(self, pixels: Tensor, cameras: Tensor | None) -> Tensor:
        """(B, 3, H, W) and (B,) -> (B, T, C)"""
        tokens = self.embeddings(pixels, cameras)
        for layer in self.layers:
            tokens = layer(tokens)
        normed: Tensor = self.layernorm(tokens)
        return normed


class TransformerBackbone(Backbone):
    """A vision transformer, and what becomes of its last tokens."""

    def __init__(self, body: VisionTransformer, config: Any, *, options: TransformerOptions, report: str) -> None:
        layers: list[tuple[str, ...]] = [("embeddings.",), *((f"layers.{n}.",) for n in range(len(body.layers)))]
        layers[-1] = (*layers[-1], "layernorm.")
        super().__init__(body, channels=config.hidden_size, layers=layers)
        self.reads_cameras = options.camera_embedding > 0
        self.loading_report = report
        self.pool = None if options.pooling == "class_token" else make_pool(options.pooling)
        self._config = config

    def forward(self, pixels: Tensor, cameras: Tensor | None = None) -> Tensor:
        tokens: Tensor = self.body(pixels, cameras)
        if self.pool is None:
            return tokens[:, 0]
        pooled: Tensor = self.pool(tokens[:, 1:].transpose(1, 2)[..., None])
        return pooled

    def lasting_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Without the place of stored weights, whose configuration goes into the options instead."""
        if options.get("pretrained") is None:
            return options
        kept = {key: value for key, value in options.items() if key not in ("pretrained", "revision")}
        return kept | {"configuration": configuration_text(self._config)}


def make_backbone(name: str, options: TransformerOptions) -> TransformerBackbone:
    """One of the vision transformers, with fresh or stored weights.

    Raises:
        ValueError: there are no such weights, or they are of another network.
    """
    model_type, settings = _SIZES[name]
    if options.configuration is not None:
        config = read_configuration(options.configuration)
    elif options.pretrained is not None:
        config = stored_configuration(options.pretrained, revision=options.revision, key="pretrained")
        _check_kind(name, config, place=options.pretrained)
    else:
        config = AutoConfig.for_model(model_type, **settings)
    if options.num_layers > config.num_hidden_layers:
        raise ValueError(f"num_layers is {options.num_layers}, but {name} has {config.num_hidden_layers}")
    config.num_hidden_layers = options.num_layers or config.num_hidden_layers
    network, report = _network(config, options)
    stored_grid = None if options.pretrained is None else _square_grid(network.embeddings)
    layers = network.layers if model_type == "vit" else network.encoder.layer
    body = VisionTransformer(
        Tokens(network.embeddings, stored_grid=stored_grid, options=options), layers, network.layernorm
    )
    return TransformerBackbone(body, config, options=options, report=report)


def interpolate_positions(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """(1, 1 + N, C) positions of the class token and of a grid of patches, for another grid; bicubic.

    Args:
        old, new: rows and columns of patches.
    """
    if old == new:
        return positions
    grid = precise(positions[:, 1:]).transpose(1, 2).unflatten(2, old)
    resized = F.interpolate(grid, size=new, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    return torch.cat((positions[:, :1], resized.to(positions.dtype)), dim=1)


def _network(config: Any, options: TransformerOptions) -> tuple[Any, str]:
    kind: Any = Dinov2Model if config.model_type == "dinov2" else ViTModel
    if options.pretrained is not None:
        return stored_network(kind, config, options.pretrained, revision=options.revision, key="pretrained")
    return kind(config), ""


def _check_kind(name: str, config: Any, *, place: str) -> None:
    model_type, settings = _SIZES[name]
    found = (config.model_type, getattr(config, "hidden_size", None))
    if found != (model_type, settings["hidden_size"]):
        raise ValueError(
            f"pretrained: {place}: holds a {found[0]} of {found[1]} channels, but {name} is a {model_type} of "
            f"{settings['hidden_size']}; take another network, or reid_backbone with transformers:{place}"
        )


def _square_grid(embeddings: Any) -> tuple[int, int]:
    """Rows and columns of the patches that transformers' own positions are of."""
    patches = embeddings.patch_embeddings
    (height, width), (patch_height, patch_width) = patches.image_size, patches.patch_size
    return height // patch_height, width // patch_width
