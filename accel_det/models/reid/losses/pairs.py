"""Groups of pictures, and the pairs inside them.

Everything that looks across pictures stays inside a group, so that what a picture teaches does not depend on which groups
share its micro-batch or its process.

Letters: B pictures of a micro-batch, G groups, g pictures of a group, D channels of a feature.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from accel_det.models.reid.losses.settings import MetricDistance


def in_groups(values: Tensor, *, group_images: int) -> Tensor:
    """(B, ...) -> (G, g, ...): consecutive runs of pictures; with `group_images` 0 all of them are one group.

    Raises:
        ValueError: B is no whole number of groups.
    """
    num_images = len(values)
    size = group_images or num_images
    if size == 0 or num_images % size:
        raise ValueError(
            f"a micro-batch of {num_images} pictures is no whole number of groups of group_images = {size}: take a multiple "
            "of it for the micro-batch"
        )
    return values.reshape(num_images // size, size, *values.shape[1:])


def same_identity(labels_Gg: Tensor) -> Tensor:
    """(G, g, g) bool, every picture with itself included."""
    return labels_Gg[:, :, None] == labels_Gg[:, None, :]


def positive_pairs(labels_Gg: Tensor) -> Tensor:
    """(G, g, g) bool: two different pictures of one identity."""
    itself = torch.eye(labels_Gg.shape[1], dtype=torch.bool, device=labels_Gg.device)
    return same_identity(labels_Gg) & ~itself


def has_negative(labels_Gg: Tensor) -> Tensor:
    """(G, g) bool: the group shows another identity."""
    return (~same_identity(labels_Gg)).any(dim=2)


def is_anchor(labels_Gg: Tensor) -> Tensor:
    """(G, g) bool: the group has another picture of the same identity, and shows another identity."""
    return positive_pairs(labels_Gg).any(dim=2) & has_negative(labels_Gg)


def distances(features_GgD: Tensor, *, kind: MetricDistance) -> Tensor:
    """(G, g, g): the Euclidean distance, or 1 - cosine.

    Of differences, not of products, which would lose what tells near pictures apart; where two features are equal, the
    gradient is 0.
    """
    if kind == "cosine":
        unit = F.normalize(features_GgD, dim=2)
        return 1 - unit @ unit.transpose(1, 2)
    return torch.cdist(features_GgD, features_GgD, compute_mode="donot_use_mm_for_euclid_dist")
