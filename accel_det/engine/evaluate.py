"""Predict a split on all processes, gather one row per image, score it once."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from accelerate import Accelerator
from torch import nn

from accel_det.engine.collectives import gather_on_first, join_lines, share_buffers, share_json, sum_over_processes
from accel_det.engine.transfer import to_device
from accel_det.tasks.base import Task
from accel_det.types import Batch

TargetT = TypeVar("TargetT")
PredictionT = TypeVar("PredictionT")
RowT = TypeVar("RowT")


class Evaluation(NamedTuple):
    """Scores of a split, the same on every process.

    Attributes:
        scores: empty where the evaluation was interrupted.
        rows: every row on the first process, empty elsewhere.
        interrupted: some process was asked to stop.
        images: number of images that were predicted.
        seconds: for predictions and scoring.
        left_out: what is wrong with each image that could not be read, the same on every process; they are not scored.
    """

    scores: dict[str, float]
    rows: list[Any]
    interrupted: bool
    images: int
    seconds: float
    left_out: Sequence[str] = ()


def evaluate(
    accelerator: Accelerator,
    model: nn.Module,
    task: Task[TargetT, PredictionT, RowT],
    batches: Iterator[Batch[TargetT]],
    *,
    stop: Callable[[], bool] = lambda: False,
    seen: Callable[[int], None] = lambda images: None,
) -> Evaluation:
    """Score a model. Collective: every process must call it.

    Processes may have different numbers of batches, or none: nothing is communicated between batches.

    Args:
        model: unwrapped; it and its parts are left in the mode that they had.
        batches: this process's part of the split.
        stop: asked between batches; where it says yes, scoring is given up on all processes together.
        seen: told how many images each batch had.
    """
    started = time.perf_counter()
    share_buffers(model)
    modes = [(module, module.training) for module in model.modules()]  # frozen norms are in another than the rest
    model.eval()
    rows: list[RowT] = []
    left_out: list[str] = []
    try:
        for batch in batches:
            if stop():
                break
            left_out += batch.left_out
            if not batch.void:
                rows += _predict(accelerator, model, task, batch)
                seen(len(batch.frames))
    finally:
        for module, training in modes:
            module.training = training
    told = [float(stop()), float(len(rows)), float(len(left_out))]
    counts = torch.tensor(told, dtype=torch.float64, device=accelerator.device)
    interrupted, images, bad = sum_over_processes(counts).tolist()
    if interrupted:
        return Evaluation({}, [], True, int(images), time.perf_counter() - started)
    gathered = gather_on_first(task.pack(rows), accelerator.device)
    every = [row for part in gathered for row in task.unpack(part)]
    scores = share_json(task.score(every) if accelerator.is_main_process else None, accelerator.device)
    assert isinstance(scores, dict)
    lines = join_lines(left_out, accelerator.device) if bad else []
    return Evaluation(scores, every, False, int(images), time.perf_counter() - started, lines)


@torch.no_grad()
def _predict(
    accelerator: Accelerator, model: nn.Module, task: Task[TargetT, PredictionT, RowT], batch: Batch[TargetT]
) -> list[RowT]:
    with accelerator.autocast():
        predictions: list[PredictionT] = model(to_device(batch, accelerator.device))
    return [
        task.row(frame, target, prediction)
        for frame, target, prediction in zip(batch.frames, batch.targets, predictions, strict=True)
    ]
