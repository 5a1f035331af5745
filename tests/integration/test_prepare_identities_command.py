"""`accel-det prepare` for pictures of identities, and a training and an evaluation that stream what it wrote."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

CONFIG = {
    "name": "people",
    "task": "reid",
    "model": {"name": "osnet_x0_25", "options": {"metric_loss": "triplet"}},
    "data": {
        "sets": {
            "street": {
                "format": "street",
                "parameters": {"identities": 8, "cameras": 2, "per_camera": 2, "height": 64, "width": 32},
                "licence": "CC0-1.0",
            }
        },
        "train": "street:train",
        "val": "street:val",
        "size_px": [48, 24],
        "identities_per_group": 2,
        "images_per_identity": 2,
        "workers": 1,
    },
    "train": {"epochs": 1, "images_per_update": 8},
    "runtime": {"threads": 1},
}


def run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "HF_HOME": str(folder / "hf")}
    program = str(Path(sys.executable).parent / "accel-det")
    done = subprocess.run(
        [program, *command], cwd=folder, env=environment, text=True, capture_output=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_shards_of_people_are_written_trained_from_and_scored(tmp_path: Path) -> None:
    (tmp_path / "people.yaml").write_text(yaml.safe_dump(CONFIG))
    told = json.loads(run(tmp_path, "prepare", "people.yaml", "shards", "--json", "--workers", "1"))
    manifest = json.loads((tmp_path / "shards" / "prepared.json").read_text())
    assert manifest["splits"]["train"]["images"] == told["splits"]["train"]["images"] == 32
    card = (tmp_path / "shards" / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["configs"][0]["data_files"][1]["path"] == "data/val-*.parquet"
    assert "CC0-1.0" in card

    streamed = {**CONFIG, "name": "streamed"}
    sets = {"made": {"format": "hub", "root": "shards"}}
    streamed["data"] = {**CONFIG["data"], "sets": sets, "train": "made:train", "val": "made:val", "streaming": True}
    (tmp_path / "streamed.yaml").write_text(yaml.safe_dump(streamed))
    said = run(tmp_path, "train", "streamed.yaml")
    # Four pictures of each of eight people in whole groups of 2 x 2: nothing repeats, and an epoch is four updates.
    assert "an epoch has 32 turns, each picture at least once, 0 of them repeat" in said
    assert "streaming: 1 shard(s) read at 16 place(s), a window of 256 pictures at each" in said
    entries = [json.loads(line) for line in (tmp_path / "runs/streamed/metrics.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries if entry["kind"] == "val"] == [4]
    # Read from disk, the same shards are scored alike.
    scores = json.loads(run(tmp_path, "evaluate", "runs/streamed", "--json", "--data.streaming", "false"))["scores"]
    (val,) = (entry for entry in entries if entry["kind"] == "val")
    assert scores["mAP"] == pytest.approx(val["mAP"], abs=1e-9) and scores["queries"] == 32
