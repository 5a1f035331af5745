"""`accel-det street FOLDER`: pictures of the synthetic street, or footage of it as MOTChallenge stores it."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from accel_det.cli.failures import DONE
from accel_det.data import street
from accel_det.data.progress import shown
from accel_det.engine.console import Console
from accel_det.metrics.mot_files import MotTruth, boxes_of, write_truth

_FRAMES_PER_S = 10
# The street's classes by MOTChallenge's numbers: pedestrian, person on vehicle, car, and a bus counts as one.
_MOT_CLASSES = (1, 2, 3, 3)
_DISTRACTOR = 8
_NO_IMAGE = np.zeros((0, 0, 3), dtype=np.uint8)


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="accel-det street",
        description="Draw scenes of the synthetic street, with their boxes as JSON; or footage, with the tracks of all who pass.",
    )
    parser.add_argument("folder", type=Path, help="where to write the pictures")
    parser.add_argument("--images", type=int, default=12, help="number of scenes; 12")
    parser.add_argument("--frames", type=int, help="footage of so many frames, ten a second, instead of scenes")
    parser.add_argument("--camera", type=int, default=0, help="number of the camera that takes the footage; 0")
    parser.add_argument(
        "--footages", type=int, help="as many footages, each of the next seed by the next camera, in folders by seed"
    )
    parser.add_argument("--sidewalk", action="store_true", help="footage of the people of a sidewalk, from near")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another street")
    parser.add_argument("--height", type=int, default=240, help="pixels")
    parser.add_argument("--width", type=int, default=320, help="pixels")
    options = parser.parse_args(list(arguments))
    for key in ("frames", "footages"):
        if (value := getattr(options, key)) is not None and value < 1:
            raise ValueError(f"--{key} is {value}, expected at least 1")
    if options.footages is not None and options.frames is None:
        raise ValueError("--footages needs --frames, the frames of each")
    if options.frames is not None:
        for number in range(options.footages or 1):
            folder = options.folder if options.footages is None else options.folder / f"{options.seed + number:04d}"
            _write_footage(folder, options, seed=options.seed + number, camera=options.camera + number)
        return DONE
    options.folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for index in range(options.images):
        scene = street.scene(options.seed, index, height=options.height, width=options.width)
        name = f"scene-{index:04d}.png"
        Image.fromarray(scene.image).save(options.folder / name)
        labels = [street.CLASSES[label] for label in scene.labels]
        truth[name] = [
            {"class": c, "box_xyxy": [float(v) for v in b]} for c, b in zip(labels, scene.boxes, strict=True)
        ]
    (options.folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    Console(speaks=True).say(f"{options.images} scenes: {options.folder}")
    return DONE


def _write_footage(folder: Path, options: argparse.Namespace, *, seed: int, camera: int) -> None:
    scenes = street.sequence(
        seed,
        frames=options.frames,
        camera=camera,
        height=options.height,
        width=options.width,
        frames_per_s=_FRAMES_PER_S,
        sidewalk=options.sidewalk,
    )
    (folder / "img1").mkdir(parents=True, exist_ok=True)
    seen: list[street.Scene] = []
    for frame, scene in enumerate(shown(scenes, total=options.frames, what="frames"), start=1):
        Image.fromarray(scene.image).save(folder / "img1" / f"{frame:06d}.jpg", quality=95)
        seen.append(scene._replace(image=_NO_IMAGE))
    truth = _truth(seen)
    write_truth(folder / "gt" / "gt.txt", truth)
    (folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={folder.resolve().name}\nimDir=img1\nframeRate={_FRAMES_PER_S}\n"
        f"seqLength={options.frames}\nimWidth={options.width}\nimHeight={options.height}\nimExt=.jpg\n",
        encoding="utf-8",
    )
    people = len(np.unique(truth.ids[truth.counted & (truth.classes == _MOT_CLASSES[0])]))
    Console(speaks=True).say(f"{options.frames} frames with {people} people: {folder}")


def _truth(scenes: Sequence[street.Scene]) -> MotTruth:
    """The truth of all frames; who is too hidden or too small to be asked for is a distractor, on whom results are forgiven."""
    classes = np.array(_MOT_CLASSES)[np.concatenate([scene.labels for scene in scenes])]
    ignored = np.concatenate([scene.ignored for scene in scenes])
    return MotTruth(
        frames=np.repeat(np.arange(1, len(scenes) + 1), [len(scene.labels) for scene in scenes]),
        ids=np.concatenate([scene.identities for scene in scenes]) + 1,
        boxes=boxes_of(np.concatenate([scene.boxes for scene in scenes]).astype(np.float64)),
        counted=~ignored,
        classes=np.where(ignored, _DISTRACTOR, classes),
        visibility=np.concatenate([scene.visibility for scene in scenes]).astype(np.float64),
    )
