"""The convolutional networks for re-identification: their published numbers, structure, and the weights they start from."""

from pathlib import Path

import pytest
import torch
from reid_cases import build, embed, pictures
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import get_model

from accel_det.models import zoo
from accel_det.models.cost import count_parameters, measure
from accel_det.models.reid.deepsort import ShiftNorm
from accel_det.models.reid.ibn import InstanceBatchNorm
from accel_det.models.reid.osnet import AggregationGate, Block
from accel_det.models.weights import load_weights


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
