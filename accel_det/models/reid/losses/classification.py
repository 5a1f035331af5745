"""Losses that classify the identities of the training data, as sums over pictures.

Letters: B pictures, D channels of a feature, C identities.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SOFTMAX_STD = 0.001  # Luo et al., Bag of Tricks for Person Re-identification, 2019: a classifier begins undecided
COSINE_STD = 0.01  # Only directions count; a short vector turns faster under the same learning rate.


class Classified(NamedTuple):
    """What classifying a batch of features gives.

    Attributes:
        loss: () the sum over pictures.
        scores: (B, C), the highest for the identity that a feature is taken for; without any margin.
    """

    loss: Tensor
    scores: Tensor

    def wrong(self, labels: Tensor) -> Tensor:
        """() int64, how many of the pictures are taken for others than their (B,) labels."""
        return (self.scores.detach().argmax(dim=1) != labels).sum()


class Softmax(nn.Module):
    """Cross-entropy of a linear classifier without bias, with label smoothing.

    Args:
        label_smoothing: the truth of an identity becomes 1 - smoothing + smoothing / C, of every other one smoothing / C.

    Source: Szegedy et al., Rethinking the Inception Architecture, 2016, section 7; without bias as in Luo et al., Bag of
    Tricks for Person Re-identification, 2019.
    """

    def __init__(self, *, feature_channels: int, num_identities: int, label_smoothing: float) -> None:
        super().__init__()
        self.label_smoothing = label_smoothing
        self.weight = nn.Parameter(torch.empty(num_identities, feature_channels))
        nn.init.normal_(self.weight, std=SOFTMAX_STD)

    def forward(self, features_BD: Tensor, labels_B: Tensor) -> Classified:
        logits = F.linear(features_BD, self.weight)
        loss = F.cross_entropy(logits, labels_B, reduction="sum", label_smoothing=self.label_smoothing)
        return Classified(loss, logits)


class CosineSoftmax(nn.Module):
    """Cross-entropy of softplus(raw scale) * cosine(feature, vector of the identity): Deep SORT's loss.

    Args:
        scale: what softplus(raw scale) begins with.
        scale_decay: half of it, times the square of the raw scale, is added for every picture, and so once to the mean.
        label_smoothing: as in `Softmax`; published without.

    Source: Wojke and Bewley, Deep Cosine Metric Learning for Person Re-identification, 2018.
    """

    def __init__(
        self,
        *,
        feature_channels: int,
        num_identities: int,
        scale: float,
        scale_decay: float = 0.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        self.scale_decay = scale_decay
        self.label_smoothing = label_smoothing
        self.weight = nn.Parameter(torch.empty(num_identities, feature_channels))
        nn.init.normal_(self.weight, std=COSINE_STD)
        self.raw_scale = nn.Parameter(torch.tensor(_inverse_softplus(scale)))

    def forward(self, features_BD: Tensor, labels_B: Tensor) -> Classified:
        cosines = F.linear(F.normalize(features_BD), F.normalize(self.weight))
        logits = F.softplus(self.raw_scale) * cosines
        entropy = F.cross_entropy(logits, labels_B, reduction="sum", label_smoothing=self.label_smoothing)
        return Classified(entropy + len(labels_B) * self.scale_decay / 2 * self.raw_scale.square(), logits)


def _inverse_softplus(value: float) -> float:
    return value + math.log(-math.expm1(-value))
