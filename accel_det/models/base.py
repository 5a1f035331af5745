"""The contract that every network of the zoo fulfils."""

from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, TypeVar

from torch import Tensor, nn

from accel_det.types import Batch, Losses

TargetT = TypeVar("TargetT")
PredictionT = TypeVar("PredictionT")


class Inference(NamedTuple):
    """How a detector turns scored candidates into its answer.

    Attributes:
        score_threshold: candidates below it are dropped, in [0, 1].
        nms_iou: of two boxes of one class that overlap more than this, the worse is dropped, in [0, 1].
        max_detections: the best so many of an image are kept.
    """

    score_threshold: float = 0.001
    nms_iou: float = 0.6
    max_detections: int = 100


class ZooModel(nn.Module, ABC, Generic[TargetT, PredictionT]):
    """`model(batch)` gives losses in train mode and predictions in eval mode.

    Normalisation, box conversion, loss and decoding live inside, because DDP, FSDP and autocast wrap `forward` alone.
    """

    def forward(self, batch: Batch[TargetT]) -> Losses | list[PredictionT]:
        return self.losses(batch) if self.training else self.predict(batch)

    @abstractmethod
    def losses(self, batch: Batch[TargetT]) -> Losses:
        """Sums and counts: finite, and with a gradient to every trainable parameter, even if no image has an object."""

    @abstractmethod
    def predict(self, batch: Batch[TargetT]) -> list[PredictionT]:
        """One prediction per image, in pixels of the batch image; targets are not read."""

    @abstractmethod
    def compilable(self) -> list[nn.Module]:
        """The parts that `torch.compile` can take whole: shapes and control flow depend on the image size alone."""

    def counts(self, batch: Batch[TargetT]) -> dict[str, Tensor] | None:
        """The counts that `losses` will report, or None where they depend on predictions.

        Where they are known before the forward pass, gradient accumulation is exact: the engine divides every
        micro-batch by the count of the whole window.
        """
        return None
