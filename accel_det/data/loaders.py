"""Batches in the order that `order.py` says, from workers that hold no state."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from accel_det.data.bad_images import Collate, Failure, Mend, Read, stop_at_failure
from accel_det.data.order import Draw, Share, UpdateOrder, positions
from accel_det.data.parcels import Parcel
from accel_det.data.stream_feed import Delivered, Feed
from accel_det.types import Batch, Sample

TargetT = TypeVar("TargetT")
BatchT = TypeVar("BatchT")
Deliver = Callable[[Sequence[Sequence[int]]], Iterator[list[Delivered[int]]]]

# Between two looks of a worker at whether its trainer is still there.
_LOOKS_EVERY_S = 0.5


class Images(Protocol[TargetT]):
    """What makes samples: of draws in training, of indices in evaluation; of either with the encoded images, where streamed."""

    def __getitem__(self, key: Any, /) -> Sample[TargetT]: ...

    def blank(self, key: Any, /) -> Sample[TargetT]:
        """A grey image without objects in place of one that cannot be read."""


class TrainingStream(Generic[TargetT]):
    """The micro-batches of every update from a given step on: endless, exact, and the same on any number of workers.

    Args:
        images: sample source, indexed by `Draw`.
        order: which draw stands at which position of which update.
        share: what part of each update this process takes.
        workers: processes that decode and augment; 0 does it in this process.
        pin_memory: page-locked batches, for copies to a GPU that do not wait.
        open_feed: makes what brings the images, where they are streamed.
        mend: what becomes of a micro-batch with images that cannot be read.
    """

    def __init__(
        self,
        images: Images[TargetT],
        *,
        order: UpdateOrder,
        share: Share,
        collate: Collate[TargetT],
        workers: int,
        pin_memory: bool,
        open_feed: Callable[[], Feed] | None = None,
        mend: Mend[TargetT] = stop_at_failure,
    ) -> None:
        self._images = _Guarded(images, blanks=mend is not stop_at_failure)
        self._order = order
        self._share = share
        self._collate = _GuardedCollate(collate, mend)
        self._workers = workers
        self._pin_memory = pin_memory
        self._open_feed = open_feed

    def first_batch(self) -> Batch[TargetT]:
        """The first micro-batch of this process in the first update, whatever step a run is at."""
        sampler = _UpdateSampler(self._order, self._share, 0, self._open_feed)
        with contextlib.closing(iter(sampler)) as batches:
            return _checked(self._collate([self._images[key] for key in next(batches)]))

    def updates(self, start_step: int) -> Iterator[list[Batch[TargetT]]]:
        """The micro-batches of update `start_step`, then of the next, without end.

        Raises:
            ValueError: where an image cannot be read, with the line that says which and why.
        """
        sampler = _UpdateSampler(self._order, self._share, start_step, self._open_feed)
        with _reading(_loader(self._images, sampler, self._collate, self._workers, self._pin_memory)) as batches:
            while True:
                yield [_checked(next(batches)) for _ in range(self._share.micro_batches)]


def evaluation_batches(
    images: Images[TargetT],
    indices: range,
    *,
    batch_size: int,
    collate: Collate[TargetT],
    workers: int,
    pin_memory: bool,
    size_of: Callable[[int], tuple[int, int]] | None = None,
    deliver: Deliver | None = None,
    mend: Mend[TargetT] = stop_at_failure,
) -> Iterator[Batch[TargetT]]:
    """The given samples, once: in order, the last batch may be smaller; or, given sizes, those of one size together.

    Args:
        size_of: the size of a sample in its batch, where it may have several. No image is padded for the sake of another
            then, so what is found in it does not depend on the others.
        deliver: brings the images of every batch, where they are streamed; without sizes only.
        mend: what becomes of a batch with images that cannot be read.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for index in indices:
        groups.setdefault((0, 0) if size_of is None else size_of(index), []).append(index)
    chunks = [group[i : i + batch_size] for group in groups.values() for i in range(0, len(group), batch_size)]
    guarded = _Guarded(images, blanks=mend is not stop_at_failure)
    joined = _GuardedCollate(collate, mend)
    loader = _loader(guarded, _ListSampler(chunks, deliver), joined, min(workers, len(chunks)), pin_memory)
    with _reading(loader) as batches:
        for batch in batches:
            yield _checked(batch)


