"""The DETR family beside transformers itself: answers, folders, frozen parts, crowded images."""

import inspect
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from transformers.models.auto import modeling_auto
from transformers_cases import KINDS_TO_TEST, build_tiny, scene
from zoo_cases import case

from accel_det.models import zoo
from accel_det.models.base import Inference
from accel_det.models.transformers import matching
from accel_det.models.transformers.construction import TransformersOptions
from accel_det.models.transformers.decoding import detections
from accel_det.models.transformers.kinds import KINDS
from accel_det.models.transformers.sizes import SIZES
from accel_det.types import BoxTarget

NOT_TRAINABLE = "transformers has no loss for it: its forward pass refuses labels"
NO_BOXES = "finds text as a map of probabilities, without boxes, classes or labels"
LEFT_OUT = {
    "pp_doclayout_v2": NOT_TRAINABLE,
    "pp_doclayout_v3": NOT_TRAINABLE,
    "pp_doclayout_v4": NOT_TRAINABLE,
    "pp_ocrv5_mobile_det": NO_BOXES,
    "pp_ocrv5_server_det": NO_BOXES,
    "pp_ocrv6_medium_det": NO_BOXES,
    "pp_ocrv6_small_det": NO_BOXES,
}
SIGMOID_PROCESSORS = ("ConditionalDetrImageProcessor", "DeformableDetrImageProcessor", "RTDetrImageProcessor")


def test_every_type_has_a_card_and_every_card_a_size() -> None:
    cards = {name for name in zoo.names() if zoo.card(name).family == "transformers.build"}
    assert cards == set(SIZES)
    assert {SIZES[name].kind for name in cards} == set(KINDS)
    assert all(zoo.card(name).multiple_px == SIZES[name].multiple_px for name in cards)


def test_every_type_that_transformers_detects_objects_with_is_here_or_left_out_for_a_reason() -> None:
    """One that a new version brings fails here: adapt it, or add it with its reason."""
    types = set(modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES)
    ours = {kind.model_type for kind in KINDS.values()}
    assert ours | set(LEFT_OUT) == types
    assert not ours & set(LEFT_OUT)


def test_what_is_left_out_cannot_be_trained_by_transformers_itself() -> None:
    for name, reason in LEFT_OUT.items():
        network = getattr(transformers, modeling_auto.MODEL_FOR_OBJECT_DETECTION_MAPPING_NAMES[name])
        source = inspect.getsource(network.forward)
        assert ("does not support training" in source) == (reason == NOT_TRAINABLE), name
        assert ("labels" in inspect.signature(network.forward).parameters) == (reason == NOT_TRAINABLE), name


@pytest.mark.slow
@pytest.mark.parametrize("name", tuple(SIZES))
def test_a_card_tells_the_number_of_parameters_with_80_classes(name: str) -> None:
    with torch.device("meta"):
        size = SIZES[name]
        backbone, settings = dict(size.backbone), dict(size.settings)
        if backbone:
            settings["backbone_config"] = transformers.AutoConfig.for_model(backbone.pop("model_type"), **backbone)
        config = transformers.AutoConfig.for_model(KINDS[size.kind].model_type, num_labels=80, **settings)
        network = transformers.AutoModelForObjectDetection.from_config(config)  # type: ignore[no-untyped-call]
    found = sum(parameter.numel() for parameter in network.parameters()) / 1e6
    assert found == pytest.approx(zoo.card(name).parameters_m, abs=0.06)


@pytest.mark.parametrize("processor", SIGMOID_PROCESSORS)
def test_sigmoid_detections_are_those_of_the_image_processors(processor: str) -> None:
    logits, boxes = torch.randn(2, 30, 4), torch.rand(2, 30, 4) * 0.3 + 0.3
    frames = torch.tensor([[200.0, 300.0], [120.0, 80.0]])
    found = detections(
        logits, boxes, frames=frames, no_object=False, inference=Inference(score_threshold=0.3, max_detections=30)
    )
    output = SimpleNamespace(logits=logits, pred_boxes=boxes)
    reading = getattr(transformers, processor)()
    few = {} if processor.startswith("RT") else {"top_k": 30}
    expected = reading.post_process_object_detection(output, threshold=0.3, target_sizes=frames, **few)
    for one, other in zip(found, expected, strict=True):
        assert len(one.scores) > 5
        torch.testing.assert_close(one.scores, other["scores"])
        torch.testing.assert_close(one.boxes, other["boxes"].clamp(min=0))
        assert torch.equal(one.labels, other["labels"])


