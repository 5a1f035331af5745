"""`accel-det track` as a user types it: two squares that meet, hide for a while, and part again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from publish_cases import export_info
from torch import Tensor, nn

from accel_det.cli import track, track_inputs
from accel_det.cli.failures import BAD_INPUT, DONE, guarded
from accel_det.data.transforms import ResizeRule
from accel_det.inference import Embedder
from accel_det.models import zoo
from accel_det.models.base import Inference
from accel_det.publish.export import write_export
from accel_det.publish.info import EmbedderInfo, TrainingInfo
from accel_det.types import Batch, IdentityTarget

FRAMES, HEIGHT, WIDTH, SIDE = 45, 96, 240, 30
HIDDEN = range(17, 33)
COLORS = {"red": (220, 40, 40), "blue": (40, 60, 220)}


def boxes_at(number: int) -> dict[str, tuple[float, float]]:
    """Left and top of each square: they walk towards each other and meet in the middle of the footage."""
    walked = 4.0 * (number - 1)
    return {"red": (10 + walked, 30.0), "blue": (WIDTH - SIDE - 10 - walked, 34.0)}


def picture(number: int) -> NDArray[np.uint8]:
    pixels = np.full((HEIGHT, WIDTH, 3), 128, dtype=np.uint8)
    for name, (left, top) in boxes_at(number).items():
        pixels[int(top) : int(top) + SIDE, int(left) : int(left) + SIDE] = COLORS[name]
    return pixels


class Colors(nn.Module):
    """The mean color of a picture, as far as it differs from grey."""

    def forward(self, batch: Batch[IdentityTarget]) -> list[Tensor]:
        mean = batch.images.float().mean(dim=(2, 3))
        return list(nn.functional.normalize(mean - mean.mean(1, keepdim=True)))


@pytest.fixture
def footage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sequence with detections of both squares, but for the frames in which they are close; `--reid` tells colors apart."""
    monkeypatch.chdir(tmp_path)
    info = EmbedderInfo(
        name="colors", model="colors", options={}, size_px=(16, 16), identities=2, metrics={}, data={},
        training=TrainingInfo(1, 0, "train", {}),
    )  # fmt: skip
    monkeypatch.setattr(track_inputs, "load_embedder", lambda path, device: Embedder(Colors(), info))
    folder = tmp_path / "meet"
    (folder / "img1").mkdir(parents=True)
    lines = []
    for number in range(1, FRAMES + 1):
        Image.fromarray(picture(number)).save(folder / "img1" / f"{number:06d}.png")
        if number not in HIDDEN:
            lines += [
                f"{number},-1,{left + 1},{top + 1},{SIDE},{SIDE},0.9,-1,-1,-1\n"
                for left, top in boxes_at(number).values()
            ]
    (folder / "det").mkdir()
    (folder / "det" / "det.txt").write_text("".join(lines))
    return folder


def call(*arguments: str) -> int:
    return guarded(track.run, list(arguments))


def people(file: Path) -> dict[str, set[int]]:
    """The ids that each square had, by where it is."""
    ids: dict[str, set[int]] = {name: set() for name in COLORS}
    for line in file.read_text().splitlines():
        number, identity, left, top = (float(value) for value in line.split(",")[:4])
        apart = {name: abs(x - left) + abs(y - top) for name, (x, y) in boxes_at(int(number)).items()}
        ids[min(apart, key=lambda name: apart[name])].add(int(identity))
    return ids


SAVED = ("--detections", "{name}/det/det.txt")
# They walk more than Deep SORT's noise expects of so small a box.
FAST = ("--tracker.process_velocity_std", "0.1")


def test_appearance_keeps_both_ids_where_motion_alone_loses_them(footage: Path) -> None:
    assert call("--source", str(footage), *SAVED, "--reid", "colors", "--out", "with", *FAST) == DONE
    assert people(Path("with/meet.txt")) == {"red": {1}, "blue": {2}}
    assert call("--source", str(footage), *SAVED, "--preset", "sort", "--out", "without") == DONE
    without = people(Path("without/meet.txt"))
    assert len(without["red"] | without["blue"]) == 4


