"""Configuration -> the parts of a run, put together. The only place that knows all packages."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from accel_det.cli import turns
from accel_det.cli.auto_anchors import AnchorReport, replace_poor_anchors
from accel_det.config.schema import Config
from accel_det.data.check import Report, check_tables
from accel_det.data.loaders import EvaluationImages, TrainingImages, TrainingStream, evaluation_batches
from accel_det.data.order import Share, divide, evaluation_slice
from accel_det.data.records import DetectionTable
from accel_det.data.sources import SetSpec, open_split
from accel_det.data.transforms import Augmentation, ResizeRule
from accel_det.engine.runtime import Accelerator
from accel_det.models import zoo
from accel_det.models.base import Inference, ZooModel
from accel_det.models.layers.batch_norm import convert_batch_norm
from accel_det.models.test_time import with_views
from accel_det.models.weights import LoadReport, freeze, load_weights
from accel_det.tasks.detection import DetectionTask
from accel_det.types import Batch, BoxTarget


class Tables(NamedTuple):
    """The data of a run, opened and checked."""

    train: DetectionTable
    val: DetectionTable
    report: Report


class Network(NamedTuple):
    """A network that is ready to be trained, what was loaded into it, what was frozen, and what became of its anchors."""

    model: ZooModel[Any, Any]
    loaded: LoadReport | None
    frozen: list[str]
    anchors: AnchorReport | None = None


def open_tables(config: Config, *, read_images: bool = False) -> Tables:
    """Open both splits, and find what is wrong with them."""
    sets = {name: _set_spec(name, config) for name in config.data.sets}
    train, found = open_split(sets, config.data.train, classes=config.data.classes)
    val, more = open_split(sets, config.data.val, classes=config.data.classes or train.classes)
    report = check_tables(train, val, [*found, *more], read_images=read_images)
    if not report.stops:
        train, val = turns.with_proposals(config, "train", train), turns.with_proposals(config, "val", val)
    return Tables(train, val, report)


def open_validation(config: Config, classes: tuple[str, ...]) -> DetectionTable:
    """Open the evaluation split alone, with the classes that a network knows."""
    sets = {name: _set_spec(name, config) for name in config.data.sets}
    table, found = open_split(sets, config.data.val, classes=classes)
    check_tables(table, None, found, read_images=False).require()
    return turns.with_proposals(config, "val", table)


def resize_rule(config: Config) -> ResizeRule:
    """How images reach the network's size.

    Raises:
        ValueError: a square, also one that training may draw, that the network's stride does not divide.
    """
    resize, card = config.data.resize, zoo.card(config.model.name)
    for key, size_px in [("size_px", resize.size_px), *(("train_sizes_px", size) for size in resize.train_sizes_px)]:
        if resize.mode == "letterbox" and size_px % card.multiple_px:
            near = max(card.multiple_px, round(size_px / card.multiple_px) * card.multiple_px)
            what = "is" if key == "size_px" else "holds"
            raise ValueError(
                f"data.resize.{key} {what} {size_px}, but {card.name} needs a multiple of {card.multiple_px}: use {near}"
            )
    return ResizeRule(resize.mode, resize.size_px, resize.max_size_px, card.multiple_px, resize.rectangular)


def inference(config: Config) -> Inference:
    """How candidates become detections, and which views of an image are predicted."""
    section = config.evaluate
    return Inference(
        score_threshold=section.score_threshold,
        nms_iou=section.nms_iou,
        max_detections=section.max_detections,
        nms=section.nms,
        soft_nms_sigma=section.soft_nms_sigma,
        agnostic_nms=section.agnostic_nms,
        vote_iou=section.vote_iou,
        box_iterations=section.box_iterations,
        flip=section.flip,
        scales=tuple(section.scales),
    )


def make_network(config: Config, *, num_classes: int, device_type: str, table: DetectionTable | None = None) -> Network:
    """Build, load, freeze and convert, on the CPU. Weights depend on the seed alone.

    Args:
        table: what it will be trained on; with it, a network whose option `auto_anchors` is set gets anchors that suit
            the boxes.
    """
    torch.manual_seed(config.train.seed)
    section = config.model
    if zoo.card(section.name).task != config.task:
        raise ValueError(f"task is {config.task}, but {section.name} is for {zoo.card(section.name).task}")
    if config.data.proposals and section.options.get("proposals") != "given":
        raise ValueError(
            f"data.proposals is set, but {section.name} as configured takes no regions: leave it out, or take an R-FCN with "
            "model.options.proposals: given"
        )
    model = zoo.build(section.name, num_classes=num_classes, options=section.options, inference=inference(config))
    # Options that are tensors of the network, such as anchors_px: one that is given holds against the file's.
    loaded = load_weights(model, section.weights, keep=section.options) if section.weights is not None else None
    frozen = freeze(model, section.freeze) if section.freeze else []
    if section.batch_norm != "per_process":
        convert_batch_norm(model, section.batch_norm, device_type=device_type)
    anchors = None
    if table is not None and section.options.get("auto_anchors"):
        anchors = replace_poor_anchors(model, table, rule=resize_rule(config), seed=config.train.seed)
    return Network(model, loaded, frozen, anchors)


def behind_views(config: Config, model: nn.Module) -> nn.Module:
    """The network of `make_network` as evaluations see it: it looks at each image as often as `evaluate` asks for."""
    assert isinstance(model, ZooModel)
    return with_views(model, inference(config), multiple_px=zoo.card(config.model.name).multiple_px)


def make_task(config: Config, classes: tuple[str, ...]) -> DetectionTask:
    return DetectionTask(
        classes, multiple_px=resize_rule(config).multiple, max_detections=config.evaluate.max_detections
    )


def share_of(config: Config, *, world: int, rank: int, measured_bound: int | None = None) -> Share:
    """What part of each update a process takes.

    Args:
        measured_bound: images per forward pass at most, where the configuration leaves it to a measurement.
    """
    images, given = config.train.images_per_update, config.train.max_images_per_forward
    bound = measured_bound if given == "auto" else given
    return Share(images, world, rank, divide(images_per_update=images, world=world, max_images_per_forward=bound))


def augmentation(config: Config) -> Augmentation:
    """What training changes at random: every key of `data.augment` but plain_epochs, which is about when."""
    section = config.data.augment
    return Augmentation(
        flip=section.flip,
        flip_vertical=section.flip_vertical,
        scale=(section.scale[0], section.scale[1]),
        translate=section.translate,
        brightness=section.brightness,
        contrast=section.contrast,
        saturation=section.saturation,
        hue=section.hue,
        degrees=section.degrees,
        shear=section.shear,
        perspective=section.perspective,
        aspect=section.aspect,
        mosaic=section.mosaic,
        mosaic_tiles=section.mosaic_tiles,
        mixup=section.mixup,
        mixup_beta=section.mixup_beta,
        copy_paste=section.copy_paste,
        distort=section.distort,
        zoom_out=section.zoom_out,
        iou_crop=section.iou_crop,
        gray=section.gray,
        blur=section.blur,
        min_visible=section.min_visible,
    )


def plain_from_epoch(config: Config, *, turns_per_epoch: int) -> float | None:
    """The epoch, counted from 0, from which on no image is made of several; None: there is none."""
    if not config.data.augment.plain_epochs:
        return None
    train = config.train
    epochs = train.epochs or (train.steps or 0) * train.images_per_update / turns_per_epoch
    return epochs - config.data.augment.plain_epochs


def training_images(config: Config, table: DetectionTable) -> TrainingImages:
    return TrainingImages(
        table,
        rule=resize_rule(config),
        augmentation=augmentation(config),
        plain_from_epoch=plain_from_epoch(config, turns_per_epoch=turns.turns_per_epoch(config, table)),
    )


def training_stream(
    config: Config, table: DetectionTable, task: DetectionTask, *, share: Share, pin_memory: bool
) -> TrainingStream[BoxTarget]:
    return TrainingStream(
        training_images(config, table),
        order=turns.update_order(config, table, multiple_px=task.multiple_px),
        share=share,
        collate=task.collate,
        workers=config.data.workers,
        pin_memory=pin_memory,
    )


def validation_stream(
    config: Config, table: DetectionTable, task: DetectionTask, accelerator: Accelerator
) -> Callable[[], Iterator[Batch[BoxTarget]]]:
    rule = resize_rule(config)
    images = EvaluationImages(table, rule=rule)
    indices = evaluation_slice(len(table), world=accelerator.num_processes, rank=accelerator.process_index)
    return lambda: evaluation_batches(
        images,
        indices,
        batch_size=config.evaluate.images_per_forward,
        collate=task.collate,
        workers=config.data.workers,
        pin_memory=accelerator.device.type == "cuda",
        size_of=(lambda index: rule.canvas(*table.size(index))) if rule.rectangular else None,
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
