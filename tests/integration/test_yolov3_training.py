"""Anchors from data and weights of Darknet through the commands, and a YOLOv3 run that is taken up again."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from accel_det.cli import anchors
from accel_det.cli import compose_detection as compose
from accel_det.config.load import load_config
from accel_det.models.darknet_weights import write_darknet
from accel_det.models.yolov3.model import YoloV3

OPTIONS = {"width": 0.125, "auto_anchors": True}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 scenes of the street shrunk to 64 pixels, where its people are a few pixels wide."""
    folder = tmp_path_factory.mktemp("yolov3")
    street = {"format": "street", "parameters": {"seed": 5, "images": 12, "height": 64, "width": 96}}
    content = {
        "name": "tiny",
        "model": {"name": "yolov3_tiny", "options": OPTIONS},
        "data": {
            "sets": {"street": street},
            "train": "street:train",
            "val": "street:val",
            "resize": {"size_px": 64},
            "workers": 0,
        },
        "train": {"steps": 8, "images_per_update": 4},
        "ema": {"decay": 0.9, "ramp_steps": 4.0},
        "evaluate": {"every_steps": 4},
        "checkpoint": {"every_steps": 4, "keep_last": 2},
        "journal": {"every_steps": 1, "trackers": []},
        "runtime": {"output": str(folder / "runs"), "threads": 1},
    }
    file = folder / "tiny.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_the_command_prints_anchors_that_suit_the_data_better_and_draws_them(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "plots" / "anchors.png"
    assert anchors.run([str(config), "--out", str(picture), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["method"] == "kmeans_iou"
    assert len(facts["anchors_px"]) == 12
    assert facts["before"]["recall"] < facts["after"]["recall"]
    with Image.open(picture) as opened:
        assert opened.size == (900, 900)
    # What is printed for the configuration is what the configuration takes.
    assert anchors.run([str(config), "--method", "evolve"]) == 0
    line = next(line for line in capsys.readouterr().out.replace("\n", " ").split("model.options.")[1:])
    row = json.loads(line.partition("anchors_px: ")[2].partition("]")[0] + "]")
    again = load_config(config, ["--model.options.anchors_px", json.dumps(row)]).config
    model = compose.make_network(again, num_classes=3, device_type="cpu").model
    assert model.state_dict()["anchors_px"].flatten().tolist() == pytest.approx(row)


def test_a_command_without_a_configuration_or_with_a_network_without_anchors_is_refused(config: Path) -> None:
    with pytest.raises(ValueError, match="anchors needs a configuration file"):
        anchors.run([])
    with pytest.raises(ValueError, match="--number is 0, expected at least 1"):
        anchors.run([str(config), "--number", "0"])


def test_a_training_replaces_poor_anchors_and_a_later_user_of_the_configuration_does_not(config: Path) -> None:
    settings = load_config(config, []).config
    table = compose.open_tables(settings).train
    trained = compose.make_network(settings, num_classes=3, device_type="cpu", table=table)
    later = compose.make_network(settings, num_classes=3, device_type="cpu")
    assert later.anchors is None
    assert trained.anchors is not None
    assert trained.anchors.replaced
    assert trained.anchors.before.recall < 0.98 <= trained.anchors.after.recall
    own, other = trained.model.state_dict(), later.model.state_dict()
    assert [name for name in own if not torch.equal(own[name], other[name])] == ["anchors_px"]


def test_a_file_of_darknet_is_what_a_training_starts_from(config: Path, tmp_path: Path) -> None:
    settings = load_config(config, []).config
    given = compose.make_network(settings, num_classes=80, device_type="cpu").model
    assert isinstance(given, YoloV3)
    file = tmp_path / "yolov3-tiny.weights"
    write_darknet(given, file)
    other = load_config(config, ["--model.weights", str(file), "--train.seed", "1"]).config
    network = compose.make_network(other, num_classes=3, device_type="cpu")
    assert network.loaded is not None
    assert len(network.loaded.matched) == 11 * 6
    assert len(network.loaded.mismatched) == 4
    name = "network.branch4.expand.conv.weight"
    assert torch.equal(network.model.state_dict()[name], given.state_dict()[name])


def test_anchors_of_the_configuration_hold_against_those_of_a_file_of_weights(config: Path, tmp_path: Path) -> None:
    given = compose.make_network(load_config(config, []).config, num_classes=3, device_type="cpu").model
    file = tmp_path / "model.safetensors"
    save_file(given.state_dict(), file)
    own = [float(side) for side in range(20, 32)]
    for overrides, expected in (
        ([], given.state_dict()["anchors_px"].flatten().tolist()),
        (["--model.options.anchors_px", json.dumps(own)], own),
    ):
        other = load_config(config, ["--model.weights", str(file), "--train.seed", "1", *overrides]).config
        network = compose.make_network(other, num_classes=3, device_type="cpu")
        assert network.model.state_dict()["anchors_px"].flatten().tolist() == expected
        assert network.loaded is not None
        assert list(network.loaded.kept) == (["anchors_px"] if overrides else [])
        assert len(network.loaded.matched) == len(given.state_dict()) - len(network.loaded.kept)


def launch(*arguments: object) -> None:
    command = [str(Path(sys.executable).parent / "accel-det"), "train", *map(str, arguments)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, text=True, capture_output=True, timeout=200)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_run_that_is_taken_up_again_ends_as_if_it_had_not_stopped_and_exports_its_anchors(config: Path) -> None:
    runs = config.parent / "runs"
    launch(config, "--name", "whole")
    launch(config, "--name", "half")
    half, whole = runs / "half", runs / "whole"
    for newest in (half / "checkpoints").glob("step-00000008"):
        newest.rename(config.parent / "moved-away")
    launch(config, "--name", "half", "--resume", str(half / "checkpoints" / "step-00000004"))
    digests = [
        json.loads((run / "checkpoints" / "step-00000008" / "manifest.json").read_text())["files"]["model.safetensors"]
        for run in (whole, half)
    ]
    assert digests[0]["sha256"] == digests[1]["sha256"]
    facts = json.loads((whole / "run.json").read_text())["anchors"]
    assert facts["replaced"]
    exported = load_file(whole / "export" / "last" / "model.safetensors")
    assert exported["anchors_px"].flatten().tolist() == pytest.approx(facts["anchors_px"], rel=1e-6)
