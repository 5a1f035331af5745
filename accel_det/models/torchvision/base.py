"""What torchvision's box detectors share behind the zoo's contract.

torchvision's own `forward` resizes, checks for degenerate boxes, draws from the global generator and divides by
numbers of the local batch. None of that happens here: its submodules are called one by one, and its `transform` is
never used. Boxes must have positive width and height; the data package sees to that.

Backbone and heads run under the caller's autocast; everything about boxes runs in float32, or float64 for a float64
network. No detector contains dropout, and the only random choice, Faster R-CNN's sampling, is keyed by image: what a
model computes for an image depends on its batch only through the canvas (H, W) and, unless frozen, through batch
normalisation.
"""

from abc import abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from accel_det.models.base import Inference, ZooModel
from accel_det.models.layers.canvas import Sizes, image_sizes, normalized_canvas
from accel_det.models.layers.nms import Candidates, cut_to_images, suppress
from accel_det.models.torchvision.geometry import Grid
from accel_det.types import Batch, BoxTarget, Detections


class Pixels(NamedTuple):
    """How a network wants its pixels.

    Attributes:
        mean, std: per channel, of values in [0, 1].
        divisor: the canvas is padded with zeros to multiples of it.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    divisor: int


class TorchvisionDetector(ZooModel[BoxTarget, Detections]):
    """A torchvision detector. Its parameters are named `network.` + the names of torchvision's own state dict.

    Attributes:
        network: the torchvision module.
        num_background: classes that the network has in front of ours: 1 with a softmax, 0 with a sigmoid.
        least_px: found boxes with a shorter side, after they are cut to the image, are dropped.
        inference: how candidates become detections; to be set before the first prediction.
    """

    num_background: int
    least_px = 0.0
    inference = Inference()

    def __init__(self, network: nn.Module, *, pixels: Pixels, grid: Grid) -> None:
        super().__init__()
        self.network = network
        self.pixels = pixels
        self.grid = grid

    def predict(self, batch: Batch[BoxTarget]) -> list[Detections]:
        images, sizes = self._images(batch), image_sizes(batch)
        cut = cut_to_images(self._candidates(images, sizes=sizes), sizes, least_px=self.least_px)
        height, width = images.shape[-2:]
        return suppress(cut, self.inference, num_images=len(images), height=height, width=width)

    def layer_of(self, parameter_name: str) -> int | None:
        """Torchvision calls the layers that it adds a part of the backbone; they learn like the head."""
        added = ("network.backbone.fpn.", "network.backbone.extra.", "network.backbone.scale_weight")
        return None if parameter_name.startswith(added) else super().layer_of(parameter_name)

    def compilable(self) -> list[nn.Module]:
        assert isinstance(self.network.backbone, nn.Module)
        return [self.network.backbone]

    @abstractmethod
    def _candidates(self, images: Tensor, *, sizes: Sizes) -> Candidates:
        """Scored boxes in (B, 3, H, W) normalised images of the given (height, width) inside the canvas, not yet cut."""

    def _images(self, batch: Batch[BoxTarget]) -> Tensor:
        """(B, 3, H, W) normalised, 0 in the padding, in the number type of the network."""
        mean, std, divisor = self.pixels
        dtype = next(self.network.parameters()).dtype
        return normalized_canvas(batch.images, image_sizes(batch), mean=mean, std=std, divisor=divisor, dtype=dtype)

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        backbone = self.network.backbone
        assert isinstance(backbone, nn.Module)
        features: dict[str, Tensor] = backbone(images)
        return features
