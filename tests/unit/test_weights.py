"""Starting weights: what fits is loaded, what does not is told, and what cannot be read is refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from accel_det.models.weights import LoadReport, freeze, load_matching, read_weights


class Small(nn.Module):
    """Names as in the zoo: everything below `network.`."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential()
        self.network.add_module("body", nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
        self.network.add_module("head", nn.Conv2d(4, 2, 1))


def state_of(seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {name: tensor.clone() for name, tensor in Small().state_dict().items()}


def test_a_whole_file_loads_bit_for_bit() -> None:
    model, given = Small(), state_of(1)
    report = load_matching(model, given)
    assert report == LoadReport(list(given), [], [], [], [])
    assert all(torch.equal(tensor, given[name]) for name, tensor in model.state_dict().items())
    assert report.summary() == "weights: 9 matched, 0 missing, 0 unexpected, 0 mismatched"


def test_what_fits_is_loaded_and_everything_else_is_reported() -> None:
    model, given, before = Small(), state_of(1), state_of(0)
    model.load_state_dict(before)
    del given["network.body.1.bias"]
    given["network.head.weight"] = torch.zeros(7, 4, 1, 1)
    given["network.head.scale"] = torch.zeros(3)
    report = load_matching(model, given)
    assert report.missing == ["network.body.1.bias"]
    assert report.unexpected == ["network.head.scale"]
    assert report.mismatched == ["network.head.weight (7, 4, 1, 1) in the file, (2, 4, 1, 1) in the model"]
    assert len(report.matched) == 7
    after = model.state_dict()
    assert all(torch.equal(after[name], given[name]) for name in report.matched)
    assert all(torch.equal(after[name], before[name]) for name in ("network.body.1.bias", "network.head.weight"))
    summary = report.summary()
    assert summary.startswith(
        "weights: 7 matched, 1 missing (network.body.1.bias), 1 unexpected (network.head.scale), "
    )
    assert "\n" not in summary


def test_every_name_is_in_exactly_one_kind_of_the_report() -> None:
    given = state_of(1)
    given["network.extra"] = torch.zeros(1)
    given["network.head.bias"] = torch.zeros(5)
    del given["network.body.0.weight"]
    report = load_matching(Small(), given)
    mismatched = [line.split()[0] for line in report.mismatched]
    assert sorted(report.matched + report.missing + mismatched) == sorted(Small().state_dict())
    assert sorted(report.matched + report.unexpected + mismatched) == sorted(given)


def test_a_summary_shows_three_names_of_each_kind() -> None:
    report = LoadReport(["a"], ["b", "c", "d", "e"], [], ["f"])
    assert report.summary() == "weights: 1 matched, 4 missing (b, c, d, ...), 0 unexpected, 1 mismatched (f)"


def test_what_is_to_be_kept_is_not_loaded_and_the_report_says_so() -> None:
    model = Small()
    before, given = model.state_dict()["network.head.bias"].clone(), state_of(1)
    report = load_matching(model, given, keep=["network.head.bias", "no such name"])
    assert torch.equal(model.state_dict()["network.head.bias"], before)
    assert not torch.equal(given["network.head.bias"], before)
    assert report == LoadReport(
        [name for name in given if name != "network.head.bias"], [], [], [], ["network.head.bias"]
    )
    assert report.summary().endswith("0 mismatched, 1 kept (network.head.bias)")


def test_a_file_without_the_leading_part_of_the_names_is_recognised() -> None:
    model = Small()
    given = {name.removeprefix("network."): tensor for name, tensor in state_of(1).items()}
    given["fc.weight"] = torch.zeros(1)
    report = load_matching(model, given)
    assert len(report.matched) == 9
    assert report.unexpected == ["network.fc.weight"]
    assert torch.equal(model.state_dict()["network.head.bias"], given["head.bias"])


def test_a_checkpoint_of_torchvision_is_recognised_for_another_number_of_classes() -> None:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    from accel_det.models import zoo

    torch.manual_seed(1)
    given = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=91).state_dict()
    model = zoo.build("ssdlite320_mobilenet_v3_large", num_classes=5)
    report = load_matching(model, given)
    assert not report.unexpected
    assert not report.missing
    # Six levels, each with a last convolution for the classes: a weight and a bias.
    assert len(report.mismatched) == 12
    assert all("classification_head" in line for line in report.mismatched)
    name = "network.backbone.features.0.0.0.weight"
    assert torch.equal(model.state_dict()[name], given[name.removeprefix("network.")])


def test_weights_of_another_number_type_are_converted() -> None:
    model, given = Small(), {name: tensor.half() for name, tensor in state_of(1).items()}
    load_matching(model, given)
    assert model.network.head.weight.dtype == torch.float32
    assert torch.equal(model.network.head.weight, given["network.head.weight"].float())


def test_weights_of_another_network_are_refused_with_examples() -> None:
    with pytest.raises(
        ValueError, match=r"model\.weights: not one tensor fits this network \(file: .*layer1.*network\."
    ):
        load_matching(Small(), {"layer1.weight": torch.zeros(2)})
    with pytest.raises(ValueError, match="not one tensor fits"):
        load_matching(Small(), {})
    with pytest.raises(ValueError, match="not one tensor fits"):
        load_matching(Small(), {name: torch.zeros(1, 99) for name in state_of(0)})


def test_a_file_and_the_folder_of_an_export_are_read(tmp_path: Path) -> None:
    given = state_of(2)
    save_file(given, tmp_path / "model.safetensors")
    for path in (tmp_path, tmp_path / "model.safetensors", str(tmp_path)):
        found = read_weights(path)
        assert found.keys() == given.keys()
        assert all(torch.equal(found[name], given[name]) for name in given)


def test_files_that_cannot_be_read_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model\.weights: .*absent\.safetensors: no such file"):
        read_weights(tmp_path / "absent.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors: no such file"):
        read_weights(tmp_path)
    other = tmp_path / "model.pt"
    other.write_bytes(b"\x80\x04.")
    with pytest.raises(ValueError, match=r"model\.pt: only \.safetensors files are read, because others can run code"):
        read_weights(other)


def test_every_truncation_of_a_file_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(state_of(2), file)
    whole = file.read_bytes()
    lengths = [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]
    for length in lengths:
        file.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"model\.weights: .*model\.safetensors: damaged"):
            read_weights(file)
    file.write_bytes(b"\xff" * 64)
    with pytest.raises(ValueError, match="damaged"):
        read_weights(file)


def test_patterns_freeze_the_parameters_they_match() -> None:
    model = Small()
    frozen = freeze(model, ["network.body.*", "*.bias"])
    assert frozen == sorted(
        ["network.body.0.weight", "network.body.0.bias", "network.body.1.weight", "network.body.1.bias"]
        + ["network.head.bias"]
    )
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == ["network.head.weight"]
    assert freeze(Small(), []) == []
    assert freeze(Small(), ["network.bod?.0.weight"]) == ["network.body.0.weight"]


def test_a_pattern_that_matches_nothing_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"model\.freeze: `backbone\.\*` matches no parameter; .*network\.body\.0"):
        freeze(Small(), ["network.head.*", "backbone.*"])


def test_freezing_everything_is_refused() -> None:
    with pytest.raises(ValueError, match=r"model\.freeze: the patterns freeze every parameter"):
        freeze(Small(), ["*"])
