"""What `show-data` shows: each function gives one section of its page, or None where there is nothing to show."""

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from accel_det.boxes import place
from accel_det.cli import compose_detection, turns
from accel_det.cli.auto_anchors import anchors_of, method_of
from accel_det.cli.compose import Tables
from accel_det.config.detection import DetectionConfig
from accel_det.data.anchors import find_anchors, fit_of, input_sizes
from accel_det.data.box_images import EvaluationImages
from accel_det.data.decode import decode
from accel_det.data.inspection import Inspection, remembered, twins_of
from accel_det.data.near_duplicates import MAX_BITS, Twins
from accel_det.data.order import Draw
from accel_det.data.records import DetectionTable
from accel_det.draws import mix
from accel_det.models import zoo
from accel_det.report.anchors import draw_anchors
from accel_det.report.charts import Bars, Series, draw_bars, draw_histogram
from accel_det.report.page import Picture, Section
from accel_det.report.pictures import Caption, class_color, draw_truth, picture_table
from accel_det.types import BoxTarget

Split = Literal["train", "val"]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

TRAIN, VAL = Series("train", (29, 120, 240)), Series("val", (250, 150, 7))
MAX_BARS = 40
"""Classes that are drawn; the table holds all of them."""

_CELL_PX = 400
_PAIRS_IN_A_ROW = 2
_EPOCHS_SHOWN = 3
_COLORS_SHOWN = 30


class Shown:
    """The data of a configuration, what is asked for of it, and where pictures go."""

    def __init__(
        self,
        config: DetectionConfig,
        tables: Tables[DetectionTable],
        folder: Path,
        *,
        split: Split,
        num_images: int,
        epoch: int,
        near_duplicates: bool = True,
    ) -> None:
        self.config = config
        self.tables = {"train": tables.train, "val": tables.val}
        self.folder = folder
        self.split = split
        self.num_images = num_images
        self.epoch = epoch
        self._near_duplicates = near_duplicates and tables.train.streamed is None
        self.classes = tables.train.classes

    @property
    def table(self) -> DetectionTable:
        return self.tables[self.split]

    @cached_property
    def box_sizes(self) -> dict[str, Floats]:
        """By split, (N, 2) width and height of every object in pixels of the network's input."""
        rule = compose_detection.resize_rule(self.config)
        return {name: input_sizes(table, rule) for name, table in self.tables.items()}

    @cached_property
    def twins(self) -> Twins | None:
        """Images of val that look like one of train; None where they are not looked for."""
        return twins_of(self.looks["val"], self.looks["train"]) if self._near_duplicates else None

    @cached_property
    def looks(self) -> dict[str, Inspection]:
        """How the images of each split look, all of which are decoded for it."""
        return {name: remembered(table) for name, table in self.tables.items()}

    def saved(self, picture: Image.Image, name: str, *, width_px: int, caption: str = "") -> Picture:
        """Write a picture, for the page."""
        file = self.folder / name
        picture.save(file, **({"quality": 90} if file.suffix == ".jpg" else {"optimize": True}))
        return Picture(file, width_px, caption)


def splits(shown: Shown) -> Section:
    """How many images, objects and sizes there are."""
    heads = [
        "split",
        "images",
        "without objects",
        "objects",
        "per image, mean",
        "at most",
        "ignored regions",
        "image sizes",
    ]
    rows = [heads]
    for name, table in shown.tables.items():
        counts = _objects_per_image(table)
        objects = int(counts.sum())
        heights, widths = table.sizes().T
        rows.append(
            [
                name,
                f"{len(table):,}",
                f"{int((counts == 0).sum()):,}",
                f"{objects:,}",
                f"{objects / max(1, len(table)):.1f}",
                f"{int(counts.max(initial=0)):,}",
                f"{int(table.counts().sum()) - objects:,}",
                _span(widths) + " x " + _span(heights) + " px",
            ]
        )
    order = shown.config.data.order
    length = turns.turns_per_epoch(shown.config, shown.tables["train"])
    text = [f"Order of training: {order}, {length:,} turns per epoch."] if order != "shuffled" else []
    return Section("Splits", text, rows)


