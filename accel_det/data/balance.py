"""Orders that give rare classes more turns: pure functions of (seed, epoch, offset), as in `order.py`.

Letters: I images, C classes that have objects, P pairs (class, image that holds it).
"""

import numpy as np
from numpy.typing import NDArray

from accel_det.data.order import forget_oldest, permutation
from accel_det.draws import mix

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_ROUND, _BACKGROUND, _WEIGHTED = 2, 3, 4  # what a hash is about; `order.py` has 1


class ClassBalanced:
    """Every class equally often: label shuffling.

    The images of each class are shuffled in every epoch, and taken in turn, again from the start where they end, as often as
    the most frequent class has images. The classes themselves take turns in rounds: each round holds one image of every
    class, the classes in an order of its own, so that any C turns in a row are nearly balanced, and no epoch is ever written
    out. An image has turns for each of its classes. Images without objects, which belong to no class, have one turn per
    epoch each, evenly spread.

    Args:
        images: (A,) the image of every object; crowd regions are not among the objects.
        labels: (A,) its class.
        num_images: I, those without objects included.

    Attributes:
        length: C x (images of the most frequent class) + images without objects.

    Source: the label shuffling of Hikvision's entry to ILSVRC 2016, which R-FCN's tools brought to detection; there all turns
    of an epoch are shuffled together.
    """

    repeats = True

    def __init__(self, images: Ints, labels: Ints, *, num_images: int, seed: int) -> None:
        pairs = np.sort(labels * num_images + images)
        pairs = pairs[np.diff(pairs, prepend=-1) > 0]
        self._images = pairs % num_images
        counts = np.bincount(pairs // num_images)
        self._counts = counts[counts > 0]
        self._starts = np.cumsum(self._counts) - self._counts
        has_objects = np.zeros(num_images, np.bool_)
        has_objects[images] = True
        self._backgrounds = np.flatnonzero(~has_objects)
        self._rounds = int(self._counts.max(initial=0))
        self.length = len(self._counts) * self._rounds + len(self._backgrounds)
        self._seed = seed
        self._pools: dict[int, Ints] = {}
        self._empty: dict[int, Ints] = {}
        self._round: tuple[int, int, Ints] = (-1, -1, np.zeros(0, np.int64))

    def index(self, epoch: int, offset: int) -> int:
        self._prepare(epoch)
        before = offset * len(self._backgrounds) // self.length
        if (offset + 1) * len(self._backgrounds) // self.length > before:
            return int(self._empty[epoch][before])
        number, slot = divmod(offset - before, len(self._counts))
        label = self._class_of(epoch, number, slot)
        return int(self._pools[epoch][self._starts[label] + number % self._counts[label]])

    def _prepare(self, epoch: int) -> None:
        if epoch in self._pools:
            return
        forget_oldest(self._pools)
        forget_oldest(self._empty)
        # One shuffle of all pairs, then sorted by class and nothing else: each class's images are shuffled.
        shuffled = permutation(len(self._images), seed=self._seed, epoch=epoch)
        owner = np.repeat(np.arange(len(self._counts)), self._counts)
        self._pools[epoch] = self._images[shuffled[np.argsort(owner[shuffled], kind="stable")]]
        turns = permutation(len(self._backgrounds), seed=mix(self._seed, _BACKGROUND), epoch=epoch)
        self._empty[epoch] = self._backgrounds[turns]

    def _class_of(self, epoch: int, number: int, slot: int) -> int:
        if self._round[:2] != (epoch, number):
            order = permutation(len(self._counts), seed=mix(self._seed, _ROUND, epoch), epoch=number)
            self._round = (epoch, number, order)
        return int(self._round[2][slot])


class Weighted:
    """Drawn with replacement, images with rare classes more often: image weights.

    Args:
        weights: (I,) not negative, with a positive sum; how often each image is drawn is in proportion.

    Attributes:
        length: I.
    """

    repeats = True

    def __init__(self, weights: Floats, *, seed: int) -> None:
        self.length = len(weights)
        self._sums = np.cumsum(weights)
        self._seed = seed

    def index(self, epoch: int, offset: int) -> int:
        share = mix(self._seed, _WEIGHTED, epoch, offset) / 2**63
        found = int(np.searchsorted(self._sums, share * self._sums[-1], side="right"))
        return min(found, self.length - 1)


def image_weights(images: Ints, labels: Ints, *, num_images: int, num_classes: int) -> Floats:
    """How often each image is drawn by `Weighted`: the sum over its objects of 1 / (objects of that class).

    An image without objects gets the mean of the others' weights, so that such images keep their share of the turns; the
    original would never show them.

    Args:
        images: (A,) the image of every object; labels: (A,) its class.

    Returns:
        (I,) float64, positive, with a sum of 1.

    Source: YOLOv5's image weights, without the factor (1 - mAP of the class)^2: with it the order of data would follow from
    results, so a run could not be resumed from its step, nor on another machine.
    """
    frequency = np.bincount(labels, minlength=num_classes)
    weights = np.bincount(images, weights=1.0 / frequency[labels], minlength=num_images)
    empty = np.bincount(images, minlength=num_images) == 0
    weights[empty] = weights[~empty].mean() if len(images) else 1.0
    whole: Floats = weights / weights.sum()
    return whole
