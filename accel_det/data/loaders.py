"""Batches in the order that `order.py` says, from workers that hold no state."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from accel_det.data.decode import decode
from accel_det.data.order import Draw, EpochOrder, Share, positions
from accel_det.data.transforms import Augmentation, ResizeRule, augment, prepare_image
from accel_det.types import Batch, BoxTarget, Frame, Sample

TargetT = TypeVar("TargetT")
BatchT = TypeVar("BatchT")
Collate = Callable[[Sequence[Sample[TargetT]]], Batch[TargetT]]


class BoxTable(Protocol):
    """What the loaders need of a data set; see `records.DetectionTable`."""

    def __len__(self) -> int: ...
    def name(self, index: int) -> str: ...
    def size(self, index: int) -> tuple[int, int]: ...
    def image_bytes(self, index: int) -> bytes: ...
    def truth(self, index: int) -> BoxTarget: ...


class Failure(NamedTuple):
    """What a worker sends in place of a batch: its error as one line, because a traceback of a worker hides it."""

    message: str


class TrainingImages(Dataset[Sample[BoxTarget]]):
    """`images[draw]` is a decoded, augmented sample; a pure function of the draw."""

    def __init__(self, table: BoxTable, *, rule: ResizeRule, augmentation: Augmentation) -> None:
        self._table = table
        self._rule = rule
        self._augmentation = augmentation

    def __getitem__(self, draw: Draw) -> Sample[BoxTarget]:
        name = self._table.name(draw.index)
        image = decode(self._table.image_bytes(draw.index), name=name)
        height, width = image.shape[-2:]
        pixels, target, placement = augment(
            image, self._table.truth(draw.index), rule=self._rule, augmentation=self._augmentation, seed=draw.seed
        )
        return Sample(pixels, target, Frame(draw.index, name, height, width, placement, draw.seed))


class EvaluationImages(Dataset[Sample[BoxTarget]]):
    """`images[index]` is a decoded, resized sample whose target stays in pixels of the file, as metrics want it."""

    def __init__(self, table: BoxTable, *, rule: ResizeRule) -> None:
        self._table = table
        self._rule = rule

    def __getitem__(self, index: int) -> Sample[BoxTarget]:
        name = self._table.name(index)
        image = decode(self._table.image_bytes(index), name=name)
        height, width = image.shape[-2:]
        pixels, placement = prepare_image(image, self._rule)
        return Sample(pixels, self._table.truth(index), Frame(index, name, height, width, placement))


class TrainingStream(Generic[TargetT]):
    """The micro-batches of every update from a given step on: endless, exact, and the same on any number of workers.

    Args:
        images: sample source, indexed by `Draw`.
        order: which draw stands at which position.
        share: what part of each update this process takes.
        workers: processes that decode and augment; 0 does it in this process.
        pin_memory: page-locked batches, for copies to a GPU that do not wait.
    """

    def __init__(
        self,
        images: Dataset[Sample[TargetT]],
        *,
        order: EpochOrder,
        share: Share,
        collate: Collate[TargetT],
        workers: int,
        pin_memory: bool,
    ) -> None:
        self._images = images
        self._order = order
        self._share = share
        self._collate = collate
        self._workers = workers
        self._pin_memory = pin_memory

    def first_batch(self) -> Batch[TargetT]:
        """The first micro-batch of this process in the first update, whatever step a run is at."""
        return self._collate([self._images[self._order.draw(position)] for position in positions(0, 0, self._share)])

    def updates(self, start_step: int) -> Iterator[list[Batch[TargetT]]]:
        """The micro-batches of update `start_step`, then of the next, without end.

        Raises:
            ValueError: where an image cannot be read, with the line that says which and why.
        """
        sampler = _UpdateSampler(self._order, self._share, start_step)
        with _reading(_loader(self._images, sampler, self._collate, self._workers, self._pin_memory)) as batches:
            while True:
                yield [_checked(next(batches)) for _ in range(self._share.micro_batches)]


def evaluation_batches(
    images: Dataset[Sample[TargetT]],
    indices: range,
    *,
    batch_size: int,
    collate: Collate[TargetT],
    workers: int,
    pin_memory: bool,
) -> Iterator[Batch[TargetT]]:
    """The given samples in order, once; the last batch may be smaller."""
    chunks = [list(indices[i : i + batch_size]) for i in range(0, len(indices), batch_size)]
    loader = _loader(images, _ListSampler(chunks), collate, min(workers, len(chunks)), pin_memory)
    with _reading(loader) as batches:
        for batch in batches:
            yield _checked(batch)


class _UpdateSampler(Sampler[list[Draw]]):
    def __init__(self, order: EpochOrder, share: Share, start_step: int) -> None:
        self._order = order
        self._share = share
        self._start_step = start_step

    def __iter__(self) -> Iterator[list[Draw]]:
        step = self._start_step
        while True:
            for micro_batch in range(self._share.micro_batches):
                yield [self._order.draw(position) for position in positions(step, micro_batch, self._share)]
            step += 1


class _ListSampler(Sampler[list[int]]):
    def __init__(self, chunks: list[list[int]]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._chunks)


class _Guarded(Dataset["Sample[TargetT] | Failure"]):
    """Turns the errors that a user can cause into values, which travel from workers unchanged."""

    def __init__(self, images: Dataset[Sample[TargetT]]) -> None:
        self._images = images

    def __getitem__(self, key: Draw | int) -> "Sample[TargetT] | Failure":
        try:
            return self._images[key]
        except (ValueError, OSError) as error:
            return Failure(str(error))


class _GuardedCollate(Generic[TargetT]):
    def __init__(self, collate: Collate[TargetT]) -> None:
        self._collate = collate

    def __call__(self, samples: "Sequence[Sample[TargetT] | Failure]") -> "Batch[TargetT] | Failure":
        whole = [sample for sample in samples if isinstance(sample, Sample)]
        failures = [sample for sample in samples if isinstance(sample, Failure)]
        return failures[0] if failures else self._collate(whole)


def _checked(batch: "Batch[TargetT] | Failure") -> "Batch[TargetT]":
    if isinstance(batch, Failure):
        raise ValueError(batch.message)
    return batch


def _loader(
    images: Dataset[Sample[TargetT]],
    sampler: Sampler[list[Draw]] | Sampler[list[int]],
    collate: Collate[TargetT],
    workers: int,
    pin_memory: bool,
) -> "DataLoader[Batch[TargetT] | Failure]":
    return DataLoader(
        _Guarded(images),  # type: ignore[arg-type]
        batch_sampler=sampler,
        collate_fn=_GuardedCollate(collate),
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
    batches = iter(loader)
    try:
        yield batches
    finally:
        end_workers = getattr(
            batches, "_shutdown_workers", None
        )  # there is no public name; without workers, none at all
        if end_workers is not None:
            end_workers()


def _start_worker(_: int) -> None:
    """Ignore signals that reach the whole process group: workers must live until the trainer has saved.

    SIGTERM from the trainer itself is obeyed, or a trainer that ends early would wait for its workers for ever.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_trainer, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)


def _end_with_trainer(trainer: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)
