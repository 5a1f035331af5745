"""Updates of the tracker by the number of objects in view, on one core.

    OMP_NUM_THREADS=1 python benchmarks/tracker_speed.py [--objects 10 50 200] [--frames 220] [--timed 100]

Objects walk on a plane that grows with their number; 5 % of detections are missing, 2 % false. Embeddings have 128 numbers,
as those of Deep SORT, and the timed frames come last, when its budget of 100 is nearly full. The figures are medians of
milliseconds of processor time: of an update, and of the part of it that says which detection continues which track.
Results go to benchmarks/results/tracker_speed.json.
"""

import argparse
import math
import statistics
import time
from collections.abc import Iterator

import numpy as np
from harness import write_result

from accel_det.tracking.association import Pairs
from accel_det.tracking.frames import Candidates, FrameDetections
from accel_det.tracking.settings import PRESETS, TrackerSettings
from accel_det.tracking.tracker import Tracker

EMBEDDING_SIZE = 128
ROOM_PX = 120.0


def main() -> None:
    options = parse()
    millis = {str(number): measure(number, options.frames, options.timed) for number in options.objects}
    first, last = str(options.objects[0]), str(options.objects[-1])
    growth = {}
    for name in PRESETS:
        line = [
            f"{number} objects {1e3 / of[name]['median']:6.0f}/s ({of[name]['median']:.2f} ms, associating "
            f"{of[name]['associating']:.2f})"
            for number, of in millis.items()
        ]
        growth[name] = math.log(millis[last][name]["median"] / millis[first][name]["median"]) / math.log(
            int(last) / int(first)
        )
        print(f"tracker_speed: {name:17} {', '.join(line)}, grows as objects ** {growth[name]:.2f}")
    objects = " ".join(map(str, options.objects))
    write_result(
        "tracker_speed",
        f"tracker_speed.py --objects {objects} --frames {options.frames} --timed {options.timed}",
        {"milliseconds": millis, "growth_exponent": growth},
    )


def measure(num_objects: int, num_frames: int, num_timed: int) -> dict[str, dict[str, float]]:
    """Milliseconds an update of each preset: the median, the fastest and the slowest tenth of the timed frames; and the median
    of associating."""
    frames = list(walk(num_objects, num_frames))
    found = {}
    for name, settings in PRESETS.items():
        tracker, seconds = Timed(settings), []
        for frame in frames:
            started = time.thread_time()
            tracker.update(frame)
            seconds.append(time.thread_time() - started)
        associating = 1e3 * statistics.median(tracker.associating_s[-num_timed:])
        found[name] = summary(seconds[-num_timed:]) | {"associating": round(associating, 3)}
    return found


class Timed(Tracker):
    """A tracker that keeps how long it took to associate, in each frame."""

    def __init__(self, settings: TrackerSettings) -> None:
        super().__init__(settings)
        self.associating_s: list[float] = []

    def _associate(self, found: Candidates) -> Pairs:
        started = time.thread_time()
        pairs = super()._associate(found)
        self.associating_s.append(time.thread_time() - started)
        return pairs


def summary(seconds: list[float]) -> dict[str, float]:
    tenths = statistics.quantiles(seconds, n=10)
    named = {"median": tenths[4], "fastest_tenth": tenths[0], "slowest_tenth": tenths[-1]}
    return {name: round(1e3 * value, 3) for name, value in named.items()}


def walk(num_objects: int, num_frames: int, *, seed: int = 0) -> Iterator[FrameDetections]:
    """Frames of objects that walk straight on, seen with noise."""
    rng = np.random.default_rng(seed)
    side = ROOM_PX * math.sqrt(num_objects)
    at, speed = rng.uniform(0, side, (num_objects, 2)), rng.normal(0, 2, (num_objects, 2))
    size, looks = rng.uniform((20, 50), (50, 120), (num_objects, 2)), rng.normal(size=(num_objects, EMBEDDING_SIZE))
    for number in range(num_frames):
        seen = np.flatnonzero(rng.random(num_objects) > 0.05)
        num_false = int(rng.binomial(num_objects, 0.02))
        center = np.vstack(
            ((at + speed * number) % side + rng.normal(0, 1, at.shape), rng.uniform(0, side, (num_false, 2)))
        )
        rows = np.concatenate((seen, num_objects + np.arange(num_false)))
        half = np.vstack((size, size[rng.integers(0, num_objects, num_false)]))[rows] / 2
        look = np.vstack((looks, rng.normal(size=(num_false, EMBEDDING_SIZE))))[rows]
        look = look + rng.normal(0, 0.3, look.shape)
        yield FrameDetections(
            np.hstack((center[rows] - half, center[rows] + half)),
            rng.uniform(0.5, 1, len(rows)),
            np.zeros(len(rows), dtype=np.int64),
            (look / np.linalg.norm(look, axis=1, keepdims=True)).astype(np.float32),
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--frames", type=int, default=220)
    parser.add_argument("--timed", type=int, default=100)
    return parser.parse_args()


if __name__ == "__main__":
    main()