def test_softmax_detections_are_those_of_the_image_processor_best_first() -> None:
    logits, boxes = 2 * torch.randn(2, 30, 5), torch.rand(2, 30, 4) * 0.3 + 0.3
    frames = torch.tensor([[200.0, 300.0], [120.0, 80.0]])
    found = detections(
        logits, boxes, frames=frames, no_object=True, inference=Inference(score_threshold=0.3, max_detections=30)
    )
    output = SimpleNamespace(logits=logits, pred_boxes=boxes)
    expected = transformers.DetrImageProcessor().post_process_object_detection(
        output, threshold=0.3, target_sizes=frames
    )
    for one, other in zip(found, expected, strict=True):
        order = other["scores"].argsort(descending=True)
        assert len(order) > 5
        torch.testing.assert_close(one.scores, other["scores"][order])
        torch.testing.assert_close(one.boxes, other["boxes"][order].clamp(min=0))
        assert torch.equal(one.labels, other["labels"][order])


def test_pixels_and_mask_are_those_of_the_image_processor() -> None:
    """Two images of different sizes, padded to one, as `DetrImageProcessor` pads and normalises them."""
    model = build_tiny("detr_resnet50")
    batch = scene((1, 1), size_px=64)
    sizes = torch.tensor([[64, 48], [40, 64]])
    batch = batch._replace(sizes=sizes)
    images = [image[:, : int(size[0]), : int(size[1])] for image, size in zip(batch.images, sizes, strict=True)]
    processor = transformers.DetrImageProcessor(do_resize=False)
    expected = processor(images=images, return_tensors="pt")
    torch.testing.assert_close(model._pixels(batch), expected["pixel_values"], atol=1e-6, rtol=0)
    assert torch.equal(model._mask(batch)["pixel_mask"], expected["pixel_mask"])


SAVED = [name if name == "rtdetr_v2_resnet18" else pytest.param(name, marks=pytest.mark.slow) for name in KINDS_TO_TEST]


@pytest.mark.parametrize("name", SAVED)
def test_a_saved_network_loads_in_plain_transformers_and_says_the_same(name: str, tmp_path: Path) -> None:
    model = build_tiny(name).eval()
    _move(model)
    model.save_native(tmp_path, classes=["cat", "dog", "owl"], size_px=64)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["config.json", "model.safetensors", "preprocessor_config.json"]
    other = transformers.AutoModelForObjectDetection.from_pretrained(tmp_path, trust_remote_code=False).eval()
    assert other.config.id2label == {0: "cat", 1: "dog", 2: "owl"}
    batch = scene((2, 0), size_px=64)
    with torch.no_grad():
        inputs = {"pixel_values": model._pixels(batch), **model._mask(batch)}
        own, plain = model.network(**inputs), other(**inputs)
    assert (own.logits - plain.logits).abs().max() <= 1e-5
    assert (own.pred_boxes - plain.pred_boxes).abs().max() <= 1e-5


