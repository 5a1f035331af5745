"""What a network of transformers says in training, before any loss.

Every such network hands its outputs to `loss_function`, which can be set: here it is set to a function that hands them
through, so that transformers' own forward pass runs unchanged and its losses never do.

Letters: B images, Q queries, C classes, L decoder layers, N bins, one more than `max_num_bins`.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from accel_det.models.layers.precision import precise


class Refinement(NamedTuple):
    """How D-FINE's decoder layers moved the sides of their boxes.

    Attributes:
        corners: (L, B, Q, 4 * N) logits of the bins of each side.
        start: (L, B, Q, 4) the boxes that are moved, center x, center y, width, height; without gradient.
        logits: (L, B, Q, C) of the same layers.
        boxes: (L, B, Q, 4) of the same layers.
    """

    corners: Tensor
    start: Tensor
    logits: Tensor
    boxes: Tensor


class Stages(NamedTuple):
    """Queries of one sort, in every stage that is trained.

    Attributes:
        logits: (S, B, Q, C) float32 or float64; the encoder's proposals first, where it makes any, the last layer last.
        boxes: (S, B, Q, 4) likewise, center x, center y, width, height as shares of the frame.
        refinement: of networks that refine distributions.
    """

    logits: Tensor
    boxes: Tensor
    refinement: Refinement | None


class Handed(NamedTuple):
    """The arguments of `loss_function` that carry outputs; None where a network has none."""

    logits: Tensor
    boxes: Tensor
    layer_logits: Tensor | None
    layer_boxes: Tensor | None
    encoder_logits: Tensor | None
    encoder_boxes: Tensor | None
    corners: Tensor | None
    start: Tensor | None


def hand_through(
    logits: Tensor,
    labels: object,
    device: object,
    pred_boxes: Tensor,
    config: object,
    outputs_class: Tensor | None = None,
    outputs_coord: Tensor | None = None,
    *encoder: Tensor,
    **named: Any,
) -> tuple[None, Handed, None]:
    """Stands in for `loss_function`; the network returns its second value as `loss_dict`."""
    encoder_logits, encoder_boxes = encoder or (named.get("enc_topk_logits"), named.get("enc_topk_bboxes"))
    corners, start = named.get("predicted_corners"), named.get("initial_reference_points")
    handed = Handed(logits, pred_boxes, outputs_class, outputs_coord, encoder_logits, encoder_boxes, corners, start)
    return None, handed, None


def stages(handed: Handed, *, layers_second: bool, num_noisy: int = 0) -> tuple[Stages, Stages | None]:
    """Stack the outputs of encoder and decoder, in float32 at least.

    Args:
        layers_second: layers are the second dimension of what was handed, not the first.
        num_noisy: so many queries come first that are noisy copies of the truth.

    Returns:
        The stages of the queries, and those of the noisy ones, which the encoder does not propose.
    """
    if handed.layer_logits is None or handed.layer_boxes is None:
        return Stages(precise(handed.logits)[None], precise(handed.boxes)[None], None), None
    if not layers_second:
        # The last layer's own outputs, which some networks normalise once more than those of the layers.
        logits = torch.cat((precise(handed.layer_logits)[:-1], precise(handed.logits)[None]))
        boxes = torch.cat((precise(handed.layer_boxes)[:-1], precise(handed.boxes)[None]))
        return _with_encoder(Stages(logits, boxes, None), handed), None
    decoder = _from_layers(handed)
    noisy = _queries(decoder, slice(num_noisy)) if num_noisy else None
    return _with_encoder(_queries(decoder, slice(num_noisy, None)), handed), noisy


def _from_layers(handed: Handed) -> Stages:
    assert handed.layer_logits is not None
    assert handed.layer_boxes is not None
    logits, boxes = precise(handed.layer_logits).transpose(0, 1), precise(handed.layer_boxes).transpose(0, 1)
    if handed.corners is None or handed.start is None:
        return Stages(logits, boxes, None)
    # The first of the outputs precedes the refinement, and is that of none of its layers.
    corners, start = precise(handed.corners).transpose(0, 1), precise(handed.start).transpose(0, 1)
    boxes = boxes.clamp(0, 1)
    return Stages(logits, boxes, Refinement(corners, start, logits[1:], boxes[1:]))


def _queries(of: Stages, part: slice) -> Stages:
    refinement = of.refinement
    if refinement is not None:
        refinement = Refinement(*(values[:, :, part] for values in refinement))
    return Stages(of.logits[:, :, part], of.boxes[:, :, part], refinement)


def _with_encoder(decoder: Stages, handed: Handed) -> Stages:
    if handed.encoder_logits is None or handed.encoder_boxes is None:
        return decoder
    boxes = precise(handed.encoder_boxes)
    boxes = boxes if decoder.refinement is None else boxes.clamp(0, 1)
    return Stages(
        torch.cat((precise(handed.encoder_logits)[None], decoder.logits)),
        torch.cat((boxes[None], decoder.boxes)),
        decoder.refinement,
    )