def classes(shown: Shown) -> Section:
    """Images and objects of each class, the most frequent first."""
    objects = {name: table.objects() for name, table in shown.tables.items()}
    counts = {name: np.bincount(found.labels, minlength=len(shown.classes)) for name, found in objects.items()}
    images = {
        name: np.bincount(_pairs(found.images, found.labels)[:, 1], minlength=len(shown.classes))
        for name, found in objects.items()
    }
    order = np.argsort(-counts["train"], kind="stable").tolist()
    rows = [["class", *(f"{what}, {name}" for name in counts for what in ("images", "objects", "share"))]]
    bars = []
    for label in order:
        cells, values, texts = [shown.classes[label]], [], []
        for name in counts:
            number, share = int(counts[name][label]), counts[name][label] / max(1, counts[name].sum())
            cells += [f"{int(images[name][label]):,}", f"{number:,}", _percent(share)]
            values.append(float(share))
            texts.append(f"{number:,} ({_percent(share)})")
        rows.append(cells)
        bars.append(Bars(shown.classes[label], values, texts))
    picture = draw_bars(bars[:MAX_BARS], (TRAIN, VAL))
    more = f"; the {MAX_BARS} most frequent of {len(bars)}" if len(bars) > MAX_BARS else ""
    caption = f"share of the split's objects{more}"
    missing = [shown.classes[label] for label in order if counts["train"][label] and not counts["val"][label]]
    text = [f"Without an object in val: {', '.join(missing)}."] if missing else []
    return Section("Classes", text, rows, [shown.saved(picture, "classes.png", width_px=800, caption=caption)])


def sizes(shown: Shown) -> Section:
    """How large objects are for the network, and how many an image has."""
    sides = [np.sqrt(shown.box_sizes[name].prod(axis=1)) for name in shown.tables]
    aspects = [np.log2(shown.box_sizes[name][:, 0] / shown.box_sizes[name][:, 1]) for name in shown.tables]
    counts = [_objects_per_image(table).astype(np.float64) for table in shown.tables.values()]
    top = shown.config.data.resize.size_px
    edges = 2.0 ** np.arange(1, np.ceil(np.log2(top) * 2) / 2 + 0.75, 0.5)
    by_size = draw_histogram(
        sides,
        (TRAIN, VAL),
        edges=edges,
        axis="side of an object, px of the network's input",
        label=lambda edge: f"{edge:.0f}",
    )
    by_aspect = draw_histogram(
        aspects,
        (TRAIN, VAL),
        edges=np.arange(-3, 3.25, 0.5),
        axis="width / height of an object",
        label=lambda edge: f"{2**edge:.2g}",
    )
    most = max((float(number.max(initial=1)) for number in counts), default=1)
    by_count = draw_histogram(
        counts, (TRAIN, VAL), edges=np.arange(0, most + 2, max(1, np.ceil(most / 20))), axis="objects of an image"
    )
    small = 100 * float((sides[0] < 8).mean()) if len(sides[0]) else 0.0
    text = [f"The side is the root of the area. {small:.1f} % of the training objects have a side below 8 px."]
    pictures = [
        shown.saved(by_size, "object_sizes.png", width_px=360, caption="sizes of objects"),
        shown.saved(by_aspect, "object_aspects.png", width_px=360, caption="aspects of objects"),
        shown.saved(by_count, "objects_per_image.png", width_px=360, caption="objects per image"),
    ]
    return Section("Objects", text, pictures=pictures)


