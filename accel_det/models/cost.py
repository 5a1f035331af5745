"""What a network costs: parameters and floating point operations, counted where possible without computing them."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import torch
from torch import nn
from torch._subclasses import DynamicOutputShapeException, FakeTensorMode
from torch._subclasses.fake_tensor import DataDependentOutputException
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import deform_conv  # noqa: F401  # brings torchvision's operators

from accel_det.models import zoo
from accel_det.models.base import ZooModel
from accel_det.types import Batch, BoxTarget, Frame, IdentityTarget

NUM_CLASSES = {"detection": 80, "reid": 0}
"""With how many classes networks are counted: those of COCO; none, because what classifies identities is left behind."""


class Cost(NamedTuple):
    """Of one network.

    Attributes:
        parameters: numbers that training may change, frozen or not; statistics and constants are not counted.
        flops: floating point operations of one image. A multiplication and an addition are two. Counted are
            convolutions, deformable ones too, matrix products and attention; not normalisation, activation, pooling,
            sampling and whatever follows the choice of boxes.
    """

    parameters: int
    flops: int


def measure(name: str, *, num_classes: int | None = None, size_px: int | None = None) -> Cost:
    """Count one network of the zoo; torch's global generator stays as it was.

    Args:
        num_classes: None for `NUM_CLASSES`.
        size_px: height and width of the image; None for the size that the network was designed for.

    Raises:
        ValueError: no such network.
    """
    card = zoo.card(name)
    height, width = (size_px, size_px) if size_px else card.input_px
    with torch.random.fork_rng(devices=[]):
        classes = NUM_CLASSES[card.task] if num_classes is None else num_classes
        model = zoo.build(name, num_classes=classes).eval()
    image = torch.zeros((1, 3, height, width), dtype=torch.uint8)
    target = BoxTarget.empty() if card.task == "detection" else IdentityTarget(-1)
    batch: Batch[Any] = Batch(image, torch.tensor([[height, width]]), [target], [Frame(0, "image", height, width)])
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            flops = _count_flops(model, batch)
    except DataDependentOutputException:  # a check of its own reads a number, so it has to be computed
        with torch.no_grad():
            flops = _count_flops(model, batch)
    return Cost(count_parameters(model), flops)


def _count_flops(model: ZooModel[Any, Any], batch: Batch[Any]) -> int:
    mapping = {torch.ops.torchvision.deform_conv2d: _deform_conv_flops}
    # Without numbers no box can be chosen: where a network begins to, all that costs is behind it.
    chosen = suppress(DynamicOutputShapeException)
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter, sdpa_kernel(SDPBackend.MATH), chosen:
        model.rehearse(batch)
    return int(counter.get_total_flops())


def count_parameters(model: nn.Module) -> int:
    """Shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _deform_conv_flops(
    input_shape: Sequence[int], weight_shape: Sequence[int], *_: object, out_shape: Sequence[int], **__: object
) -> int:
    """As of a plain convolution: the sampling of its inputs is not counted."""
    outputs = 1
    for extent in out_shape:
        outputs *= extent
    per_output = 1
    for extent in weight_shape[1:]:
        per_output *= extent
    return 2 * outputs * per_output
