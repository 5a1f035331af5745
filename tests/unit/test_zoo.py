"""The table of networks: names, near misses, options and their kinds."""

import difflib
from typing import Any

import pytest
import torch

from accel_det.models import zoo
from accel_det.models.base import Inference, ZooModel
from accel_det.models.torchvision.build import INPUTS, NAMES


def refusal(name: str, **options: Any) -> str:
    with pytest.raises(ValueError, match=r"^model\.options") as error:
        zoo.build(name, num_classes=2, options=options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_card_tells_its_task_its_input_and_its_paper() -> None:
    assert len(zoo.names()) >= 14
    assert zoo.names() == tuple(dict.fromkeys(zoo.names()))
    for name in zoo.names():
        card = zoo.card(name)
        assert card.name == name
        assert card.task in ("detection", "reid")
        assert card.resize in ("letterbox", "shortest_edge", "stretch")
        assert card.parameters_m > 0
        assert card.size_px >= 32
        assert card.multiple_px >= 1
        assert any(character.isdigit() for character in card.source), f"{name}: a paper has a year"
        if card.resize == "letterbox":
            assert card.size_px % card.multiple_px == 0


def test_networks_are_listed_by_task() -> None:
    assert {*zoo.names("reid"), *zoo.names("detection")} == set(zoo.names())
    assert set(zoo.names("detection")) >= {*NAMES, "yolov5n"}
    assert set(zoo.names("reid")) >= {"deepsort_cnn", "reid_resnet50", "osnet_x1_0", "reid_vit_base"}
    assert zoo.names("cooking") == ()


@pytest.mark.parametrize("name", NAMES)
def test_cards_of_torchvision_agree_with_the_input_their_networks_were_made_for(name: str) -> None:
    card, hint = zoo.card(name), INPUTS[name]
    assert card.size_px == hint.short_px
    assert (card.resize == "stretch") == (hint.short_px == hint.long_px)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("yolo5n", "yolov5n"), ("faster_rcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn"), ("fcos", "fcos_resnet50_fpn")],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(wrong: str, right: str) -> None:
    with pytest.raises(ValueError, match=rf"^model\.name: there is no network `{wrong}`; ") as error:
        zoo.build(wrong, num_classes=2)
    close = difflib.get_close_matches(wrong, zoo.names(), n=1)
    assert close in ([], [right])
    assert (f"did you mean `{right}`?" in str(error.value)) == bool(close)
    assert str(error.value).endswith("`accel-det models` lists them")


def test_a_name_like_no_other_gets_no_suggestion() -> None:
    with pytest.raises(ValueError, match="there is no network `zzz`; `accel-det models` lists them"):
        zoo.card("zzz")


@pytest.mark.parametrize("name", zoo.names())
def test_every_default_option_is_of_the_kind_it_is_listed_as(name: str) -> None:
    for key, (kind, default) in zoo.option_table(name).items():
        assert kind, key
        # What is listed as default must be accepted when it is given; null cannot be written as an option.
        if default is not None:
            given = list(default) if isinstance(default, tuple) else default
            settings = zoo._typed_options(zoo.card(name), {key: given})
            assert getattr(settings, key) == default


def test_choices_are_listed_as_choices() -> None:
    kind, default = zoo.option_table("fcos_resnet50_fpn")["norm"]
    assert kind == "Literal['batch', 'frozen']"
    assert default == "batch"
    assert zoo.option_table("fcos_resnet50_fpn")["trainable_backbone_layers"] == ("int | None", None)


def test_an_unknown_option_is_refused_with_the_nearest_known_one() -> None:
    assert "yolov5n has no option `box_gian`; did you mean `box_gain`? (known: " in refusal("yolov5n", box_gian=1.0)
    assert "did you mean" not in refusal("yolov5n", zzz=1.0)


@pytest.mark.parametrize(
    ("name", "key", "value", "kind"),
    [
        ("yolov5n", "box_gain", "big", "float"),
        ("yolov5n", "box_gain", True, "float"),
        ("yolov5n", "max_candidates", 2.5, "int"),
        ("yolov5n", "max_candidates", True, "int"),
        ("yolov5n", "anchors_px", 3.0, r"tuple\[float, \.\.\.\]"),
        ("yolov5n", "level_balance", "even", r"tuple\[float, \.\.\.\]"),
        ("fcos_resnet50_fpn", "norm", "layer", r"Literal\['batch', 'frozen'\]"),
        ("fcos_resnet50_fpn", "trainable_backbone_layers", "three", r"int \| None"),
        ("fcos_resnet50_fpn", "trainable_backbone_layers", 2.0, r"int \| None"),
        ("fasterrcnn_resnet50_fpn", "rois_per_image", [3.0], r"int \| None"),
    ],
)
def test_an_option_of_the_wrong_kind_is_refused_before_anything_is_built(
    name: str, key: str, value: Any, kind: str
) -> None:
    with pytest.raises(ValueError, match=rf"^model\.options\.{key} is .*, expected {kind}, by default .*, for {name}$"):
        zoo.build(name, num_classes=2, options={key: value})


def test_an_option_out_of_range_is_refused_with_the_section_to_correct() -> None:
    assert refusal("yolov5n", label_smoothing=1.5).startswith("model.options of yolov5n: label_smoothing")
    assert refusal("yolov5n", anchors_px=[1.0, 2.0]).startswith("model.options of yolov5n: anchors_px")
    assert "level_balance: expected 3 numbers" in refusal("yolov5n", level_balance=[1.0, 2.0])
    assert refusal("fcos_resnet50_fpn", frozen_norm_eps=0.0).startswith("model.options of fcos_resnet50_fpn:")


def test_options_reach_the_network_and_whole_numbers_count_as_floats() -> None:
    settings = zoo._typed_options(zoo.card("yolov5n"), {"box_gain": 1, "level_balance": [1, 2, 3]})
    assert (settings.box_gain, settings.level_balance) == (1, (1, 2, 3))
    smaller = zoo.build("yolov5n", num_classes=2, options={"max_candidates": 7})
    assert isinstance(smaller, ZooModel)


def test_the_global_generator_alone_decides_the_fresh_weights() -> None:
    states = []
    for seed in (0, 1, 0):
        torch.manual_seed(seed)
        states.append(zoo.build("yolov5n", num_classes=3, inference=Inference(max_detections=5)).state_dict())
    assert all(torch.equal(states[0][name], states[2][name]) for name in states[0])
    assert not all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("name", ["yolov5n", "ssdlite320_mobilenet_v3_large"])
def test_cards_tell_the_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = zoo.build(name, num_classes=80)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert millions == pytest.approx(zoo.card(name).parameters_m, rel=0.05, abs=0.06)
