"""A network of transformers as a model of the zoo.

Letters: B images, H and W of the batch image, S stages, Q queries, C classes, P denoising queries.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from accel_det.models.base import Inference, ZooModel
from accel_det.models.layers.canvas import normalized_canvas
from accel_det.models.layers.precision import precise, precise_type
from accel_det.models.layers.targets import check_labels
from accel_det.models.stored import configuration_text
from accel_det.models.transformers.construction import Built
from accel_det.models.transformers.criterion import Criterion
from accel_det.models.transformers.decoding import detections
from accel_det.models.transformers.denoising import NoisyQueries, attention_mask, noisy_queries
from accel_det.models.transformers.native import save_native
from accel_det.models.transformers.objects import Objects, pack_objects
from accel_det.models.transformers.outputs import Handed, hand_through, stages
from accel_det.types import Batch, BoxTarget, Detections, Losses

_BLOCK = re.compile(r"\.(?:stages|layers?)\.(\d+)\.")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TransformersDetector(ZooModel[BoxTarget, Detections]):
    """Parameters are named `network.` + the names of transformers' own state dict.

    By default no box suppresses another in `predict`: sets are trained to hold each object once; see
    `decoding.asks_for_suppression`.
    """

    def __init__(self, built: Built, *, criterion: Criterion, num_classes: int, inference: Inference) -> None:
        super().__init__()
        self.network: Any = built.network
        self.network.loss_function = hand_through
        self.kind = built.kind
        self.multiple_px = built.multiple_px
        self.loading_report = built.report
        self.criterion = criterion
        self.num_classes = num_classes
        self.inference = inference
        config = self.network.config
        self.num_queries: int = config.num_detection_tokens if self.kind.model_type == "yolos" else config.num_queries

    def losses(self, batch: Batch[BoxTarget]) -> Losses:
        check_labels(batch.targets, batch.frames, num_classes=self.num_classes)
        objects = pack_objects(batch.targets, self._frames(batch))
        queries = None
        if self.criterion.noise is not None:
            queries = noisy_queries(objects, [frame.draw_seed for frame in batch.frames], self.criterion.noise)
        handed = self._train_outputs(batch, queries)
        with torch.autocast(batch.images.device.type, enabled=False):
            num_noisy = 0 if queries is None else queries.box.shape[1]
            found, noisy = stages(handed, layers_second=self.kind.layers_second, num_noisy=num_noisy)
            losses = self.criterion.losses(found, noisy, objects, queries)
        return self._reach_every_parameter(losses) if self.criterion.noise is not None else losses

    def counts(self, batch: Batch[BoxTarget]) -> dict[str, Tensor] | None:
        objects: Objects = pack_objects(batch.targets, self._frames(batch))
        return self.criterion.counts(objects, num_queries=self.num_queries)

    def predict(self, batch: Batch[BoxTarget]) -> list[Detections]:
        """Boxes cut to the part of the batch image that boxes are shares of."""
        output = self.network(self._pixels(batch), **self._mask(batch))
        with torch.autocast(batch.images.device.type, enabled=False):
            return detections(
                precise(output.logits),
                precise(output.pred_boxes),
                frames=self._frames(batch),
                no_object=self.kind.classes == "softmax",
                inference=self.inference,
            )

    def compilable(self) -> list[nn.Module]:
        backbone: Any = self.network
        for part in self.kind.backbone.rstrip(".").split("."):
            backbone = getattr(backbone, part)
        return [backbone]

    def save_native(self, folder: Path, *, classes: Sequence[str], size_px: int) -> None:
        """Write a folder that plain transformers loads with `from_pretrained`; see `native.save_native`."""
        save_native(self.network, self.kind, folder, classes=classes, size_px=size_px)

    def lasting_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """Without the place of stored weights, whose configuration goes into the options instead."""
        if options.get("pretrained") is None:
            return options
        kept = {key: value for key, value in options.items() if key not in ("pretrained", "revision")}
        return kept | {"configuration": configuration_text(self.network.config)}

    def layer_of(self, parameter_name: str) -> int | None:
        """The stage of a ResNet or HGNet, the block of a vision transformer, 0 for what comes before them.

        What joins the blocks' outputs for the decoder is not part of the backbone.
        """
        _, found, inside = parameter_name.removeprefix("network.").partition(self.kind.backbone)
        layer = _BLOCK.search(f".{inside}") if found else None
        if layer is not None:
            return int(layer[1]) + 1
        return 0 if "embed" in inside else None

    def _train_outputs(self, batch: Batch[BoxTarget], queries: NoisyQueries | None) -> Handed:
        """Run transformers' own forward pass; it makes no denoising queries for images without labels."""
        device = batch.images.device
        nothing = {"class_labels": torch.zeros(0, dtype=torch.int64, device=device)}
        labels = [{**nothing, "boxes": torch.zeros((0, 4), device=device)}] * len(batch.images)
        inputs = {"pixel_values": self._pixels(batch), "labels": labels, **self._mask(batch)}
        if queries is None:
            handed: Handed = self.network(**inputs).loss_dict
            return handed
        hook = partial(_prepend, queries=queries, embedding=self.network.model.denoising_class_embed)
        handle = self.network.model.decoder.register_forward_pre_hook(hook, with_kwargs=True)
        try:
            handed = self.network(**inputs).loss_dict
        finally:
            handle.remove()
        return handed

    def _reach_every_parameter(self, losses: Losses) -> Losses:
        """The embedding of noisy labels gets a gradient, of 0, from a batch without a box as well."""
        name = next(iter(losses))
        term = losses[name]
        nothing = self.network.model.denoising_class_embed.weight.sum().to(term.sum.dtype) * 0
        return {**losses, name: term._replace(sum=term.sum + nothing)}

    def _pixels(self, batch: Batch[BoxTarget]) -> Tensor:
        """(B, 3, H, W) as the network was published with, 0 in the padding, in the number type of the network."""
        height, width = batch.images.shape[-2:]
        if height % self.multiple_px or width % self.multiple_px:
            raise ValueError(
                f"images of {height}x{width} pixels: this network takes multiples of {self.multiple_px}; "
                "set data.resize.size_px to one"
            )
        sizes = [(rows, columns) for rows, columns in batch.sizes.tolist()]
        dtype = next(self.network.parameters()).dtype
        mean, std = (IMAGENET_MEAN, IMAGENET_STD) if self.kind.normalized else ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        return normalized_canvas(batch.images, sizes, mean=mean, std=std, divisor=self.multiple_px, dtype=dtype)

    def _mask(self, batch: Batch[BoxTarget]) -> dict[str, Tensor]:
        """(B, H, W) int64, 1 for the pixels of an image and 0 for padding, for networks that look at it."""
        if not self.kind.masked:
            return {}
        device = batch.images.device
        height, width = batch.images.shape[-2:]
        limits = batch.sizes.to(device)
        rows = torch.arange(height, device=device) < limits[:, :1]
        columns = torch.arange(width, device=device) < limits[:, 1:]
        return {"pixel_mask": (rows[:, :, None] & columns[:, None, :]).long()}

    def _frames(self, batch: Batch[BoxTarget]) -> Tensor:
        """(B, 2) height and width in pixels of what boxes are shares of."""
        dtype = precise_type(next(self.network.parameters()).dtype)
        if self.kind.masked:
            return batch.sizes.to(batch.images.device, dtype)
        sides = torch.tensor(batch.images.shape[-2:], dtype=dtype).to(batch.images.device)
        return sides.expand(len(batch.images), 2)


def _prepend(
    module: nn.Module,
    positional: tuple[Any, ...],
    named: dict[str, Any],
    *,
    queries: NoisyQueries,
    embedding: nn.Module,
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put the denoising queries in front of those that a decoder is called with."""
    others: Tensor = named["inputs_embeds"]
    start: Tensor = named["reference_points"]
    embedded = embedding(queries.labels).to(others.dtype)
    share = queries.boxes.clamp(0, 1)
    eps = 1e-5
    unbounded = torch.log(share.clamp(min=eps) / (1 - share).clamp(min=eps)).to(start.dtype)
    changed = {
        "inputs_embeds": torch.cat((embedded, others), dim=1),
        "reference_points": torch.cat((unbounded, start), dim=1),
        "encoder_attention_mask": attention_mask(queries, num_queries=others.shape[1]).to(others.dtype),
    }
    return positional, {**named, **changed}
