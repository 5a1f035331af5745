"""The losses of a network by their settings."""

import functools
from collections.abc import Callable

import torch
from torch import Tensor, nn

from accel_det.models.layers.precision import precise
from accel_det.models.reid.losses.center import CenterLoss
from accel_det.models.reid.losses.classification import Classified, CosineSoftmax, Softmax
from accel_det.models.reid.losses.magnet import magnet_losses
from accel_det.models.reid.losses.pairs import has_negative, in_groups, is_anchor
from accel_det.models.reid.losses.settings import LossSettings
from accel_det.models.reid.losses.triplets import triplet_losses
from accel_det.types import Losses, LossTerm

GroupLosses = Callable[[Tensor, Tensor], Tensor]
"""(G, g, D) features and (G, g) labels of groups -> (G, g), the loss of each picture."""


class IdentityLosses(nn.Module):
    """Sums and counts of the chosen losses, computed in float32 at least.

    The terms: "identity", the mean over pictures, of features after the neck; "metric", the mean over pictures that have
    something to be compared with in their group, whether their loss is 0 or not; "center", the mean over pictures; the last
    two of features before the neck. Beside "identity" there is "error", the watched share of pictures that it takes for
    somebody else. What they learn is drawn from torch's generator.

    Args:
        feature_channels: of the features before and after the neck.
        num_identities: of the training data.
    """

    def __init__(self, settings: LossSettings, *, feature_channels: int, num_identities: int) -> None:
        super().__init__()
        self.settings = settings
        self.identity = _identity_loss(settings, feature_channels=feature_channels, num_identities=num_identities)
        self.metric = _metric_losses(settings)
        self.center: CenterLoss | None = None
        if settings.center_weight > 0:
            self.center = CenterLoss(
                feature_channels=feature_channels, num_identities=num_identities, weight=settings.center_weight
            )

    def forward(self, before_neck: Tensor, after_neck: Tensor, labels: Tensor) -> Losses:
        """The terms of a micro-batch.

        Args:
            before_neck, after_neck: (B, D), any floating type.
            labels: (B,) int64 in [0, num_identities).

        Raises:
            ValueError: the micro-batch is no whole number of groups.
        """
        counts = self.counts(labels)
        sums: dict[str, Tensor] = {}
        with torch.autocast(before_neck.device.type, enabled=False):
            if self.identity is not None:
                classified: Classified = self.identity(precise(after_neck), labels)
                sums["identity"] = classified.loss
                sums["error"] = classified.wrong(labels).to(classified.loss.dtype)
            if self.metric is not None:
                losses = self.metric(self._in_groups(precise(before_neck)), self._in_groups(labels))
                sums["metric"] = self.settings.metric_weight * losses.sum()
            if self.center is not None:
                sums["center"] = self.center(precise(before_neck), labels)
        return {name: LossTerm(total, counts[name], watched=name == "error") for name, total in sums.items()}

    def counts(self, labels: Tensor) -> dict[str, Tensor]:
        """The counts that `forward` reports for these (B,) labels, () float32 each.

        Raises:
            ValueError: the micro-batch is no whole number of groups.
        """
        pictures = torch.full((), float(len(labels)), device=labels.device)
        counts: dict[str, Tensor] = {}
        if self.identity is not None:
            counts["identity"] = counts["error"] = pictures
        if self.metric is not None:
            compared = has_negative if self.settings.metric_loss == "magnet" else is_anchor
            counts["metric"] = compared(self._in_groups(labels)).sum().to(pictures.dtype)
        if self.center is not None:
            counts["center"] = pictures
        return counts

    def _in_groups(self, values: Tensor) -> Tensor:
        return in_groups(values, group_images=self.settings.group_images)


def _identity_loss(settings: LossSettings, *, feature_channels: int, num_identities: int) -> nn.Module | None:
    match settings.identity_loss:
        case "none":
            return None
        case "softmax":
            return Softmax(
                feature_channels=feature_channels,
                num_identities=num_identities,
                label_smoothing=settings.label_smoothing,
            )
        case "cosine_softmax":
            return CosineSoftmax(
                feature_channels=feature_channels,
                num_identities=num_identities,
                scale=settings.identity_scale,
                scale_decay=settings.identity_scale_decay,
                label_smoothing=settings.label_smoothing,
            )
        case "arcface" | "cosface":
            # Imported where it is needed: the library takes seconds, and whoever embeds pictures needs none of it.
            from accel_det.models.reid.losses.metric_learning import MarginSoftmax

            return MarginSoftmax(
                settings.identity_loss,
                feature_channels=feature_channels,
                num_identities=num_identities,
                scale=settings.identity_scale,
                margin=settings.identity_margin,
            )


def _metric_losses(settings: LossSettings) -> GroupLosses | None:
    match settings.metric_loss:
        case "none":
            return None
        case "circle":
            from accel_det.models.reid.losses.metric_learning import Circle

            return Circle(margin=settings.metric_margin, scale=settings.metric_scale)
        case "magnet":
            return functools.partial(magnet_losses, margin=settings.metric_margin, distance=settings.metric_distance)
        case "triplet" | "triplet_soft" | "triplet_weighted":
            return functools.partial(
                triplet_losses,
                kind=settings.metric_loss,
                margin=settings.metric_margin,
                distance=settings.metric_distance,
            )
