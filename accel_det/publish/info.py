"""What an export says of itself, and its form in `config.json`."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from accel_det.data.transforms import ResizeMode, ResizeRule
from accel_det.models.base import Inference, NmsKind
from accel_det.models.zoo import OptionValue
from accel_det.publish.layout import WEIGHTS, ExportError

FORMAT_VERSION = 1


@dataclass(frozen=True)
class SplitInfo:
    """One split that was trained or evaluated on.

    Attributes:
        selection: as the configuration names it: "bccd:train + chess:train".
        fingerprint: sha256 over names, sizes, boxes and labels.
        images: how many.
        licence: of the data, where known.
    """

    selection: str
    fingerprint: str
    images: int
    licence: str | None = None


@dataclass(frozen=True)
class TrainingInfo:
    """How the weights came about.

    Attributes:
        step: optimizer updates done.
        seed: of the run.
        command: as typed.
        versions: of Python and of the libraries that the result depends on.
    """

    step: int
    seed: int
    command: str
    versions: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class ExportInfo:
    """Where weights came from, and how to build their network; each task adds how to use it.

    Attributes:
        task: what the network does.
        name: of the run.
        model: name in the zoo.
        options: settings of this network that differ from its defaults.
        metrics: finite numbers of the evaluation, named as the task's score names them: "AP", "AP/<class>".
        data: by role: "train", "val".
        training: how the weights came about.
        run_config: the resolved configuration, YAML.
        licence: of the weights, as an identifier of the Hub ("apache-2.0"); None where nobody has stated one.
    """

    task: ClassVar[str]

    name: str
    model: str
    options: Mapping[str, OptionValue]
    metrics: Mapping[str, float]
    data: Mapping[str, SplitInfo]
    training: TrainingInfo
    run_config: str = field(default="", repr=False)
    licence: str | None = None

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            if not math.isfinite(value):
                raise ExportError(
                    f"export of {self.name}: metrics.{name} is {value}, expected a finite number; leave it out"
                )


@dataclass(frozen=True, kw_only=True)
class DetectorInfo(ExportInfo):
    """A detector.

    Attributes:
        classes: names, by label.
        resize: how an image gets its size.
        inference: how candidates become detections.
    """

    task: ClassVar[str] = "detection"

    classes: tuple[str, ...]
    resize: ResizeRule
    inference: Inference

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.classes:
            raise ExportError(f"export of {self.name}: no classes; give the names that the network was trained with")


@dataclass(frozen=True, kw_only=True)
class EmbedderInfo(ExportInfo):
    """A network that embeds pictures so that those of one identity lie close together.

    Attributes:
        size_px: height and width of its input; pictures are stretched to it.
        flip: whether the mirrored picture is embedded as well.
        identities: how many it was trained to tell apart.
        cameras: names of those that the network knows, by number; none where it was not told.
    """

    task: ClassVar[str] = "reid"

    size_px: tuple[int, int]
    flip: bool = False
    identities: int
    cameras: tuple[str, ...] = ()


def library() -> str:
    """This library and its version."""
    try:
        return f"accel_det {version('accel_det')}"
    except PackageNotFoundError:
        return "accel_det (not installed)"


def to_json(info: ExportInfo, *, weights_sha256: str, weights_bytes: int) -> str:
    """The text of `config.json`."""
    values = {
        "format_version": FORMAT_VERSION,
        "task": info.task,
        "name": info.name,
        **_own_values(info),
        "metrics": dict(info.metrics),
        "data": {role: vars(split) for role, split in info.data.items()},
        "training": {**vars(info.training), "versions": dict(info.training.versions)},
        "licence": info.licence,
        "library": library(),
        "weights": {"file": WEIGHTS, "bytes": weights_bytes, "sha256": weights_sha256},
    }
    return json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _own_values(info: ExportInfo) -> dict[str, object]:
    """The network, and what is particular to the task."""
    model: dict[str, object] = {"name": info.model, "options": dict(info.options)}
    if isinstance(info, DetectorInfo):
        return {
            "model": {**model, "num_classes": len(info.classes)},
            "classes": list(info.classes),
            "resize": info.resize._asdict(),
            "inference": info.inference._asdict(),
        }
    assert isinstance(info, EmbedderInfo)
    return {
        "model": model,
        "embedder": {
            "size_px": list(info.size_px),
            "flip": info.flip,
            "identities": info.identities,
            "cameras": list(info.cameras),
        },
    }


def from_values(values: Mapping[str, Any], *, run_config: str, file: Path) -> ExportInfo:
    """What `config.json` says; keys that are not known are left for later versions.

    Raises:
        ExportError: another format version, or a key is missing or has a wrong value.
    """
    found = values.get("format_version")
    if found != FORMAT_VERSION:
        raise ExportError(
            f"{file}: format_version is {found!r}, expected {FORMAT_VERSION}; "
            f"read it with the version of accel_det that wrote it ({values.get('library', 'unknown')}), or export again"
        )
    files: dict[object, type[_DetectorFile] | type[_EmbedderFile]] = {"detection": _DetectorFile, "reid": _EmbedderFile}
    task = values.get("task")
    if task not in files:
        raise ExportError(f"{file}: task: {task!r}, expected {' or '.join(map(str, files))}; export again")
    try:
        parsed = files[task].model_validate_json(json.dumps(values))
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(str(part) for part in detail["loc"])
        raise ExportError(f"{file}: {key}: {detail['msg']}; correct the key, or export again") from None
    if isinstance(parsed, _DetectorFile) and parsed.model.num_classes != len(parsed.classes):
        raise ExportError(
            f"{file}: model.num_classes is {parsed.model.num_classes}, but classes has {len(parsed.classes)} names; "
            "make them agree, or export again"
        )
    return parsed.info(run_config)


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


class _Model(_Part):
    name: str
    options: dict[str, bool | int | float | str | list[float]]


class _Head(_Model):
    num_classes: int


class _Resize(_Part):
    mode: ResizeMode
    size_px: int
    max_size_px: int
    multiple: int
    rectangular: bool = False


class _Inference(_Part):
    score_threshold: float
    nms_iou: float
    max_detections: int
    nms: NmsKind = "hard"
    soft_nms_sigma: float = 0.5
    agnostic_nms: bool = False
    vote_iou: float | None = None
    box_iterations: int = 0
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)


class _Split(_Part):
    selection: str
    fingerprint: str
    images: int
    licence: str | None = None


class _Training(_Part):
    step: int
    seed: int
    command: str
    versions: dict[str, str]


class _File(_Part):
    format_version: Literal[1]
    task: str
    name: str
    model: _Model
    metrics: dict[str, float]
    data: dict[str, _Split]
    training: _Training
    licence: str | None = None


class _DetectorFile(_File):
    model: _Head
    classes: list[str]
    resize: _Resize
    inference: _Inference

    def info(self, run_config: str) -> DetectorInfo:
        return DetectorInfo(
            name=self.name,
            model=self.model.name,
            options=self.model.options,
            classes=tuple(self.classes),
            resize=ResizeRule(**self.resize.model_dump()),
            inference=Inference(**self.inference.model_dump()),
            metrics=self.metrics,
            data={role: SplitInfo(**split.model_dump()) for role, split in self.data.items()},
            training=TrainingInfo(**self.training.model_dump()),
            run_config=run_config,
            licence=self.licence,
        )


class _Embedder(_Part):
    size_px: tuple[int, int]
    flip: bool
    identities: int
    cameras: tuple[str, ...] = ()


class _EmbedderFile(_File):
    embedder: _Embedder

    def info(self, run_config: str) -> EmbedderInfo:
        return EmbedderInfo(
            name=self.name,
            model=self.model.name,
            options=self.model.options,
            metrics=self.metrics,
            data={role: SplitInfo(**split.model_dump()) for role, split in self.data.items()},
            training=TrainingInfo(**self.training.model_dump()),
            run_config=run_config,
            licence=self.licence,
            **self.embedder.model_dump(),
        )