def test_a_stored_network_is_loaded_with_heads_for_the_classes_of_the_data(tmp_path: Path) -> None:
    model = build_tiny("rtdetr_v2_resnet18")
    _move(model)
    model.save_native(tmp_path, classes=["cat", "dog", "owl"], size_px=64)
    options = {"pretrained": str(tmp_path)}
    same: Any = zoo.build("rtdetr_v2_resnet18", num_classes=3, options=options)
    other: Any = zoo.build("rtdetr_v2_resnet18", num_classes=5, options=options)
    assert same.loading_report.endswith("every tensor used")
    assert "mismatched" in other.loading_report
    batch = scene((2, 1), size_px=64)
    with torch.no_grad():
        found, stored = same.eval().predict(batch), model.eval().predict(batch)
        losses = other.train().losses(batch)
    torch.testing.assert_close(found[0].scores, stored[0].scores)
    assert all(term.sum.isfinite() for term in losses.values())
    kept = "network.model.encoder.aifi.0.layers.0.mlp.fc1.weight"
    assert torch.equal(other.state_dict()[kept], model.state_dict()[kept])


@pytest.mark.parametrize("name", SAVED)
def test_an_export_of_a_network_that_began_with_stored_weights_needs_them_no_more(name: str, tmp_path: Path) -> None:
    build_tiny(name).save_native(tmp_path / "stored", classes=["cat", "dog", "owl"], size_px=64)
    given = {"pretrained": str(tmp_path / "stored"), "backbone_norm": "frozen"}
    first: Any = zoo.build(name, num_classes=5, options=given).eval()
    _move(first)
    lasting = first.lasting_options(given)
    assert sorted(lasting) == ["backbone_norm", "configuration"]
    assert str(tmp_path) not in str(lasting["configuration"])
    shutil.rmtree(tmp_path / "stored")
    again: Any = zoo.build(name, num_classes=5, options=lasting).eval()
    again.load_state_dict(first.state_dict())
    batch = scene((2, 0), size_px=64)
    with torch.no_grad():
        for one, other in zip(first.predict(batch), again.predict(batch), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert first.multiple_px == again.multiple_px
    assert build_tiny(name).lasting_options({"scale": "tiny"}) == {"scale": "tiny"}


def test_a_configuration_that_transformers_does_not_know_is_refused() -> None:
    for text in ("{", "[]", '{"model_type": "nonsense"}'):
        with pytest.raises(ValueError, match="configuration: not one of transformers"):
            zoo.build("rtdetr_v2_resnet18", num_classes=3, options={"configuration": text})


def test_a_folder_of_another_type_or_without_a_network_is_refused(tmp_path: Path) -> None:
    build_tiny("detr_resnet50").save_native(tmp_path, classes=["cat", "dog", "owl"], size_px=64)
    with pytest.raises(ValueError, match="holds a detr, expected a rt_detr_v2"):
        zoo.build("rtdetr_v2_resnet18", num_classes=3, options={"pretrained": str(tmp_path)})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no network in the Hub's format there"):
        zoo.build("detr_resnet50", num_classes=3, options={"pretrained": str(tmp_path / "empty")})
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ValueError, match="its weights cannot be read"):
        zoo.build("detr_resnet50", num_classes=3, options={"pretrained": str(tmp_path)})
    with pytest.raises(ValueError, match="revision is 'main' without pretrained"):
        TransformersOptions(revision="main")


def test_a_frozen_backbone_norm_keeps_stem_and_first_stage_as_published_and_batch_trains_all() -> None:
    frozen = build_tiny("detr_resnet50", backbone_norm="frozen")
    kept = {name for name, parameter in frozen.named_parameters() if not parameter.requires_grad}
    assert kept
    assert all("embedder" in name or "stages.0." in name for name in kept)
    whole = build_tiny("detr_resnet50")
    assert all(parameter.requires_grad for parameter in whole.parameters())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("network.model.backbone.model.embedder.embedder.convolution.weight", 0),
        ("network.model.backbone.model.encoder.stages.3.layers.0.layer.0.convolution.weight", 4),
        ("network.model.encoder.layers.0.fc1.weight", None),
    ],
)
def test_layers_of_a_resnet_are_its_stages(name: str, expected: int | None) -> None:
    model = build_tiny("detr_resnet50")
    assert model.layer_of(name) == expected


