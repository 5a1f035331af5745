"""Darknet's weight files: the sizes of the published ones, a round trip, and what is refused."""

import struct
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from accel_det.models.base import Inference
from accel_det.models.darknet_weights import read_darknet, write_darknet
from accel_det.models.layers.blocks import ConvBnAct
from accel_det.models.weights import load_weights
from accel_det.models.yolov3.model import YoloV3, YoloV3Options, YoloV3TinyOptions, build

# Bytes of the files at https://pjreddie.com/media/files/.
PUBLISHED = {"yolov3": 248_007_048, "yolov3_spp": 252_209_544, "yolov3_tiny": 35_434_956}
PUBLISHED_BACKBONE = 162_482_580  # darknet53.conv.74
HEADER = 20


def make(name: str, *, seed: int = 0, num_classes: int = 3, width: float = 0.125) -> YoloV3:
    """With every tensor drawn, so that none can be taken for another."""
    kind = YoloV3TinyOptions if name == "yolov3_tiny" else YoloV3Options
    torch.manual_seed(seed)
    model = build(name, num_classes=num_classes, inference=Inference(), options=kind(width=width))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.uniform_(0.1, 1)
    return model


def numbers(model: nn.Module) -> dict[str, Tensor]:
    return {name: t for name, t in model.state_dict().items() if "tracked" not in name and name != "anchors_px"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_file_of_80_classes_has_as_many_bytes_as_the_published_one(name: str) -> None:
    with torch.device("meta"):
        model = build(name, num_classes=80, inference=Inference(), options=make(name).options.__class__())
    assert HEADER + 4 * sum(t.numel() for t in numbers(model).values()) == PUBLISHED[name]
    if name == "yolov3":
        inside = [t.numel() for key, t in numbers(model).items() if key.startswith("network.backbone.")]
        assert HEADER + 4 * sum(inside) == PUBLISHED_BACKBONE
        blocks = [key for key, module in model.darknet_layers()[:52] if isinstance(module, ConvBnAct)]
        assert len(blocks) == 52
        assert all(key.startswith("network.backbone.") for key in blocks)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_written_is_read_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    trained, fresh = make(name, seed=1), make(name, seed=2)
    file = tmp_path / "yolo.weights"
    write_darknet(trained, file, images_seen=32_013_312)
    report = load_weights(fresh, file)
    assert report.missing == ["anchors_px"]
    assert report.unexpected == report.mismatched == []
    assert all(torch.equal(tensor, numbers(fresh)[key]) for key, tensor in numbers(trained).items())
    assert read_darknet(fresh, file).images_seen == 32_013_312


def test_the_file_holds_shift_scale_mean_variance_and_kernel_of_each_convolution_then_bias_and_kernel_of_linear_ones(
    tmp_path: Path,
) -> None:
    model = make("yolov3_tiny")
    file = tmp_path / "yolo.weights"
    write_darknet(model, file)
    data = file.read_bytes()
    assert struct.unpack_from("<3iq", data) == (0, 2, 5, 0)
    values = torch.frombuffer(bytearray(data[HEADER:]), dtype=torch.float32)
    state, expected = model.state_dict(), []
    # The order of yolov3-tiny.cfg: seven convolutions, the branch of stride 32, its lateral one, that of stride 16.
    blocks = ["backbone.stem", *(f"backbone.stage{i}.1" for i in range(1, 6)), "backbone.stage6"]
    order = [
        *blocks,
        "branch5.features",
        "branch5.expand",
        "branch5.linear",
        "lateral4",
        "branch4.expand",
        "branch4.linear",
    ]
    for layer in order:
        parts = (
            ("bias", "weight")
            if layer.endswith("linear")
            else (
                *(f"norm.{part}" for part in ("bias", "weight", "running_mean", "running_var")),
                "conv.weight",
            )
        )
        expected += [state[f"network.{layer}.{part}"].flatten() for part in parts]
    assert torch.equal(values, torch.cat(expected))


def test_the_convolutions_of_yolov3_come_in_the_order_of_its_configuration() -> None:
    """Kernel sides and output channels of the 75 convolutions of yolov3.cfg after the backbone, with 80 classes."""
    with torch.device("meta"):
        model = build("yolov3", num_classes=80, inference=Inference(), options=YoloV3Options())
    convolutions = [layer.conv if isinstance(layer, ConvBnAct) else layer for _, layer in model.darknet_layers()]
    assert len(convolutions) == 75
    found = [(c.kernel_size[0], c.out_channels) for c in convolutions[52:]]  # type: ignore[union-attr]
    expected: list[tuple[int, int]] = []
    for narrow in (512, 256, 128):
        expected += [(1, narrow)] if narrow < 512 else []
        expected += [(1, narrow), (3, 2 * narrow)] * 3 + [(1, 255)]
    assert found == expected


def test_a_header_of_format_0_1_counts_images_in_four_bytes(tmp_path: Path) -> None:
    model = make("yolov3_tiny", seed=1)
    new, old = tmp_path / "new.weights", tmp_path / "old.weights"
    write_darknet(model, new)
    old.write_bytes(struct.pack("<4i", 0, 1, 0, 77) + new.read_bytes()[HEADER:])
    again = read_darknet(model, old)
    assert again.images_seen == 77
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in again.state.items())


