"""Vision transformers through `transformers`, with what is known of the camera beside the pixels.

Source: Dosovitskiy et al., An Image is Worth 16x16 Words, 2021; Oquab et al., DINOv2, 2023; He et al., TransReID, 2021,
section 3.3, for the embedding of the camera.
"""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Dinov2Config, Dinov2Model, PreTrainedModel, ViTConfig, ViTModel
from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings
from transformers.models.vit.modeling_vit import ViTEmbeddings

from accel_det.models.reid.options import ReidOptions, TransformerOptions
from accel_det.models.reid.pretrained import open_pretrained


class _Shape(NamedTuple):
    """Of a transformer: width of its tokens, layers, attention heads, and pixels of a patch."""

    width: int
    layers: int
    heads: int
    patch_px: int


_SHAPES = {
    "reid_vit_small": _Shape(384, 12, 6, 16),
    "reid_vit_base": _Shape(768, 12, 12, 16),
    "reid_dinov2_small": _Shape(384, 12, 6, 14),
    "reid_dinov2_base": _Shape(768, 12, 12, 14),
}


class _FixedViTEmbeddings(ViTEmbeddings):
    """Positions as they are stored: transformers interpolates every time, and takes what is stored for a square."""

    def interpolate_pos_encoding(self, embeddings: Tensor, height: int, width: int) -> Tensor:
        return self.position_embeddings


class _FixedDinov2Embeddings(Dinov2Embeddings):
    """Positions as they are stored."""

    def interpolate_pos_encoding(self, embeddings: Tensor, height: int, width: int) -> Tensor:
        return self.position_embeddings


class WithCameras(nn.Module):
    """The embeddings of patches, each with the learned one of the picture's camera added; an unknown camera adds nothing.

    Args:
        strength: factor of what is added.

    Attributes:
        cameras: (B,) of the pictures that come next, set before every call: transformers passes nothing on to here.
    """

    def __init__(self, embeddings: nn.Module, *, width: int, num_cameras: int, strength: float) -> None:
        super().__init__()
        self.embeddings = embeddings
        self.camera = nn.Parameter(nn.init.trunc_normal_(torch.zeros(num_cameras, width), std=0.02))
        self.strength = strength
        self.cameras = torch.zeros(0, dtype=torch.int64)

    def forward(self, pixels: Tensor, *positional: object, **named: object) -> Tensor:
        tokens: Tensor = self.embeddings(pixels, *positional, **named)
        known = (self.cameras >= 0)[:, None, None]
        added = self.camera[self.cameras.clamp(min=0)][:, None]
        return tokens + torch.where(known, self.strength * added, torch.zeros_like(added)).to(tokens.dtype)


class TransformerBackbone(nn.Module):
    """The class token after the last layer."""

    def __init__(self, body: PreTrainedModel, *, options: TransformerOptions) -> None:
        super().__init__()
        self.channels = int(body.config.hidden_size)
        self.size_px = (options.height_px, options.width_px)
        _fix_positions(body, self.size_px)
        self.body = body
        self.knows_cameras = options.camera_embedding > 0
        if self.knows_cameras:
            if options.num_cameras < 1:
                raise ValueError("camera_embedding is set, but the training data knows no cameras: set it to 0")
            body.embeddings = WithCameras(
                cast(nn.Module, body.embeddings),
                width=self.channels,
                num_cameras=options.num_cameras,
                strength=options.camera_embedding,
            )

    def forward(self, pixels: Tensor, cameras: Tensor) -> Tensor:
        """(B, 3, H, W) and (B,) cameras, -1 where not known -> (B, C).

        Raises:
            ValueError: pictures of another size than that of the options.
        """
        if tuple(pixels.shape[-2:]) != self.size_px:
            raise ValueError(
                f"pictures of {pixels.shape[-2]}x{pixels.shape[-1]} pixels, but the positions of this network are for "
                f"{self.size_px[0]}x{self.size_px[1]}: resize them"
            )
        if self.knows_cameras:
            embeddings = cast(WithCameras, self.body.embeddings)
            embeddings.cameras = torch.where(cameras < len(embeddings.camera), cameras, -1)
        own_way = {} if isinstance(self.body, Dinov2Model) else {"interpolate_pos_encoding": True}
        tokens: Tensor = self.body(pixel_values=pixels.contiguous(), **own_way).last_hidden_state
        return tokens[:, 0]


def make_backbone(name: str, options: ReidOptions) -> TransformerBackbone:
    """A transformer of this name, with fresh weights or those of a folder or repository."""
    assert isinstance(options, TransformerOptions)
    shape = _SHAPES[name]
    kind: type[PreTrainedModel] = Dinov2Model if "dinov2" in name else ViTModel
    if options.pretrained:
        body = open_pretrained(kind, options.pretrained, revision=options.revision)
    else:
        body = kind(_config(kind, shape))
    if isinstance(body, ViTModel):
        body.pooler = None
    return TransformerBackbone(body, options=options)


def _config(kind: type[PreTrainedModel], shape: _Shape) -> ViTConfig | Dinov2Config:
    side_px = 14 * shape.patch_px
    if kind is Dinov2Model:
        return Dinov2Config(
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            mlp_ratio=4,
            patch_size=shape.patch_px,
            image_size=side_px,
        )
    return ViTConfig(
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=4 * shape.width,
        patch_size=shape.patch_px,
        image_size=side_px,
    )


def _fix_positions(body: PreTrainedModel, size_px: tuple[int, int]) -> None:
    """Resample the stored positions, of a square, to the grid of these pictures, and keep them.

    Raises:
        ValueError: the picture is smaller than a patch.
    """
    embeddings = cast("ViTEmbeddings | Dinov2Embeddings", body.embeddings)
    patch_px = int(body.config.patch_size)
    rows, columns = size_px[0] // patch_px, size_px[1] // patch_px
    if not rows or not columns:
        raise ValueError(f"pictures of {size_px[0]}x{size_px[1]} pixels, but a patch has {patch_px}: raise data.size_px")
    stored = embeddings.position_embeddings.detach()
    first, grid = stored[:, :1], stored[:, 1:]
    side = round(grid.shape[1] ** 0.5)
    square = grid.reshape(1, side, side, -1).permute(0, 3, 1, 2)
    resampled = F.interpolate(square, size=(rows, columns), mode="bicubic", align_corners=False)
    flat = resampled.permute(0, 2, 3, 1).reshape(1, rows * columns, -1)
    embeddings.position_embeddings = nn.Parameter(torch.cat((first, flat), dim=1))
    embeddings.__class__ = _FixedDinov2Embeddings if isinstance(body, Dinov2Model) else _FixedViTEmbeddings
