"""How large the images of an update are: pure functions of (seed, update), the same on every process.

Two ways, which go together: a size that is drawn for some updates at a time, and a rectangle of the common aspect of the
images of an update, which for that are brought together by aspect.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_det.data.order import Draw, EpochOrder, permutation
from accel_det.draws import mix

Ints = NDArray[np.int64]

WINDOW_UPDATES = 16
"""Updates whose images are sorted by aspect together: more would give fewer grey bars and a less random order."""

_SIZE, _SLOTS = 5, 6  # what a hash is about; `balance.py` has 2 to 4


class SizeRule(NamedTuple):
    """Sizes in training.

    Attributes:
        size_px: the configured side.
        drawn_px: what is drawn from instead; empty: always size_px.
        every: updates that share a drawn size; 0: each image has its own.
        multiple: rectangles are rounded up to multiples of this many pixels.
    """

    size_px: int
    drawn_px: tuple[int, ...] = ()
    every: int = 1
    multiple: int = 32

    def of_update(self, step: int, *, seed: int) -> int:
        """The side of update `step`, in pixels."""
        if not self.drawn_px or self.every == 0:
            return self.size_px
        return self.drawn_px[mix(seed, _SIZE, step // self.every) % len(self.drawn_px)]

    def of_image(self, draw_seed: int) -> int:
        """The side of one image, in pixels, where each has its own."""
        return self.drawn_px[mix(draw_seed, _SIZE) % len(self.drawn_px)]


def rectangle(sizes: Ints, *, size_px: int, multiple: int) -> tuple[int, int]:
    """(height, width) of the smallest canvas, in multiples, on which each image fits with a longer side of size_px.

    Args:
        sizes: (N, 2) height and width of at least one image, in any unit.
    """
    longer = sizes.max(axis=1, keepdims=True) * multiple
    height, width = (-(-sizes * size_px // longer)).max(axis=0).tolist()
    return height * multiple, width * multiple


class LikeAspects:
    """An order in which images of like aspect come in one update; in every epoch the draws of the order that it is given.

    The positions of 16 updates are sorted by aspect, cut into updates, and the updates shuffled. Such a window ends with the
    epoch, so that each draw stays in its epoch, and what is cut are the parts of updates that lie in it: an update that two
    epochs share gets its images in two parts.

    Args:
        order: what is rearranged.
        sizes: (I, 2) height and width of every sample.
    """

    def __init__(self, order: EpochOrder, sizes: Ints, *, images_per_update: int, seed: int) -> None:
        self.length = order.length
        self._order = order
        self._aspects = sizes[:, 0] / sizes[:, 1]
        self._images_per_update = images_per_update
        self._seed = seed
        self._windows: dict[int, Ints] = {}

    def draw(self, position: int) -> Draw:
        width = WINDOW_UPDATES * self._images_per_update
        window, epoch = position // width, position // self.length
        start = max(window * width, epoch * self.length)
        if start not in self._windows:
            if len(self._windows) == 2:
                del self._windows[min(self._windows)]
            stop = min((window + 1) * width, (epoch + 1) * self.length)
            self._windows[start] = self._rearranged(start, stop)
        return self._order.draw(int(self._windows[start][position - start]))

    def _rearranged(self, start: int, stop: int) -> Ints:
        """(stop - start,) the position in the given order whose draw comes at each position."""
        indices = [self._order.draw(position).index for position in range(start, stop)]
        by_aspect = start + np.argsort(self._aspects[indices], kind="stable")
        size = self._images_per_update
        edges = np.unique(np.clip(np.arange(start // size, stop // size + 2) * size, start, stop)) - start
        slots = permutation(len(edges) - 1, seed=mix(self._seed, _SLOTS), epoch=start)
        rearranged = np.empty(stop - start, np.int64)
        taken = 0
        for slot in slots:
            count = int(edges[slot + 1] - edges[slot])
            rearranged[edges[slot] : edges[slot + 1]] = by_aspect[taken : taken + count]
            taken += count
        return rearranged


class Canvases:
    """Gives the draws of an update the size of their canvas.

    Args:
        rule: which side an update has.
        sizes: (I, 2) height and width of every sample, for rectangles; None: squares.
    """

    def __init__(
        self,
        order: EpochOrder | LikeAspects,
        rule: SizeRule,
        *,
        images_per_update: int,
        seed: int,
        sizes: Ints | None = None,
    ) -> None:
        self._order = order
        self._rule = rule
        self._images_per_update = images_per_update
        self._seed = seed
        self._sizes = sizes
        self._last: tuple[int, tuple[int, int] | None] = (-1, None)

    def draws(self, step: int, positions: Sequence[int]) -> list[Draw]:
        """The draws at some positions of update `step`."""
        found = [self._order.draw(position) for position in positions]
        if self._rule.drawn_px and self._rule.every == 0:
            sides = [self._rule.of_image(draw.seed) for draw in found]
            return [draw._replace(size_px=(side, side)) for draw, side in zip(found, sides, strict=True)]
        canvas = self.of_update(step)
        return found if canvas is None else [draw._replace(size_px=canvas) for draw in found]

    def of_update(self, step: int) -> tuple[int, int] | None:
        """(height, width) of the canvas of all images of update `step`; None for the configured square."""
        if self._last[0] != step:
            self._last = (step, self._canvas(step))
        return self._last[1]

    def _canvas(self, step: int) -> tuple[int, int] | None:
        side = self._rule.of_update(step, seed=self._seed)
        if self._sizes is None:
            return (side, side) if self._rule.drawn_px else None
        first = step * self._images_per_update
        indices = [self._order.draw(position).index for position in range(first, first + self._images_per_update)]
        return rectangle(self._sizes[indices], size_px=side, multiple=self._rule.multiple)
