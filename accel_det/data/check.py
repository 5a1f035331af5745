"""What can only be seen with both splits, or with the pixels, and the report of everything."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from accel_det.data.defects import UNDECODABLE, DataError, Defect, Findings, stop_message, stopping
from accel_det.data.inspection import inspect, twins_of
from accel_det.data.locate import source_name
from accel_det.data.near_duplicates import Twins
from accel_det.data.records import DetectionTable

_BOTH = "train and val"


class Summary(Protocol):
    """What a split holds."""

    def line(self, name: str) -> str:
        """In words, for the split of this name."""
        ...

    def _asdict(self) -> dict[str, Any]: ...


SummaryT = TypeVar("SummaryT", bound=Summary)


class SplitSummary(NamedTuple):
    """Images and objects of a split, and objects of each class; crowd regions are not among the objects of a class."""

    images: int
    objects: int
    class_counts: dict[str, int]
    fingerprint: str

    def line(self, name: str) -> str:
        per_class = ", ".join(f"{label} {count}" for label, count in self.class_counts.items())
        return f"{name}: {self.images} images, {self.objects} objects ({per_class})"


class Report(NamedTuple, Generic[SummaryT]):
    """Everything that was found.

    Attributes:
        defects: each of them once.
        splits: "train" and "val", as far as they were opened.
    """

    defects: tuple[Defect, ...]
    splits: dict[str, SummaryT]

    @property
    def stops(self) -> bool:
        """Whether the data must not be trained on as they are."""
        return bool(stopping(self.defects))

    def to_json(self) -> dict[str, object]:
        """Plain values for a file."""
        return {
            "stops": self.stops,
            "splits": {name: summary._asdict() for name, summary in self.splits.items()},
            "counts": dict(Counter(defect.kind for defect in self.defects)),
            "defects": [defect._asdict() for defect in self.defects],
        }

    def split_lines(self) -> list[str]:
        """What each split holds."""
        return [split.line(name) for name, split in self.splits.items()]

    def summary_lines(self) -> list[str]:
        """One line per kind of defect, what stops the run first: count, first example, what to do."""
        by_kind: dict[tuple[bool, str], list[Defect]] = {}
        for defect in self.defects:
            by_kind.setdefault((defect.repair is not None, defect.kind), []).append(defect)
        lines = []
        for (repaired, kind), found in sorted(
            by_kind.items(), key=lambda item: (item[0][0], -len(item[1]), item[0][1])
        ):
            first = found[0]
            done = f"repair: {first.repair}" if repaired else "STOPS THE RUN"
            lines.append(f"{kind} x {len(found)} ({done}), first: {first.place}: {first.value}; {first.remedy}")
        return lines

    def require(self) -> None:
        """Raises DataError, with the first few findings and counts by kind, if something stops the run."""
        if self.stops:
            raise DataError(stop_message(self.defects))


def check_tables(
    train: DetectionTable, val: DetectionTable | None, defects: Sequence[Defect], *, read_images: bool
) -> Report[SplitSummary]:
    """Adds to what was found on opening the splits what needs both of them, or the files.

    Args:
        train, val: the splits; val may be missing.
        defects: what opening them found.
        read_images: decode every image, which takes as long as an epoch without training does, and look for those of val
            that look like one of train.
    """
    accept = train.accept | (val.accept if val is not None else frozenset())
    findings = Findings(_BOTH, accept=accept)
    if val is not None:
        _find_leakage(train, val, findings=findings)
    tables = {"train": train} if val is None else {"train": train, "val": val}
    if read_images:
        seen = {name: inspect(table) for name, table in tables.items()}
        for name, table in tables.items():
            for index, fault in seen[name].faults.items():
                findings.add(UNDECODABLE, file=table.name(index), value=fault)
        if val is not None:
            _find_near_duplicates(train, val, twins_of(seen["val"], seen["train"]), findings=findings)
    splits = {
        name: SplitSummary(len(table), int(table.counts().sum()), table.class_counts(), table.fingerprint)
        for name, table in tables.items()
    }
    return Report(tuple(dict.fromkeys([*defects, *findings.defects])), splits)


def _find_leakage(train: DetectionTable, val: DetectionTable, *, findings: Findings) -> None:
    """Files of one content on both sides, and files of one name; only files of equal size are read, and none of a stream."""
    lengths = {val.image_length(index) for index in range(len(val))} - {-1}
    known = {source_name(val.name(index)) for index in range(len(val))}
    by_length: dict[int, list[int]] = {}
    names: dict[str, int] = {}
    for index, name in enumerate(train.names()):
        length = train.image_length(index) if lengths else -1
        if length in lengths:
            by_length.setdefault(length, []).append(index)
        source = source_name(name)
        if source in known:
            names.setdefault(source, index)
    digests: dict[str, int] = {}
    hashed: set[int] = set()
    for index in range(len(val)):
        name = val.name(index)
        length = val.image_length(index)
        if length in by_length:
            if length not in hashed:
                hashed.add(length)
                for candidate in by_length[length]:
                    digests.setdefault(_digest(train, candidate), candidate)
            twin = digests.get(_digest(val, index))
            if twin is not None:
                findings.add("leakage", file=name, value=f"same bytes as {train.name(twin)} in train")
                continue
        same = names.get(source_name(name))
        if same is not None:
            findings.add("same_name", file=name, value=f"as {train.name(same)} in train, with other bytes")


def _digest(table: DetectionTable, index: int) -> str:
    return hashlib.sha256(table.image_bytes(index)).hexdigest()


def _find_near_duplicates(train: DetectionTable, val: DetectionTable, twins: Twins, *, findings: Findings) -> None:
    """Images of both sides that look alike, but for those of the same bytes."""
    leaked = {defect.file for defect in findings.defects if defect.kind == "leakage"}
    for pair, (index, twin) in enumerate(zip(twins.asked.tolist(), twins.known.tolist(), strict=True)):
        if val.name(index) not in leaked:
            value = f"looks like {train.name(twin)} in train: {twins.words(pair)}"
            findings.add("near_duplicate", file=val.name(index), value=value)
