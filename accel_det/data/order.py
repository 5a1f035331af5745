"""The order of data: pure functions of integers, no input or output.

Which image is seen when depends on (seed, epoch, position) alone, and every random draw about an image on (seed, epoch,
sample id). So a run resumes from one integer, the optimizer step, on any number of processes and workers.

Map-style data: training consumes one endless sequence of positions 0, 1, 2, ... Position p is in epoch p // n, with n the
turns of an epoch, where the permutation of that epoch says which sample it is. Step s consumes positions [s * B, (s + 1) * B)
with B the images per update of all processes, so nothing is dropped, padded or skipped. In the usual orders n is the number of
samples, and each comes once per epoch; those of `balance.py` give some samples several turns.

Streamed data have an order of the same kind, whose turns ask for rows that lie close together: `stream_order.py`.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from accel_det.draws import mix

ValueT = TypeVar("ValueT")


def permutation(length: int, *, seed: int, epoch: int) -> NDArray[np.int64]:
    """A random order of `length` things: (length,) int64, each of 0 .. length - 1 once.

    The things are sorted by a 64-bit hash of (seed, epoch, index).
    """
    keys = np.arange(length, dtype=np.uint64) + np.uint64(2 * mix(seed, epoch))
    return np.argsort(_finalise_array(keys), kind="stable").astype(np.int64)


class Draw(NamedTuple):
    """One turn of one sample: which, in which epoch, and the number from which all its random choices derive.

    Attributes:
        size_px: height and width of the canvas that its batch uses, where that differs from the configured size; of
            "shortest_edge", the shorter side comes first. It is the same on every process of an update, because the
            order decides it and no worker; see `canvases.py`.
    """

    index: int  # type: ignore[assignment]  # hides tuple.index, which nothing calls
    epoch: int
    seed: int
    size_px: tuple[int, int] | None = None


class Share(NamedTuple):
    """How the images of one update are dealt out.

    Attributes:
        images_per_update: over all processes and micro-batches; constant when the number of processes changes.
        world: number of processes.
        rank: this process, 0-based.
        micro_batches: forward passes per process and update.
    """

    images_per_update: int
    world: int
    rank: int
    micro_batches: int

    @property
    def micro_batch_size(self) -> int:
        return self.images_per_update // (self.world * self.micro_batches)


def divide(*, images_per_update: int, world: int, max_images_per_forward: int | None, unit: int = 1) -> int:
    """Micro-batches per process: the fewest equal ones that respect the bound.

    Args:
        unit: images that must stay together: micro-batches are multiples of it.

    Raises:
        ValueError: if the processes cannot have equal shares, or the bound is below the unit.
    """
    if images_per_update % (world * unit):
        whole = "" if unit == 1 else f" in whole groups of {unit}"
        raise ValueError(
            f"train.images_per_update is {images_per_update}, which {world} processes cannot share equally{whole}: "
            f"choose a multiple of {world * unit}, or another number of processes"
        )
    share = images_per_update // world
    bound = share if max_images_per_forward is None else min(share, max_images_per_forward)
    if bound < unit:
        raise ValueError(
            f"train.max_images_per_forward is {bound}, but {unit} images form a group that stays together: raise it to {unit}"
        )
    return next(count for count in range(1, share + 1) if share % (count * unit) == 0 and share // count <= bound)


class Turns(Protocol):
    """Which sample has its turn when: a pure function of (seed, epoch, offset).

    Attributes:
        length: turns of an epoch, at least 1.
        repeats: whether a sample may have several turns in an epoch.
    """

    length: int
    repeats: bool

    def index(self, epoch: int, offset: int) -> int:
        """The sample whose turn it is, 0 <= offset < length turns into an epoch."""
        ...


class Shuffled:
    """Every sample once per epoch, in a new order each; remembers the permutation of the last two epochs."""

    repeats = False

    def __init__(self, length: int, *, seed: int) -> None:
        self.length = length
        self._seed = seed
        self._orders: dict[int, NDArray[np.int64]] = {}

    def index(self, epoch: int, offset: int) -> int:
        if epoch not in self._orders:
            forget_oldest(self._orders)
            self._orders[epoch] = permutation(self.length, seed=self._seed, epoch=epoch)
        return int(self._orders[epoch][offset])


class Sequential:
    """Every sample once per epoch, in the order of the data set."""

    repeats = False

    def __init__(self, length: int) -> None:
        self.length = length

    def index(self, epoch: int, offset: int) -> int:
        return offset


class UpdateOrder(Protocol):
    """What the images of an update are; see `EpochOrder` and `canvases.Canvases`."""

    def draws(self, step: int, positions: Sequence[int]) -> list[Draw]: ...


class EpochOrder:
    """Positions of the endless training sequence -> draws.

    Args:
        length: number of samples, at least 1.
        shuffle: False keeps the order of the data set in every epoch.
        turns: another order; `shuffle` is then not read.

    Attributes:
        length: turns of an epoch: the number of samples, unless `turns` says otherwise.
    """

    def __init__(self, length: int, *, seed: int, shuffle: bool = True, turns: Turns | None = None) -> None:
        if length < 1:
            raise ValueError("the training data holds no image: nothing to train on")
        self._turns = turns or (Shuffled(length, seed=seed) if shuffle else Sequential(length))
        self.length = self._turns.length
        self._seed = seed

    def draw(self, position: int) -> Draw:
        """The draw at a position; draws of one sample differ in their seeds, also within an epoch."""
        epoch, offset = divmod(position, self.length)
        index = self._turns.index(epoch, offset)
        which = (index, offset) if self._turns.repeats else (index,)
        return Draw(index, epoch, mix(self._seed, epoch, *which))

    def draws(self, step: int, positions: Sequence[int]) -> list[Draw]:
        """The draws at some positions of update `step`."""
        return [self.draw(position) for position in positions]


def forget_oldest(orders: dict[int, ValueT]) -> None:
    """Make room for another epoch: two are enough, because an update may lie in both."""
    if len(orders) == 2:
        del orders[min(orders)]


def positions(step: int, micro_batch: int, share: Share) -> range:
    """The positions that one process consumes in one micro-batch of one step."""
    size = share.micro_batch_size
    start = step * share.images_per_update + (share.rank * share.micro_batches + micro_batch) * size
    return range(start, start + size)


def evaluation_slice(length: int, *, world: int, rank: int) -> range:
    """The samples that one process evaluates: contiguous, each sample with exactly one process, some maybe with none."""
    return range(length * rank // world, length * (rank + 1) // world)


def steps_until_epoch(epoch: float, *, length: int, images_per_update: int) -> int:
    """The number of updates after which `epoch` epochs have been consumed, rounded up."""
    return -int(-epoch * length // images_per_update)


def _finalise_array(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # SplitMix64 steps by the golden gamma, so that neighbouring keys do not stay neighbours.
    values = values * np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
