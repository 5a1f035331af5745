"""`train.max_images_per_forward: auto`: what a run measures, remembers, and takes up again when it is resumed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import Optimizer

from accel_det.config.schema import Config
from accel_det.engine.collectives import share_json
from accel_det.engine.console import Console
from accel_det.engine.memory import find_micro_batch, make_probe
from accel_det.engine.runtime import Accelerator
from accel_det.types import Batch

FACT = "images_per_forward"
"""Where run.json holds the number that was measured, and for how many processes."""


def measured_bound(
    accelerator: Accelerator,
    config: Config,
    costly: Callable[[int], Batch[Any]],
    *,
    model: nn.Module,
    optimizer: Optimizer,
    folder: Path | None,
    console: Console,
    unit: int = 1,
) -> int | None:
    """Images per process and forward pass at most; None where the configuration says it, or nothing bounds memory.

    Another number of forward passes rounds otherwise, so a resumed run on as many processes takes the number of the first
    life. Collective: every process must call it.

    Args:
        costly: gives batches of so many images that need most memory.
        folder: of the run that is resumed; None for a new one.
        unit: images that stay together in a forward pass.
    """
    if config.train.max_images_per_forward != "auto":
        return None
    known = _recorded(folder) if folder is not None and accelerator.is_main_process else None
    known = share_json(known, accelerator.device)
    if isinstance(known, dict) and known["processes"] == accelerator.num_processes:
        return int(known["images"])
    probe = make_probe(accelerator.device, config.runtime)
    if probe is None:
        console.say(
            "memory: train.max_images_per_forward is auto, but nothing bounds the memory here, so a forward pass takes all "
            "images of its process: set runtime.max_memory_gb to have it measured"
        )
        return None
    share = config.train.images_per_update // accelerator.num_processes
    found = find_micro_batch(accelerator, model, optimizer, costly, share=share, unit=unit, probe=probe)
    console.say(found.describe())
    return found.images


def _recorded(folder: Path) -> Any:
    file = folder / "run.json"
    return json.loads(file.read_text(encoding="utf-8")).get(FACT) if file.is_file() else None
