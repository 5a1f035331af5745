"""Configuration -> the parts of a run, put together. The only place that knows all packages."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from accel_det.config.schema import Config
from accel_det.data.check import Report, check_tables
from accel_det.data.loaders import EvaluationImages, TrainingImages, TrainingStream, evaluation_batches
from accel_det.data.order import EpochOrder, Share, divide, evaluation_slice
from accel_det.data.records import DetectionTable
from accel_det.data.sources import SetSpec, open_split
from accel_det.data.transforms import Augmentation, ResizeRule
from accel_det.engine.runtime import Accelerator
from accel_det.models import zoo
from accel_det.models.base import Inference, ZooModel
from accel_det.models.layers.batch_norm import convert_batch_norm
from accel_det.models.weights import LoadReport, freeze, load_matching, read_weights
from accel_det.tasks.detection import DetectionTask
from accel_det.types import Batch, BoxTarget


class Tables(NamedTuple):
    """The data of a run, opened and checked."""

    train: DetectionTable
    val: DetectionTable
    report: Report


class Network(NamedTuple):
    """A network that is ready to be trained, what was loaded into it, and what was frozen."""

    model: ZooModel[Any, Any]
    loaded: LoadReport | None
    frozen: list[str]


def open_tables(config: Config, *, read_images: bool = False) -> Tables:
    """Open both splits, and find what is wrong with them."""
    sets = {name: _set_spec(name, config) for name in config.data.sets}
    train, found = open_split(sets, config.data.train, classes=config.data.classes)
    val, more = open_split(sets, config.data.val, classes=config.data.classes or train.classes)
    return Tables(train, val, check_tables(train, val, [*found, *more], read_images=read_images))


def open_validation(config: Config, classes: tuple[str, ...]) -> DetectionTable:
    """Open the evaluation split alone, with the classes that a network knows."""
    sets = {name: _set_spec(name, config) for name in config.data.sets}
    table, found = open_split(sets, config.data.val, classes=classes)
    check_tables(table, None, found, read_images=False).require()
    return table


def resize_rule(config: Config) -> ResizeRule:
    """How images reach the network's size.

    Raises:
        ValueError: a square that the network's stride does not divide.
    """
    resize, card = config.data.resize, zoo.card(config.model.name)
    if resize.mode == "letterbox" and resize.size_px % card.multiple_px:
        near = max(card.multiple_px, round(resize.size_px / card.multiple_px) * card.multiple_px)
        raise ValueError(
            f"data.resize.size_px is {resize.size_px}, but {card.name} needs a multiple of {card.multiple_px}: use {near}"
        )
    return ResizeRule(resize.mode, resize.size_px, resize.max_size_px, card.multiple_px)


def inference(config: Config) -> Inference:
    section = config.evaluate
    return Inference(section.score_threshold, section.nms_iou, section.max_detections)


def make_network(config: Config, *, num_classes: int, device_type: str) -> Network:
    """Build, load, freeze and convert, on the CPU. Weights depend on the seed alone."""
    torch.manual_seed(config.train.seed)
    section = config.model
    if zoo.card(section.name).task != config.task:
        raise ValueError(f"task is {config.task}, but {section.name} is for {zoo.card(section.name).task}")
    model = zoo.build(section.name, num_classes=num_classes, options=section.options, inference=inference(config))
    loaded = load_matching(model, read_weights(section.weights)) if section.weights is not None else None
    frozen = freeze(model, section.freeze) if section.freeze else []
    if section.batch_norm != "per_process":
        convert_batch_norm(model, section.batch_norm, device_type=device_type)
    return Network(model, loaded, frozen)


def make_task(config: Config, classes: tuple[str, ...]) -> DetectionTask:
    return DetectionTask(
        classes, multiple_px=resize_rule(config).multiple, max_detections=config.evaluate.max_detections
    )


def share_of(config: Config, *, world: int, rank: int) -> Share:
    images, bound = config.train.images_per_update, config.train.max_images_per_forward
    micro = divide(images_per_update=images, world=world, max_images_per_forward=None if bound == "auto" else bound)
    return Share(images, world, rank, micro)


def training_stream(
    config: Config, table: DetectionTable, task: DetectionTask, accelerator: Accelerator
) -> TrainingStream[BoxTarget]:
    section = config.data.augment
    augmentation = Augmentation(
        flip=section.flip,
        scale=(section.scale[0], section.scale[1]),
        translate=section.translate,
        brightness=section.brightness,
        contrast=section.contrast,
        saturation=section.saturation,
        hue=section.hue,
        min_visible=section.min_visible,
    )
    return TrainingStream(
        TrainingImages(table, rule=resize_rule(config), augmentation=augmentation),
        order=EpochOrder(len(table), seed=config.train.seed, shuffle=config.data.order != "sequential"),
        share=share_of(config, world=accelerator.num_processes, rank=accelerator.process_index),
        collate=task.collate,
        workers=config.data.workers,
        pin_memory=accelerator.device.type == "cuda",
    )


def validation_stream(
    config: Config, table: DetectionTable, task: DetectionTask, accelerator: Accelerator
) -> Callable[[], Iterator[Batch[BoxTarget]]]:
    images = EvaluationImages(table, rule=resize_rule(config))
    indices = evaluation_slice(len(table), world=accelerator.num_processes, rank=accelerator.process_index)
    return lambda: evaluation_batches(
        images,
        indices,
        batch_size=config.evaluate.images_per_forward,
        collate=task.collate,
        workers=config.data.workers,
        pin_memory=accelerator.device.type == "cuda",
    )


def compile_network(model: nn.Module, config: Config) -> None:
    if config.model.compile:
        for part in model.compilable():  # type: ignore[operator]
            part.compile()


def run_folder(config: Config) -> Path:
    return Path(config.runtime.output) / config.name


def command_line() -> str:
    """The command as it was given, without the place of the environment that it ran in."""
    program = Path(sys.argv[0])
    name = os.path.relpath(program) if program.suffix == ".py" else program.name
    launcher = f"accelerate launch --num_processes {os.environ['WORLD_SIZE']} " if "WORLD_SIZE" in os.environ else ""
    return " ".join([f"{launcher}{name}", *sys.argv[1:]])


def _set_spec(name: str, config: Config) -> SetSpec:
    section = config.data.sets[name]
    return SetSpec(
        name=name,
        format=section.format,
        root=section.root,
        images=section.images,
        annotations=section.annotations,
        holdout=section.holdout,
        accept=tuple(section.accept),
        parameters=section.parameters,
    )
