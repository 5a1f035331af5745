"""The center loss, as a sum over pictures.

Letters: B pictures, D channels of a feature.
"""

import torch
from torch import Tensor, nn


class CenterLoss(nn.Module):
    """weight * half the squared distance of each feature from the center of its identity.

    The centers are learnt by the same loss without the weight, so that they follow the features however little those are
    drawn to them.

    Source: Wen et al., A Discriminative Feature Learning Approach for Deep Face Recognition, 2016, section 3.2, whose
    centers do not depend on the weight either; here an optimizer moves them, with the mean over pictures, where there they
    have a rate of their own and the mean over their own pictures.
    """

    def __init__(self, *, feature_channels: int, num_identities: int, weight: float) -> None:
        super().__init__()
        self.weight = weight
        self.centers = nn.Parameter(torch.randn(num_identities, feature_channels))

    def forward(self, features_BD: Tensor, labels_B: Tensor) -> Tensor:
        centers_BD = self.centers[labels_B]
        fixed = centers_BD.detach()
        faster = fixed + (centers_BD - fixed) / self.weight  # the same value, with a gradient that undoes the weight
        return self.weight / 2 * (features_BD - faster).square().sum()
