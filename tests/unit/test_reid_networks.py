"""The networks for re-identification: their published numbers, their options, and the weights that they start from."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model
from transformers import Dinov2Config, Dinov2Model, ResNetConfig, ViTConfig, ViTForImageClassification, ViTModel
from transformers import ResNetModel as HubResNet

from accel_det.models import zoo
from accel_det.models.cost import count_parameters, measure
from accel_det.models.reid.deepsort import ShiftNorm
from accel_det.models.reid.ibn import InstanceBatchNorm
from accel_det.models.reid.model import ReidModel
from accel_det.models.reid.osnet import AggregationGate, Block
from accel_det.models.reid.vision_transformer import interpolate_positions
from accel_det.models.weights import load_weights
from accel_det.types import Batch, Frame, IdentityTarget


def build(name: str, *, identities: int = 0, **options: Any) -> ReidModel:
    torch.manual_seed(0)
    model = zoo.build(name, num_classes=identities, options=options)
    assert isinstance(model, ReidModel)
    return model


def pictures(height: int, width: int, *, cameras: tuple[int, ...] = (-1, -1)) -> Batch[IdentityTarget]:
    draw = torch.Generator().manual_seed(1)
    count = len(cameras)
    images = torch.randint(0, 256, (count, 3, height, width), generator=draw, dtype=torch.uint8)
    targets = [IdentityTarget(-1, camera) for camera in cameras]
    frames = [Frame(place, f"picture {place}", height, width) for place in range(count)]
    return Batch(images, torch.tensor([[height, width]] * count), targets, frames)


@torch.no_grad()
def embed(model: ReidModel, batch: Batch[IdentityTarget]) -> Tensor:
    return torch.stack(model.eval().predict(batch))


def refusal(name: str, **options: Any) -> str:
    with pytest.raises(ValueError) as error:
        build(name, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def own_names(names: list[str]) -> list[str]:
    return [name.removeprefix("network.backbone.body.") for name in names]


def test_the_network_of_deep_sort_has_the_published_parameters() -> None:
    """Wojke et al., 2017, table 1."""
    model = build("deepsort_cnn")
    assert count_parameters(model) == 2_800_864
    convolutions = (
        3 * 3 * (3 * 32 + 5 * 32 * 32 + 32 * 64 + 3 * 64 * 64 + 64 * 128 + 3 * 128 * 128) + 32 * 64 + 64 * 128
    )
    shifts_of_norms = 2 * 32 + (32 + 32 + 64 + 64 + 128) + 2 * (32 + 64 + 128) + 128
    biases = 2 * (32 + 64 + 128)
    assert convolutions + shifts_of_norms + biases + 16 * 8 * 128 * 128 == 2_800_864
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert embed(model, pictures(128, 64)).shape == (2, 128)


@pytest.mark.parametrize(
    ("name", "theirs", "expected"),
    [
        ("reid_resnet18", "resnet18", 11_176_512),
        ("reid_resnet50", "resnet50", 23_508_032),
        ("reid_resnet50_ibn", "resnet50", 23_508_032),
        ("reid_resnext50", "resnext50_32x4d", 22_979_904),
        ("reid_mobilenet_v2", "mobilenet_v2", 2_223_872),
    ],
)
def test_backbones_of_torchvision_have_its_parameters_without_those_of_the_classifier(
    name: str, theirs: str, expected: int
) -> None:
    with torch.device("meta"):
        whole = get_model(theirs, weights=None)
    classifier = sum(p.numel() for key, p in whole.named_parameters() if key.startswith(("fc.", "classifier.")))
    model = build(name)
    assert count_parameters(model.network.backbone) == count_parameters(whole) - classifier == expected
    assert count_parameters(model) == expected + 2 * model.network.channels  # scale and shift of the neck


def test_osnets_have_the_published_parameters_and_operations() -> None:
    """Zhou et al., 2019, table 1: 2.2 and 0.2 million, 978.9 and 82.3 million multiply-adds.

    The published code counts 2,193,616: a gate, which all streams of a block share, once for each of the four.
    """
    model = build("osnet_x1_0")
    gates = sum(count_parameters(part) for part in model.modules() if isinstance(part, AggregationGate))
    assert count_parameters(model) + 3 * gates == 2_193_616
    assert count_parameters(build("osnet_ain_x1_0")) == count_parameters(model)
    assert count_parameters(build("osnet_x0_25")) == pytest.approx(0.2e6, abs=0.05e6)
    assert measure("osnet_x1_0").flops / 2e6 == pytest.approx(978.9, abs=0.1)
    assert measure("osnet_x0_25").flops / 2e6 == pytest.approx(82.3, abs=0.1)


QUICK_TO_COUNT = ("deepsort_cnn", "osnet_x0_25", "reid_mobilenet_v3_small")


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK_TO_COUNT else pytest.param(name, marks=pytest.mark.slow) for name in zoo.names("reid")],
)
def test_cards_tell_parameters_and_operations_of_what_embeds(name: str) -> None:
    card, found = zoo.card(name), measure(name)
    assert found.parameters / 1e6 == pytest.approx(card.parameters_m, rel=0.001)
    assert found.flops / 1e9 == pytest.approx(card.gflops, rel=0.001)


@torch.no_grad()
def test_pixels_are_normalised_as_the_option_says() -> None:
    batch = pictures(8, 8)
    seen: list[Tensor] = []
    for kind, mean, std in (
        ("imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("half", (0.5,) * 3, (0.5,) * 3),
        ("none", (0.0,) * 3, (1.0,) * 3),
    ):
        model = build("osnet_x0_25", pixels=kind).double()
        model.network.forward = lambda pixels, cameras: seen.append(pixels)  # type: ignore[method-assign, assignment]
        model._features(batch, None)
        values = batch.images.double() / 255
        expected = (values - torch.tensor(mean).double()[:, None, None]) / torch.tensor(std).double()[:, None, None]
        assert torch.allclose(seen[-1], expected, atol=1e-6)
        assert seen[-1].is_contiguous(memory_format=torch.channels_last)
    assert batch.images.dtype == torch.uint8


@pytest.mark.parametrize("name", ["reid_resnet18", "reid_resnext50", "deepsort_resnet"])
@torch.no_grad()
def test_the_last_map_is_as_large_as_the_last_stride_says(name: str) -> None:
    """256x128 pixels; 128x64 for the network that does not halve them at once."""
    pixels = torch.zeros(1, 3, 128, 64) if name == "deepsort_resnet" else torch.zeros(1, 3, 256, 128)
    for stride in (1, 2):
        body = build(name, last_stride=stride).eval().network.backbone.body
        body.avgpool = nn.Flatten()
        assert body(pixels).shape == (1, body.layer4[-1].conv2.out_channels * 16 * 8 // stride**2 * _WIDER[name])


_WIDER = {"reid_resnet18": 1, "deepsort_resnet": 1, "reid_resnext50": 2}
"""Channels that leave the last block, by those of its 3x3 convolution."""


def test_a_resnet_without_its_classifier_computes_what_torchvision_computes(tmp_path: Path) -> None:
    """Its file loads by its own names: everything but what classifies."""
    torch.manual_seed(5)
    theirs = get_model("resnet18", weights=None).eval()
    save_file(theirs.state_dict(), tmp_path / "resnet18.safetensors")
    model = build("reid_resnet18", identities=3, last_stride=2, neck="bn").eval()
    report = load_weights(model, tmp_path / "resnet18.safetensors")
    assert sorted(own_names(report.unexpected)) == ["fc.bias", "fc.weight"]
    assert report.mismatched == []
    assert len(report.matched) == len(theirs.state_dict()) - 2
    assert all(key.startswith(("network.neck.", "heads.")) for key in report.missing)
    theirs.fc = nn.Identity()  # type: ignore[assignment]
    pixels = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(model.network.backbone(pixels), theirs(pixels), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "theirs", "unexpected"),
    [
        ("reid_mobilenet_v3_small", "mobilenet_v3_small", "classifier."),
        ("deepsort_resnet", "resnet18", "fc."),
        ("reid_backbone", "shufflenet_v2_x0_5", "fc."),
    ],
)
def test_files_of_torchvision_load_by_their_own_names(tmp_path: Path, name: str, theirs: str, unexpected: str) -> None:
    state = get_model(theirs, weights=None).state_dict()
    save_file(state, tmp_path / "theirs.safetensors")
    options = {"backbone": f"torchvision:{theirs}"} if name == "reid_backbone" else {}
    report = load_weights(build(name, **options), tmp_path / "theirs.safetensors")
    assert report.unexpected and all(key.startswith(unexpected) for key in own_names(report.unexpected))
    # The 512-d network of Deep SORT begins with another convolution.
    expected = ["network.backbone.body.conv1.weight"] if name == "deepsort_resnet" else []
    assert [one.partition(" ")[0] for one in report.mismatched] == expected
    assert len(report.matched) == len(state) - len(report.unexpected) - len(expected)


def test_half_of_a_norm_of_the_first_three_stages_looks_at_the_picture_alone() -> None:
    body = build("reid_resnet50_ibn").network.backbone.body
    found = {name for name, module in body.named_modules() if isinstance(module, InstanceBatchNorm)}
    stages = {1: 3, 2: 4, 3: 6}
    assert found == {f"layer{stage}.{block}.bn1" for stage, blocks in stages.items() for block in range(blocks)}
    assert len({key for key in body.state_dict() if ".bn1.IN." in key}) == 2 * len(found)  # as in the published files
    plain = build("reid_resnet18", ibn=True).network.backbone.body
    assert sum(isinstance(module, InstanceBatchNorm) for module in plain.modules()) == 6
    assert zoo.option_table("reid_resnet101_ibn")["ibn"] == ("bool", True)


def test_each_stream_of_an_omni_scale_block_sees_one_pixel_further() -> None:
    block = Block(8, 64).double().eval()
    for depth, stream in enumerate(block._streams(), start=1):
        given = torch.rand(1, 16, 15, 15, dtype=torch.float64).requires_grad_()
        for module in stream.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.constant_(module.weight, 1.0)
        stream(given)[0, :, 7, 7].sum().backward()
        assert given.grad is not None
        rows, columns = given.grad[0].abs().sum(0).nonzero(as_tuple=True)
        assert (int(rows.min()), int(rows.max())) == (7 - depth, 7 + depth)
        assert (int(columns.min()), int(columns.max())) == (7 - depth, 7 + depth)


def test_an_omni_scale_block_adds_its_gated_streams() -> None:
    block = Block(8, 64).double().eval()
    given = torch.randn(2, 8, 6, 4, dtype=torch.float64)
    inside = block.conv1(given)
    total = torch.zeros_like(inside)
    for stream in (block.conv2a, block.conv2b, block.conv2c, block.conv2d):
        maps = stream(inside)
        hidden = block.gate.fc1(maps.mean((2, 3), keepdim=True)).clamp(min=0)
        total += maps * torch.sigmoid(block.gate.fc2(hidden))
    assert block.downsample is not None
    expected = (block.conv3(total) + block.downsample(given)).clamp(min=0)
    assert torch.allclose(block(given), expected, atol=1e-12)


def test_osnets_bear_the_names_of_the_published_weights() -> None:
    plain = {key.removeprefix("network.backbone.body.") for key in build("osnet_x1_0").state_dict()}
    assert plain >= {
        *("conv1.conv.weight", "conv1.bn.running_mean", "conv2.0.conv1.conv.weight", "conv2.0.conv2a.conv1.weight"),
        *(
            "conv2.0.conv2d.3.bn.weight",
            "conv2.0.gate.fc1.bias",
            "conv2.0.conv3.bn.weight",
            "conv2.0.downsample.conv.weight",
        ),
        *("conv2.2.0.conv.weight", "conv3.2.0.bn.bias", "conv4.1.conv1.conv.weight", "conv5.conv.weight"),
        *("fc.0.weight", "fc.0.bias", "fc.1.running_var"),
    }
    assert not any(key.startswith("conv4.2") for key in plain)
    searched = {key.removeprefix("network.backbone.body.") for key in build("osnet_ain_x1_0").state_dict()}
    assert searched >= {
        *("conv1.bn.weight", "conv2.0.conv2.3.layers.3.conv2.weight", "conv2.0.IN.weight", "conv2.1.IN.bias"),
        *(
            "pool2.0.conv.weight",
            "conv3.0.conv3.bn.weight",
            "conv3.1.IN.weight",
            "conv4.0.IN.weight",
            "conv4.1.conv3.bn.bias",
        ),
    }
    assert not searched & {"conv1.bn.running_mean", "conv2.0.conv3.bn.weight", "conv3.0.IN.weight", "conv4.1.IN.weight"}


def test_the_network_of_deep_sort_takes_one_size_of_pictures_and_says_so() -> None:
    model = build("deepsort_cnn")
    with pytest.raises(
        ValueError, match=r"^pictures of 256x128 pixels: .* made for 128x64; .*input_px to \[256, 128\]$"
    ):
        embed(model, pictures(256, 128))
    assert embed(build("deepsort_cnn", input_px=[61.0, 30.0]), pictures(61, 30)).shape == (2, 128)


def test_a_norm_without_scale_keeps_its_statistics_where_its_shift_is_frozen() -> None:
    norm = ShiftNorm(nn.BatchNorm2d(3, affine=False))
    given = torch.randn(4, 3, 2, 2) + 5
    norm.train()(given)
    assert norm.norm.running_mean is not None
    moved = norm.norm.running_mean.clone()
    assert moved.abs().min() > 0.1
    norm.bias.requires_grad_(False)
    norm.train()(given)
    assert torch.equal(norm.norm.running_mean, moved)


_TINY: Mapping[str, Any] = {"hidden_size": 384, "num_hidden_layers": 2, "num_attention_heads": 6, "image_size": 32}


def save_vit(folder: Path) -> ViTModel:
    torch.manual_seed(7)
    theirs = ViTForImageClassification(ViTConfig(**_TINY, intermediate_size=64, patch_size=16, num_labels=5))
    theirs.save_pretrained(folder)
    return theirs.vit.eval()


def save_dinov2(folder: Path) -> Dinov2Model:
    torch.manual_seed(7)
    theirs = Dinov2Model(Dinov2Config(**_TINY, mlp_ratio=1, patch_size=14, layerscale_value=0.5))
    theirs.save_pretrained(folder)
    return theirs.eval()


@torch.no_grad()
def test_stored_vision_transformers_compute_what_transformers_computes(tmp_path: Path) -> None:
    vit, dinov2 = save_vit(tmp_path / "vit"), save_dinov2(tmp_path / "dinov2")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for name, theirs in (("reid_vit_small", vit), ("reid_dinov2_small", dinov2)):
        folder = str(tmp_path / theirs.config.model_type)
        model = build(name, pretrained=folder, input_px=[32.0, 32.0]).eval()
        expected = theirs(pixels).last_hidden_state
        assert torch.allclose(model.network.backbone.body(pixels, None), expected, atol=1e-5)
        pooled = build(name, pretrained=folder, input_px=[32.0, 32.0], pooling="avg").eval()
        assert torch.allclose(pooled.network.backbone(pixels), expected[:, 1:].mean(1), atol=1e-5)
        assert model.loading_report.startswith(f"pretrained {folder}: ")
    # Other sizes: transformers interpolates the square grid on the way; here it is stored so.
    tall = torch.randn(1, 3, 70, 28, generator=torch.Generator().manual_seed(0))
    model = build("reid_dinov2_small", pretrained=str(tmp_path / "dinov2"), input_px=[70.0, 28.0]).eval()
    assert torch.allclose(model.network.backbone.body(tall, None), dinov2(tall).last_hidden_state, atol=1e-5)


@torch.no_grad()
def test_patches_that_overlap_have_a_position_each_and_other_sizes_are_interpolated() -> None:
    model = build("reid_vit_small", num_layers=1, stride_px=12).eval()
    body = model.network.backbone.body
    rows, columns = (256 - 16) // 12 + 1, (128 - 16) // 12 + 1
    assert body.embeddings.position_embeddings.shape == (1, 1 + rows * columns, 384)  # type: ignore[union-attr]
    assert body(torch.zeros(1, 3, 256, 128), None).shape == (1, 1 + 21 * 10, 384)
    assert body(torch.zeros(1, 3, 64, 40), None).shape == (1, 1 + 5 * 3, 384)
    with pytest.raises(ValueError, match=r"^pictures of 64x8 pixels: a patch of this network has 16x16"):
        model.predict(pictures(64, 8))


def test_interpolated_positions_keep_the_class_token_and_are_bicubic() -> None:
    """Keys, Cubic Convolution Interpolation, 1981, with a = -0.75; rows are twice as many, columns stay."""

    def weight(distance: float, a: float = -0.75) -> float:
        if distance <= 1:
            return (a + 2) * distance**3 - (a + 3) * distance**2 + 1
        return a * (distance**3 - 5 * distance**2 + 8 * distance - 4) if distance < 2 else 0.0

    positions = torch.randn(1, 1 + 6 * 4, 2, dtype=torch.float64)
    assert interpolate_positions(positions, (6, 4), (6, 4)) is positions
    found = interpolate_positions(positions, (6, 4), (12, 4))
    assert found.shape == (1, 1 + 12 * 4, 2)
    assert torch.equal(found[0, 0], positions[0, 0])
    old, new = positions[0, 1:].reshape(6, 4, 2), found[0, 1:].reshape(12, 4, 2)
    for row in range(12):
        place = (row + 0.5) / 2 - 0.5
        near = range(math.floor(place) - 1, math.floor(place) + 3)
        expected = torch.stack([weight(abs(place - one)) * old[min(max(one, 0), 5)] for one in near]).sum(0)
        assert torch.allclose(new[row], expected, atol=1e-12)


def test_a_known_camera_moves_the_embedding_and_an_unknown_one_adds_nothing() -> None:
    options = {"num_layers": 1, "input_px": [32.0, 32.0]}
    model = build("reid_vit_small", camera_embedding=3.0, num_cameras=2, **options)
    plain = build("reid_vit_small", **options)
    plain.load_state_dict(model.state_dict(), strict=False)
    found = embed(model, pictures(32, 32, cameras=(-1, 5)))
    assert torch.equal(found, embed(plain, pictures(32, 32, cameras=(0, 1))))  # which is told no cameras
    seen = embed(model, pictures(32, 32, cameras=(0, 1)))
    assert (seen - found).norm(dim=1).min() > 1e-3
    tokens = model.network.backbone.body.embeddings
    pixels = torch.zeros(3, 3, 32, 32)
    with torch.no_grad():
        added = tokens(pixels, torch.tensor([1, 0, -1])) - tokens(pixels, torch.tensor([-1, -1, -1]))  # type: ignore[operator]
    vectors = 3.0 * model.state_dict()["network.backbone.body.embeddings.cameras.weight"]
    expected = torch.stack((vectors[1], vectors[0], torch.zeros(384)))
    assert torch.allclose(added, expected[:, None].expand_as(added), atol=1e-6)


def test_an_export_of_a_network_from_stored_weights_needs_them_no_more(tmp_path: Path) -> None:
    save_vit(tmp_path / "vit")
    torch.manual_seed(0)
    HubResNet(ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")).save_pretrained(
        tmp_path / "resnet"
    )
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("reid_vit_small", {"pretrained": str(tmp_path / "vit"), "input_px": [32.0, 32.0], "num_layers": 1}),
        ("reid_backbone", {"backbone": f"transformers:{tmp_path / 'resnet'}"}),
    )
    for name, options in cases:
        model = build(name, **options)
        lasting = model.lasting_options(options)
        assert str(tmp_path) not in json.dumps(dict(lasting))
        other = build(name, **lasting)
        other.load_state_dict(model.state_dict(), strict=True)
        batch = pictures(32, 32)
        assert torch.equal(embed(other, batch), embed(model, batch))
    assert build("reid_vit_small", num_layers=1).lasting_options({"num_layers": 1}) == {"num_layers": 1}


@torch.no_grad()
def test_any_classifier_of_torchvision_gives_what_its_classifier_read() -> None:
    model = build("reid_backbone", backbone="torchvision:efficientnet_b0").eval()
    torch.manual_seed(0)
    theirs = get_model("efficientnet_b0", weights=None).eval()
    theirs.load_state_dict(model.network.backbone.body.state_dict(), strict=False)
    theirs.classifier = nn.Identity()
    pixels = torch.randn(2, 3, 64, 32)
    assert model.network.channels == 1280
    assert torch.allclose(model.network.backbone(pixels), theirs(pixels), atol=1e-6)


@pytest.mark.parametrize("name", ["squeezenet1_1", "mnasnet0_5", pytest.param("googlenet", marks=pytest.mark.slow)])
def test_classifiers_of_every_make_are_taken_off(name: str) -> None:
    model = build("reid_backbone", backbone=f"torchvision:{name}")
    found = embed(model, pictures(64, 64))
    assert found.shape == (2, {"squeezenet1_1": 512, "mnasnet0_5": 1280, "googlenet": 1024}[name])
    assert not any(p.numel() == 1000 for p in model.parameters())


@pytest.mark.slow
def test_a_network_of_one_size_says_which() -> None:
    model = build("reid_backbone", backbone="torchvision:vit_b_32")
    with pytest.raises(
        ValueError, match=r"^pictures of 256x128 pixels: VisionTransformer of torchvision takes 224x224 alone"
    ):
        embed(model, pictures(256, 128))


def test_what_a_feature_does_not_depend_on_is_not_trained() -> None:
    config = Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    model = build("reid_backbone", backbone="transformers:dinov2", configuration=config.to_json_string())
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == ["network.backbone.body.embeddings.mask_token", "network.neck.bias"]
    assert embed(model, pictures(56, 28)).shape == (2, 16)


def test_a_pooler_without_weights_is_left_out(tmp_path: Path) -> None:
    vit = save_vit(tmp_path)
    model = build("reid_backbone", backbone=f"transformers:{tmp_path}").eval()
    assert not any("pooler" in name for name, _ in model.named_parameters())
    assert "classifier" in model.loading_report and "missing" not in model.loading_report
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = vit(pixels).last_hidden_state.mean(1)
        assert torch.allclose(model.network.backbone(pixels), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("reid_resnet18", {"last_stride": 3}, "last_stride is 3"),
        ("reid_resnet18", {"embedding_channels": -1}, "embedding_channels is -1, expected at least 1, or 0"),
        ("reid_resnet18", {"dropout": 1.0}, r"dropout is 1.0, expected a number in [0, 1)"),
        ("reid_resnet18", {"camera_embedding": 3.0}, "has no option `camera_embedding`"),
        ("reid_vit_small", {"camera_embedding": 3.0}, "no picture of the training data has a camera"),
        ("reid_vit_small", {"revision": "main"}, "revision is 'main' without pretrained"),
        ("reid_vit_small", {"num_layers": 13}, "num_layers is 13, but reid_vit_small has 12"),
        (
            "reid_vit_small",
            {"pretrained": "/no/such/folder"},
            "pretrained: /no/such/folder: no network in the Hub's format",
        ),
        ("reid_vit_small", {"configuration": "{}"}, "configuration: not one of transformers"),
        (
            "deepsort_cnn",
            {"input_px": [128.0, 4.0]},
            "input_px is [128, 4], expected height and width, at least 8 each",
        ),
        ("reid_backbone", {"backbone": "resnet50"}, "backbone is 'resnet50', expected torchvision:NAME"),
        ("reid_backbone", {"backbone": "torchvision:resnet5"}, "no network `resnet5`; did you mean `resnet5"),
        ("reid_backbone", {"backbone": "transformers:convnex"}, "no folder `convnex`, and transformers has no type"),
        (
            "reid_backbone",
            {"backbone": "torchvision:resnet18", "revision": "x"},
            "revision is for backbones of transformers",
        ),
    ],
)
def test_what_cannot_be_built_is_refused_with_what_to_do(name: str, options: Mapping[str, Any], message: str) -> None:
    assert message in refusal(name, **options)


def test_stored_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_vit(tmp_path / "vit")
    assert "holds a vit of 384 channels, but reid_vit_base is a vit of 768" in refusal(
        "reid_vit_base", pretrained=str(tmp_path / "vit")
    )
    (tmp_path / "vit" / "model.safetensors").write_bytes(b"damaged")
    assert "its weights cannot be read" in refusal("reid_vit_small", pretrained=str(tmp_path / "vit"))


def test_a_network_that_takes_words_is_refused(tmp_path: Path) -> None:
    tiny = {"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 10}
    assert "takes input_ids, expected a network that takes pictures alone" in refusal(
        "reid_backbone", backbone="transformers:bert", configuration=json.dumps(tiny)
    )
