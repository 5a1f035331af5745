"""Tracking cars from the air at two frames a second: published settings, and ones chosen on one sequence and told of the other.

    python benchmarks/tracker_aerial.py FOLDER [--draws 300] [--seed 0] [--camera_motion]

FOLDER holds two sequences in MOTChallenge's layout, each with gt/gt.txt and det/det.txt. All is by motion and overlap, from the
boxes of det.txt alone. Settings are drawn at random from a fixed grid; of each sequence the draw of the highest HOTA on the
other one is told, so that no number comes from the boxes that it was chosen on. --camera_motion looks at the pictures too, in
img1, for how the camera moved. Results go to benchmarks/results/tracker_aerial.json, or tracker_aerial_camera_motion.json.
"""

import argparse
import dataclasses
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness import write_result
from numpy.typing import NDArray

from accel_det.data.decode import decode
from accel_det.metrics.mot import MotCounts, mot_counts, mot_scores
from accel_det.metrics.mot_files import MotBoxes, MotTruth, boxes_of, corners_of, read_detections, read_truth
from accel_det.metrics.mot_sequence import MotRule
from accel_det.tracking.camera_motion import CameraMotion
from accel_det.tracking.frames import FrameDetections
from accel_det.tracking.settings import PRESETS, TrackerSettings
from accel_det.tracking.tracker import Tracker

ALL_CLASSES = MotRule(preprocess=False)
BY_MOTION = dataclasses.replace(
    PRESETS["deepsort"],
    max_cosine_distance=None,
    motion_weight=1.0,
    initial_height_velocity_std=10 / 160,
    process_height_velocity_std=1 / 160,
    reported_box="detected",
)
ROUND_NUMBERS = {
    "n_init": 1,
    "max_age": 3,
    "min_confidence": 0.5,
    "initial_velocity_std": 1.0,
    "process_velocity_std": 0.2,
    "measured_aspect_std": 0.3,
}
GRID: dict[str, tuple[Any, ...]] = {
    "n_init": (1, 2),
    "max_age": (1, 2, 3, 5),
    "min_confidence": (0.3, 0.4, 0.5, 0.55),
    "low_confidence": (None, 0.25),
    "initial_velocity_std": (0.3, 0.5, 0.7, 1.0, 1.5),
    "process_velocity_std": (0.03, 0.05, 0.1, 0.15, 0.2, 0.3),
    "process_position_std": (0.02, 0.05),
    "measured_position_std": (0.02, 0.05, 0.1),
    "measured_aspect_std": (0.1, 0.2, 0.3, 0.5),
    "gate": ("full", "position"),
    "gate_level": (0.95, 0.99),
    "cascade_by_age": (True, False),
}
TOLD = ("HOTA", "DetA", "AssA", "MOTA", "IDF1", "IDSW")


class Case(NamedTuple):
    """A sequence with its truth, its detections, and for each frame how the camera moved, or None."""

    truth: MotTruth
    found: MotBoxes
    motions: list[NDArray[np.float64] | None]


def main() -> None:
    options = parse()
    cases = {
        folder.name: read(folder, camera_motion=options.camera_motion)
        for folder in sorted(options.folder.iterdir())
        if folder.is_dir()
    }
    if len(cases) != 2:
        raise SystemExit(f"{options.folder}: expected the folders of two sequences, found {len(cases)}")
    told = {
        name: tell(
            name,
            {one: count(case, dataclasses.replace(settings, max_cosine_distance=None)) for one, case in cases.items()},
        )
        for name, settings in PRESETS.items()
    }
    told["round numbers"] = tell(
        "round numbers", {one: count(case, settings_of(ROUND_NUMBERS)) for one, case in cases.items()}
    )
    draws = random.Random(options.seed)
    drawn = [{key: draws.choice(values) for key, values in GRID.items()} for _ in range(options.draws)]
    counts = [{name: count(case, settings_of(values)) for name, case in cases.items()} for values in drawn]
    best = {name: max(range(len(drawn)), key=lambda one: mot_scores([counts[one][name]])["HOTA"]) for name in cases}
    first, second = cases
    crossed = {first: counts[best[second]][first], second: counts[best[first]][second]}
    told["chosen on the other"] = tell("chosen on the other", crossed)
    told["chosen on itself"] = tell("chosen on itself", {name: counts[best[name]][name] for name in cases})
    chosen = {name: drawn[one] for name, one in best.items()}
    for name, values in chosen.items():
        print(f"best of {len(drawn)} draws on {name}: {values}")
    name = "tracker_aerial_camera_motion" if options.camera_motion else "tracker_aerial"
    flag = " --camera_motion" if options.camera_motion else ""
    command = f"tracker_aerial.py FOLDER --draws {options.draws} --seed {options.seed}{flag}"
    write_result(name, command, {"scores": told, "chosen_on": chosen})


def read(folder: Path, *, camera_motion: bool) -> Case:
    truth, found = read_truth(folder / "gt" / "gt.txt"), read_detections(folder / "det" / "det.txt")
    num_frames = int(max(truth.frames.max(), found.frames.max()))
    if not camera_motion:
        return Case(truth, found, [None] * num_frames)
    camera, motions = CameraMotion(), []
    for frame in range(1, num_frames + 1):
        file = folder / "img1" / f"{frame:06d}.jpg"
        image = decode(file.read_bytes(), name=str(file)).permute(1, 2, 0).contiguous().numpy()
        motions.append(camera.estimate(image, corners_of(found.boxes[found.frames == frame])))
    return Case(truth, found, motions)


def settings_of(values: dict[str, Any]) -> TrackerSettings:
    """Where two detections confirm a track, its first ones look for each other by motion too."""
    twice = values["n_init"] == 2
    return dataclasses.replace(BY_MOTION, **values, cascade_tentative=twice, confirm_at_once_frames=int(twice))


def count(case: Case, settings: TrackerSettings) -> MotCounts:
    """Track a sequence, and count what was found."""
    tracker, tracks = Tracker(settings), []
    for frame, motion in enumerate(case.motions, start=1):
        here = case.found.frames == frame
        labels = np.zeros(here.sum(), dtype=np.int64)
        detections = FrameDetections(corners_of(case.found.boxes[here]), case.found.scores[here], labels)
        tracks.append(tracker.update(detections, motion=motion))
    frames = np.repeat(np.arange(1, len(tracks) + 1), [len(one.ids) for one in tracks])
    ids, boxes, scores, *_ = (np.concatenate(column) for column in zip(*tracks, strict=True))
    return mot_counts(case.truth, MotBoxes(frames, ids, boxes_of(boxes), scores), ALL_CLASSES)


def tell(name: str, counts: dict[str, MotCounts]) -> dict[str, dict[str, float]]:
    """Print the scores of both sequences together, and give those of each as well."""
    scores = {one: mot_scores([each]) for one, each in counts.items()} | {"both": mot_scores(list(counts.values()))}
    kept = {one: {key: round(float(all_of[key]), 4) for key in TOLD} for one, all_of in scores.items()}
    print(
        f"tracker_aerial: {name:20}",
        *(f"{key} {value:.3f}" if key != "IDSW" else f"{key} {value:.0f}" for key, value in kept["both"].items()),
    )
    return kept


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--camera_motion", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
