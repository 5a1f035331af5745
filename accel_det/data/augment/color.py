"""Changes of color that are linear in RGB, and of sharpness.

Brightness, contrast, saturation, hue, grey and swapped channels are each a 3x3 matrix and a shift, so any number of them
is one pass over the pixels. The published recipes turn hue and scale saturation in HSV, which is not linear: there a pure
color keeps its brightest channel, here (YIQ) every color keeps its luminance. Values are cut to 0 .. 255 once, at the end.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional

from accel_det.data.augment.settings import Augmentation

_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)

# SSD's photometric distortion.
_BRIGHTNESS_LEVELS = 32.0
_FACTORS = (0.5, 1.5)
_HUE_TURN = 18 / 360


class Recolor(NamedTuple):
    """RGB -> matrix @ RGB + shift; values of 0 .. 255.

    Attributes:
        matrix: (3, 3) float64.
        shift: (3,) float64.
    """

    matrix: NDArray[np.float64]
    shift: NDArray[np.float64]

    def then(self, matrix: NDArray[np.float64], shift: float = 0.0) -> "Recolor":
        return Recolor(matrix @ self.matrix, matrix @ self.shift + shift)


UNCHANGED = Recolor(np.eye(3), np.zeros(3))


def color_matrix(*, brightness: float, contrast: float, saturation: float, hue_turn: float) -> NDArray[np.float64]:
    """The 3x3 matrix that changes saturation, hue, contrast and brightness of RGB values, in this order.

    Args:
        brightness, contrast, saturation: factors; 1 changes nothing. Contrast is about mid-grey, see `random_jitter`.
        hue_turn: share of a full turn about the grey axis, in YIQ space, where hue is an angle.
    """
    angle = 2 * math.pi * hue_turn
    turn = np.array([[1, 0, 0], [0, math.cos(angle), -math.sin(angle)], [0, math.sin(angle), math.cos(angle)]])
    turn[1:] *= saturation
    matrix: NDArray[np.float64] = contrast * brightness * (_FROM_YIQ @ turn @ _TO_YIQ)
    return matrix


def random_jitter(augmentation: Augmentation, rng: np.random.Generator) -> Recolor | None:
    """The brightness, contrast, saturation and hue of YOLO's recipes; contrast keeps mid-grey. None changes nothing."""
    brightness = rng.uniform(1 - augmentation.brightness, 1 + augmentation.brightness)
    contrast = rng.uniform(1 - augmentation.contrast, 1 + augmentation.contrast)
    saturation = rng.uniform(1 - augmentation.saturation, 1 + augmentation.saturation)
    hue_turn = rng.uniform(-augmentation.hue, augmentation.hue)
    if brightness == contrast == saturation == 1 and hue_turn == 0:
        return None
    matrix = color_matrix(brightness=brightness, contrast=contrast, saturation=saturation, hue_turn=hue_turn)
    return UNCHANGED.then(matrix, 127.5 * brightness * (1 - contrast))


def random_distortion(probability: float, rng: np.random.Generator) -> Recolor | None:
    """Each of SSD's distortions with the given probability; the draws are made whether they are used or not.

    Brightness by up to 32 levels; contrast by a factor of 0.5 to 1.5, before or after saturation by 0.5 to 1.5 and hue by
    up to 18 degrees, a coin decides; a random order of the channels.

    Source: Liu et al., SSD, 2016, section 3.2, after Howard, 2013; saturation and hue in YIQ instead of HSV, see above.
    """
    used = rng.random(5) < probability
    levels = rng.uniform(-_BRIGHTNESS_LEVELS, _BRIGHTNESS_LEVELS)
    contrast, saturation = rng.uniform(*_FACTORS), rng.uniform(*_FACTORS)
    hue_turn = rng.uniform(-_HUE_TURN, _HUE_TURN)
    contrast_first = rng.random() < 0.5
    order = rng.permutation(3)
    if not used.any():
        return None
    found = UNCHANGED.then(np.eye(3), levels * used[0])
    contrasted = (contrast if used[1] else 1.0) * np.eye(3)
    colored = color_matrix(
        brightness=1.0,
        contrast=1.0,
        saturation=saturation if used[2] else 1.0,
        hue_turn=hue_turn if used[3] else 0.0,
    )
    found = found.then(contrasted).then(colored) if contrast_first else found.then(colored).then(contrasted)
    return found.then(np.eye(3)[order]) if used[4] else found


def grey_out(before: Recolor | None) -> Recolor:
    """Every color becomes its luminance, after what was to be done before."""
    return (before or UNCHANGED).then(color_matrix(brightness=1.0, contrast=1.0, saturation=0.0, hue_turn=0.0))


def recolor(image: Tensor, change: Recolor | None) -> Tensor:
    """(3, H, W) uint8 -> the same, each value rounded to the nearest and cut to 0 .. 255."""
    if change is None:
        return image
    matrix = torch.from_numpy(change.matrix).float()
    shift = torch.from_numpy(change.shift + 0.5).float()[:, None]
    changed = torch.addmm(shift, matrix, image.reshape(3, -1).float())
    return changed.clamp_(0, 255).to(torch.uint8).reshape(image.shape)


def random_blur(image: Tensor, rng: np.random.Generator) -> Tensor:
    """A Gaussian blur with a kernel of 3, 5 or 7 pixels."""
    side = int(rng.choice((3, 5, 7)))
    # The border is mirrored, for which an image must be larger than half of the kernel.
    if min(image.shape[-2:]) <= side // 2:
        return image
    blurred: Tensor = functional.gaussian_blur(image, [side, side])  # type: ignore[attr-defined]
    return blurred