@pytest.mark.parametrize("name", ["yolos_tiny", "lwdetr_tiny", "rfdetr_nano", "deimv2_s"])
def test_layers_of_a_vision_transformer_are_its_blocks(name: str) -> None:
    model = build_tiny(name)
    layers = {model.layer_of(key) for key, _ in model.named_parameters()}
    assert layers == {None, 0, 1, 2, 3}


def test_500_boxes_in_an_image_need_less_memory_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tensor of the loss grows with the boxes of other images: 4 images of 500 boxes and 3 stages of 20 queries."""
    model = build_tiny("rtdetr_v2_resnet18").train()
    largest = 0
    original = matching._assign

    def watched(costs: Any, per_image: Any, *, groups: int) -> Any:
        nonlocal largest
        largest = max(largest, costs.size)
        return original(costs, per_image, groups=groups)

    monkeypatch.setattr(matching, "_assign", watched)
    losses = model.losses(scene((500, 500, 500, 500), size_px=64))
    assert all(term.sum.isfinite() for term in losses.values())
    assert largest == 3 * 2000 * 20
    assert losses["l1"].count == 2000


def test_crowd_regions_are_no_objects() -> None:
    model = build_tiny("rtdetr_v2_resnet18").train()
    batch = scene((3, 0), size_px=64)
    target = batch.targets[0]
    marked = target._replace(crowd=torch.tensor([False, True, False]))
    losses = model.losses(batch._replace(targets=[marked, batch.targets[1]]))
    counts = model.counts(batch._replace(targets=[marked, batch.targets[1]]))
    assert {term.count.item() for term in losses.values()} == {2}
    assert counts is not None
    all_crowd = target._replace(crowd=torch.ones(3, dtype=torch.bool))
    losses = model.losses(batch._replace(targets=[all_crowd, BoxTarget.empty()]))
    assert losses["l1"].sum == losses["l1_noisy"].sum == 0


@pytest.mark.slow
def test_the_case_of_a_test_is_small() -> None:
    sizes = [sum(p.numel() for p in build_tiny(name).parameters()) for name in KINDS_TO_TEST]
    assert max(sizes) < 3_000_000
    assert all(case(name).size_px <= 320 for name in KINDS_TO_TEST)


def _move(model: torch.nn.Module) -> None:
    """Away from the start, where some layers say nothing."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=draw))


def test_fresh_weights_let_the_image_through() -> None:
    """The features that the decoder looks at differ from place to place by about as much as they are large."""
    model = build_tiny("rtdetr_v2_resnet18").train()
    seen: list[torch.Tensor] = []
    model.network.model.decoder_input_proj[0].register_forward_hook(lambda _, __, output: seen.append(output))
    with torch.no_grad():
        model.losses(scene((1, 2), size_px=64))
    assert 0.1 <= seen[0].std(dim=(2, 3)).mean() <= 10


def test_the_gradient_of_one_image_does_not_depend_on_how_memory_is_laid_out() -> None:
    """torch 2.15 gives `batch_norm` of one image a wrong gradient on a CPU, where layouts of map and gradient differ."""
    model = build_tiny("rtdetr_v2_resnet18").double().eval()
    projection = model.network.model.decoder_input_proj[0]
    maps = torch.randn(1, 32, 8, 8, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(1, 64, 32, dtype=torch.float64)
    (one,) = torch.autograd.grad((projection(maps).flatten(2).transpose(1, 2) * wanted).sum(), maps)
    double = torch.cat((maps, maps))
    (other,) = torch.autograd.grad((projection(double)[:1].flatten(2).transpose(1, 2) * wanted).sum(), maps)
    torch.testing.assert_close(one, other)


def test_boxes_are_computed_in_float32_under_bfloat16_autocast() -> None:
    """In bfloat16 a share near 1 has steps of 1/256: 2.5 pixels of 640."""
    model = build_tiny("detr_resnet50").eval()
    _move(model)
    batch = scene((1,), size_px=64)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        boxes = model.network(model._pixels(batch), **model._mask(batch)).pred_boxes
    assert boxes.dtype == torch.float32
    assert not torch.equal(boxes, boxes.bfloat16().float())
