"""The contract that every network of the zoo fulfils."""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from torch import Tensor, nn

from accel_det.types import Batch, Losses

TargetT = TypeVar("TargetT")
PredictionT = TypeVar("PredictionT")

# `layer2.`, `stage2.` and `res2.` count from 1, `stages.1.` and `layers.1.` from 0; what comes before them is layer 0.
_LAYER = re.compile(r"\.(?:layer|stage|res)(\d+)\.|\.(?:stages|layers)\.(\d+)\.")

CANDIDATES_PER_VIEW = 5000

NmsKind = Literal["hard", "soft_linear", "soft_gaussian", "none"]


class Inference(NamedTuple):
    """How a detector turns scored candidates into its answer.

    Attributes:
        score_threshold: candidates below it are dropped, in [0, 1].
        nms_iou: of two boxes of one class that overlap more than this, the worse is dropped, in [0, 1].
        max_detections: the best so many of an image are kept.
        nms: "hard" drops the worse box; "soft_linear" and "soft_gaussian" lower its score; "none" keeps every box.
        soft_nms_sigma: width of soft_gaussian, above 0.
        agnostic_nms: boxes of different classes suppress each other as well.
        vote_iou: a kept box becomes the mean, weighted by score, of the candidates of its class that overlap it more
            than this, in (0, 1]; None keeps it as it is.
        box_iterations: times that found boxes are fed to the second stage again; two-stage networks only.
        flip: the mirrored image is predicted as well, and the answers are merged.
        scales: shares of its size at which an image is predicted; the answers are merged.
    """

    score_threshold: float = 0.001
    nms_iou: float = 0.6
    max_detections: int = 100
    nms: NmsKind = "hard"
    soft_nms_sigma: float = 0.5
    agnostic_nms: bool = False
    vote_iou: float | None = None
    box_iterations: int = 0
    flip: bool = False
    scales: tuple[float, ...] = (1.0,)

    @property
    def one_view(self) -> bool:
        """Whether each image is predicted once, as it is."""
        return not self.flip and self.scales == (1.0,)

    @property
    def of_one_view(self) -> "Inference":
        """What a network is to answer for one of the views: everything that was asked for where there is only one, else
        candidates without suppression, for `test_time` to merge."""
        if self.one_view:
            return self
        return self._replace(nms="none", vote_iou=None, flip=False, scales=(1.0,), max_detections=CANDIDATES_PER_VIEW)


class ZooModel(nn.Module, ABC, Generic[TargetT, PredictionT]):
    """`model(batch)` gives losses in train mode and predictions in eval mode.

    Normalisation, box conversion, loss and decoding live inside, because DDP, FSDP and autocast wrap `forward` alone.

    Attributes:
        has_second_stage: whether the network classifies regions that are given to it, so that found boxes can be fed
            to it again as `Inference.box_iterations` says.
    """

    has_second_stage: ClassVar[bool] = False

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

    def layer_of(self, parameter_name: str) -> int | None:
        """The layer of the backbone that a parameter belongs to, 0 nearest to the image; None outside of the backbone.

        Only the order of the numbers matters. By default the backbone is what a part of the name says is one.
        """
        _, found, inside = f".{parameter_name}".partition("backbone")
        if not found:
            return None
        layer = _LAYER.search(inside)
        return 0 if layer is None else int(layer[1]) if layer[1] else int(layer[2]) + 1

    def lasting_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """The options with which an export builds this network again, on any machine: those that it was built with,
        unless they name files or repositories that may not be there any more."""
        return options

    def rehearse(self, batch: Batch[TargetT]) -> None:
        """Run what the prediction of an image costs, up to the first choice that depends on numbers, for counting.

        Where costly parts follow behind that choice, as the second stage of a network does, its family runs them here
        on as many regions as it takes at most.
        """
        self.predict(batch)

    def counts(self, batch: Batch[TargetT]) -> dict[str, Tensor] | None:
        """The counts that `losses` will report, or None where they depend on predictions.

        Where they are known before the forward pass, gradient accumulation is exact: the engine divides every
        micro-batch by the count of the whole window.
        """
        return None
