"""What is between the feature that metric losses compare, and the one that tells identities apart."""

from typing import Literal

from torch import nn

NeckKind = Literal["bn", "none"]


def make_neck(kind: NeckKind, *, channels: int) -> nn.Module:
    """(B, C) -> (B, C).

    "bn" is a batch norm whose shift stays 0, so that the planes between identities go through the origin, as the cosine
    wants it: BNNeck.

    Source: Luo et al., Bag of Tricks and a Strong Baseline for Deep Person Re-identification, 2019, section 3.6.
    """
    if kind == "none":
        return nn.Identity()
    neck = nn.BatchNorm1d(channels)
    neck.bias.requires_grad_(False)
    return neck
