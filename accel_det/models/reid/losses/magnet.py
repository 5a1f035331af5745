"""The magnet loss of each picture of a group.

Letters: G groups, g pictures of a group, D channels of a feature.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from accel_det.models.reid.losses.pairs import has_negative, same_identity
from accel_det.models.reid.losses.settings import MetricDistance

SMALLEST_VARIANCE = 1e-6  # Pictures of an identity may all be equal.


def magnet_losses(
    features_GgD: Tensor, labels_Gg: Tensor, *, margin: float, distance: MetricDistance = "euclidean"
) -> Tensor:
    """How much of a picture belongs to the clusters of other identities.

    max(0, d_own / 2v + margin + log sum_others exp(-d / 2v)), where d is the squared distance to the mean of an identity's
    pictures in the group, and v the sum of all pictures' d_own / (g - 1). The gradient goes through means and variance.

    Args:
        distance: "cosine" takes features of unit length; the means are not brought to unit length again.

    Returns:
        (G, g); 0 for a picture whose group shows no other identity.

    Source: Rippel et al., Metric Learning with Adaptive Density Discrimination, 2016, with one cluster per
    identity and group, as Wojke and Bewley, Deep Cosine Metric Learning for Person Re-identification, 2018, compare with;
    here a variance is at least 1e-6.
    """
    if distance == "cosine":
        features_GgD = F.normalize(features_GgD, dim=2)
    same = same_identity(labels_Gg)
    alike = same.to(features_GgD.dtype)
    means_GgD = (alike @ features_GgD) / alike.sum(dim=2, keepdim=True)
    squared = torch.cdist(features_GgD, means_GgD, compute_mode="donot_use_mm_for_euclid_dist").square()
    own = squared.diagonal(dim1=1, dim2=2)
    num_images = labels_Gg.shape[1]
    variance = (own.sum(dim=1) / max(num_images - 1, 1)).clamp(min=SMALLEST_VARIANCE)
    speaks_for_identity = ~same.tril(diagonal=-1).any(dim=2)  # the first picture of each identity: one cluster each
    others = ~same & speaks_for_identity[:, None, :]
    closeness = (-squared / (2 * variance[:, None, None])).masked_fill(~others, torch.finfo(squared.dtype).min)
    losses = F.relu(own / (2 * variance[:, None]) + margin + closeness.logsumexp(dim=2))
    return losses.masked_fill(~has_negative(labels_Gg), 0)
