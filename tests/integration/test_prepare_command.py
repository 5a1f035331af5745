"""`accel-det prepare`, and a training that streams what it wrote."""

import json
import os
import subprocess
import sys
from pathlib import Path

import datasets
import pytest
import yaml

CONFIG = {
    "name": "tiny",
    "model": {"name": "yolov5n"},
    "data": {
        "sets": {
            "street": {
                "format": "street",
                "parameters": {"seed": 5, "images": 12, "height": 64, "width": 96},
                "licence": "CC0-1.0",
            }
        },
        "train": "street:train",
        "val": "street:val",
        "resize": {"size_px": 64},
        "workers": 0,
    },
    "train": {"steps": 4, "images_per_update": 4},
    "runtime": {"threads": 1},
}


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "HF_HOME": str(folder / "hf")}
    program = str(Path(sys.executable).parent / "accel-det")
    return subprocess.run(
        [program, *command], cwd=folder, env=environment, text=True, capture_output=True, timeout=240, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("prepare")
    (made / "tiny.yaml").write_text(yaml.safe_dump(CONFIG))
    return made


def test_shards_a_card_and_a_manifest_are_written_and_trained_from(folder: Path) -> None:
    done = run(folder, "prepare", "tiny.yaml", "shards", "--json", "--workers", "1")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    manifest = json.loads((folder / "shards" / "prepared.json").read_text())
    assert manifest["classes"] and manifest["splits"]["train"]["images"] == told["splits"]["train"]["images"] == 12
    card = (folder / "shards" / "README.md").read_text()
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["configs"][0]["data_files"][0] == {"split": "train", "path": "data/train-*.parquet"}
    assert "CC0-1.0" in card
    opened = datasets.load_dataset(str(folder / "shards"), split="train", cache_dir=str(folder / "hf"))
    assert opened.num_rows == 12 and opened.features["objects"]["category"].feature.names == manifest["classes"]

    streamed = {**CONFIG, "name": "streamed"}
    sets = {"made": {"format": "hub", "root": "shards"}}
    streamed["data"] = {**CONFIG["data"], "sets": sets, "train": "made:train", "val": "made:val", "streaming": True}
    (folder / "streamed.yaml").write_text(yaml.safe_dump(streamed))
    done = run(folder, "train", "streamed.yaml")
    assert done.returncode == 0, done.stderr
    assert "streaming: 1 shard(s) read at 4 place(s), a window of 64 images at each" in done.stdout
    scores = [json.loads(line) for line in (folder / "runs/streamed/metrics.jsonl").read_text().splitlines()]
    assert any(entry["kind"] == "val" for entry in scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "prepare needs a configuration file and a folder"),
        (("tiny.yaml", "other", "--shard-mb", "0"), "--shard-mb is 0, expected at least 1"),
        (("tiny.yaml", "other", "--data.streaming", "true"), "data.streaming reads sets of format hub"),
        (("tiny.yaml", "other", "--data.streaming", "true", "--data.order", "weighted"), "order is weighted"),
    ],
)
def test_what_it_cannot_do_is_one_line(folder: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run(folder, "prepare", *arguments)
    assert done.returncode == 2
    assert message in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