class _UpdateSampler(Sampler["Sequence[Draw | Delivered[Draw]]"]):
    def __init__(self, order: UpdateOrder, share: Share, start_step: int, open_feed: Callable[[], Feed] | None) -> None:
        self._order = order
        self._share = share
        self._start_step = start_step
        self._open_feed = open_feed

    def __iter__(self) -> Generator[Sequence[Draw | Delivered[Draw]], None, None]:
        # The feed begins here, not before, because its threads must not be there when the workers are forked.
        feed = None if self._open_feed is None else self._open_feed()
        try:
            step = self._start_step
            while True:
                for micro_batch in range(self._share.micro_batches):
                    where = positions(step, micro_batch, self._share)
                    draws = self._order.draws(step, where)
                    yield draws if feed is None else feed.deliver(where, draws)
                step += 1
        finally:
            if feed is not None:
                feed.close()


class _ListSampler(Sampler["Sequence[int | Delivered[int]]"]):
    def __init__(self, chunks: list[list[int]], deliver: Deliver | None) -> None:
        self._chunks = chunks
        self._deliver = deliver

    def __iter__(self) -> Iterator[Sequence[int | Delivered[int]]]:
        return iter(self._chunks) if self._deliver is None else self._deliver(self._chunks)


class _Guarded(Dataset[Read[TargetT]]):
    """Turns the errors that a user can cause into values, which travel from workers unchanged.

    Args:
        blanks: a failure comes with a blank.
    """

    def __init__(self, images: Images[TargetT], *, blanks: bool) -> None:
        self._images = images
        self._blanks = blanks

    def __getitem__(self, key: object) -> Read[TargetT]:
        try:
            return self._images[key]
        except (ValueError, OSError) as error:
            return Failure(str(error), self._images.blank(key) if self._blanks else None)


class _GuardedCollate(Generic[TargetT]):
    def __init__(self, collate: Collate[TargetT], mend: Mend[TargetT]) -> None:
        self._collate = collate
        self._mend = mend

    def __call__(self, samples: Sequence[Read[TargetT]]) -> Parcel[Batch[TargetT] | Failure[TargetT]]:
        return Parcel(self._mend(samples, self._collate))


def _checked(parcel: Parcel[Batch[TargetT] | Failure[TargetT]]) -> Batch[TargetT]:
    batch = parcel.open()
    if isinstance(batch, Failure):
        raise ValueError(batch.message)
    return batch


def _loader(
    images: _Guarded[TargetT],
    sampler: Sampler[Any],
    collate: _GuardedCollate[TargetT],
    workers: int,
    pin_memory: bool,
) -> "DataLoader[Parcel[Batch[TargetT] | Failure[TargetT]]]":
    return DataLoader(
        images,  # type: ignore[arg-type]
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        # The loader draws a seed for its workers; from its own generator, the global one stays untouched.
        generator=torch.Generator(),
    )


@contextlib.contextmanager
def _reading(loader: "DataLoader[BatchT]") -> Iterator[Iterator[BatchT]]:
    """The batches of a loader, whose workers end with the block.

    Left to the garbage collector, which closes their queues first, workers would never hear that they may end.
    """
    with _without_signals():
        batches = iter(loader)
    try:
        yield batches
    finally:
        end_workers = getattr(
            batches, "_shutdown_workers", None
        )  # there is no public name; without workers, none at all
        if end_workers is not None:
            end_workers()


@contextlib.contextmanager
def _without_signals() -> Iterator[None]:
    """Workers that start in the block inherit that SIGINT and SIGTERM wait, so none comes before `_start_worker` has run."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(_: int) -> None:
    """Ignore signals that reach the whole process group: workers must live until the trainer has saved.

    SIGTERM, blocked since before the worker began, is obeyed where it is from the trainer itself, or a trainer that ends early
    would wait for its workers for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    trainer = multiprocessing.parent_process()
    assert trainer is not None
    threading.Thread(target=_end_with_trainer, args=(trainer.pid,), daemon=True).start()
    torch.set_num_threads(1)


def _end_with_trainer(trainer: int) -> None:
    """End when the trainer says so, or is gone.

    Torch's own end waits for somebody to read the last batch, and as long as a worker is there, its copies of the trainer's
    sockets tell the other processes that the trainer lives.
    """
    while os.getppid() == trainer:
        told = signal.sigtimedwait({signal.SIGTERM}, _LOOKS_EVERY_S)
        if told is not None and told.si_pid == trainer:
            break
    os._exit(0)
