"""What a task is to the engine: how samples become a batch, predictions become rows, and rows become numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from torch import Tensor

from accel_det.types import Batch, Frame, Sample

TargetT = TypeVar("TargetT")
PredictionT_contra = TypeVar("PredictionT_contra", contravariant=True)
RowT = TypeVar("RowT")


class Task(Protocol[TargetT, PredictionT_contra, RowT]):
    """One kind of problem. A row is all that a metric needs to know of one image, as a value on the CPU."""

    @property
    def fitness(self) -> str:
        """The number of `score` that decides which checkpoint is best; more is better."""

    def collate(self, samples: Sequence[Sample[TargetT]]) -> Batch[TargetT]:
        """Samples of one micro-batch, at least one -> what a model takes."""

    def row(self, frame: Frame, target: TargetT, prediction: PredictionT_contra) -> RowT:
        """One evaluated image; its target is in pixels of the file, its prediction in those of the batch image."""

    def score(self, rows: Iterable[RowT]) -> dict[str, float]:
        """All rows of a split -> named, finite numbers; their order and repeated images change nothing."""

    def pack(self, rows: Sequence[RowT]) -> dict[str, Tensor]:
        """Any number of rows -> the same flat CPU tensors whoever packs: so they travel between processes unpickled."""

    def unpack(self, packed: Mapping[str, Tensor]) -> list[RowT]:
        """What `pack` gave -> the rows, bit for bit."""
