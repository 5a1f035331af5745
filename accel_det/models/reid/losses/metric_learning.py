"""The adapter of pytorch-metric-learning: its ArcFace, CosFace and circle loss, as sums instead of means.

With its `DoNothingReducer` these losses give one number for each picture of a batch, zeros included, so that sums do not
depend on how many of them are zero.

Letters: B pictures, D channels of a feature, G groups, g pictures of a group.
"""

import functools
import math
from typing import Literal

import torch
from pytorch_metric_learning.distances import CosineSimilarity  # type: ignore[import-untyped]
from pytorch_metric_learning.losses import ArcFaceLoss, CircleLoss, CosFaceLoss  # type: ignore[import-untyped]
from pytorch_metric_learning.reducers import DoNothingReducer  # type: ignore[import-untyped]
from torch import Tensor, nn

from accel_det.models.reid.losses.classification import COSINE_STD, Classified

ANGLE_ROOM = 1e-7


class _BoundedCosine(CosineSimilarity):  # type: ignore[misc]
    """Cosines a little away from 1 and -1, so that a gradient does not rest on what a release of torch takes for the slope of
    `clamp` at its bounds: the library asks it there, and the slope of the angle behind it has no bound."""

    def compute_mat(self, query_emb: Tensor, ref_emb: Tensor) -> Tensor:
        cosines: Tensor = super().compute_mat(query_emb, ref_emb)
        return cosines.clamp(ANGLE_ROOM - 1, 1 - ANGLE_ROOM)


class MarginSoftmax(nn.Module):
    """Cross-entropy of scaled cosines, where that of the truth is made worse by a margin; a sum over pictures.

    The vectors of the identities are the library's parameter `W`, of shape (D, identities). The library brings them to the
    number type of the features, so features come in that of the vectors.

    Args:
        kind: "arcface" adds the margin, in radians, to the angle of the truth; where that passes pi, margin * sin(margin) is
            taken off the cosine instead. "cosface" takes the margin off the cosine.

    Source: Deng et al., ArcFace, 2019, with the case beyond pi of its published code; Wang et al., CosFace, 2018.
    """

    def __init__(
        self,
        kind: Literal["arcface", "cosface"],
        *,
        feature_channels: int,
        num_identities: int,
        scale: float,
        margin: float,
    ) -> None:
        super().__init__()
        self.elements: nn.Module = (ArcFaceLoss if kind == "arcface" else CosFaceLoss)(
            num_classes=num_identities,
            embedding_size=feature_channels,
            margin=math.degrees(margin) if kind == "arcface" else margin,
            scale=scale,
            distance=_BoundedCosine(),
            reducer=DoNothingReducer(),
            weight_init_func=functools.partial(nn.init.normal_, std=COSINE_STD),
        )

    def forward(self, features_BD: Tensor, labels_B: Tensor) -> Classified:
        losses_B: Tensor = self.elements(features_BD, labels_B)["loss"]["losses"]
        with torch.no_grad():
            scores: Tensor = self.elements.get_logits(features_BD)  # type: ignore[operator]
        return Classified(losses_B.sum(), scores)


class Circle(nn.Module):
    """The circle loss of each picture against those of its group, compared by the cosine; 0 where one kind is missing.

    softplus(logsumexp_n(gamma a_n (s_n - m)) + logsumexp_p(-gamma a_p (s_p - 1 + m))) with a_n = max(s_n + m, 0) and
    a_p = max(1 + m - s_p, 0), which have no gradient; n and p are the pictures of other identities and the other pictures
    of its own.

    Source: Sun et al., Circle Loss, 2020, for labels of pairs.
    """

    def __init__(self, *, margin: float, scale: float) -> None:
        super().__init__()
        self.elements: nn.Module = CircleLoss(m=margin, gamma=scale, reducer=DoNothingReducer())

    def forward(self, features_GgD: Tensor, labels_Gg: Tensor) -> Tensor:
        """(G, g)"""
        if labels_Gg.shape[1] < 2:  # The library answers with a plain 0.
            return 0 * features_GgD.sum(dim=2)
        of_groups = zip(features_GgD, labels_Gg, strict=True)
        losses: list[Tensor] = [self.elements(features, labels)["loss"]["losses"] for features, labels in of_groups]
        return torch.stack(losses).view_as(labels_Gg)
