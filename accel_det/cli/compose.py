"""Configuration -> the parts of a run, put together, whatever its task: what `train` and `evaluate` know of a task.

Each task answers in a module of its own: `compose_detection.py`, `compose_reid.py`. They are the only places that know all
packages.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from accel_det.cli.auto_anchors import AnchorReport
from accel_det.config.schema import Config, ModelSection, SetSection
from accel_det.data.bad_images import Mend, leave_out, stop_at_failure
from accel_det.data.defects import BAD_IMAGES, UNDECODABLE, Defect
from accel_det.data.loaders import Deliver, Images, TrainingStream, evaluation_batches
from accel_det.data.order import Draw, Share, divide, evaluation_slice
from accel_det.data.sources import SetSpec
from accel_det.engine.console import Console
from accel_det.engine.evaluate import Evaluation
from accel_det.engine.left_out import LeftOut
from accel_det.engine.runtime import Accelerator
from accel_det.models import zoo
from accel_det.models.base import Inference, ZooModel
from accel_det.models.layers.batch_norm import convert_batch_norm
from accel_det.models.weights import LoadReport, freeze, load_weights
from accel_det.models.zoo import OptionValue
from accel_det.publish.info import ExportInfo, SplitInfo, TrainingInfo
from accel_det.tasks.base import Task
from accel_det.types import Batch, Sample

_MODULES = {"detection": "accel_det.cli.compose_detection", "reid": "accel_det.cli.compose_reid"}


class Table(Protocol):
    """A split of any task."""

    @property
    def fingerprint(self) -> str: ...
    def __len__(self) -> int: ...
    def name(self, index: int) -> str: ...


class Report(Protocol):
    """What is wrong with the data; see `data.check.Report`."""

    @property
    def stops(self) -> bool: ...
    def summary_lines(self) -> list[str]: ...
    def to_json(self) -> dict[str, object]: ...
    def require(self) -> None: ...
    def split_lines(self) -> list[str]: ...

    @property
    def defects(self) -> Sequence[Defect]: ...


TableT = TypeVar("TableT", bound=Table)
TargetT = TypeVar("TargetT")


class Tables(NamedTuple, Generic[TableT]):
    """The data of a run, opened and checked."""

    train: TableT
    val: TableT
    report: Report


class Network(NamedTuple):
    """A network that is ready to be trained, what was loaded into it, what was frozen, and what became of its anchors."""

    model: ZooModel[Any, Any]
    loaded: LoadReport | None
    frozen: list[str]
    anchors: AnchorReport | None = None


class Provenance(NamedTuple):
    """What every export tells of its origin."""

    data: Mapping[str, SplitInfo]
    metrics: Mapping[str, float]
    training: TrainingInfo
    options: Mapping[str, OptionValue]


class Parts(Protocol):
    """What a task makes of a configuration.

    Attributes:
        unit: images that stay together in a forward pass.
        has_pictures: whether `draw` has something to draw of an evaluation.
    """

    unit: int
    has_pictures: bool

    def check(self) -> None:
        """Refuse what can be refused before data is opened; raises ValueError."""

    def open_tables(self, *, read_images: bool = False) -> Tables[Any]:
        """Open both splits, and find what is wrong with them."""

    def open_validation(self, info: ExportInfo) -> Any:
        """Open the evaluation split alone, as a trained network needs it."""

    def turns_per_epoch(self, train: Any) -> int: ...

    def make_network(self, tables: Tables[Any], *, device_type: str) -> Network:
        """Build, load, freeze and convert, on the CPU. Weights depend on the seed alone."""

    def trained(self, info: ExportInfo, state: Mapping[str, Tensor]) -> nn.Module:
        """The network of an export, as evaluations with this configuration see it."""

    def for_evaluation(self, model: nn.Module) -> nn.Module:
        """The network of `make_network` as evaluations see it."""

    def make_task(self, val: Any) -> Task[Any, Any, Any]: ...

    def training_stream(
        self, train: Any, task: Task[Any, Any, Any], *, share: Share, pin_memory: bool
    ) -> TrainingStream[Any]: ...

    def validation_stream(
        self, val: Any, task: Task[Any, Any, Any], accelerator: Accelerator
    ) -> Callable[[], Iterator[Batch[Any]]]: ...

    def costly_batches(self, train: Any, task: Task[Any, Any, Any]) -> Callable[[int], Batch[Any]]:
        """Gives batches of so many images that need most memory in training."""

    def describe(self, tables: Tables[Any]) -> list[str]:
        """What the data are, and what is unusual about their order and sizes, as lines for the console."""

    def agreement(self, train: Any) -> dict[str, object]:
        """What decides the order of data and the sizes of images: a resume must not change it."""

    def labels_text(self, train: Any) -> str:
        """What is told apart, and how many of it: "3 classes"."""

    def facts(self, tables: Tables[Any]) -> dict[str, Any]:
        """What `run.json` tells of the data."""

    def input_text(self) -> str:
        """The size of images: figures of speed are compared where it is the same."""

    def details(self, console: Console, scores: Mapping[str, float], train: Any) -> None:
        """Show what the one row of an evaluation does not hold."""

    def export_info(self, tables: Tables[Any], made: Provenance) -> ExportInfo: ...

    def exported(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Those of the weights that an export holds."""

    def save(self, file: Path, found: Evaluation, val: Any, info: ExportInfo) -> str:
        """Write what was found in each image; what can be done with that file, in words."""

    def draw(self, folder: Path, found: Evaluation, val: Any) -> list[Path]:
        """Pictures of an evaluation, where there are such."""


def parts_of(config: Config) -> Parts:
    """What the configuration's task makes of it."""
    made: Parts = import_module(_MODULES[config.task]).make_parts(config)
    return made


