"""Layers and losses of DAB-DETR and DEIMv2 beside those of transformers, and in float64."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import DabDetrConfig, Deimv2Config
from transformers.loss import loss_deimv2
from transformers.models.dab_detr import modeling_dab_detr as dab
from transformers.models.deimv2 import modeling_deimv2 as deim
from transformers_cases import build_tiny, scene

from accel_det.models.transformers.distribution import _divergence
from accel_det.models.transformers.losses import ClassRule, class_loss, look_up
from accel_det.models.transformers.matching import Matches
from accel_det.models.transformers.number_types import compute_as_given
from accel_det.models.transformers.objects import pack_objects


def layers() -> dict[str, tuple[nn.Module, dict[str, torch.Tensor]]]:
    """A layer of each sort, and what it is called with."""
    torch.manual_seed(2)
    config = DabDetrConfig(hidden_size=32, encoder_attention_heads=4, decoder_attention_heads=4)
    mask = torch.zeros(2, 1, 5, 7).masked_fill(torch.rand(2, 1, 5, 7) > 0.7, -1e9)
    pixels = {"hidden_states": torch.randn(2, 7, 32), "object_queries": torch.randn(2, 7, 32)}
    queries = {
        "hidden_states": torch.randn(2, 5, 64),
        "key_states": torch.randn(2, 7, 64),
        "value_states": torch.randn(2, 7, 32),
        "attention_mask": mask,
    }
    norm = deim.Deimv2RMSNorm(32)
    nn.init.normal_(norm.weight)
    return {
        "encoder": (dab.DetrAttention(config), pixels),
        "decoder": (dab.DabDetrAttention(config, is_cross=True), queries),
        "norm": (norm, {"hidden_states": torch.randn(2, 7, 32)}),
    }


def called(layer: nn.Module, values: dict[str, torch.Tensor]) -> torch.Tensor:
    found: Any = layer(**values)
    first: torch.Tensor = found[0] if isinstance(found, tuple) else found
    return first


@pytest.mark.parametrize("name", ["encoder", "decoder", "norm"])
def test_layers_say_what_those_of_transformers_say_and_compute_in_float64_where_asked(name: str) -> None:
    layer, values = layers()[name]
    before = called(layer.eval(), values)
    kind = type(layer)
    compute_as_given(nn.ModuleList([layer]))
    assert type(layer) is not kind
    assert isinstance(layer, kind)
    torch.testing.assert_close(called(layer, values), before, atol=1e-6, rtol=1e-5)
    wide = called(layer.double(), {key: value.double() for key, value in values.items()})
    error = (wide.float() - before).abs().max()
    assert wide.dtype == torch.float64
    assert not torch.equal(wide, wide.float().double())
    assert error <= 1e-5


def test_every_such_layer_of_a_network_is_changed() -> None:
    """Two per decoder layer and one per encoder layer of DAB-DETR; three norms per decoder layer of DEIMv2."""
    for name, kind, number in (
        ("dab_detr_resnet50", (dab.DetrAttention, dab.DabDetrAttention), 1 + 2 * 2),
        ("deimv2_n", (deim.Deimv2RMSNorm,), 3 * 2),
    ):
        found = [module for module in build_tiny(name).modules() if isinstance(module, kind)]
        assert len(found) == number
        assert all(type(module) not in kind for module in found)


def test_the_class_loss_of_deim_is_that_of_transformers() -> None:
    config = Deimv2Config(num_labels=3, focal_loss_gamma=1.5)
    criterion = loss_deimv2.Deimv2Loss(config)
    draw = torch.Generator().manual_seed(6)
    batch = scene((4, 2), size_px=64)
    objects = pack_objects(batch.targets, batch.sizes.float())
    logits = torch.randn(1, 2, 10, 3, generator=draw)
    query = [torch.randperm(10, generator=draw)[:number] for number in (4, 2)]
    image = torch.tensor([0] * 4 + [1] * 2)
    matches = Matches(torch.zeros(6, dtype=torch.int64), image, torch.cat(query), torch.arange(6))
    boxes = torch.rand(1, 2, 10, 4, generator=draw) * 0.4 + 0.2
    boxes[0, image, matches.query] = objects.boxes + 0.03
    matched = look_up(boxes, objects, matches)
    own = class_loss(logits, matched, ClassRule("matchability", alpha=1.0, gamma=1.5)) / 6
    labels = [
        {"class_labels": part, "boxes": of_image}
        for part, of_image in zip(objects.labels.split([4, 2]), objects.boxes.split([4, 2]), strict=True)
    ]
    outputs = {"logits": logits[0], "pred_boxes": boxes[0]}
    indices = [(query[0], torch.arange(4)), (query[1], torch.arange(2))]
    expected = criterion.loss_labels_mal(outputs, labels, indices, 6)["loss_mal"]
    assert matched.quality.min() > 0.1
    assert own.item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_gradient_of_the_divergence_is_that_of_autograd_and_0_where_nothing_differs() -> None:
    draw = torch.Generator().manual_seed(7)
    student, teacher = (torch.randn(2, 5, 33, generator=draw, dtype=torch.float64) for _ in range(2))
    student.requires_grad_()
    own = _divergence(student, teacher[:1])
    plain = F.kl_div(student.log_softmax(-1), teacher[:1].softmax(-1).expand_as(student), reduction="none").sum(-1)
    (found,) = torch.autograd.grad((own * torch.arange(5)).sum(), student)
    (expected,) = torch.autograd.grad((plain * torch.arange(5)).sum(), student)
    torch.testing.assert_close(own, plain)
    torch.testing.assert_close(found, expected)
    (nothing,) = torch.autograd.grad(_divergence(student, student.detach()).sum(), student)
    assert nothing.abs().max() == 0
