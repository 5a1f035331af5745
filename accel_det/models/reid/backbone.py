"""What the networks of the family have in common: pictures in, one feature each out.

Letters: B pictures, H and W their height and width, C channels of a feature.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn


class Backbone(nn.Module):
    """A network without classifier.

    Attributes:
        body: the network, under the names that its published weights have, which therefore load.
        channels: C.
        reads_cameras: whether it is given the cameras of the pictures.
        loading_report: what of stored weights was not used, one line; empty for fresh ones.
    """

    reads_cameras = False
    loading_report = ""

    def __init__(self, body: nn.Module, *, channels: int, layers: Sequence[tuple[str, ...]]) -> None:
        """Args:
        layers: from the picture on, how the names of each layer's parameters begin, inside of the body.
        """
        super().__init__()
        self.body = body
        self.channels = channels
        self._layers = tuple(layers)

    def forward(self, pixels: Tensor, cameras: Tensor | None = None) -> Tensor:
        """(B, 3, H, W) float and, where they are read, (B,) int64 cameras, -1 where not known -> (B, C)."""
        features: Tensor = self.body(pixels)
        return features

    def layer_of(self, name: str) -> int:
        """The layer of a parameter by its name inside of the body, 0 nearest to the picture."""
        found = [
            (len(start), number)
            for number, starts in enumerate(self._layers)
            for start in starts
            if name.startswith(start)
        ]
        assert found, f"{name} is in no layer of {type(self.body).__name__}"
        return max(found)[1]  # the longest: a part may hold others that are layers of their own

    def lasting_options(self, options: Mapping[str, Any]) -> Mapping[str, Any]:
        """As of `ZooModel`."""
        return options