def test_every_output_is_written_and_agrees(footage: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outputs = ["mot", "jsonl", "parquet", "mp4", "webm", "crops"]
    save = ("--save", "found/{name}.parquet")
    code = call("--source", str(footage), *SAVED, "--reid", "colors", "--write", *outputs, *save, "--json", *FAST)
    assert code == DONE
    (answered,) = json.loads(capfd.readouterr().out)["sequences"]
    assert answered["frames"] == FRAMES and answered["tracks"] == 2
    assert all(Path(file).exists() for file in answered["files"])
    text = Path("tracks/meet.txt").read_text().splitlines()
    lines = [json.loads(line) for line in Path("tracks/meet.jsonl").read_text().splitlines()]
    assert len(lines) == FRAMES
    assert (
        sum(len(line["tracks"]) for line in lines)
        == len(text)
        == answered["boxes"]
        == pq.read_table("tracks/meet.parquet").num_rows
    )
    for suffix in ("mp4", "webm"):
        assert int(cv2.VideoCapture(f"tracks/meet.{suffix}").get(cv2.CAP_PROP_FRAME_COUNT)) == FRAMES
    assert {folder.name for folder in Path("tracks/meet-crops").iterdir()} == {"000001", "000002"}
    # What was found says the same again, without pictures or networks.
    assert call("--source", "found/meet.parquet", "--out", "again", *FAST) == DONE
    assert Path("again/meet.txt").read_text().splitlines() == text


def test_frames_that_are_looked_at_together_change_nothing(footage: Path) -> None:
    for size in ("1", "7"):
        assert (
            call("--source", str(footage), *SAVED, "--reid", "colors", "--batch_size", size, "--out", size, *FAST)
            == DONE
        )
    assert Path("1/meet.txt").read_bytes() == Path("7/meet.txt").read_bytes()


def test_a_detector_of_the_zoo_tracks_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    writer = cv2.VideoWriter("meet.mp4", cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (WIDTH, HEIGHT))
    for number in range(1, 6):
        writer.write(np.ascontiguousarray(picture(number)[:, :, ::-1]))
    writer.release()
    torch.manual_seed(0)
    info = export_info(model="yolov5n", resize=ResizeRule("letterbox", 64), inference=Inference(score_threshold=0.001))
    model = zoo.build("yolov5n", num_classes=len(info.classes), options=info.options, inference=info.inference)
    write_export(tmp_path / "detector", state=model.state_dict(), info=info)
    outputs = ("--write", "mot", "jsonl")
    settings = ("--preset", "sort", "--tracker.min_confidence", "0.001", "--tracker.n_init", "1")
    assert call("--source", "meet.mp4", "--detector", "detector", "--classes", "RBC", *outputs, *settings) == DONE
    lines = [json.loads(line) for line in Path("tracks/meet.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == [1, 2, 3, 4, 5]
    assert {one["class"] for line in lines for one in line["tracks"]} <= {"RBC"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--source is missing; expected a video file"),
        (("--source", "nowhere", *SAVED), "nowhere: no such file or folder"),
        (("--source", "meet"), "meet: nothing finds objects in it; give --detector RUN, or --detections"),
        (("--source", "meet", "--detections", "{name}.parquet"), "meet.parquet: no such file"),
        (("--source", "meet", *SAVED, "--detector", "x"), "--detector and --detections are both given"),
        (("--source", "meet", *SAVED, "--every", "0"), "--every is 0, expected at least 1"),
        (("--source", "meet", *SAVED, "--save", "x.txt"), "--save is x.txt, expected a name that ends in .parquet"),
        (("--source", "meet", *SAVED, "--tracker.max_ages", "3"), "no setting `max_ages`; did you mean `max_age`?"),
        (("--source", "meet", *SAVED, "--tracker.max_age", "long"), "max_age: expected a whole number, got 'long'"),
        (("--source", "meet", *SAVED, "--max_age", "3"), "--max_age: no such option"),
        (
            ("--source", "meet", "meet", "--detections", "meet/det/det.txt"),
            "--detections is meet/det/det.txt for 2 footages; put {name} in it",
        ),
        (("--source", "meet/det/det.txt", "--preset", "sort", "--write", "mp4"), "saved detections have no pictures"),
    ],
)
def test_what_a_user_does_wrong_is_one_line(
    arguments: tuple[str, ...], message: str, footage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments) == BAD_INPUT
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and message in errors[0]


def test_without_a_network_for_appearance_it_says_so_and_goes_on(
    footage: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call("--source", str(footage), *SAVED) == DONE
    assert "without appearance" in capfd.readouterr().out


def test_a_network_that_the_settings_do_not_use_is_not_run(footage: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("--source", str(footage), *SAVED, "--reid", "colors", "--preset", "sort", "--json") == DONE
    said = capfd.readouterr()
    assert "--reid is not used" in said.err
    assert json.loads(said.out)["sequences"][0]["stages_s"]["embed"] == 0


def start(*arguments: str, folder: Path, **extra: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "accel_det", "track", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, **extra
    )


def test_ctrl_c_leaves_whole_files_of_the_frames_so_far(footage: Path) -> None:
    long = footage.parent / "long"
    (long / "img1").mkdir(parents=True)
    for number in range(1, 3001):
        os.link(footage / "img1" / "000001.png", long / "img1" / f"{number:06d}.png")
    (long / "det.txt").write_text("".join(f"{n},-1,11,31,30,30,0.9,-1,-1,-1\n" for n in range(1, 3001)))
    process = start(
        "--source", "long", "--detections", "long/det.txt", "--preset", "sort", "--write", "mot", "jsonl", "mp4",
        folder=footage.parent,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list((footage.parent / "tracks").glob(".long.part.mp4")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    frames = [json.loads(line)["frame"] for line in (footage.parent / "tracks" / "long.jsonl").read_text().splitlines()]
    assert 0 < len(frames) < 3000 and frames == list(range(1, len(frames) + 1))
    video = cv2.VideoCapture(str(footage.parent / "tracks" / "long.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == len(frames)
    assert not list((footage.parent / "tracks").glob(".*.part*"))
