"""The published sizes of the types of `AutoModelForObjectDetection`, as their papers and authors' configurations give them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from accel_det.models.transformers.kinds import DINO

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Size:
    """One network: what differs from the defaults of its type.

    Attributes:
        kind: key of KINDS.
        settings: of the configuration.
        backbone: of the configuration of the backbone, with its type as "model_type"; empty where there is none.
        multiple_px: sides of a batch image are multiples of it.
    """

    kind: str
    settings: Settings
    backbone: Settings
    multiple_px: int = 32


def _resnet(depths: list[int], *stages: str, basic: bool = False) -> Settings:
    widths = [64, 128, 256, 512] if basic else [256, 512, 1024, 2048]
    layer = "basic" if basic else "bottleneck"
    return {
        "model_type": "resnet",
        "depths": depths,
        "hidden_sizes": widths,
        "layer_type": layer,
        "out_features": list(stages or ("stage4",)),
    }


_R18, _R34, _R50, _R101 = [2, 2, 2, 2], [3, 4, 6, 3], [3, 4, 6, 3], [3, 4, 23, 3]


def _rt(depths: list[int], *, basic: bool = False) -> Settings:
    resnet = {key: value for key, value in _resnet(depths, basic=basic).items() if key != "out_features"}
    return {**resnet, "model_type": "rt_detr_resnet", "out_indices": [2, 3, 4]}


_AUX: Settings = {"auxiliary_loss": True}
_RT_BASIC: Settings = {"encoder_in_channels": [128, 256, 512], "hidden_expansion": 0.5}
_RT_101: Settings = {"encoder_hidden_dim": 384, "encoder_ffn_dim": 2048, "decoder_in_channels": [384, 384, 384]}


def _rt_sizes(kind: str) -> dict[str, Size]:
    name = kind.replace("rt_detr", "rtdetr")
    return {
        f"{name}_resnet18": Size(kind, {**_RT_BASIC, "decoder_layers": 3}, _rt(_R18, basic=True)),
        f"{name}_resnet34": Size(kind, {**_RT_BASIC, "decoder_layers": 4}, _rt(_R34, basic=True)),
        f"{name}_resnet50": Size(kind, {}, _rt(_R50)),
        f"{name}_resnet101": Size(kind, _RT_101, _rt(_R101)),
    }


def _hgnet(
    stem: list[int], widths: tuple[list[int], list[int], list[int]], blocks: list[int], layers: int, *, lab: bool
) -> Settings:
    """HGNetV2 as D-FINE uses it; widths are those into, inside and out of each stage."""
    into, inside, out = widths
    return {
        "model_type": "hgnet_v2",
        "stem_channels": stem,
        "stage_in_channels": into,
        "stage_mid_channels": inside,
        "stage_out_channels": out,
        "hidden_sizes": out,
        "stage_num_blocks": blocks,
        "stage_numb_of_layers": [layers] * 4,
        "stage_downsample": [False, True, True, True],
        "stage_light_block": [False, False, True, True],
        "stage_kernel_size": [3, 3, 5, 5],
        "use_learnable_affine_block": lab,
        "out_indices": [2, 3, 4],
    }


_B0 = _hgnet([3, 16, 16], ([16, 64, 256, 512], [16, 32, 64, 128], [64, 256, 512, 1024]), [1, 1, 2, 1], 3, lab=True)
_B2 = _hgnet([3, 24, 32], ([32, 96, 384, 768], [32, 64, 128, 256], [96, 384, 768, 1536]), [1, 1, 3, 1], 4, lab=True)
_B4 = _hgnet(
    [3, 32, 48], ([48, 128, 512, 1024], [48, 96, 192, 384], [128, 512, 1024, 2048]), [1, 1, 3, 1], 6, lab=False
)
_B5 = _hgnet(
    [3, 32, 64], ([64, 128, 512, 1024], [64, 128, 256, 512], [128, 512, 1024, 2048]), [1, 2, 5, 2], 6, lab=False
)
_POINTS: Settings = {"decoder_n_points": [3, 6, 3]}
_NANO: Settings = {
    "encoder_in_channels": [512, 1024],
    "decoder_in_channels": [128, 128],
    "decoder_n_points": [6, 6],
    "feat_strides": [16, 32],
    "num_feature_levels": 2,
    "encode_proj_layers": [1],
    "encoder_hidden_dim": 128,
    "encoder_ffn_dim": 512,
    "decoder_ffn_dim": 512,
    "d_model": 128,
    "hidden_expansion": 0.34,
    "depth_mult": 0.5,
    "decoder_layers": 3,
}
_SMALL: Settings = {
    **_POINTS,
    "encoder_in_channels": [256, 512, 1024],
    "hidden_expansion": 0.5,
    "depth_mult": 0.34,
    "decoder_layers": 3,
}
_MEDIUM: Settings = {**_POINTS, "encoder_in_channels": [384, 768, 1536], "depth_mult": 0.67, "decoder_layers": 4}


# Sizes as in the authors' configuration files, Apache-2.0; transformers' defaults have 2 where those have 1.5 as the
# exponent of the class loss.
_DEIM: Settings = {
    "decoder_activation_function": "silu",
    "focal_loss_gamma": 1.5,
    "freeze_backbone_batch_norms": False,
}


def _lite(width: int, inside: int, *, queries: int, out: int, kernel: int, blocks: int) -> Size:
    """DEIMv2 with its lighter encoder, whose boxes are trained without losses of distributions."""
    settings: Settings = {
        **_DEIM,
        "encoder_type": "lite",
        "encoder_layers": 0,
        "encoder_in_channels": [out],
        "feat_strides": [16],
        "encoder_hidden_dim": width,
        "hidden_expansion": 0.34,
        "depth_mult": 0.5,
        "d_model": width,
        "decoder_in_channels": [width, width],
        "num_feature_levels": 2,
        "decoder_n_points": [4, 2],
        "decoder_layers": 3,
        "decoder_ffn_dim": inside,
        "num_queries": queries,
        "share_bbox_head": True,
        "use_gateway": False,
        "use_dense_one_to_one": False,
        "weight_loss_fgl": 0.0,
        "weight_loss_ddf": 0.0,
    }
    backbone: Settings = {
        **{key: value[:3] if key.startswith("stage_") else value for key, value in _B0.items()},
        "stage_out_channels": [64, 256, out],
        "hidden_sizes": [64, 256, out],
        "depths": [3, 3, 3],
        "stage_num_blocks": [1, 1, blocks],
        "stage_kernel_size": [3, 3, kernel],
        "out_indices": [3],
    }
    return Size("deimv2", settings, backbone)


def _vit(width: int, heads: int) -> Settings:
    """The distilled DINOv3 of the smaller DEIMv2."""
    return {
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "apply_layernorm": False,
        "out_indices": [4, 8, 12],
    }


_VIT_S: Settings = {
    "hidden_size": 384,
    "num_attention_heads": 6,
    "intermediate_size": 1536,
    "layerscale_value": 1e-5,
    "num_register_tokens": 4,
    "key_bias": True,
    "out_indices": [6, 9, 12],
}


def _dino(
    width: int,
    encoder_inside: int,
    decoder_inside: int,
    *,
    depth: float,
    expansion: float,
    vit: Settings,
    stem: int = 16,
    layers: int = 4,
) -> Size:
    settings: Settings = {
        **_POINTS,
        **_DEIM,
        "encoder_in_channels": [width] * 3,
        "encoder_hidden_dim": width,
        "encoder_ffn_dim": encoder_inside,
        "encoder_has_trailing_conv": False,
        "hidden_expansion": expansion,
        "depth_mult": depth,
        "d_model": width,
        "decoder_in_channels": [width] * 3,
        "decoder_ffn_dim": decoder_inside,
        "decoder_layers": layers,
        "spatial_tuning_adapter_inplanes": stem,
    }
    # Positions that are stretched at random in training are drawn from a generator of the process: left out.
    backbone: Settings = {
        "model_type": "dinov3_vit",
        "reshape_hidden_states": True,
        "pos_embed_rescale": None,
        **vit,
    }
    return Size(DINO, settings, backbone)


def _lw_vit(width: int, layers: int, windowed: list[int], out: list[int]) -> Settings:
    return {
        "model_type": "lw_detr_vit",
        "image_size": 1024,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "window_block_indices": windowed,
        "out_indices": out,
    }


def _rf(image_px: int, *, layers: int, patch_px: int, windows: int, out: tuple[int, ...]) -> Size:
    backbone: Settings = {
        "model_type": "rf_detr_dinov2",
        "hidden_size": 384,
        "num_attention_heads": 6,
        "num_register_tokens": 0,
        "image_size": image_px,
        "patch_size": patch_px,
        "num_windows": windows,
        "out_features": [f"stage{number}" for number in out],
    }
    return Size("rf_detr", {"decoder_layers": layers}, backbone, multiple_px=patch_px * windows)


def _yolos(width: int, heads: int, image_px: tuple[int, int], *, middle: bool) -> Size:
    settings: Settings = {
        "hidden_size": width,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "image_size": list(image_px),
        "use_mid_position_embeddings": middle,
    }
    return Size("yolos", settings, {}, multiple_px=16)


_LEVELS = ("stage2", "stage3", "stage4")
_WINDOWED_10 = [0, 1, 3, 6, 7, 9]

SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "detr_resnet50": Size("detr", _AUX, _resnet(_R50)),
        "detr_resnet101": Size("detr", _AUX, _resnet(_R101)),
        "table_transformer_resnet18": Size("table-transformer", {**_AUX, "num_queries": 15}, _resnet(_R18, basic=True)),
        "conditional_detr_resnet50": Size("conditional_detr", _AUX, _resnet(_R50)),
        "dab_detr_resnet50": Size("dab-detr", _AUX, _resnet(_R50)),
        "deformable_detr_resnet50": Size("deformable_detr", _AUX, _resnet(_R50, *_LEVELS)),
        "deformable_detr_refine_resnet50": Size(
            "deformable_detr", {**_AUX, "with_box_refine": True}, _resnet(_R50, *_LEVELS)
        ),
        **_rt_sizes("rt_detr"),
        **_rt_sizes("rt_detr_v2"),
        "dfine_n": Size("d_fine", _NANO, {**_B0, "out_indices": [3, 4]}),
        "dfine_s": Size("d_fine", _SMALL, _B0),
        "dfine_m": Size("d_fine", _MEDIUM, _B2),
        "dfine_l": Size("d_fine", _POINTS, _B4),
        "dfine_x": Size("d_fine", {**_POINTS, **_RT_101}, _B5),
        "deimv2_atto": _lite(64, 160, queries=100, out=256, kernel=3, blocks=1),
        "deimv2_femto": _lite(96, 256, queries=150, out=512, kernel=5, blocks=1),
        "deimv2_pico": _lite(112, 320, queries=200, out=512, kernel=5, blocks=2),
        "deimv2_n": Size("deimv2", {**_NANO, **_DEIM}, {**_B0, "out_indices": [3, 4]}),
        "deimv2_s": _dino(192, 512, 512, depth=0.67, expansion=0.34, vit=_vit(192, 3)),
        "deimv2_m": _dino(256, 512, 512, depth=1.0, expansion=0.67, vit=_vit(256, 4)),
        "deimv2_l": _dino(224, 896, 1792, depth=1.0, expansion=1.0, vit=_VIT_S, stem=32),
        "deimv2_x": _dino(
            256,
            1024,
            2048,
            depth=1.37,
            expansion=1.25,
            vit={**_VIT_S, "use_gated_mlp": True},
            stem=64,
            layers=6,
        ),
        "lwdetr_tiny": Size(
            "lw_detr",
            {"projector_scale_factors": [1.0], "num_queries": 100},
            _lw_vit(192, 6, [0, 2, 4], [1, 3, 5]),
            multiple_px=64,
        ),
        "lwdetr_small": Size(
            "lw_detr", {"projector_scale_factors": [1.0]}, _lw_vit(192, 10, _WINDOWED_10, [2, 4, 5, 9]), multiple_px=64
        ),
        "lwdetr_medium": Size(
            "lw_detr", {"projector_scale_factors": [1.0]}, _lw_vit(384, 10, _WINDOWED_10, [2, 4, 5, 9]), multiple_px=64
        ),
        "rfdetr_nano": _rf(384, layers=2, patch_px=16, windows=2, out=(3, 6, 9, 12)),
        "rfdetr_small": _rf(512, layers=3, patch_px=16, windows=2, out=(3, 6, 9, 12)),
        "rfdetr_medium": _rf(576, layers=4, patch_px=16, windows=2, out=(3, 6, 9, 12)),
        "rfdetr_base": _rf(560, layers=3, patch_px=14, windows=4, out=(2, 5, 8, 11)),
        "yolos_tiny": _yolos(192, 3, (800, 1333), middle=False),
        "yolos_small": _yolos(384, 6, (512, 864), middle=True),
        "yolos_base": _yolos(768, 12, (800, 1344), middle=True),
    }
)
