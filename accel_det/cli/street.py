"""`accel-det street FOLDER`: pictures of the synthetic street, or footage of it as MOTChallenge stores it."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from accel_det.boxes import xyxy_to_xywh
from accel_det.cli.failures import DONE
from accel_det.data import street
from accel_det.data.progress import shown
from accel_det.engine.console import Console
from accel_det.metrics.mot_files import truth_line

_FRAMES_PER_S = 10
# The street's classes by MOTChallenge's numbers: pedestrian, person on vehicle, car, and a bus counts as one.
_MOT_CLASSES = (1, 2, 3, 3)


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="accel-det street",
        description="Draw scenes of the synthetic street, with their boxes as JSON; or footage, with the tracks of all who pass.",
    )
    parser.add_argument("folder", type=Path, help="where to write the pictures")
    parser.add_argument("--images", type=int, default=12, help="number of scenes; 12")
    parser.add_argument("--frames", type=int, help="footage of so many frames, ten a second, instead of scenes")
    parser.add_argument("--camera", type=int, default=0, help="number of the camera that takes the footage; 0")
    parser.add_argument("--sidewalk", action="store_true", help="footage of the people of a sidewalk, from near")
    parser.add_argument("--seed", type=int, default=0, help="another seed, another street")
    parser.add_argument("--height", type=int, default=240, help="pixels")
    parser.add_argument("--width", type=int, default=320, help="pixels")
    options = parser.parse_args(list(arguments))
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.frames is not None:
        return _write_footage(options)
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


def _write_footage(options: argparse.Namespace) -> int:
    if options.frames < 1:
        raise ValueError(f"--frames is {options.frames}, expected at least 1")
    scenes = street.sequence(
        options.seed,
        frames=options.frames,
        camera=options.camera,
        height=options.height,
        width=options.width,
        frames_per_s=_FRAMES_PER_S,
        sidewalk=options.sidewalk,
    )
    (options.folder / "img1").mkdir(exist_ok=True)
    (options.folder / "gt").mkdir(exist_ok=True)
    lines: list[str] = []
    people: set[int] = set()
    for frame, scene in enumerate(shown(scenes, total=options.frames, what="frames"), start=1):
        Image.fromarray(scene.image).save(options.folder / "img1" / f"{frame:06d}.jpg", quality=95)
        lines += _truth_lines(frame, scene)
        people |= set(scene.identities[(scene.labels == 0) & ~scene.ignored].tolist())
    (options.folder / "gt" / "gt.txt").write_text("".join(lines), encoding="ascii")
    (options.folder / "seqinfo.ini").write_text(
        f"[Sequence]\nname={options.folder.resolve().name}\nimDir=img1\nframeRate={_FRAMES_PER_S}\n"
        f"seqLength={options.frames}\nimWidth={options.width}\nimHeight={options.height}\nimExt=.jpg\n",
        encoding="utf-8",
    )
    Console(speaks=True).say(f"{options.frames} frames with {len(people)} people: {options.folder}")
    return DONE


def _truth_lines(frame: int, scene: street.Scene) -> list[str]:
    """Lines of gt.txt: who is too hidden or too small to be asked for is marked 0, which metrics leave out."""
    rows = zip(
        scene.identities.tolist(),
        xyxy_to_xywh(torch.from_numpy(scene.boxes)).double().tolist(),
        scene.labels.tolist(),
        scene.ignored.tolist(),
        scene.visibility.tolist(),
        strict=True,
    )
    return [
        truth_line(frame, identity + 1, box, flag=not ignored, label=_MOT_CLASSES[label], visibility=visibility)
        for identity, box, label, ignored, visibility in rows
    ]
