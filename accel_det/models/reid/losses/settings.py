"""Which losses teach a network to tell identities apart, and their numbers."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

IdentityLossKind = Literal["none", "softmax", "cosine_softmax", "arcface", "cosface"]
MetricLossKind = Literal["none", "triplet", "triplet_soft", "triplet_weighted", "circle", "magnet"]
MetricDistance = Literal["euclidean", "cosine"]

_MARGIN_BELOW = {
    "arcface": math.pi / 2,
    "cosface": 1.0,
    "circle": 1.0,
    "triplet": math.inf,
    "magnet": math.inf,
}
"""A loss that reads a margin -> what the margin is below."""


@dataclass(frozen=True)
class LossSettings:
    """The losses of a network; what the chosen losses do not read has no effect.

    Attributes:
        identity_loss: classifies identities. "softmax" by a linear layer without bias; "cosine_softmax" by the cosine, with
            a scale that is learnt; "arcface" and "cosface" by the cosine, less a margin.
        label_smoothing: share of the truth that is spread evenly over all identities, in [0, 1); for the softmax losses.
        identity_scale: of the cosines. "cosine_softmax" begins with it and learns it; "arcface" and "cosface" keep it,
            published with 64.
        identity_scale_decay: half of it, times the square of what the softplus makes the scale from, is added to the loss
            of "cosine_softmax"; published with 0.1.
        identity_margin: "arcface" adds it to the angle, radians below pi/2, published with 0.5; "cosface" takes it off the
            cosine, published with 0.35.
        metric_loss: compares the pictures of a group; the three triplet losses, "circle" or "magnet".
        metric_margin: of "triplet", published with 0.2; of "circle", the relaxation m in [0, 1), published with 0.25; of
            "magnet", alpha.
        metric_scale: of "circle", gamma, published with 128.
        metric_weight: of the metric loss; above 0.
        metric_distance: of the triplet losses; "magnet" measures squared Euclidean distances, with "cosine" of features of
            unit length; "circle" compares by the cosine, whatever stands here.
        center_weight: of the center loss; 0 leaves it out.
        group_images: consecutive pictures of a micro-batch that are compared with each other; 0 takes the micro-batch for
            one group.
    """

    identity_loss: IdentityLossKind = "softmax"
    label_smoothing: float = 0.0
    identity_scale: float = 30.0
    identity_scale_decay: float = 0.0
    identity_margin: float = 0.35
    metric_loss: MetricLossKind = "none"
    metric_margin: float = 0.3
    metric_scale: float = 128.0
    metric_weight: float = 1.0
    metric_distance: MetricDistance = "euclidean"
    center_weight: float = 0.0
    group_images: int = 0

    def __post_init__(self) -> None:
        for name, kinds in (
            ("identity_loss", IdentityLossKind),
            ("metric_loss", MetricLossKind),
            ("metric_distance", MetricDistance),
        ):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(get_args(kinds))}")
        if self.identity_loss == self.metric_loss == "none" and self.center_weight == 0:
            raise ValueError(
                "identity_loss and metric_loss are none and center_weight is 0: nothing would be learnt; choose one of them"
            )
        self._check_numbers()
        if self.label_smoothing > 0 and self.identity_loss in ("arcface", "cosface"):
            raise ValueError(
                f"label_smoothing is {self.label_smoothing}, but identity_loss {self.identity_loss} knows none: set it to 0"
            )
        self._check_margin("identity_margin", self.identity_loss)
        self._check_margin("metric_margin", self.metric_loss)
        if self.metric_loss != "none" and self.group_images == 1:
            raise ValueError(
                f"group_images is 1, but metric_loss {self.metric_loss} compares pictures: expected at least 2, or 0 for the "
                "whole micro-batch"
            )

    def _check_numbers(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing is {self.label_smoothing}, expected a number in [0, 1)")
        for name in ("identity_scale", "metric_scale", "metric_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected a number above 0")
        for name in ("identity_scale_decay", "center_weight", "group_images"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or a number above it")

    def _check_margin(self, name: str, loss: str) -> None:
        bound = _MARGIN_BELOW.get(loss)
        margin = getattr(self, name)
        if bound is not None and not 0 <= margin < bound:
            raise ValueError(f"{name} is {margin}, expected a number in [0, {bound:.4g}) for {loss}")
