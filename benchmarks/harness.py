"""What the benchmarks share: taking turns, and records of figures with what they were measured on."""

import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from accel_det.engine.runtime import versions

RESULTS = Path(__file__).parent / "results"


def interleave(
    steps_of: Mapping[str, Callable[[], None]],
    *,
    rounds: int,
    steps: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds per step of each, one value a round; the order within a round alternates."""
    for step in steps_of.values():
        for _ in range(3):
            step()
    seconds: dict[str, list[float]] = {name: [] for name in steps_of}
    for number in range(rounds):
        names = list(steps_of) if number % 2 else list(reversed(steps_of))
        for name in names:
            started = clock()
            for _ in range(steps):
                steps_of[name]()
            synchronize()
            seconds[name].append((clock() - started) / steps)
    return seconds


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def step_line(name: str, seconds: list[float]) -> str:
    """Median, smallest and largest of the seconds per step, in milliseconds."""
    median, low, high = (1e3 * value for value in (statistics.median(seconds), min(seconds), max(seconds)))
    return f"  {name:13} {median:8.1f} ms a step ({low:.1f} to {high:.1f})"


def device_name() -> str:
    """The GPU, or else the kind of processor."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return platform.processor() or platform.machine()


def write_result(name: str, command: str, facts: Mapping[str, object]) -> Path:
    """Put figures into results/<name>.json, behind the command, the hardware, the versions and the date."""
    measured_on = {
        "command": f"python benchmarks/{command}",
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "date": time.strftime("%Y-%m-%d"),
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}.json"
    file.write_text(json.dumps({**measured_on, **facts}, indent=1) + "\n", encoding="utf-8")
    return file
