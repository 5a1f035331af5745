"""What every network for re-identification promises."""

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from accel_det.models import zoo
from accel_det.models.base import Inference
from accel_det.models.reid.model import ReidModel, WithMirror, without_heads
from accel_det.models.zoo import OptionValue
from accel_det.types import Batch, Frame, IdentityTarget

NUM_IDENTITIES = 4
HEIGHT, WIDTH = 64, 32
LABELS = (0, 0, 1, 1, 2, 2, 0, 0)
GROUP = 4  # the second group shows identity 2 and 0

_ONE_LAYER: Mapping[str, OptionValue] = {"num_layers": 1, "input_px": [64, 32]}
_OPTIONS: dict[str, Mapping[str, OptionValue]] = {
    "deepsort_cnn": {"input_px": [64, 32]},
    "reid_vit_small": {**_ONE_LAYER, "camera_embedding": 3.0, "num_cameras": 2},
    "reid_vit_base": {**_ONE_LAYER, "stride_px": 12, "pooling": "avg"},
    "reid_dinov2_small": {**_ONE_LAYER, "pooling": "max"},
    "reid_dinov2_base": {**_ONE_LAYER, "camera_embedding": 1.0, "num_cameras": 1},
    "reid_backbone": {"backbone": "torchvision:shufflenet_v2_x0_5"},
}
"""What makes a network small, or has more in it; others are built as they are."""

_QUICK = {"deepsort_cnn", "reid_resnet18", "osnet_x0_25", "osnet_ain_x1_0", "reid_mobilenet_v3_small", "reid_vit_small"}
_QUICK |= {"reid_backbone"}
NETWORKS = [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in zoo.names("reid")]


def build(name: str, *, identities: int = NUM_IDENTITIES, seed: int = 0, **options: OptionValue) -> ReidModel:
    torch.manual_seed(seed)
    settings = {**_OPTIONS.get(name, {}), **options}
    model = zoo.build(name, num_classes=identities, options=settings, inference=Inference())
    assert isinstance(model, ReidModel)
    return model


