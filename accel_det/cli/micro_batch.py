"""`train.max_images_per_forward: auto`: what a run measures, remembers, and takes up again when it is resumed."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from torch.optim import Optimizer

from accel_det.cli import compose
from accel_det.config.schema import Config
from accel_det.data.collate import join_objects
from accel_det.data.loaders import TrainingImages
from accel_det.data.order import Draw
from accel_det.data.records import DetectionTable
from accel_det.data.transforms import Augmentation
from accel_det.draws import mix
from accel_det.engine.collectives import share_json
from accel_det.engine.console import Console
from accel_det.engine.memory import find_micro_batch, make_probe
from accel_det.engine.runtime import Accelerator
from accel_det.tasks.detection import DetectionTask
from accel_det.types import Batch, BoxTarget

FACT = "images_per_forward"
"""Where run.json holds the number that was measured, and for how many processes."""


def measured_bound(
    accelerator: Accelerator,
    config: Config,
    table: DetectionTable,
    task: DetectionTask,
    *,
    model: nn.Module,
    optimizer: Optimizer,
    folder: Path | None,
    console: Console,
) -> int | None:
    """Images per process and forward pass at most; None where the configuration says it, or nothing bounds memory.

    Another number of forward passes rounds otherwise, so a resumed run on as many processes takes the number of the first
    life. Collective: every process must call it.

    Args:
        folder: of the run that is resumed; None for a new one.
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
    crowded = crowded_batches(config, table, task)
    found = find_micro_batch(accelerator, model, optimizer, crowded, share=share, probe=probe)
    console.say(found.describe())
    return found.images


def crowded_batches(config: Config, table: DetectionTable, task: DetectionTask) -> Callable[[int], Batch[BoxTarget]]:
    """Gives batches of the images with most objects, at the largest size that training draws.

    The images are whole, so no crop takes objects away. Where training puts several images into one, a batch image holds the
    objects of so many crowded ones: those of a mosaic, twice as many where two are blended, and one more for pasted objects.
    """
    augment = config.data.augment
    images = TrainingImages(table, rule=compose.resize_rule(config), augmentation=Augmentation())
    members: int = augment.mosaic_tiles if augment.mosaic else 1
    members = (members + bool(augment.copy_paste)) * (2 if augment.mosaic and augment.mixup else 1)
    resize = config.data.resize
    crowded = np.argsort(-table.counts(), kind="stable").tolist()
    order = crowded
    if resize.mode == "shortest_edge":
        # Images of all aspects are padded to one canvas: the widest and the tallest make it largest.
        aspects = table.sizes()[:, 1] / table.sizes()[:, 0]
        order = [int(aspects.argmax()), int(aspects.argmin()), *crowded]
    side = max(resize.train_sizes_px) if resize.train_sizes_px else None
    canvas = None if side is None else (side, side)

    def make(count: int) -> Batch[BoxTarget]:
        samples = []
        for place in range(count):
            others = range(count + place * (members - 1), count + (place + 1) * (members - 1))
            turns = [order[place % len(order)], *(crowded[other % len(crowded)] for other in others)]
            draws = [Draw(index, 0, mix(config.train.seed, index, place), canvas) for index in turns]
            samples.append(join_objects([images[draw] for draw in draws]))
        return task.collate(samples)

    return make


def _recorded(folder: Path) -> Any:
    file = folder / "run.json"
    return json.loads(file.read_text(encoding="utf-8")).get(FACT) if file.is_file() else None
