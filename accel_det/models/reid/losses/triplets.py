"""Triplet losses of each picture of a group.

Letters: G groups, g pictures of a group, D channels of a feature.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from accel_det.models.reid.losses.pairs import distances, is_anchor, positive_pairs, same_identity
from accel_det.models.reid.losses.settings import MetricDistance

TripletKind = Literal["triplet", "triplet_soft", "triplet_weighted"]


def triplet_losses(
    features_GgD: Tensor,
    labels_Gg: Tensor,
    *,
    kind: TripletKind,
    margin: float = 0.0,
    distance: MetricDistance = "euclidean",
) -> Tensor:
    """How much farther a picture's own identity is than the others.

    Args:
        kind: "triplet" compares the farthest picture of its own identity with the nearest one of another: max(0, farthest -
            nearest + margin). "triplet_soft" takes softplus(farthest - nearest). "triplet_weighted" takes softplus of the
            difference of weighted means: own pictures weigh softmax(distance), others softmax(-distance), with a gradient
            through the weights; a picture is not its own positive.
        margin: of "triplet".

    Returns:
        (G, g); 0 for a picture that has no positive or no negative in its group. Equally far pictures share the gradient.

    Source: Hermans et al., In Defense of the Triplet Loss, 2017; Ye et al., Deep Learning for Person
    Re-identification: A Survey and Outlook, 2021 (AGW).
    """
    apart = distances(features_GgD, kind=distance)
    positive, negative = positive_pairs(labels_Gg), ~same_identity(labels_Gg)
    if kind == "triplet_weighted":
        violation = _weighted_mean(apart, positive, toward=1) - _weighted_mean(apart, negative, toward=-1)
    else:
        farthest = apart.masked_fill(~positive, -torch.inf).amax(dim=2)
        nearest = apart.masked_fill(~negative, torch.inf).amin(dim=2)
        violation = farthest - nearest
    losses = F.relu(violation + margin) if kind == "triplet" else F.softplus(violation)
    return losses.masked_fill(~is_anchor(labels_Gg), 0)


def _weighted_mean(apart_Ggg: Tensor, chosen_Ggg: Tensor, *, toward: int) -> Tensor:
    """(G, g) mean over the chosen pictures, weighted by softmax(toward * distance); finite where none is chosen."""
    never = torch.finfo(apart_Ggg.dtype).min
    weights = (toward * apart_Ggg).masked_fill(~chosen_Ggg, never).softmax(dim=2)
    return (weights * apart_Ggg).sum(dim=2)
