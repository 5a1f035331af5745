"""SSD512 of torchvision's pieces: torchvision has SSD300 only.

torchvision's own layers for larger images leave the strides of the last blocks out and come to 24732 default boxes;
these are those of the paper, which has 24564.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn
from torchvision.models import vgg16
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD, SSDFeatureExtractorVGG

from accel_det.models.torchvision.geometry import AtLeastWide

SSD512_BOX_SCALES = (0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05)  # of Pascal VOC, as torchvision's SSD300 has COCO's


def make_ssd512(
    *, num_classes: int, mean: tuple[float, float, float], std: tuple[float, float, float], side_px: int
) -> SSD:
    """A network with fresh weights.

    Args:
        num_classes: with background.
        mean, std: per channel, of values in [0, 1].
        side_px: of the square images that it is made for.

    Source: Liu et al., SSD, 2016, section 3.1 and footnote 5; the strides are those of its released SSD512, whose maps
    are 64, 32, 16, 8, 4, 2 and 1 cells wide.
    """
    backbone = SSDFeatureExtractorVGG(vgg16(weights=None).features, highres=True)
    for block in (3, 4):
        backbone.extra[block] = _block(1, kernel=3, stride=2)
    backbone.extra[5] = AtLeastWide(_block(1, kernel=4, stride=1), cells=2)
    generator = DefaultBoxGenerator(
        [[2], [2, 3], [2, 3], [2, 3], [2, 3], [2], [2]],
        scales=list(SSD512_BOX_SCALES),
        steps=[8, 16, 32, 64, 128, 256, 512],
    )
    return SSD(backbone, generator, (side_px, side_px), num_classes, image_mean=list(mean), image_std=list(std))


def set_box_scales(network: SSD, scales: Sequence[float]) -> None:
    """Give the default boxes of each level other sides.

    Args:
        scales: parts of the image's side, one per level and one more.

    Raises:
        ValueError: another number of them, or not rising above 0.
    """
    generator: DefaultBoxGenerator = network.anchor_generator
    expected = len(generator.scales)
    if len(scales) != expected or not all(0 < a < b for a, b in pairwise(scales)):
        raise ValueError(
            f"box_scales is {list(scales)}, expected {expected} rising numbers above 0: one per level, and one"
        )
    made = DefaultBoxGenerator(generator.aspect_ratios, scales=list(scales), steps=generator.steps, clip=generator.clip)
    network.anchor_generator = made


def _block(padding: int, *, kernel: int, stride: int) -> nn.Sequential:
    block = nn.Sequential(
        nn.Conv2d(256, 128, kernel_size=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(128, 256, kernel_size=kernel, padding=padding, stride=stride),
        nn.ReLU(inplace=True),
    )
    for layer in block:
        if isinstance(layer, nn.Conv2d):
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return block
