"""A training step with `channels_last` weights, and with `torch.compile`, against the same step of the plain network.

    python benchmarks/step_variants.py [--model yolov5n] [--size_px 192] [--images 16] [--rounds 9] [--steps 5]

The three take turns. The figures are ratios of the medians, plain over variant: above 1.00 the variant is faster. Compiling
happens before the clock starts. Results go to benchmarks/results/step_variants_<model>.json.
"""

import argparse
import json
import platform
import statistics
import time
from functools import partial

import torch
from step_overhead import RESULTS, hand_written_step, interleave, make_side, resident_batch

from accel_det.engine.runtime import versions
from accel_det.engine.transfer import to_device

PLAIN = "plain"


def main() -> None:
    options = parse()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    batch = to_device(resident_batch(options.model, options.images, options.size_px), device)
    sides = {name: make_side(options.model, device) for name in (PLAIN, "channels_last", "compiled")}
    sides["channels_last"][0].to(memory_format=torch.channels_last)
    for part in sides["compiled"][0].compilable():
        part.compile()
    steps_of = {name: partial(hand_written_step, *side, batch) for name, side in sides.items()}
    seconds = interleave(steps_of, rounds=options.rounds, steps=options.steps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {name: medians[PLAIN] / median for name, median in medians.items() if name != PLAIN}
    for name, median in medians.items():
        print(
            f"  {name:13} {1e3 * median:8.1f} ms a step ({1e3 * min(seconds[name]):.1f} to {1e3 * max(seconds[name]):.1f})"
        )
    told = " ".join(f"{name}={ratio:.3f}" for name, ratio in ratios.items())
    print(f"step_variants: {options.model} {told} (plain / variant; above 1 the variant is faster)")
    facts = {
        "command": "python benchmarks/step_variants.py "
        f"--model {options.model} --size_px {' '.join(map(str, options.size_px))} --images {options.images}",
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
        "ratios": ratios,
        "seconds": seconds,
    }
    (RESULTS / f"step_variants_{options.model}.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="yolov5n")
    parser.add_argument("--size_px", type=int, nargs="+", default=[192], help="side, or height and width")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
