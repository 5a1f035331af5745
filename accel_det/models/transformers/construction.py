"""The networks of transformers, built from a configuration without a download, or from stored weights."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from torch import nn
from transformers import AutoConfig, AutoModelForObjectDetection

from accel_det.models.stored import read_configuration, stored_configuration, stored_network
from accel_det.models.transformers.fresh import draw_weights
from accel_det.models.transformers.gradients import order_gradients
from accel_det.models.transformers.kinds import DINO, KINDS, Kind, kind_of
from accel_det.models.transformers.number_types import compute_as_given
from accel_det.models.transformers.precise import keep_boxes_precise
from accel_det.models.transformers.sizes import SIZES, Settings, Size

# Small enough for a test: the same layers, few of them, narrow.
_TINY_RESNET: Settings = {
    "embedding_size": 8,
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
_TINY_ENCODER_DECODER: Settings = {
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_queries": 20,
}
_TINY_RT: Settings = {
    **_TINY_ENCODER_DECODER,
    "d_model": 32,
    "encoder_hidden_dim": 32,
    "encoder_in_channels": [16, 24, 32],
    "decoder_in_channels": [32, 32, 32],
    "num_denoising": 16,
    "hidden_expansion": 0.5,
}
_TINY_FINE: Settings = {**_TINY_RT, "decoder_n_points": [2, 2, 2], "depth_mult": 0.34, "lqe_hidden_dim": 8}
_TINY_HGNET: Settings = {
    "stem_channels": [3, 8, 8],
    "stage_in_channels": [8, 8, 16, 24],
    "stage_mid_channels": [8, 8, 8, 8],
    "stage_out_channels": [8, 16, 24, 32],
    "hidden_sizes": [8, 16, 24, 32],
    "stage_num_blocks": [1, 1, 1, 1],
    "stage_numb_of_layers": [1, 1, 1, 1],
}
_TINY_GROUPED: Settings = {
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_ffn_dim": 64,
    "decoder_self_attention_heads": 4,
    "decoder_cross_attention_heads": 4,
    "num_queries": 10,
    "group_detr": 3,
}
_TINY_VIT: Settings = {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}


_KEPT_OF_BACKBONE = ("model_type", "out_features", "out_indices", "apply_layernorm", "pos_embed_rescale")


@dataclass(frozen=True)
class _Tiny:
    settings: Settings
    backbone: Settings
    multiple_px: int


_RESNET_ONLY = _Tiny({**_TINY_ENCODER_DECODER, "d_model": 32}, _TINY_RESNET, 32)
_TINY: Mapping[str, _Tiny] = MappingProxyType(
    {
        "detr": _RESNET_ONLY,
        "table-transformer": _RESNET_ONLY,
        "conditional_detr": _RESNET_ONLY,
        # Its maps are normalised in 32 groups of channels, which takes 2 channels a group where a map has one pixel.
        "deformable_detr": _Tiny({**_TINY_ENCODER_DECODER, "d_model": 64}, _TINY_RESNET, 32),
        "rt_detr": _Tiny(_TINY_RT, _TINY_RESNET, 32),
        "rt_detr_v2": _Tiny(_TINY_RT, _TINY_RESNET, 32),
        "d_fine": _Tiny(_TINY_FINE, _TINY_HGNET, 32),
        "lw_detr": _Tiny(
            _TINY_GROUPED,
            {**_TINY_VIT, "image_size": 64, "window_block_indices": [0, 1], "out_indices": [1, 3], "num_windows": 4},
            32,
        ),
        "dab-detr": _Tiny({**_TINY_ENCODER_DECODER, "hidden_size": 32}, _TINY_RESNET, 32),
        "deimv2": _Tiny({**_TINY_FINE, "focal_loss_gamma": 1.5}, _TINY_HGNET, 32),
        DINO: _Tiny(
            {
                **_TINY_FINE,
                "focal_loss_gamma": 1.5,
                "encoder_in_channels": [32, 32, 32],
                "encoder_has_trailing_conv": False,
                "spatial_tuning_adapter_inplanes": 4,
            },
            {**_TINY_VIT, "intermediate_size": 48, "out_indices": [1, 2, 3]},
            32,
        ),
        "rf_detr": _Tiny(
            _TINY_GROUPED,
            {**_TINY_VIT, "image_size": 64, "patch_size": 16, "num_windows": 2, "out_features": ["stage1", "stage3"]},
            32,
        ),
        "yolos": _Tiny(
            {**_TINY_VIT, "intermediate_size": 48, "image_size": [64, 64], "num_detection_tokens": 20}, {}, 16
        ),
    }
)


@dataclass(frozen=True)
class TransformersOptions:
    """What a run may set; the defaults are those of transformers, which are the published ones.

    Attributes:
        pretrained: weights to start from in the Hub's format, a folder or `owner/name`; None draws fresh ones. The
            configuration then comes from there as well, and the heads are resized to the classes of the data.
        revision: commit, tag or branch on the Hub, for `pretrained`.
        scale: "tiny" is a network of the same layers, narrow and with few of them: for tests, and for a CPU.
        backbone_norm: "frozen" keeps the statistics, scales and shifts of the backbone's batch norms as the weights
            have them, and trains neither its stem nor, in the types with a plain ResNet, its first stage: as published,
            with pretrained weights. "batch" trains all of it, which random weights need.
        configuration: JSON of transformers' configuration, in place of the size's own. Exports of networks that began with
            stored weights hold it, so that they need these weights no more.
        num_queries: boxes that are predicted at most; None keeps the size's own.
        dropout: in encoder and decoder, in [0, 1); None keeps the type's own.
        class_weight: factor of the class loss. Conditional and Deformable DETR were published with 2, and
            transformers trains them with 1.
    """

    pretrained: str | None = None
    revision: str | None = None
    scale: Literal["published", "tiny"] = "published"
    backbone_norm: Literal["batch", "frozen"] = "batch"
    configuration: str | None = None
    num_queries: int | None = None
    dropout: float | None = None
    class_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.revision is not None and self.pretrained is None:
            raise ValueError(f"revision is {self.revision!r} without pretrained: name the repository, or leave it out")
        if self.pretrained is not None and (self.scale != "published" or self.num_queries is not None):
            raise ValueError(f"scale and num_queries come with pretrained ({self.pretrained}): leave both out")
        if self.configuration is not None and (self.pretrained or self.scale != "published" or self.num_queries):
            raise ValueError("configuration says all of the network: leave pretrained, scale and num_queries out")
        if self.num_queries is not None and self.num_queries < 1:
            raise ValueError(f"num_queries is {self.num_queries}, expected at least 1")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected a number in [0, 1)")
        if not self.class_weight > 0:
            raise ValueError(f"class_weight is {self.class_weight}, expected a number above 0")


@dataclass(frozen=True)
class Built:
    """A network and what is known of it.

    Attributes:
        multiple_px: sides of a batch image are multiples of it.
        report: what of the stored weights was not used, one line; empty for fresh weights.
    """

    network: Any
    kind: Kind
    multiple_px: int
    report: str


def build_network(name: str, *, num_classes: int, options: TransformersOptions) -> Built:
    """One of SIZES.

    Raises:
        ValueError: there are no such weights, they are another type's, or an option does not fit.
    """
    size = SIZES[name]
    kind = KINDS[size.kind]
    report = ""
    make: Callable[[Any], Any] = AutoModelForObjectDetection.from_config
    if options.configuration is not None:
        config = read_configuration(options.configuration)
        config.num_labels = num_classes
        network = make(config)
        multiple_px = _multiple_px(network.config, otherwise=size.multiple_px)
    elif options.pretrained is None:
        network = make(_configuration(size, num_classes, options))
        multiple_px = _TINY[size.kind].multiple_px if options.scale == "tiny" else size.multiple_px
    else:
        network, report = _stored(options, kind, num_classes=num_classes)
        multiple_px = _multiple_px(network.config, otherwise=size.multiple_px)
    _set_backbone(network, kind, norm=options.backbone_norm)
    if options.pretrained is None:
        draw_weights(network, kind)
    _freeze_never_trained(network, kind)
    keep_boxes_precise(network)
    compute_as_given(network)
    order_gradients(network)
    return Built(network, kind, multiple_px, report)


def _configuration(size: Size, num_classes: int, options: TransformersOptions) -> Any:
    settings, backbone = dict(size.settings), dict(size.backbone)
    if options.scale == "tiny":
        tiny = _TINY[size.kind]
        kept = ("auxiliary_loss", "with_box_refine", "projector_scale_factors", "use_mid_position_embeddings")
        settings = {**{key: settings[key] for key in kept if key in settings}, **tiny.settings}
        wanted: dict[str, Any] = {key: backbone[key] for key in _KEPT_OF_BACKBONE if key in backbone}
        backbone = {**wanted, **tiny.backbone}
        if size.kind in ("d_fine", "deimv2"):
            backbone["out_indices"] = [2, 3, 4]
    if options.num_queries is not None:
        settings["num_detection_tokens" if size.kind == "yolos" else "num_queries"] = options.num_queries
    if options.dropout is not None:
        settings["hidden_dropout_prob" if size.kind == "yolos" else "dropout"] = options.dropout
    if backbone:
        settings["backbone_config"] = AutoConfig.for_model(backbone.pop("model_type"), **backbone)
    return AutoConfig.for_model(KINDS[size.kind].model_type, num_labels=num_classes, **settings)


def _stored(options: TransformersOptions, kind: Kind, *, num_classes: int) -> tuple[Any, str]:
    """The network of a folder, or of a repository on the Hub; only safetensors are read, and no code."""
    place = str(options.pretrained)
    config = stored_configuration(place, revision=options.revision, key="pretrained")
    found_kind = kind_of(config)
    if KINDS.get(found_kind) != kind:
        expected = next(name for name, one in KINDS.items() if one == kind)
        raise ValueError(f"pretrained: {place}: holds a {found_kind}, expected a {expected}; take a model of that type")
    if found_kind == DINO:
        config.backbone_config.pos_embed_rescale = None
    config.num_labels = num_classes
    if kind.model_type != "yolos":
        config.auxiliary_loss = True
    if options.dropout is not None:
        setattr(config, "hidden_dropout_prob" if kind.model_type == "yolos" else "dropout", options.dropout)
    return stored_network(
        AutoModelForObjectDetection, config, place, revision=options.revision, key="pretrained", resize_heads=True
    )


def _multiple_px(config: Any, *, otherwise: int) -> int:
    backbone: Any = getattr(config, "backbone_config", None)
    if config.model_type == "rf_detr":
        return int(backbone.patch_size * backbone.num_windows)
    if config.model_type == "lw_detr":
        return int(backbone.patch_size * backbone.num_windows_side)
    return otherwise


def _set_backbone(network: nn.Module, kind: Kind, *, norm: str) -> None:
    """Decide what of the backbone is trained; some types freeze parts of it when they are built, whatever its weights.

    transformers freezes all of a plain ResNet, because it looks for names that only another library's has.
    """
    if norm == "batch":
        _train_norms(network)
    plain_resnet = kind.masked and kind.convolutional
    kept = ("embedder.", "stages.0.") if plain_resnet else ("embedder.",)
    for name, parameter in network.named_parameters():
        if name.startswith(kind.backbone) and kind.convolutional:
            parameter.requires_grad_(norm == "batch" or not any(part in name for part in kept))


def _train_norms(module: nn.Module) -> None:
    """Replace every frozen batch norm of a tree by one that is trained, with the same numbers."""
    for name, child in module.named_children():
        if not type(child).__name__.endswith("FrozenBatchNorm2d"):
            _train_norms(child)
            continue
        tensors = dict(child.named_buffers())
        new = nn.BatchNorm2d(len(tensors["weight"]))
        new.load_state_dict({**new.state_dict(), **tensors})
        setattr(module, name, new)


def _freeze_never_trained(network: nn.Module, kind: Kind) -> None:
    parameters = dict(network.named_parameters())
    for name in kind.never_trained:
        parameters[name].requires_grad_(False)