def anchors(shown: Shown) -> Section | None:
    """The network's anchors, and ones fitted to the data, among the sizes of the boxes."""
    config, found = shown.config, shown.box_sizes["train"]
    if "anchors_px" not in zoo.option_table(config.model.name) or not len(found):
        return None
    model = compose_detection.make_network(config, num_classes=len(shown.classes), device_type="cpu").model
    own = anchors_of(model).double().view(-1, 2).numpy()
    fitted, text = np.zeros((0, 2)), [f"The network's: {fit_of(found, own).words()}."]
    if len(np.unique(found, axis=0)) >= len(own):
        fitted = find_anchors(found, number=len(own), method=method_of(model), seed=config.train.seed).round(1)
        text += [
            f"Fitted to these data: {fit_of(found, fitted).words()}.",
            f"model.options.anchors_px: [{', '.join(f'{side:g}' for side in fitted.flatten().tolist())}]",
        ]
    picture = draw_anchors(found, fitted, before=own, title=f"{len(found):,} boxes of {config.data.train}")
    return Section(
        "Anchors",
        text,
        pictures=[shown.saved(picture, "anchors.png", width_px=720, caption="sizes of boxes, and anchors")],
    )


def near_duplicates(shown: Shown) -> Section | None:
    """Images of val beside those of train that they look like, the most alike first."""
    if shown.twins is None:
        return None
    twins, number = shown.twins, len(shown.tables["val"])
    count = len(twins.asked)
    how = (
        f"Hashes of 64 bits were compared, upright and mirrored; at most {MAX_BITS} differ where pictures look alike: "
        "copies that were re-encoded, resized or brightened, and views of one scene. Crops and turned pictures are not found."
    )
    faults = [fault for seen in shown.looks.values() for fault in seen.faults.values()]
    bad = [f"Cannot be decoded, and was not compared: {fault}." for fault in faults[: shown.num_images]]
    if not count:
        return Section("Near-duplicates", ["No image of val looks like one of train.", how, *bad])
    text = f"{count:,} of {number:,} images of val ({_percent(count / number)}) look like one of train"
    text += f", {int(twins.mirrored.sum()):,} of them mirrored" if twins.mirrored.any() else ""
    text += ". What is measured on them says little about new images."
    pairs = np.argsort(twins.bits, kind="stable")[: shown.num_images].tolist()
    rows, captions = [], []
    for start in range(0, len(pairs), _PAIRS_IN_A_ROW):
        images, names = [], []
        for pair in pairs[start : start + _PAIRS_IN_A_ROW]:
            for split, index, before in (
                ("val", twins.asked[pair], ""),
                ("train", twins.known[pair], twins.words(pair)),
            ):
                images.append(_of_file(shown, shown.tables[split], int(index)))
                names.append(Caption(shown.tables[split].name(int(index)), before))
        rows.append(images)
        captions.append(names)
    picture = picture_table(rows, ["val", "train"] * (len(rows[0]) // 2), captions, cell_px=_CELL_PX)
    more = f"the {len(pairs)} most alike" if count > len(pairs) else ""
    return Section(
        "Near-duplicates",
        [text, how, *bad],
        pictures=[shown.saved(picture, "near_duplicates.jpg", width_px=picture.width * 3 // 4, caption=more)],
    )


def samples(shown: Shown) -> Section:
    """Images as they are in their files, and as the network gets them."""
    training = shown.split == "train"
    draws = _first_draws(shown)
    epochs = range(shown.epoch, shown.epoch + _EPOCHS_SHOWN)
    heads = ["the file", *(f"epoch {epoch}" for epoch in epochs)] if training else ["the file", "the network's input"]
    rows = [_row(shown, draw) for draw in draws]
    picture = picture_table(rows, heads, [[_caption(shown, draw)] for draw in draws], cell_px=_CELL_PX)
    text = (
        f"The first images of epoch {shown.epoch}, and what the network gets: in that epoch, and in the ones after it. "
        "Boxes follow every change; dashed regions are ignored."
        if training
        else "Images spread over the split, and what the network gets. Dashed regions are ignored."
    )
    colors = [(name, class_color(label)) for label, name in enumerate(shown.classes[:_COLORS_SHOWN])]
    return Section(
        f"Images of {shown.split}",
        [text],
        pictures=[shown.saved(picture, "samples.jpg", width_px=picture.width * 3 // 4)],
        colors=colors,
    )


SECTIONS: tuple[Callable[[Shown], Section | None], ...] = (
    splits,
    classes,
    sizes,
    anchors,
    near_duplicates,
    samples,
)
"""In the order of the page."""


def _first_draws(shown: Shown) -> list[Draw]:
    """The first different images of an epoch; of the evaluation split images from all over it."""
    count = min(shown.num_images, len(shown.table))
    if shown.split == "val":
        return [Draw(index, 0, 0) for index in np.linspace(0, len(shown.table) - 1, count).round().astype(int).tolist()]
    rule = compose_detection.resize_rule(shown.config)
    order = turns.update_order(shown.config, shown.table, multiple_px=rule.multiple)
    images = shown.config.train.images_per_update
    start = shown.epoch * turns.turns_per_epoch(shown.config, shown.table)
    chosen: dict[int, Draw] = {}
    for position in range(start, start + 20 * count):
        if len(chosen) == count:
            break
        (draw,) = order.draws(position // images, [position])
        chosen.setdefault(draw.index, draw)
    return list(chosen.values())


def _row(shown: Shown, draw: Draw) -> list[Image.Image]:
    cells = [_of_file(shown, shown.table, draw.index)]
    for image, target in _inputs(shown, draw):
        cells.append(_drawn(image, target, shown.classes))
    return cells


def _of_file(shown: Shown, table: DetectionTable, index: int) -> Image.Image:
    pixels = decode(table.image_bytes(index), name=table.name(index)).permute(1, 2, 0).numpy()
    return _drawn(Image.fromarray(pixels), table.truth(index), shown.classes)


def _inputs(shown: Shown, draw: Draw) -> Iterator[tuple[Image.Image, BoxTarget]]:
    """What the network gets of an image, with boxes in its pixels."""
    if shown.split == "val":
        sample = EvaluationImages(shown.table, rule=compose_detection.resize_rule(shown.config))[draw.index]
        boxes = place(sample.target.boxes, sample.frame.placement)
        yield Image.fromarray(sample.image.permute(1, 2, 0).numpy()), sample.target._replace(boxes=boxes)
        return
    images = compose_detection.training_images(shown.config, shown.table)
    for later in range(_EPOCHS_SHOWN):
        epoch = draw.epoch + later
        seed = mix(shown.config.train.seed, epoch, draw.index) if later else draw.seed
        sample = images[draw._replace(epoch=epoch, seed=seed)]
        yield Image.fromarray(sample.image.permute(1, 2, 0).numpy()), sample.target


def _drawn(image: Image.Image, target: BoxTarget, names: Sequence[str]) -> Image.Image:
    width_px = min(_CELL_PX, round(_CELL_PX * image.width / image.height))
    return draw_truth(image, target, classes=names, width_px=max(1, width_px))


def _caption(shown: Shown, draw: Draw) -> Caption:
    height, width = shown.table.size(draw.index)
    truth = shown.table.truth(draw.index)
    count = int((~truth.crowd).sum())
    objects = "object" if count == 1 else "objects"
    return Caption(shown.table.name(draw.index), f"{width} x {height} px, {count} {objects}")


def _objects_per_image(table: DetectionTable) -> Ints:
    counts: Ints = np.bincount(table.objects().images, minlength=len(table))
    return counts


def _pairs(images: Ints, labels: Ints) -> Ints:
    """(P, 2) each image and class that go together, once."""
    pairs: Ints = np.unique(np.stack((images, labels), axis=1), axis=0)
    return pairs


def _percent(share: float) -> str:
    return "< 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"


def _span(numbers: Ints) -> str:
    if not len(numbers):
        return "0"
    low, high = int(numbers.min()), int(numbers.max())
    return f"{low}" if low == high else f"{low} to {high}"