def batch_of(labels: tuple[int, ...] = LABELS, *, seed: int = 3) -> Batch[IdentityTarget]:
    """Random pixels; every third picture is of an unknown camera, the others of two."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (len(labels), 3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)
    targets = [IdentityTarget(label, camera=place % 3 - 1) for place, label in enumerate(labels)]
    frames = [Frame(place, f"picture {place}", HEIGHT, WIDTH) for place in range(len(labels))]
    return Batch(images, torch.tensor([[HEIGHT, WIDTH]] * len(labels)), targets, frames)


def part(batch: Batch[IdentityTarget], *places: int) -> Batch[IdentityTarget]:
    chosen = list(places)
    return Batch(
        batch.images[chosen],
        batch.sizes[chosen],
        [batch.targets[place] for place in chosen],
        [batch.frames[place] for place in chosen],
    )


@torch.no_grad()
def embed(model: torch.nn.Module, batch: Batch[IdentityTarget]) -> Tensor:
    found: list[Tensor] = model(batch)
    return torch.stack(found)


def backward(model: ReidModel, batch: Batch[IdentityTarget]) -> None:
    model.zero_grad(set_to_none=True)
    losses = model.losses(batch)
    assert losses
    assert all(term.sum.isfinite() and not term.count.requires_grad for term in losses.values())
    torch.stack([term.sum / term.count.clamp(min=1) for term in losses.values()]).sum().backward()


def check_gradients(model: ReidModel, batch: Batch[IdentityTarget]) -> None:
    backward(model, batch)
    trained = {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert [key for key, parameter in trained.items() if parameter.grad is None] == []
    assert [key for key, p in trained.items() if p.grad is not None and not p.grad.isfinite().all()] == []


@pytest.fixture(scope="module", params=NETWORKS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def network(name: str) -> ReidModel:
    """With statistics as training leaves them: those of a fresh norm would hide whether they are used."""
    model = build(name)
    draw = torch.Generator().manual_seed(4)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            assert module.running_var is not None
            module.running_mean.add_(0.1 * torch.randn(module.num_features, generator=draw))
            module.running_var.mul_(0.5 + torch.rand(module.num_features, generator=draw))
    return model


def test_losses_are_finite_and_give_every_trained_parameter_a_gradient(name: str, network: ReidModel) -> None:
    check_gradients(network.train(), batch_of())
    backward(network, batch_of((1, 1, 1, 1)))  # nobody to be told apart from


def test_counts_that_are_known_beforehand_are_those_of_the_losses(name: str, network: ReidModel) -> None:
    batch = batch_of()
    with torch.no_grad():
        found = network.train().losses(batch)
    known = network.counts(batch)
    assert {key: count.item() for key, count in known.items()} == {key: one.count.item() for key, one in found.items()}
    assert found["identity"].count.item() == len(LABELS)


def test_embeddings_are_of_unit_length_and_depend_on_no_other_picture_and_on_no_identity(
    name: str, network: ReidModel
) -> None:
    batch = batch_of()
    found = embed(network.eval(), batch)
    assert found.shape == (len(LABELS), network.network.channels)
    assert found.dtype == torch.float32
    assert torch.allclose(found.norm(dim=1), torch.ones(len(LABELS)), atol=1e-6)
    for places in ((2,), (5, 1), (7, 6, 5, 4, 3, 2, 1, 0)):
        assert torch.allclose(embed(network, part(batch, *places)), found[list(places)], atol=1e-5)
    unknown = batch._replace(targets=[IdentityTarget(-1, target.camera) for target in batch.targets])
    assert torch.equal(embed(network, unknown), found)


def test_a_network_that_is_left_in_train_mode_embeds_the_same_and_learns_nothing_from_it(
    name: str, network: ReidModel
) -> None:
    batch = batch_of()
    expected = embed(network.eval(), batch)
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with torch.no_grad():
        found = torch.stack(network.train().predict(batch))
    assert torch.equal(found, expected)
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())
    assert all(module.training for module in network.network.modules())


def test_losses_and_embeddings_are_float32_and_finite_under_bfloat16_autocast(name: str, network: ReidModel) -> None:
    batch = batch_of()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = network.train().losses(batch)
        found = embed(network.eval(), batch)
    assert all(term.sum.dtype == torch.float32 and term.sum.isfinite() for term in losses.values())
    assert found.dtype == torch.float32
    assert torch.allclose(found.norm(dim=1), torch.ones(len(LABELS)), atol=1e-6)


def test_a_network_built_again_to_embed_alone_from_what_is_exported_embeds_the_same(
    name: str, network: ReidModel
) -> None:
    exported = without_heads(network.state_dict())
    assert 0 < len(exported) < len(network.state_dict())
    other = build(name, identities=0, seed=9).eval()
    other.load_state_dict(exported, strict=True)
    batch = batch_of()
    assert torch.equal(embed(other, batch), embed(network.eval(), batch))
    with pytest.raises(ValueError, match=r"built for 0 identities: it embeds, and cannot be trained"):
        other.losses(batch)


def test_every_parameter_of_the_backbone_is_in_a_layer_and_the_layers_follow_each_other(
    name: str, network: ReidModel
) -> None:
    layers = {key: network.layer_of(key) for key, _ in network.named_parameters()}
    backbone = {key: layer for key, layer in layers.items() if key.startswith("network.backbone.")}
    assert None not in backbone.values()
    numbers = [layer for layer in backbone.values() if layer is not None]
    assert set(numbers) == set(range(max(numbers) + 1))
    assert len(set(numbers)) >= 2
    assert {layer for key, layer in layers.items() if key not in backbone} == {None}
    first, last = next(iter(backbone.values())), list(backbone.values())[-1]
    assert (first, last) == (0, max(numbers))


def test_the_quick_networks_cover_every_module() -> None:
    from accel_det.models.reid.model import NAMES

    assert {*NAMES} == {*zoo.names("reid")}
    assert {NAMES[name] for name in _QUICK} == set(NAMES.values())


_IDENTITY = ("softmax", "cosine_softmax", "arcface", "cosface", "none")
_METRIC = ("none", "triplet", "triplet_soft", "triplet_weighted", "circle", "magnet")
COMBINATIONS = [
    (identity, metric, center)
    for identity, metric, center in itertools.product(_IDENTITY, _METRIC, (0.0, 0.01))
    if (identity, metric, center) != ("none", "none", 0.0) and (center == 0 or metric in ("none", "triplet"))
]


@pytest.mark.parametrize(("identity_loss", "metric_loss", "center_weight"), COMBINATIONS)
def test_every_combination_of_losses_trains_every_parameter(
    identity_loss: str, metric_loss: str, center_weight: float
) -> None:
    losses: dict[str, Any] = {
        "identity_loss": identity_loss,
        "metric_loss": metric_loss,
        "center_weight": center_weight,
        "group_images": GROUP,
    }
    model = build("osnet_x0_25", neck="bn", embedding_channels=16, pooling="gem", **losses).train()
    check_gradients(model, batch_of())
    assert set(model.counts(batch_of())) == {
        *({"identity", "error"} if identity_loss != "none" else ()),
        *({"metric"} if metric_loss != "none" else ()),
        *({"center"} if center_weight else ()),
    }


CHOICES: list[Mapping[str, OptionValue]] = [
    {"neck": "none"},
    {"neck": "none", "embedding_channels": 8, "embedding": "before_neck"},
    {"embedding": "before_neck", "dropout": 0.5},
    {"pooling": "max", "pixels": "none", "last_stride": 2},
    {"pooling": "gem", "ibn": True, "label_smoothing": 0.1},
    {"identity_loss": "none", "metric_loss": "circle", "embedding_channels": 8},
]


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_every_choice_trains_every_parameter_and_embeds(options: Mapping[str, OptionValue]) -> None:
    model = build("reid_resnet18", **options).train()
    check_gradients(model, batch_of())
    found = embed(model.eval(), batch_of())
    assert found.shape[1] == options.get("embedding_channels", 512)
    assert torch.allclose(found.norm(dim=1), torch.ones(len(LABELS)), atol=1e-6)


def test_the_mirror_makes_an_embedding_that_both_sides_share() -> None:
    model = WithMirror(build("osnet_x0_25").eval())
    batch = batch_of()
    mirrored = batch._replace(images=batch.images.flip(-1))
    found = embed(model, batch)
    assert torch.allclose(found, embed(model, mirrored), atol=1e-6)
    assert torch.allclose(found.norm(dim=1), torch.ones(len(LABELS)), atol=1e-6)
    one, other = embed(model.model, batch), embed(model.model, mirrored)
    expected = (one + other) / (one + other).norm(dim=1, keepdim=True)
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(found, one, atol=1e-3)
    assert set(model.train()(batch)) == {"identity", "error"}


def test_an_identity_that_the_training_data_does_not_have_is_refused_by_the_name_of_the_picture() -> None:
    model = build("osnet_x0_25").train()
    with pytest.raises(ValueError, match=r"^picture 1: its identity has number 4, expected one in \[0, 4\)"):
        model.losses(batch_of((0, 4)))
    with pytest.raises(ValueError, match=r"^picture 0: its identity has number -1"):
        model.counts(batch_of((-1, 0)))


SINGLES = ["reid_resnet18", pytest.param("deepsort_resnet", marks=pytest.mark.slow), "reid_mobilenet_v3_small"]


@pytest.mark.parametrize("name", SINGLES)
def test_the_gradient_of_one_picture_through_live_norms_is_that_of_plain_arithmetic(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a CPU, torch's own is wrong where the layouts of map and gradient differ: see tests/canary."""

    def gradient() -> Tensor:
        torch.manual_seed(1)
        model = build(name, neck="none", metric_loss="none").double().train()
        backward(model, batch_of((1,)))
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    found = gradient()
    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.functional, "batch_norm", _plain_batch_norm)
        plain = gradient()
    assert float((found - plain).norm()) <= 1e-8 * float(plain.norm())


def _plain_batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor,
    bias: Tensor,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    assert training
    mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0)
    scale = weight / (variance + eps).sqrt()
    return (x - mean[:, None, None]) * scale[:, None, None] + bias[:, None, None]
