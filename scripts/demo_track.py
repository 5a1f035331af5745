"""`make demo-track`: learn to find and to recognise people, then follow them through footage, with and without appearance."""

import json
import shutil
import sys
import time
from pathlib import Path
from typing import NamedTuple

from demo_steps import ACCEL_DET, LAUNCH, call, say
from PIL import Image

from accel_det.report.pictures import contact_sheet
from accel_det.video.footage import VideoFile, require_pixels

RUN = Path("runs/street-tracking")
DETECTOR, REID = Path("runs/street-sidewalk"), Path("runs/street-followed")
SETTINGS = "trackers/street.yaml"
VIEW = ["--sidewalk", "--height", "360", "--width", "480"]
# Streets whose tracks are known, to learn from and to choose weights by: first seed, number of footages, frames of each.
STREETS = {"train": ("301", "24", "48"), "val": ("351", "4", "48")}
FRAMES = 120
# Cameras and streets that no network was trained on; each looks at a sidewalk, where people hide one another.
FOOTAGE = {"noon": ("101", "0"), "square": ("102", "4"), "corner": ("103", "8")}


class Score(NamedTuple):
    """What eval-mot says of one way to track, over all footage."""

    hota: float
    mota: float
    idf1: float
    switches: int


def main() -> int:
    started = time.perf_counter()
    for folder in (RUN, DETECTOR, REID):
        shutil.rmtree(folder, ignore_errors=True)
    call([*LAUNCH, "scripts/train.py", "configs/demo/street_sidewalk.yaml"])
    for split, (seed, count, frames) in STREETS.items():
        draw = ["--seed", seed, "--footages", count, "--frames", frames, *VIEW]
        call([ACCEL_DET, "street", str(RUN / "streets" / split), *draw])
    call([*LAUNCH, "scripts/train.py", "configs/demo/street_followed.yaml"])
    for name, (seed, camera) in FOOTAGE.items():
        draw = ["--seed", seed, "--camera", camera, "--frames", str(FRAMES), *VIEW]
        call([ACCEL_DET, "street", str(RUN / "footage" / name), *draw])
    look = ["--detector", str(DETECTOR), "--classes", "person"]
    save = ["--save", str(RUN / "found" / "{name}.parquet")]
    appearance = ["--reid", str(REID), "--settings", SETTINGS]
    track("with", [str(RUN / "footage")], [*look, *appearance, *save, "--write", "mot", "webm"])
    found = [str(RUN / "found" / f"{name}.parquet") for name in FOOTAGE]
    track("without", found, ["--settings", SETTINGS, "--tracker.max_cosine_distance", "none"])
    draw_sheet(RUN / "with" / "noon.webm", RUN / "with" / "noon.jpg")
    say("")
    ours, plain = score("with"), score("without")
    for what, (hota, mota, idf1, switches) in (("with appearance", ours), ("without", plain)):
        say(f"{what:17}HOTA={hota:.3f} MOTA={mota:.3f} IDF1={idf1:.3f} id switches={switches}")
    say(f"\nlook at    {RUN}/with/noon.webm      a sidewalk with everybody's number and trail; a browser plays it")
    say(f"           {RUN}/with/noon.jpg       eight of its frames")
    seconds = time.perf_counter() - started
    say(f"demo-track: HOTA={ours.hota:.3f} MOTA={ours.mota:.3f} IDF1={ours.idf1:.3f} seconds={seconds:.0f} run={RUN}")
    return 0


def track(name: str, sources: list[str], arguments: list[str]) -> None:
    """Track all footage into a folder of the run."""
    call([*LAUNCH, "scripts/track.py", "--source", *sources, "--out", str(RUN / name), *arguments])


def score(name: str) -> Score:
    """How well the tracks of a folder follow the people of all footage."""
    answered = call([ACCEL_DET, "eval-mot", str(RUN / "footage"), str(RUN / name), "--json"], capture=True)
    combined = json.loads(answered)["all"]
    return Score(combined["HOTA"], combined["MOTA"], combined["IDF1"], combined["IDSW"])


def draw_sheet(video: Path, target: Path) -> None:
    """Eight frames of a video, evenly apart, on one picture."""
    wanted = range(1, FRAMES + 1, FRAMES // 8)
    frames = [Image.fromarray(require_pixels(frame)) for frame in VideoFile(video) if frame.number in wanted]
    contact_sheet(frames, columns=4).save(target, quality=92)


if __name__ == "__main__":
    sys.exit(main())
