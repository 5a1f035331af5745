"""Our training step against a hand-written loop: same network, same loss, same optimizer, same resident batch.

    python benchmarks/step_overhead.py [--model yolov5n] [--size_px 192] [--images 16] [--rounds 9] [--steps 10]
    python benchmarks/step_overhead.py --model reid_resnet18 --size_px 128 64 --images 64

The two take turns, so that a noisy machine disturbs both alike. The figure is the ratio of the medians, hand-written over
ours: 1.00 means that the engine costs nothing. Then where the time of our step goes. Results go to
benchmarks/results/step_overhead.json, or step_overhead_<model>.json for another network than the usual one. How long a real
run waits for data stands in its metrics.jsonl as `data_wait`.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from harness import interleave, step_line, synchronize, write_result
from torch import nn

from accel_det.config.schema import OptimizerSection, RuntimeSection
from accel_det.engine.ema import MovingAverage
from accel_det.engine.normalize import agree, global_loss
from accel_det.engine.optimize import gradient_norm, make_optimizer
from accel_det.engine.runtime import make_accelerator
from accel_det.engine.step import train_step
from accel_det.engine.transfer import to_device
from accel_det.models import zoo
from accel_det.types import Batch, BoxTarget, Frame, IdentityTarget

USUAL = "yolov5n"
NUM_CLASSES = 100


def main() -> None:
    options = step_parser(__doc__, steps=10).parse_args()
    accelerator = make_accelerator(RuntimeSection(), deterministic=False, trackers=[], folder=".")
    batch = to_device(resident_batch(options.model, options.images, options.size_px), accelerator.device)
    sides = {name: make_side(options.model, accelerator.device) for name in ("by_hand", "ours")}
    by_hand = lambda: hand_written_step(*sides["by_hand"], batch)  # noqa: E731
    model, optimizer, average = sides["ours"]
    wrapped, prepared = accelerator.prepare(model, optimizer)
    updates = [0]

    def ours() -> None:
        train_step(accelerator, wrapped, prepared, [batch], seed=updates[0], max_grad_norm=10.0)
        updates[0] += 1
        average.update(model, update=updates[0])

    seconds = interleave({"by_hand": by_hand, "ours": ours}, rounds=options.rounds, steps=options.steps)
    parts = where_time_goes(accelerator, wrapped, prepared, average, batch, steps=options.steps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratio = medians["by_hand"] / medians["ours"]
    report(options, accelerator.device, seconds, parts, ratio)


def hand_written_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: MovingAverage, batch: Batch[Any]
) -> None:
    """What one would write for one process: the same loss, clipping and moving average, and nothing else."""
    optimizer.zero_grad()
    losses = model(batch)
    loss = torch.stack([term.sum / term.count.clamp(min=1) for term in losses.values() if not term.watched]).sum()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    optimizer.step()
    average.update(model, update=1)
    loss.item()  # a progress line shows it


def where_time_goes(accelerator, wrapped, optimizer, average, batch, *, steps: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """Median seconds of each part of our step."""
    model = accelerator.unwrap_model(wrapped)
    state: dict[str, object] = {}

    def forward() -> None:
        optimizer.zero_grad()
        state["losses"] = wrapped(batch)

    def agreement() -> None:
        state["agreed"] = agreed = agree(state["losses"], stop=False)
        state["loss"] = global_loss(state["losses"], dict(zip(agreed.names, agreed.counts, strict=True)), world=1)

    parts: dict[str, Callable[[], object]] = {
        "forward and loss": forward,
        "engine: agree on counts": agreement,
        "backward": lambda: accelerator.backward(state["loss"]),
        "engine: gradient norm": lambda: float(gradient_norm(model)),
        "optimizer": optimizer.step,
        "moving average": lambda: average.update(model, update=1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(steps):
        for name, part in parts.items():
            started = time.perf_counter()
            part()
            synchronize()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def make_side(name: str, device: torch.device) -> tuple[Any, torch.optim.Optimizer, MovingAverage]:
    torch.manual_seed(0)
    model = zoo.build(name, num_classes=NUM_CLASSES).to(device).train()
    optimizer = make_optimizer(model, OptimizerSection(name="sgd", lr=1e-6))
    return model, optimizer, MovingAverage(model, decay=0.999, ramp_steps=100)


def resident_batch(name: str, images: int, size_px: Sequence[int]) -> Batch[Any]:
    """Noise with twelve boxes in every image, or with four pictures of every identity.

    Args:
        size_px: height and width, or the one number that both are.
    """
    height, width = size_px[0], size_px[-1]
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, height, width), dtype=torch.uint8, generator=generator)
    frames = [Frame(i, f"image {i}", height, width, draw_seed=i) for i in range(images)]
    sizes = torch.tensor([[height, width]] * images)
    if zoo.card(name).task == "reid":
        return Batch(pixels, sizes, [IdentityTarget(i // 4 % NUM_CLASSES) for i in range(images)], frames)
    sides = torch.tensor([width, height])
    corners = torch.rand((images, 12, 2), generator=generator) * sides * 0.7
    extents = torch.rand((images, 12, 2), generator=generator) * sides * 0.25 + 4
    targets = [
        BoxTarget(
            torch.cat((start, start + extent), dim=1),
            torch.arange(12) % 3,
            torch.zeros(12, dtype=torch.bool),
            extent.prod(dim=1),
        )
        for start, extent in zip(corners, extents, strict=True)
    ]
    return Batch(pixels, sizes, targets, frames)


def report(
    options: argparse.Namespace,
    device: torch.device,
    seconds: dict[str, list[float]],
    parts: dict[str, float],
    ratio: float,
) -> None:
    total = sum(parts.values())
    size = "x".join(map(str, options.size_px))
    print(f"{options.model}, {options.images} images of {size} px, {device}, {torch.get_num_threads()} threads")
    for name, values in seconds.items():
        print(step_line(name, values))
    for name, value in parts.items():
        print(f"  {name:26} {value * 1e3:8.2f} ms  {value / total:6.1%}")
    print(f"step_overhead: ratio={ratio:.3f} (by hand / ours; 1 means that the engine costs nothing)")
    name = "step_overhead" if options.model == USUAL else f"step_overhead_{options.model}"
    facts = {"ratio": ratio, "seconds": seconds, "parts_s": parts}
    write_result(name, f"step_overhead.py {chosen(options)}", facts)


def step_parser(description: str, *, steps: int) -> argparse.ArgumentParser:
    """Of a benchmark of training steps on one resident batch."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=USUAL)
    parser.add_argument("--size_px", type=int, nargs="+", default=[192], help="side, or height and width")
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=steps)
    return parser


def chosen(options: argparse.Namespace) -> str:
    """The options of `step_parser` as they are typed."""
    size = " ".join(map(str, options.size_px))
    return f"--model {options.model} --size_px {size} --images {options.images} --rounds {options.rounds} --steps {options.steps}"


if __name__ == "__main__":
    main()
