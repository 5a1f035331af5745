"""The parts of a run that learns to find objects."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from accel_det.cli import turns
from accel_det.cli.auto_anchors import replace_poor_anchors
from accel_det.cli.compose import (
    Network,
    Provenance,
    Tables,
    build_network,
    costly_sample,
    mend,
    set_specs,
    validation_stream,
)
from accel_det.config.detection import DetectionConfig
from accel_det.config.load import dump
from accel_det.config.schema import Config
from accel_det.data.bad_images import leave_out
from accel_det.data.box_images import EvaluationImages, TrainingImages
from accel_det.data.check import check_tables
from accel_det.data.collate import join_objects
from accel_det.data.formats.raw import StreamedImages
from accel_det.data.loaders import TrainingStream
from accel_det.data.order import Draw, Share
from accel_det.data.records import DetectionTable
from accel_det.data.sources import SetSpec, open_split
from accel_det.data.stream_feed import StreamFeed, evaluation_feed
from accel_det.data.transforms import Augmentation, ResizeRule
from accel_det.draws import mix
from accel_det.engine.console import Console
from accel_det.engine.evaluate import Evaluation
from accel_det.engine.runtime import Accelerator
from accel_det.inference.detector import build_detector
from accel_det.metrics.saved import SavedDetections, write_detections
from accel_det.models import zoo
from accel_det.models.base import Inference, ZooModel
from accel_det.models.test_time import with_views
from accel_det.publish.info import DetectorInfo, ExportInfo
from accel_det.tasks.detection import DetectionTask
from accel_det.types import Batch, BoxTarget, DetectionRow

_COMPANIONS = 15
"""Images of its window that come with a streamed one for mosaics: fewer would meet too often, more are more to send."""


def open_tables(config: DetectionConfig, *, read_images: bool = False) -> Tables[DetectionTable]:
    """Open both splits, and find what is wrong with them."""
    sets = _sets(config)
    train, found = open_split(sets, config.data.train, classes=config.data.classes)
    val, more = open_split(sets, config.data.val, classes=config.data.classes or train.classes)
    report = check_tables(train, val, [*found, *more], read_images=read_images)
    if not report.stops:
        train, val = turns.with_proposals(config, "train", train), turns.with_proposals(config, "val", val)
    return Tables(train, val, report)


def open_validation(config: DetectionConfig, classes: tuple[str, ...]) -> DetectionTable:
    """Open the evaluation split alone, with the classes that a network knows."""
    sets = _sets(config)
    table, found = open_split(sets, config.data.val, classes=classes)
    check_tables(table, None, found, read_images=False).require()
    return turns.with_proposals(config, "val", table)


def _sets(config: DetectionConfig) -> dict[str, SetSpec]:
    """The data sets by name, with the keys that only sets of this task have."""
    return {
        name: spec._replace(
            holdout_group=config.data.sets[name].holdout_group,
            holdout_stratified=config.data.sets[name].holdout_stratified,
        )
        for name, spec in set_specs(config).items()
    }


def resize_rule(config: DetectionConfig) -> ResizeRule:
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


def inference(config: DetectionConfig) -> Inference:
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


def make_network(
    config: DetectionConfig, *, num_classes: int, device_type: str, table: DetectionTable | None = None
) -> Network:
    """Build, load, freeze and convert, on the CPU. Weights depend on the seed alone.

    Args:
        table: what it will be trained on; with it, a network whose option `auto_anchors` is set gets anchors that suit
            the boxes.
    """
    section = config.model
    if config.data.proposals and section.options.get("proposals") != "given":
        raise ValueError(
            f"data.proposals is set, but {section.name} as configured takes no regions: leave it out, or take an R-FCN with "
            "model.options.proposals: given"
        )
    network = build_network(config, num_classes=num_classes, device_type=device_type, inference=inference(config))
    if table is None or not section.options.get("auto_anchors"):
        return network
    anchors = replace_poor_anchors(network.model, table, rule=resize_rule(config), seed=config.train.seed)
    return network._replace(anchors=anchors)


def make_task(config: DetectionConfig, classes: tuple[str, ...]) -> DetectionTask:
    return DetectionTask(
        classes, multiple_px=resize_rule(config).multiple, max_detections=config.evaluate.max_detections
    )


def augmentation(config: DetectionConfig) -> Augmentation:
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


def plain_from_epoch(config: DetectionConfig, *, turns_per_epoch: int) -> float | None:
    """The epoch, counted from 0, from which on no image is made of several; None: there is none."""
    if not config.data.augment.plain_epochs:
        return None
    train = config.train
    epochs = train.epochs or (train.steps or 0) * train.images_per_update / turns_per_epoch
    return epochs - config.data.augment.plain_epochs


def training_images(config: DetectionConfig, table: DetectionTable) -> TrainingImages:
    return TrainingImages(
        table,
        rule=resize_rule(config),
        augmentation=augmentation(config),
        plain_from_epoch=plain_from_epoch(config, turns_per_epoch=turns.turns_per_epoch(config, table)),
        mends=config.data.on_bad_image == "skip",
    )


def training_feed(config: DetectionConfig, images: StreamedImages) -> StreamFeed:
    """Brings streamed images, with others of their window where augmentation puts several into one."""
    augment = config.data.augment
    several = augment.mosaic or augment.copy_paste
    return StreamFeed(
        images,
        turns.stream_turns(config, images),
        seed=config.train.seed,
        companions=_COMPANIONS if several else 0,
    )


def crowded_batches(
    config: DetectionConfig, table: DetectionTable, task: DetectionTask
) -> Callable[[int], Batch[BoxTarget]]:
    """Gives batches of the images with most objects, at the largest size that training draws.

    The images are whole, so no crop takes objects away. Where training puts several images into one, a batch image holds the
    objects of so many crowded ones: those of a mosaic, twice as many where two are blended, and one more for pasted objects.
    """
    augment = config.data.augment
    images = TrainingImages(table, rule=resize_rule(config), augmentation=Augmentation())
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
            indices = [order[place % len(order)], *(crowded[other % len(crowded)] for other in others)]
            draws = [Draw(index, 0, mix(config.train.seed, index, place), canvas) for index in indices]
            samples.append(join_objects([costly_sample(config, images, draw) for draw in draws]))
        return task.collate(samples)

    return make


def make_parts(config: Config) -> "DetectionParts":
    assert isinstance(config, DetectionConfig)
    return DetectionParts(config)


class DetectionParts:
    """Fulfils `compose.Parts` for boxes."""

    def __init__(self, config: DetectionConfig) -> None:
        self.config = config
        self.unit = 1
        self.has_pictures = False

    def check(self) -> None:
        resize_rule(self.config)

    def open_tables(self, *, read_images: bool = False) -> Tables[DetectionTable]:
        return open_tables(self.config, read_images=read_images)

    def open_validation(self, info: ExportInfo) -> DetectionTable:
        assert isinstance(info, DetectorInfo)
        return open_validation(self.config, info.classes)

    def turns_per_epoch(self, train: DetectionTable) -> int:
        return turns.turns_per_epoch(self.config, train)

    def make_network(self, tables: Tables[DetectionTable], *, device_type: str) -> Network:
        train = tables.train
        return make_network(self.config, num_classes=len(train.classes), device_type=device_type, table=train)

    def trained(self, info: ExportInfo, state: Mapping[str, Tensor]) -> nn.Module:
        assert isinstance(info, DetectorInfo)
        return build_detector(dataclasses.replace(info, inference=inference(self.config)), state)

    def for_evaluation(self, model: nn.Module) -> nn.Module:
        """It looks at each image as often as `evaluate` asks for."""
        assert isinstance(model, ZooModel)
        return with_views(model, inference(self.config), multiple_px=zoo.card(self.config.model.name).multiple_px)

    def make_task(self, val: DetectionTable) -> DetectionTask:
        return make_task(self.config, val.classes)

    def training_stream(
        self, train: DetectionTable, task: DetectionTask, *, share: Share, pin_memory: bool
    ) -> TrainingStream[BoxTarget]:
        images = train.streamed
        return TrainingStream(
            training_images(self.config, train),
            order=turns.update_order(self.config, train, multiple_px=task.multiple_px),
            share=share,
            collate=task.collate,
            workers=self.config.data.workers,
            pin_memory=pin_memory,
            open_feed=None if images is None else lambda: training_feed(self.config, images),
            mend=mend(self.config, leave_out),
        )

    def validation_stream(
        self, val: DetectionTable, task: DetectionTask, accelerator: Accelerator
    ) -> Callable[[], Iterator[Batch[BoxTarget]]]:
        rule = resize_rule(self.config)
        size_of = (lambda index: rule.canvas(*val.size(index))) if rule.rectangular else None
        images = EvaluationImages(val, rule=rule)
        deliver = None if val.streamed is None else evaluation_feed(val.streamed, window=self.config.data.stream_window)
        return validation_stream(
            self.config, images, task, accelerator, length=len(val), size_of=size_of, deliver=deliver
        )

    def costly_batches(self, train: DetectionTable, task: DetectionTask) -> Callable[[int], Batch[BoxTarget]]:
        return crowded_batches(self.config, train, task)

    def describe(self, tables: Tables[DetectionTable]) -> list[str]:
        return turns.describe(self.config, tables.train)

    def agreement(self, train: DetectionTable) -> dict[str, object]:
        return turns.agreement(self.config, train)

    def labels_text(self, train: DetectionTable) -> str:
        return f"{len(train.classes)} classes"

    def facts(self, tables: Tables[DetectionTable]) -> dict[str, Any]:
        return {"classes": list(tables.train.classes)}

    def input_text(self) -> str:
        return f"{self.config.data.resize.size_px} px"

    def details(self, console: Console, scores: Mapping[str, float], train: DetectionTable) -> None:
        console.per_class(scores, train.classes)

    def export_info(self, tables: Tables[DetectionTable], made: Provenance) -> DetectorInfo:
        config = self.config
        return DetectorInfo(
            name=config.name,
            model=config.model.name,
            options=made.options,
            classes=tables.train.classes,
            resize=resize_rule(config),
            inference=inference(config),
            metrics=made.metrics,
            data=made.data,
            training=made.training,
            run_config=dump(config),
            licence=config.push.licence,
        )

    def exported(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return weights

    def save(self, file: Path, found: Evaluation, val: DetectionTable, info: ExportInfo) -> str:
        """Each image once, in the order of the split, however many processes predicted it."""
        rows: dict[int, DetectionRow] = {row.sample_id: row for row in found.rows}
        order = sorted(rows)
        names = [val.name(sample_id) for sample_id in order]
        write_detections(file, SavedDetections(val.classes, names, [rows[sample_id].detections for sample_id in order]))
        return f"`accel-det rescore {file} --config CONFIG` scores it again"

    def draw(self, folder: Path, found: Evaluation, val: DetectionTable) -> list[Path]:
        raise NotImplementedError("there are no pictures of an evaluation of boxes")
