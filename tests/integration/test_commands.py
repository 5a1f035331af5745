"""The commands as a user types them, in processes of their own, on a tiny synthetic street and a local hub."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from fake_hub import FakeHub, Fault

PROJECT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

CONFIG = """
name: tiny
model: {name: yolov5n}
data:
  sets:
    street: {format: street, parameters: {seed: 5, images: 12, height: 64, width: 96}, licence: CC0-1.0}
  train: street:train
  val: street:val
  resize: {mode: letterbox, size_px: 64}
  workers: 0
optimizer: {name: adamw, lr: 0.005}
train: {steps: 24, images_per_update: 4}
ema: {decay: 0.9, ramp_steps: 4}
evaluate: {every_steps: 12}
journal: {every_steps: 6}
# More threads than free cores make tiny networks crawl.
runtime: {threads: 1}
"""


class Place(NamedTuple):
    """A folder with a configuration and the environment in which commands run there."""

    folder: Path
    environment: dict[str, str]

    def run(self, *command: str, launch: bool = False) -> "subprocess.CompletedProcess[str]":
        head = [str(BIN / "accel-det")]
        if launch:
            launcher = [str(BIN / "accelerate"), "launch", "--config_file", f"{PROJECT}/accelerate_configs/cpu.yaml"]
            head = [*launcher, f"{PROJECT}/scripts/{command[0]}.py"]
            command = command[1:]
        return subprocess.run(
            [*head, *command], cwd=self.folder, env=self.environment, text=True, capture_output=True, timeout=240
        )


@pytest.fixture(scope="module")
def hub() -> Iterator[FakeHub]:
    with FakeHub(token="hf_TestTokenForTheLocalHub0123456789") as local:
        yield local


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, hub: FakeHub) -> Iterator[tuple[Place, dict[str, object]]]:
    """A finished run that pushed its best to the local hub, whose first answer was an error."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "tiny.yaml").write_text(CONFIG, encoding="utf-8")
    environment = os.environ | {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "HF_HOME": str(folder / "hf"),
        "HF_ENDPOINT": hub.address,
        "HF_TOKEN": "hf_TestTokenForTheLocalHub0123456789",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    place = Place(folder, environment)
    hub.faults.append(Fault("POST /api/repos/create", times=1))
    done = place.run(
        "train", "tiny.yaml", "--push.repo", "ada/tiny", "--push.licence", "apache-2.0", "--json", launch=True
    )
    assert done.returncode == 0, done.stderr
    yield place, json.loads(done.stdout)


def test_train_answers_with_one_line_of_json_and_leaves_a_whole_run(trained: tuple[Place, dict[str, object]]) -> None:
    place, answer = trained
    run = place.folder / "runs" / "tiny"
    assert (answer["reason"], answer["step"]) == ("finished", 24)
    entries = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [e["step"] for e in entries if e["kind"] == "train"] == [6, 12, 18, 24]
    assert [e["step"] for e in entries if e["kind"] == "val"] == [12, 24]
    assert json.loads((run / "exit.json").read_text()) == {"reason": "finished", "step": 24, "code": 0}
    facts = json.loads((run / "run.json").read_text())
    assert facts["topology"]["processes"] == 1 and "torch" in facts["versions"] and "train.py" in facts["command"]
    assert {p.name for p in (run / "export" / "best").iterdir()} >= {"model.safetensors", "config.json", "README.md"}
    assert list((run / "tensorboard").rglob("events.*")) or list(run.rglob("events.out.*"))


def test_training_pushed_its_best_although_the_hub_failed_first(
    trained: tuple[Place, dict[str, object]], hub: FakeHub
) -> None:
    place, _ = trained
    best = place.folder / "runs" / "tiny" / "export" / "best"
    assert hub.head("ada/tiny")["model.safetensors"] == (best / "model.safetensors").read_bytes()
    assert b"CC0-1.0" in hub.head("ada/tiny")["README.md"]
    texts = [p for p in (place.folder / "runs").rglob("*") if p.is_file()]
    assert len(texts) > 10
    assert not [p for p in texts if b"hf_TestTokenForTheLocalHub" in p.read_bytes()]


def test_a_finished_run_started_again_says_so_and_does_nothing(trained: tuple[Place, dict[str, object]]) -> None:
    place, _ = trained
    again = place.run("train", "tiny.yaml", "--resume", "auto")
    assert again.returncode == 0 and "this run is finished: 24 updates" in again.stdout
    refused = place.run("train", "tiny.yaml")
    assert refused.returncode == 2 and "already holds a run: continue it with --resume auto" in refused.stderr


def test_evaluate_scores_the_export_as_training_did(trained: tuple[Place, dict[str, object]]) -> None:
    place, _ = trained
    done = place.run("evaluate", "runs/tiny", "--which", "last", "--json")
    assert done.returncode == 0, done.stderr
    entries = [json.loads(line) for line in (place.folder / "runs/tiny/metrics.jsonl").read_text().splitlines()]
    scores = json.loads(done.stdout)["scores"]
    assert {k: v for k, v in entries[-1].items() if k not in ("kind", "step")} == scores


def test_predict_writes_pictures_and_coco_results(trained: tuple[Place, dict[str, object]]) -> None:
    place, _ = trained
    assert place.run("street", "scenes", "--images", "2", "--height", "64", "--width", "96").returncode == 0
    (place.folder / "scenes" / "broken.png").write_bytes(b"not a picture")
    done = place.run("predict", "runs/tiny", "scenes", "--score", "0.0", "--out", "found", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["images"] == 3 and "broken.png" in answer["skipped"][0]
    records = json.loads((place.folder / "found" / "detections.json").read_text())
    assert len(records) == answer["detections"] > 0
    for record in records:
        left, top, width, height = record["bbox"]
        assert 0 <= left <= left + width <= 96.01 and 0 <= top <= top + height <= 64.01
    assert (place.folder / "found" / "scene-0001.jpg").is_file() and (place.folder / "found" / "sheet.jpg").is_file()


def test_check_reports_a_defect_and_ends_with_3(trained: tuple[Place, dict[str, object]]) -> None:
    place, _ = trained
    clean = place.run("check", "tiny.yaml", "--images", "--json")
    assert clean.returncode == 0 and json.loads(clean.stdout)["stops"] is False
    root = place.folder / "voc"
    for part in ("Annotations", "JPEGImages"):
        (root / part).mkdir(parents=True)
    shutil.copy(place.folder / "scenes" / "scene-0000.png", root / "JPEGImages" / "a.png")
    (root / "Annotations" / "a.xml").write_text(
        "<annotation><filename>a.png</filename><size><width>96</width><height>64</height></size><object><name>car</name>"
        "<bndbox><xmin>nan</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    keys = (
        "--data.sets.v.format",
        "voc",
        "--data.sets.v.root",
        "voc",
        "--data.train",
        "v:train",
        "--data.val",
        "v:val",
    )
    found = place.run("check", "tiny.yaml", *keys, "--data.sets.v.holdout", "0.5", "--json")
    assert found.returncode == 3, found.stderr
    assert "nan_box" in json.loads(found.stdout)["counts"]


def test_push_uploads_a_run_and_a_refusal_ends_with_4(trained: tuple[Place, dict[str, object]], hub: FakeHub) -> None:
    place, _ = trained
    done = place.run("push", "runs/tiny", "ada/other", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["ok"] is True
    assert "model.safetensors" in hub.head("ada/other")
    hub.faults.append(Fault("POST /api/repos/create", status=403))
    refused = place.run("push", "runs/tiny", "ada/third")
    hub.faults.pop()
    assert refused.returncode == 4 and "ada/third" in refused.stderr and "hf_Test" not in refused.stderr


def test_the_export_works_in_three_lines_of_python(trained: tuple[Place, dict[str, object]]) -> None:
    place, _ = trained
    program = "\n".join(
        (
            "import accel_det",
            "found = accel_det.load('runs/tiny').detect(['scenes/scene-0000.png'], score_threshold=0)",
            "print(len(found[0].boxes))",
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=place.folder, env=place.environment, text=True, capture_output=True
    )
    assert done.returncode == 0 and int(done.stdout) > 0, done.stderr


def test_lists_are_machine_readable(trained: tuple[Place, dict[str, object]]) -> None:
    place, _ = trained
    models = json.loads(place.run("models", "--json").stdout)
    assert len(models) >= 56 and models["yolov5n"]["task"] == "detection"
    configs = json.loads(place.run("configs", str(PROJECT / "configs"), "--json").stdout)
    assert any(path.endswith("demo/street.yaml") for path in configs)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train", "nowhere.yaml"), 2, "nowhere.yaml: no such file"),
        (("train", "tiny.yaml", "--optimizer.lrr", "1"), 2, "did you mean `lr`"),
        (("predict", "runs/nothing", "scenes"), 2, "runs/nothing: no such folder here"),
        (("evaluate", "runs/nothing"), 2, "runs/nothing"),
        (("frain",), 2, "no command `frain`"),
    ],
)
def test_mistakes_are_one_line_without_a_traceback(
    trained: tuple[Place, dict[str, object]], arguments: tuple[str, ...], code: int, message: str
) -> None:
    place, _ = trained
    done = place.run(*arguments)
    assert done.returncode == code
    assert message in done.stderr and "Traceback" not in done.stderr and done.stderr.count("\n") == 1
