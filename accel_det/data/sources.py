"""From configured sets to one table: read, clean, join by class name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import datasets
import numpy as np

from accel_det.data.clean import CleanSplit, clean
from accel_det.data.defects import Defect, Findings, stopping
from accel_det.data.formats import (
    coco,
    createml,
    csv_boxes,
    cvat,
    hub,
    hub_stream,
    imagenet_det,
    openimages,
    voc,
    widerface,
    yolo,
)
from accel_det.data.formats.raw import Bools, Ints, RawSplit, join_streams
from accel_det.data.holdout import held_out
from accel_det.data.records import DetectionTable, build_table, fingerprint
from accel_det.data.shards import Option

POOL = "train"
_READERS = {
    "coco": coco.read,
    "voc": voc.read,
    "yolo": yolo.read,
    "csv": csv_boxes.read,
    "createml": createml.read,
    "cvat": cvat.read,
    "openimages": openimages.read,
    "widerface": widerface.read,
    "imagenet_det": imagenet_det.read,
    "hub": hub.read,
}
STREET = "street"
FORMATS = (*_READERS, STREET)


class SetSpec(NamedTuple):
    """One configured data set.

    Attributes:
        name: as selections call it.
        format: one of `FORMATS`; for re-identification one of `identity_sources.IDENTITY_FORMATS`.
        root: its folder; for "hub" perhaps the name of a data set of the Hub; for "street" not read.
        images: folder of the images, from the root; "{split}" in it is replaced. None: the format's usual places.
        annotations: annotation file or folder, likewise; for a Hub name its configuration.
        holdout: share of "train", in [0, 1), that makes up "val": of its images, chosen as `holdout.held_out` says, or for
            re-identification of its identities, chosen by a hash of theirs.
        holdout_group, holdout_stratified: as `group` and `stratified` there.
        accept: kinds of defect whose opt-in repair the user accepts.
        parameters: of the synthetic street; for re-identification also of tables, of the Hub's convention and of crops.
        streaming: read the images from their shards when their turn comes.
        storage: options of the server that a streamed set is on, for fsspec.
    """

    name: str
    format: str
    root: str
    images: str | None = None
    annotations: str | None = None
    holdout: float = 0.0
    holdout_group: str | None = None
    holdout_stratified: bool = False
    accept: tuple[str, ...] = ()
    parameters: Mapping[str, int | float | str] = {}
    streaming: bool = False
    storage: Mapping[str, Option] = {}


def open_split(
    sets: Mapping[str, SetSpec], selection: str, *, classes: Sequence[str] | None = None
) -> tuple[DetectionTable, list[Defect]]:
    """Opens and joins splits, such as "bccd:train + chess:train".

    Classes are joined by name: the union in the order of first appearance, or exactly `classes`. Sample ids are the
    positions in the joined table.

    Args:
        sets: the configured sets by name.
        selection: set and split, joined by "+".
        classes: the classes to train on; pass those of the training table to open the validation split.

    Returns:
        The table, without what cannot be trained on, and everything that was found, repaired or not. Whether that stops
        the run is for `check.check_tables` to say.

    Raises:
        ValueError: the selection or a set is configured wrongly, or a split has no files.
    """
    parts: list[tuple[str, CleanSplit]] = []
    defects: list[Defect] = []
    accept: set[str] = set()
    for set_name, split in parse_selection(sets, selection):
        spec = sets[set_name]
        findings = Findings(spec.name, accept=spec.accept)
        part = clean(_pool_or_split(spec, split, findings=findings), findings=findings)
        if not part.names and not stopping(findings.defects):
            findings.add("empty_split", file=spec.root, record=split, value="no image")
        if classes is not None:
            part = _restrict(part, tuple(classes), findings=findings)
        parts.append((set_name, part))
        defects += findings.defects
        accept |= findings.accept
    joined = tuple(classes) if classes is not None else _union([part.classes for _, part in parts])
    return _join(parts, joined, accept=frozenset(accept)), defects


def parse_selection(sets: Mapping[str, SetSpec], selection: str) -> list[tuple[str, str]]:
    """(set, split) pairs of a selection.

    Raises:
        ValueError: it is not written so, or names what is not configured.
    """
    pairs: list[tuple[str, str]] = []
    for text in selection.split("+"):
        set_name, colon, split = (part.strip() for part in text.partition(":"))
        if not (set_name and colon and split):
            raise ValueError(
                f"selection {selection!r}: {text.strip()!r} is not set:split, such as 'bccd:train + chess:train'"
            )
        if set_name not in sets:
            raise ValueError(f"selection {selection!r}: no set {set_name!r}; configured are {', '.join(sorted(sets))}")
        if (set_name, split) in pairs:
            raise ValueError(f"selection {selection!r}: {set_name}:{split} is in it twice; remove one")
        pairs.append((set_name, split))
    return pairs


def _pool_or_split(spec: SetSpec, split: str, *, findings: Findings) -> RawSplit:
    """What the reader found, or the share of it that the hold-out gives to this split; unused classes are noted."""
    if not 0 <= spec.holdout < 1:
        raise ValueError(f"set {spec.name!r}, holdout: {spec.holdout} is not a share in [0, 1)")
    if spec.holdout and split not in (POOL, "val"):
        raise ValueError(f"set {spec.name!r}: holdout makes 'train' and 'val' out of 'train'; there is no {split!r}")
    raw = _read(spec, POOL if spec.holdout else split, findings=findings)
    raw = _note_unused(raw, where=raw.annotation_files[0] if raw.annotation_files else spec.root, findings=findings)
    if not spec.holdout:
        return raw
    try:
        in_val = held_out(raw, share=spec.holdout, group=spec.holdout_group, stratified=spec.holdout_stratified)
    except ValueError as error:
        raise ValueError(f"set {spec.name!r}, holdout: {error}") from error
    return raw.select(in_val if split == "val" else ~in_val)


def _read(spec: SetSpec, split: str, *, findings: Findings) -> RawSplit:
    if spec.streaming:
        if spec.format != "hub":
            raise ValueError(
                f"set {spec.name!r}: data.streaming reads sets of format hub, but its format is {spec.format}: set "
                "data.streaming to false"
            )
        return hub_stream.read(spec, split, findings=findings)
    if spec.format == STREET:
        from accel_det.data import street

        table, classes = street.read(split, spec.parameters)
        return hub.from_dataset(
            table, classes, source_name=spec.name, split=split, root=None, where=STREET, findings=findings
        )
    if spec.format not in _READERS:
        raise ValueError(f"set {spec.name!r}, format: {spec.format!r} is none of {', '.join(FORMATS)}")
    if spec.format != "hub" and not Path(spec.root).is_dir():
        raise ValueError(f"set {spec.name!r}, root: no folder {spec.root!r}; correct the path, or fetch the data")
    return _READERS[spec.format](spec, split, findings=findings)


def _note_unused(raw: RawSplit, *, where: str, findings: Findings) -> RawSplit:
    """Notes classes without objects; leaves them out where the user accepts that."""
    labels = raw.objects.labels
    valid = labels[(labels >= 0) & (labels < len(raw.classes))]
    used = np.bincount(valid, minlength=len(raw.classes)) > 0
    for index in np.flatnonzero(~used).tolist():
        findings.add(
            "unused_class", file=where, record=f"class {index}", value=f"{raw.classes[index]!r} has no objects"
        )
    if not findings.drops("unused_class") or used.all():
        return raw
    renumbered = np.where(used, np.cumsum(used) - 1, -1)
    in_range = (labels >= 0) & (labels < len(raw.classes))
    new_labels = np.where(in_range, renumbered[np.where(in_range, labels, 0)], -1).astype(np.int64)
    classes = tuple(name for name, has_objects in zip(raw.classes, used.tolist(), strict=True) if has_objects)
    return raw._replace(classes=classes, objects=raw.objects._replace(labels=new_labels))


def _restrict(part: CleanSplit, classes: tuple[str, ...], *, findings: Findings) -> CleanSplit:
    """Leaves out, and notes, objects of classes that are not trained on."""
    known = np.array([name in classes for name in part.classes] + [False], np.bool_)
    kept = known[part.labels]
    if kept.all():
        return part
    owner = np.repeat(np.arange(len(part.names)), part.counts)
    for position in np.flatnonzero(~kept).tolist():
        index = int(owner[position])
        record = f"{part.record_word} {int(part.records[position])}"
        value = f"{part.names[index]}: class {part.classes[int(part.labels[position])]!r}"
        findings.add("unknown_class", file=part.annotation_files[index], record=record, value=value)
    return _keep_objects(part, kept, owner)


def _keep_objects(part: CleanSplit, kept: Bools, owner: Ints) -> CleanSplit:
    return part._replace(
        counts=np.bincount(owner[kept], minlength=len(part.names)).astype(np.int64),
        boxes=part.boxes[kept],
        labels=part.labels[kept],
        crowd=part.crowd[kept],
        areas=part.areas[kept],
        records=part.records[kept],
    )


def _union(lists: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for names in lists for name in names))


def _join(
    parts: Sequence[tuple[str, CleanSplit]], classes: tuple[str, ...], *, accept: frozenset[str]
) -> DetectionTable:
    index_of = {name: index for index, name in enumerate(classes)}
    tables: list[datasets.Dataset] = []
    relabelled: list[CleanSplit] = []
    first_id = 0
    for set_name, part in parts:
        mapping = np.array([index_of.get(name, -1) for name in part.classes] + [-1], np.int64)
        split = part._replace(labels=mapping[part.labels])
        tables.append(build_table(split, set_name=set_name, classes=classes, first_id=first_id))
        relabelled.append(split)
        first_id += len(part.names)
    dataset = tables[0] if len(tables) == 1 else datasets.concatenate_datasets(tables)
    digest = fingerprint(relabelled, classes=classes)
    streamed = [part.streamed._replace(faults=()) for _, part in parts if part.streamed is not None]
    return DetectionTable(
        dataset,
        classes=classes,
        fingerprint=digest,
        accept=accept,
        streamed=join_streams(streamed) if streamed else None,
    )