def build_network(
    config: Config,
    *,
    num_classes: int,
    device_type: str,
    inference: Inference | None = None,
    options: Mapping[str, OptionValue] | None = None,
) -> Network:
    """Build, load, freeze and convert, on the CPU. Weights depend on the seed alone.

    Args:
        options: instead of those of the configuration.
    """
    torch.manual_seed(config.train.seed)
    section = config.model
    check_task(section, config.task)
    given = section.options if options is None else options
    model = zoo.build(section.name, num_classes=num_classes, options=given, inference=inference)
    # Options that are tensors of the network, such as anchors_px: one that is given holds against the file's.
    loaded = load_weights(model, section.weights, keep=given) if section.weights is not None else None
    frozen = freeze(model, section.freeze) if section.freeze else []
    if section.batch_norm != "per_process":
        convert_batch_norm(model, section.batch_norm, device_type=device_type)
    return Network(model, loaded, frozen)


def check_task(section: ModelSection, task: str) -> None:
    """Refuse a network of another task, by name."""
    if zoo.card(section.name).task != task:
        raise ValueError(f"task is {task}, but {section.name} is for {zoo.card(section.name).task}")


def share_of(config: Config, *, world: int, rank: int, measured_bound: int | None = None, unit: int = 1) -> Share:
    """What part of each update a process takes.

    Args:
        measured_bound: images per forward pass at most, where the configuration leaves it to a measurement.
        unit: images that stay together in a forward pass.
    """
    images, given = config.train.images_per_update, config.train.max_images_per_forward
    bound = measured_bound if given == "auto" else given
    return Share(
        images, world, rank, divide(images_per_update=images, world=world, max_images_per_forward=bound, unit=unit)
    )


def validation_stream(
    config: Config,
    images: Images[TargetT],
    task: Task[TargetT, Any, Any],
    accelerator: Accelerator,
    *,
    length: int,
    size_of: Callable[[int], tuple[int, int]] | None = None,
    deliver: Deliver | None = None,
) -> Callable[[], Iterator[Batch[TargetT]]]:
    """Gives, at every call, the batches of this process's share of a split, each image once.

    Args:
        length: of the whole split.
        size_of: the size of an image in its batch, where it may have several.
        deliver: brings the images, where they are streamed.
    """
    indices = evaluation_slice(length, world=accelerator.num_processes, rank=accelerator.process_index)
    return lambda: evaluation_batches(
        images,
        indices,
        batch_size=config.evaluate.images_per_forward,
        collate=task.collate,
        workers=config.data.workers,
        pin_memory=accelerator.device.type == "cuda",
        size_of=size_of,
        deliver=deliver,
        mend=mend(config, leave_out),
    )


def mend(config: Config, skip: Mend[TargetT]) -> Mend[TargetT]:
    """What becomes of batches with images that cannot be read: `skip`, where the configuration says so."""
    return skip if config.data.on_bad_image == "skip" else stop_at_failure


def costly_sample(config: Config, images: Images[TargetT], draw: Draw) -> Sample[TargetT]:
    """A sample for a measurement of memory; a blank where the image cannot be read and such are skipped."""
    try:
        return images[draw]
    except (ValueError, OSError):
        if config.data.on_bad_image == "stop":
            raise
        return images.blank(draw)


def set_specs(config: Config) -> dict[str, SetSpec]:
    """The data sets of a configuration, by name."""
    return {
        name: SetSpec(
            name=name,
            format=section.format,
            root=section.root,
            images=section.images,
            annotations=section.annotations,
            holdout=section.holdout,
            accept=_accepted(section, skip=config.data.on_bad_image == "skip", name=name),
            parameters=section.parameters,
            streaming=config.data.streaming,
            storage=section.storage,
        )
        for name, section in config.data.sets.items()
    }


def _accepted(section: SetSection, *, skip: bool, name: str) -> tuple[str, ...]:
    """Kinds of defect whose repair is accepted: those of the set, and unreadable images where these are skipped."""
    if UNDECODABLE in section.accept:
        raise ValueError(
            f"data.sets.{name}.accept holds {UNDECODABLE}: set data.on_bad_image to skip, which is for all sets"
        )
    return tuple(dict.fromkeys([*section.accept, *(BAD_IMAGES if skip else ())]))


def left_out(config: Config, report: Report) -> LeftOut:
    """The account of images that a run goes on without, those included that were found when its data was opened.

    Raises:
        ValueError: more than `data.max_bad_images` were.
    """
    skip = config.data.on_bad_image == "skip"
    found = (
        {(d.set_name, d.file, d.record) for d in report.defects if d.kind in BAD_IMAGES and d.repair} if skip else set()
    )
    account = LeftOut(most=config.data.max_bad_images, already=len(found))
    if found and len(found) > config.data.max_bad_images:
        first = next(d for d in report.defects if d.kind in BAD_IMAGES)
        raise ValueError(
            f"{len(found)} images cannot be read, more than data.max_bad_images, {config.data.max_bad_images}; the first: "
            f"{first.line()}. Restore the files, or raise data.max_bad_images"
        )
    return account


def split_info(config: Config, selection: str, table: Table) -> SplitInfo:
    """What an export tells of a split."""
    names = [part.partition(":")[0].strip() for part in selection.split("+")]
    licences = [licence for name in names if (licence := config.data.sets[name].licence)]
    return SplitInfo(selection, table.fingerprint, len(table), " + ".join(licences) or None)


def arrange_network(model: nn.Module, config: Config) -> None:
    """Lay out the weights and compile as configured: what the network computes changes by rounding alone."""
    if config.model.channels_last:
        model.to(memory_format=torch.channels_last)
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
