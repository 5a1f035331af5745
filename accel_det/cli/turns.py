"""Configuration -> which image comes when, how large, and with which regions."""

from pathlib import Path
from typing import Literal

from accel_det.config.detection import DetectionConfig
from accel_det.data.balance import ClassBalanced, Weighted, image_weights
from accel_det.data.canvases import Canvases, LikeAspects, SizeRule
from accel_det.data.formats.raw import StreamedImages
from accel_det.data.order import EpochOrder, Turns
from accel_det.data.proposals import read_proposals
from accel_det.data.records import DetectionTable
from accel_det.data.stream_feed import shard_lengths
from accel_det.data.stream_order import StreamTurns, plan_streams


def epoch_order(config: DetectionConfig, table: DetectionTable) -> EpochOrder:
    """Which image has its turn when; `length` is the turns of an epoch."""
    order, seed = config.data.order, config.train.seed
    turns = _turns(order, table, seed=seed) if table.streamed is None else stream_turns(config, table.streamed)
    return EpochOrder(len(table), seed=seed, shuffle=order == "shuffled", turns=turns)


def stream_turns(config: DetectionConfig, images: StreamedImages) -> StreamTurns:
    """The order of streamed images, which are read a window of neighbours at a time."""
    plan = plan_streams(
        images_per_update=config.train.images_per_update,
        most_streams=config.data.streams,
        window=config.data.stream_window,
    )
    shuffle = config.data.order == "shuffled"
    return StreamTurns(shard_lengths(images), plan, seed=config.train.seed, shuffle=shuffle)


def turns_per_epoch(config: DetectionConfig, table: DetectionTable) -> int:
    return epoch_order(config, table).length


def update_order(config: DetectionConfig, table: DetectionTable, *, multiple_px: int) -> EpochOrder | Canvases:
    """Which images an update holds, and how large they are.

    Args:
        multiple_px: heights and widths of batch images are multiples of this.
    """
    resize, seed, images = config.data.resize, config.train.seed, config.train.images_per_update
    order = epoch_order(config, table)
    if not (resize.rectangular or resize.train_sizes_px):
        return order
    rule = SizeRule(resize.size_px, tuple(resize.train_sizes_px), resize.draw_size_every, multiple_px)
    if not resize.rectangular:
        return Canvases(order, rule, images_per_update=images, seed=seed)
    keeps_order = config.data.order == "sequential"
    grouped = order if keeps_order else LikeAspects(order, table.sizes(), images_per_update=images, seed=seed)
    return Canvases(grouped, rule, images_per_update=images, seed=seed, sizes=table.sizes())


def with_proposals(config: DetectionConfig, role: Literal["train", "val"], table: DetectionTable) -> DetectionTable:
    """The table with the regions that the configuration gives it, if it does.

    Raises:
        ValueError: the file cannot be read, or an image of the split is not in it.
    """
    if role not in config.data.proposals:
        return table
    file = Path(config.data.proposals[role])
    try:
        return table.with_proposals(read_proposals(file, names=table.names(), sizes=table.sizes()))
    except ValueError as error:
        raise ValueError(f"data.proposals.{role}: {error}") from None


def describe(config: DetectionConfig, table: DetectionTable) -> list[str]:
    """What is unusual about the order and the sizes of a training, as lines for the console."""
    resize, order = config.data.resize, config.data.order
    lines = []
    if order != "shuffled":
        lines.append(f"order: {order}, {turns_per_epoch(config, table)} turns per epoch of {len(table)} images")
    if resize.train_sizes_px:
        every = "image" if resize.draw_size_every == 0 else f"{resize.draw_size_every} update(s)"
        lines.append(f"sizes: {', '.join(map(str, resize.train_sizes_px))} px, drawn for every {every}")
    if resize.rectangular:
        lines.append("sizes: rectangles of the common aspect of each update's images")
    if table.streamed is not None:
        plan = stream_turns(config, table.streamed).plan
        shards = len(table.streamed.shards.lengths)
        lines.append(
            f"streaming: {shards} shard(s) read at {plan.streams} place(s), a window of {plan.window} images at each"
        )
    if table.given is not None:
        lines.append(f"proposals: {len(table.given.boxes)} regions for {len(table)} images to train on")
    return lines


def agreement(config: DetectionConfig, table: DetectionTable) -> dict[str, object]:
    """What decides the order of data and the sizes of images: a resume must not change it."""
    resize = config.data.resize
    return {
        "train.seed": config.train.seed,
        "train.images_per_update": config.train.images_per_update,
        "data.order": config.data.order,
        # None where a key is not used: a checkpoint from before there was the key agrees.
        "data.resize.train_sizes_px": resize.train_sizes_px or None,
        "data.resize.draw_size_every": resize.draw_size_every if resize.train_sizes_px else None,
        "data.resize.rectangular": resize.rectangular or None,
        "data.streaming": config.data.streaming or None,
        "data.streams": config.data.streams if config.data.streaming else None,
        "data.stream_window": config.data.stream_window if config.data.streaming else None,
        "the training data (fingerprint)": table.fingerprint,
        "the proposals (fingerprint)": table.given.fingerprint() if table.given else None,
    }


def _turns(order: str, table: DetectionTable, *, seed: int) -> Turns | None:
    if order not in ("class_balanced", "weighted"):
        return None
    images, labels, _ = table.objects()
    if order == "class_balanced":
        return ClassBalanced(images, labels, num_images=len(table), seed=seed)
    weights = image_weights(images, labels, num_images=len(table), num_classes=len(table.classes))
    return Weighted(weights, seed=seed)
