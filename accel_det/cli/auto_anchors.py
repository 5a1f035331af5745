"""Anchors that suit the training data, put in place of ones that do not, before a training starts."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from accel_det.data.anchors import ENOUGH_RECALL, AnchorFit, AnchorMethod, find_anchors, fit_of, input_sizes
from accel_det.data.records import DetectionTable
from accel_det.data.transforms import ResizeRule


class AnchorReport(NamedTuple):
    """What was found out about a network's anchors, and done.

    Attributes:
        boxes: of the training data that were looked at.
        before, after: how well the anchors suited them; `after` is `before` where they were kept.
        replaced: whether they were.
        anchors_px: those that the network now has, width and height in pixels, in one row.
    """

    boxes: int
    before: AnchorFit
    after: AnchorFit
    replaced: bool
    anchors_px: list[float]

    def line(self) -> str:
        """For the console."""
        recall, boxes = f"best possible recall {self.before.recall:.4f}", f"{self.boxes} boxes"
        if not self.replaced:
            return f"anchors: kept, {recall} of {boxes}"
        pairs = " ".join(f"{w:g},{h:g}" for w, h in zip(self.anchors_px[::2], self.anchors_px[1::2], strict=True))
        return f"anchors: replaced, {recall} of {boxes} was below {ENOUGH_RECALL}, now {self.after.recall:.4f}: {pairs}"


def anchors_of(model: nn.Module) -> Tensor:
    """(levels, A, 2) width and height in pixels.

    Raises:
        ValueError: the network's anchors are not sizes in pixels that could be replaced.
    """
    anchors = getattr(model, "anchors_px", None)
    if not isinstance(anchors, Tensor):
        raise ValueError("model.name: only the YOLOv3 and YOLOv5 networks have anchors that are fitted to data")
    return anchors


def method_of(model: nn.Module) -> AnchorMethod:
    """How the network's own publication finds anchors."""
    method: AnchorMethod = getattr(model, "anchor_method", "evolve")
    return method


def replace_poor_anchors(model: nn.Module, table: DetectionTable, *, rule: ResizeRule, seed: int) -> AnchorReport:
    """Fit the anchors to the boxes where too few of those can be learnt, and better ones are found.

    Decided from weights, data and seed alone: every process, and a resumed run, decides the same.

    Args:
        model: its buffer `anchors_px` is changed in place.
        table: what it will be trained on.
        rule: how images reach its size.
    """
    buffer = anchors_of(model)
    sizes = input_sizes(table, rule)
    own = buffer.detach().double().view(-1, 2).numpy()
    before = fit_of(sizes, own)
    if before.recall < ENOUGH_RECALL:
        found = find_anchors(sizes, number=len(own), method=method_of(model), seed=seed).round(1)
        after = fit_of(sizes, found)
        if after.recall > before.recall:
            buffer.copy_(torch.from_numpy(found).view_as(buffer))
            return AnchorReport(len(sizes), before, after, True, found.flatten().tolist())
    return AnchorReport(len(sizes), before, before, False, buffer.flatten().tolist())
