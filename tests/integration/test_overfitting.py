"""Every family learns 8 real images by heart, through the command that users type: what is wrong with an assignment, a
loss or a decoder shows as an AP50 that stays low."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from accel_det.models import zoo

DATA = Path(os.environ.get("ACCEL_DET_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
CELLS = DATA / "detection" / "bccd" / "BCCD"
# 6 to 10 cells each, all three classes among them.
IMAGES = [f"BloodImage_{number:05}" for number in (87, 154, 163, 187, 257, 274, 389, 71)]

CONFIG = """
name: by-heart
model: {name: yolov5n}
data:
  sets:
    cells: {format: voc, root: ./cells, accept: [leakage]}
  train: cells:train
  val: cells:val
  resize: {mode: letterbox, size_px: 160}
  augment: {flip: 0.0}
  workers: 0
optimizer: {name: adamw, lr: 0.003, weight_decay: 0.0, max_grad_norm: 10.0}
schedule: {name: cosine, warmup_steps: 20, final: 0.05}
train: {steps: 150, images_per_update: 8}
ema: {enabled: false}
evaluate: {nms_iou: 0.5}
journal: {every_steps: 50}
runtime: {threads: 1}
"""

# Network of each family -> what differs from the configuration above.
SETTINGS: dict[str, list[str]] = {
    # Live norms and few blocks: it starts from random weights. An anchor for each class: at this size platelets are about
    # 14 px wide, red cells 43, white cells 72.
    "rfcn_resnet50": [
        *("--model.options.norm", "live", "--model.options.frozen_stages", "0", "--model.options.width", "32"),
        *("--model.options.blocks", "[1, 1, 1, 1]", "--model.options.bins", "3"),
        *("--model.options.rpn_channels", "128", "--model.options.head_channels", "256"),
        *("--model.options.scales", "[0.9, 2.8, 5.0]", "--model.options.ratios", "[1.0]"),
        *("--model.options.proposal_min_px", "2"),
        *("--data.resize.mode", "shortest_edge", "--data.resize.size_px", "192"),
        *("--train.steps", "200", "--train.images_per_update", "4", "--optimizer.lr", "0.001"),
    ],
    "rtdetr_v2_resnet18": [
        *("--model.options.scale", "tiny", "--train.steps", "800", "--optimizer.max_grad_norm", "1.0"),
        *("--evaluate.nms", "none"),
    ],
    # 350 updates: its batch norms forget the variance they start with, 1, by 3 % an update.
    "ssdlite320_mobilenet_v3_large": [
        *("--data.resize.mode", "stretch", "--data.resize.size_px", "256", "--train.steps", "350"),
        *("--model.options.box_scales", "[0.06, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9]"),
    ],
    "yolov3_tiny": [
        *("--model.options.width", "0.5", "--data.resize.size_px", "192", "--train.steps", "250"),
        *("--model.options.anchors_px", "[12, 11.5, 26, 28, 34, 31, 48, 46, 64.5, 58.4, 75, 68]"),
    ],
    "yolov5n": ["--train.steps", "300"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not CELLS.is_dir():
        pytest.skip(f"detection/bccd is not there: no folder {CELLS}")
    folder = tmp_path_factory.mktemp("by_heart")
    for part, suffix in (("JPEGImages", "jpg"), ("Annotations", "xml")):
        (folder / "cells" / part).mkdir(parents=True)
        for name in IMAGES:
            shutil.copy(CELLS / part / f"{name}.{suffix}", folder / "cells" / part)
    lists = folder / "cells" / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for split in ("train", "val"):
        (lists / f"{split}.txt").write_text("\n".join(IMAGES) + "\n", encoding="utf-8")
    (folder / "by_heart.yaml").write_text(CONFIG, encoding="utf-8")
    return folder


def test_every_family_has_a_network_here() -> None:
    assert {zoo.card(name).family for name in SETTINGS} == {zoo.card(name).family for name in zoo.names("detection")}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SETTINGS)
def test_8_real_images_are_learned_to_an_ap50_of_95(place: Path, name: str) -> None:
    command = [str(Path(sys.executable).parent / "accel-det"), "train", "by_heart.yaml", "--json"]
    overrides = ["--name", f"by-heart-{name}", "--model.name", name, *SETTINGS[name]]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [*command, *overrides], cwd=place, env=environment, text=True, capture_output=True, timeout=880
    )
    assert done.returncode == 0, done.stderr
    scores = json.loads(done.stdout)["scores"]
    assert scores["AP50"] >= 0.95, f"{name}: {scores['AP50']:.3f}"