@pytest.mark.parametrize(("name", "layers"), [("yolov3", 52), ("yolov3_tiny", 9)])
def test_a_file_for_starting_a_training_loads_its_layers_and_reports_the_rest(
    tmp_path: Path, name: str, layers: int
) -> None:
    trained, fresh = make(name, seed=1), make(name, seed=2)
    before = {key: tensor.clone() for key, tensor in fresh.state_dict().items()}
    file = tmp_path / "darknet53.conv.74"
    write_darknet(trained, file, num_layers=layers)
    report = load_weights(fresh, file)
    after = fresh.state_dict()
    assert len(report.matched) == 6 * layers
    assert all(torch.equal(after[key], trained.state_dict()[key]) for key in report.matched)
    assert all(torch.equal(after[key], before[key]) for key in report.missing)
    assert any(key.startswith("network.branch5") for key in report.missing)
    if name == "yolov3":
        assert not any(key.startswith("network.backbone") for key in report.missing)


def test_a_file_with_other_classes_loads_all_but_the_linear_convolutions(tmp_path: Path) -> None:
    trained, fresh = make("yolov3_tiny", seed=1, num_classes=80), make("yolov3_tiny", seed=2)
    file = tmp_path / "yolov3.weights"
    write_darknet(trained, file)
    report = load_weights(fresh, file)
    assert [line.split()[0] for line in report.mismatched] == [
        f"network.branch{i}.linear.{part}" for i in (5, 4) for part in ("bias", "weight")
    ]
    assert "(255, 64, 1, 1) in the file, (24, 64, 1, 1) in the model" in report.mismatched[1]
    last = "network.branch4.expand.conv.weight"
    assert torch.equal(fresh.state_dict()[last], trained.state_dict()[last])


@pytest.mark.parametrize("change", [-4, 4, -1, -1000, 16])
def test_a_file_of_the_wrong_size_is_refused_with_both_numbers_of_bytes(tmp_path: Path, change: int) -> None:
    model = make("yolov3_tiny")
    file = tmp_path / "yolo.weights"
    write_darknet(model, file)
    whole = file.read_bytes()
    file.write_bytes(whole[:change] if change < 0 else whole + b"\0" * change)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with pytest.raises(
        ValueError, match=rf"yolo.weights has {len(whole) + change:,} bytes; .* has {len(whole):,} "
    ) as error:
        load_weights(model, file)
    assert "\n" not in str(error.value)
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_an_empty_file_a_file_of_noise_a_missing_one_and_another_network_are_refused(tmp_path: Path) -> None:
    model = make("yolov3_tiny")
    file = tmp_path / "yolo.weights"
    file.write_bytes(b"\0" * 7)
    with pytest.raises(ValueError, match="has 7 bytes, less than a header"):
        load_weights(model, file)
    write_darknet(model, file)
    data = bytearray(file.read_bytes())
    data[HEADER:] = data[: HEADER - 1 : -1]  # all numbers backwards
    file.write_bytes(data)
    with pytest.raises(ValueError, match="holds variances below 0: the file is damaged"):
        load_weights(model, file)
    with pytest.raises(ValueError, match=r"absent\.weights: cannot be read: No such file"):
        load_weights(model, tmp_path / "absent.weights")
    with pytest.raises(ValueError, match="only the YOLOv3 networks read files of Darknet"):
        load_weights(nn.Linear(2, 2), file)
