"""Vision transformers and backbones of any make for re-identification, their stored weights, and what is refused."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from reid_cases import build, embed, pictures, refusal
from torch import nn
from torchvision.models import get_model
from transformers import Dinov2Config, Dinov2Model, ResNetConfig, ViTConfig, ViTForImageClassification, ViTModel
from transformers import ResNetModel as HubResNet

from accel_det.models.reid.vision_transformer import interpolate_positions

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
        ("reid_backbone", {"backbone": f"transformers:{tmp_path / 'vit'}"}),
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
