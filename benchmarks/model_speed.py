"""Images per second of whole training steps, network by network, at their published sizes, beside the bare step.

    python benchmarks/model_speed.py [--models yolov5s yolov3 ...] [--images 8] [--size_px 64] [--rounds 5] [--steps 4]
    accelerate launch --mixed_precision bf16 benchmarks/model_speed.py

The bare step is forward, loss, backward, clipping, optimizer and moving average of the same network, written by hand under
the same autocast. The two take turns, so that a noisy machine disturbs both alike. The share is the ratio of the medians,
bare over ours: 1.00 means that the engine costs nothing. `--compile` compiles what each network says can be compiled.
Results go to benchmarks/results/model_speed_<device>.json.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from step_overhead import NUM_CLASSES, hand_written_step, interleave, resident_batch
from torch import nn

from accel_det.config.schema import OptimizerSection, RuntimeSection
from accel_det.engine.ema import MovingAverage
from accel_det.engine.optimize import make_optimizer
from accel_det.engine.runtime import Accelerator, make_accelerator, versions
from accel_det.engine.step import train_step
from accel_det.engine.transfer import to_device
from accel_det.models import zoo

NETWORKS = ("yolov5s", "yolov3", "rfcn_resnet50", "rtdetr_v2_resnet50", "rfdetr_base")
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    options = parse()
    accelerator = make_accelerator(RuntimeSection(), deterministic=False, trackers=[], folder=".")
    rows = [measure(accelerator, name, options) for name in options.models]
    device = torch.cuda.get_device_name() if accelerator.device.type == "cuda" else platform.machine()
    facts = {
        "device": device,
        "threads": torch.get_num_threads(),
        "precision": accelerator.mixed_precision,
        "compiled": options.compile,
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
        "rows": rows,
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"model_speed_{accelerator.device.type}.json"
    file.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"{device}, precision {accelerator.mixed_precision}: {file}")


def measure(accelerator: Accelerator, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One line of the table: printed as soon as it is known."""
    card = zoo.card(name)
    published = [-(-side // card.multiple_px) * card.multiple_px for side in card.input_px]
    size_px = [options.size_px] if options.size_px else published
    batch = to_device(resident_batch(name, options.images, size_px), accelerator.device)
    bare, ours = (make_side(name, accelerator, compiled=options.compile) for _ in range(2))
    model, optimizer, average = ours
    wrapped, prepared = accelerator.prepare(model, optimizer)
    updates = [0]

    def by_hand() -> None:
        with accelerator.autocast():
            hand_written_step(*bare, batch)

    def engine() -> None:
        train_step(accelerator, wrapped, prepared, [batch], seed=updates[0], max_grad_norm=10.0)
        updates[0] += 1
        average.update(model, update=updates[0])

    seconds = interleave({"by_hand": by_hand, "ours": engine}, rounds=options.rounds, steps=options.steps)
    accelerator.free_memory()
    medians = {side: statistics.median(values) for side, values in seconds.items()}
    row = {
        "model": name,
        "size_px": size_px,
        "images": options.images,
        "images_per_s": options.images / medians["ours"],
        "share_of_bare_step": medians["by_hand"] / medians["ours"],
        "seconds": seconds,
    }
    size = "x".join(map(str, dict.fromkeys(size_px)))
    print(
        f"{name:24} {size:>7} px  {options.images:3} images  {row['images_per_s']:9.1f} images/s  "
        f"{row['share_of_bare_step']:.3f} of the bare step",
        flush=True,
    )
    return row


def make_side(
    name: str, accelerator: Accelerator, *, compiled: bool
) -> tuple[nn.Module, torch.optim.Optimizer, MovingAverage]:
    torch.manual_seed(0)
    model = zoo.build(name, num_classes=NUM_CLASSES).to(accelerator.device).train()
    average = MovingAverage(model, decay=0.999, ramp_steps=100)
    if compiled:
        for part in model.compilable():
            part.compile()
    return model, make_optimizer(model, OptimizerSection(name="sgd", lr=1e-6)), average


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=NETWORKS, metavar="NAME")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--size_px", type=int, help="instead of the published size of each")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--compile", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
