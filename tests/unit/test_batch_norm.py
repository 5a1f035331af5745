"""Frozen and synchronized batch normalisation on one process."""

import pytest
import torch
from torch import nn

from accel_det.models.layers.batch_norm import (
    BatchNormKind,
    CrossProcessBatchNorm2d,
    FrozenBatchNorm2d,
    convert_batch_norm,
)


def small_network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, eps=1e-3, momentum=0.03),
        nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, track_running_stats=False)),
    )
    network(torch.randn(2, 3, 8, 8))  # moves the running statistics away from their start
    return network


@pytest.mark.parametrize("kind", ["frozen", "synchronized"])
def test_conversion_keeps_names_values_and_settings(kind: BatchNormKind) -> None:
    network = small_network()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    converted = convert_batch_norm(network, kind)
    expected = FrozenBatchNorm2d if kind == "frozen" else CrossProcessBatchNorm2d
    norms = [m for m in converted.modules() if isinstance(m, nn.BatchNorm2d)]
    assert [type(norm) for norm in norms] == [expected] * 3
    assert (norms[0].eps, norms[0].momentum) == (1e-3, 0.03)
    after = converted.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_parameters_are_taken_over_not_copied() -> None:
    norm = nn.BatchNorm2d(4)
    converted = convert_batch_norm(norm, "synchronized")
    assert converted.weight is norm.weight
    assert converted.running_mean is norm.running_mean


def test_frozen_layers_answer_as_in_eval_mode_and_stay_as_they_are() -> None:
    network = small_network()[:2]
    images = torch.randn(2, 3, 8, 8)
    expected = network.eval()(images)
    frozen = convert_batch_norm(network.train(), "frozen").train()
    statistics = frozen[1].running_mean.clone()
    assert torch.equal(frozen(images), expected)
    assert torch.equal(frozen[1].running_mean, statistics)
    assert [name for name, p in frozen.named_parameters() if p.requires_grad] == ["0.weight", "0.bias"]


def test_one_process_gets_plain_batch_normalisation() -> None:
    images = torch.randn(2, 3, 8, 8)
    plain, synchronized = small_network(), convert_batch_norm(small_network(), "synchronized")
    assert torch.equal(plain(images), synchronized(images))
    assert torch.equal(plain[1].running_var, synchronized[1].running_var)


def test_on_cuda_the_fused_layer_of_torch_is_used() -> None:
    converted = convert_batch_norm(small_network(), "synchronized", device_type="cuda")
    assert isinstance(converted[1], nn.SyncBatchNorm)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'frozen' or 'synchronized'"):
        convert_batch_norm(small_network(), "sync")  # type: ignore[arg-type]
