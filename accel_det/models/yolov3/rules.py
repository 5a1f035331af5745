"""The losses that YOLOv3 has been trained with, as rows of one table."""

from typing import Literal, NamedTuple

from accel_det.models.yolov3.assignment import AnchorChoice

LossName = Literal["darknet", "paper", "giou", "per_scale"]


class LossRule(NamedTuple):
    """What a loss is made of.

    Attributes:
        choice: how many anchors learn a box, see `assignment.match_level`.
        ignore_iou: a prediction that overlaps an object more is not background; where an anchor of each level is
            chosen, the anchors that overlap it more in shape.
        box: "logistic" is cross-entropy of the center and half the square of the logarithm of the size; "squared" half
            the square of both; "giou" 1 - generalized IoU.
        enlarges_small: a box weighs 2 - its share of the image.
        object: what an object's cell learns: 1 by cross-entropy, or by half the square its overlap with the object.
        classes: one sigmoid per class, or one softmax.
        mean_over: what the sums are divided by: "images", or "matches" of the level and, for background, its cells.
        box_gain, object_gain, background_gain, class_gain: weights.
        level_balance: weight of objectness from the coarsest level to the finest.
        reference_px: side of the square image for which objectness has its weight, which grows with the area; 0: any.
        reference_classes: number of classes for which the class loss has its weight, which grows with it; 0: any.
    """

    choice: AnchorChoice
    ignore_iou: float
    box: Literal["logistic", "squared", "giou"]
    enlarges_small: bool = False
    object: Literal["certain", "overlap"] = "certain"
    classes: Literal["sigmoid", "softmax"] = "sigmoid"
    mean_over: Literal["images", "matches"] = "images"
    box_gain: float = 1.0
    object_gain: float = 1.0
    background_gain: float = 1.0
    class_gain: float = 1.0
    level_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)
    reference_px: int = 0
    reference_classes: int = 0


RULES: dict[LossName, LossRule] = {
    # The gradients that Darknet computes, with the settings of its published configuration; a truth threshold of 1
    # has no effect.
    "darknet": LossRule("of_all", 0.7, "logistic", enlarges_small=True),
    # YOLOv3, 2018, section 2.1. The square is that of the offset in the cell, where the paper has its logit, which is
    # infinite on the edges of a cell.
    "paper": LossRule("of_all", 0.5, "squared"),
    # Means over matches, objectness balanced between the levels.
    "giou": LossRule(
        "of_all",
        0.5,
        "giou",
        mean_over="matches",
        box_gain=0.05,
        object_gain=5.0,
        background_gain=5.0,
        level_balance=(0.4, 1.0, 4.0),
        reference_px=416,
        reference_classes=80,
    ),
    # An anchor of each level learns each box. Weights 10, 1, 10 and 1 of plain mean squares, of which ours are half.
    "per_scale": LossRule(
        "per_level",
        0.5,
        "squared",
        object="overlap",
        classes="softmax",
        mean_over="matches",
        box_gain=20.0,
        object_gain=2.0,
        background_gain=10.0,
    ),
}
