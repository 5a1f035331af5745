"""Images per second of whole training steps, network by network, at their published sizes, beside the bare step.

    python benchmarks/model_speed.py [--models yolov5s yolov3 ...] [--images 8] [--size_px 64] [--rounds 5] [--steps 4]
    accelerate launch --mixed_precision bf16 benchmarks/model_speed.py

The bare step is forward, loss, backward, clipping, optimizer and moving average of the same network, written by hand under
the same autocast. The two take turns, so that a noisy machine disturbs both alike. The share is the ratio of the medians,
bare over ours: 1.00 means that the engine costs nothing. `--compile` compiles what each network says can be compiled.
Results go to benchmarks/results/model_speed_<device>.json.
"""

import argparse
import statistics
from typing import Any

from harness import device_name, interleave, write_result
from step_overhead import hand_written_step, make_side, resident_batch

from accel_det.config.schema import RuntimeSection
from accel_det.engine.runtime import Accelerator, make_accelerator
from accel_det.engine.step import train_step
from accel_det.engine.transfer import to_device
from accel_det.models import zoo

NETWORKS = ("yolov5s", "yolov3", "rfcn_resnet50", "rtdetr_v2_resnet50", "rfdetr_base")


def main() -> None:
    options = parse()
    accelerator = make_accelerator(RuntimeSection(), deterministic=False, trackers=[], folder=".")
    rows = [measure(accelerator, name, options) for name in options.models]
    command = f"model_speed.py --models {' '.join(options.models)} --images {options.images}"
    command += f" --size_px {options.size_px}" if options.size_px else ""
    command += f" --rounds {options.rounds} --steps {options.steps}{' --compile' if options.compile else ''}"
    facts = {"precision": accelerator.mixed_precision, "compiled": options.compile, "rows": rows}
    file = write_result(f"model_speed_{accelerator.device.type}", command, facts)
    print(f"{device_name()}, precision {accelerator.mixed_precision}: {file}")


def measure(accelerator: Accelerator, name: str, options: argparse.Namespace) -> dict[str, Any]:
    """One line of the table: printed as soon as it is known."""
    card = zoo.card(name)
    published = [-(-side // card.multiple_px) * card.multiple_px for side in card.input_px]
    size_px = [options.size_px] if options.size_px else published
    batch = to_device(resident_batch(name, options.images, size_px), accelerator.device)
    bare, ours = (make_side(name, accelerator.device) for _ in range(2))
    model, optimizer, average = ours
    for part in [*bare[0].compilable(), *model.compilable()] if options.compile else ():
        part.compile()
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
