"""Batches in the order that `order.py` says, from workers that hold no state."""

import contextlib
import math
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from accel_det.boxes import place
from accel_det.data.augment.settings import PROPOSAL_LABEL
from accel_det.data.decode import decode
from accel_det.data.order import Draw, Share, UpdateOrder, positions
from accel_det.data.stream_feed import Delivered, Feed
from accel_det.data.transforms import Augmentation, ResizeRule, augment_from, prepare_image
from accel_det.types import Batch, BoxTarget, Frame, Sample

TargetT = TypeVar("TargetT")
BatchT = TypeVar("BatchT")
Collate = Callable[[Sequence[Sample[TargetT]]], Batch[TargetT]]
Deliver = Callable[[Sequence[Sequence[int]]], Iterator[list[Delivered[int]]]]


class BoxTable(Protocol):
    """What the loaders need of a data set; see `records.DetectionTable`."""

    def __len__(self) -> int: ...
    def name(self, index: int) -> str: ...
    def size(self, index: int) -> tuple[int, int]: ...
    def image_bytes(self, index: int) -> bytes: ...
    def truth(self, index: int) -> BoxTarget: ...
    def proposals(self, index: int) -> Tensor | None: ...


class Failure(NamedTuple):
    """What a worker sends in place of a batch: its error as one line, because a traceback of a worker hides it."""

    message: str


class TrainingImages(Dataset[Sample[BoxTarget]]):
    """`images[draw]` is a decoded, augmented sample; a pure function of the draw.

    The frame is that of the image that has its turn, also where others are in the picture.

    Args:
        plain_from_epoch: draws of this epoch and later ones hold one image each: no mosaic, no mixup, no pasted objects.
    """

    def __init__(
        self,
        table: BoxTable,
        *,
        rule: ResizeRule,
        augmentation: Augmentation,
        plain_from_epoch: float | None = None,
    ) -> None:
        self._table = table
        self._rule = rule
        self._augmentation = augmentation
        self._plain_from_epoch = math.inf if plain_from_epoch is None else plain_from_epoch

    def __getitem__(self, key: Draw | Delivered[Draw]) -> Sample[BoxTarget]:
        draw = key.key if isinstance(key, Delivered) else key
        plain = draw.epoch >= self._plain_from_epoch
        pictures = _Pictures(self._table, key if isinstance(key, Delivered) else None)
        own = 0 if isinstance(key, Delivered) else draw.index
        pixels, target, placement = augment_from(
            pictures,
            own,
            rule=self._rule,
            augmentation=self._augmentation.plain() if plain else self._augmentation,
            seed=draw.seed,
            canvas=draw.size_px,
        )
        given = target.labels == PROPOSAL_LABEL
        proposals = None if self._table.proposals(draw.index) is None else target.boxes[given]
        height, width = pictures.size(own)
        frame = Frame(draw.index, self._table.name(draw.index), height, width, placement, draw.seed)
        return Sample(pixels, target.keep(~given), frame, proposals)


class _Pictures:
    """The images that a sample may be made of: those of a table, or those that were delivered.

    Given regions are among their objects, under a label of their own.
    """

    def __init__(self, table: BoxTable, delivered: Delivered[Draw] | None) -> None:
        self._table = table
        self._delivered = delivered

    def __len__(self) -> int:
        return len(self._table) if self._delivered is None else len(self._delivered.members)

    def size(self, index: int) -> tuple[int, int]:
        return self._table.size(self._in_table(index))

    def image(self, index: int) -> Tensor:
        """Decode an image.

        Raises:
            ValueError: not an image, or of another size than the table says.
        """
        index = self._in_table(index)
        name = self._table.name(index)
        data = self._table.image_bytes(index) if self._delivered is None else self._delivered.images[index]
        image = decode(data, name=name)
        height, width = (int(side) for side in image.shape[-2:])
        if (height, width) != self._table.size(index):
            expected = "x".join(str(side) for side in reversed(self._table.size(index)))
            raise ValueError(
                f"{name}: is {width}x{height} pixels, expected {expected} as when the run started; restore the file"
            )
        return image

    def target(self, index: int) -> BoxTarget:
        index = self._in_table(index)
        found, given = self._table.truth(index), self._table.proposals(index)
        if given is None:
            return found
        count = len(given)
        return BoxTarget(
            torch.cat((found.boxes, given)),
            torch.cat((found.labels, torch.full((count,), PROPOSAL_LABEL, dtype=torch.int64))),
            torch.cat((found.crowd, torch.zeros(count, dtype=torch.bool))),
            torch.cat((found.areas, torch.zeros(count))),
        )

    def _in_table(self, index: int) -> int:
        return index if self._delivered is None else self._delivered.members[index]


class EvaluationImages(Dataset[Sample[BoxTarget]]):
    """`images[index]` is a decoded, resized sample whose target stays in pixels of the file, as metrics want it."""

    def __init__(self, table: BoxTable, *, rule: ResizeRule) -> None:
        self._table = table
        self._rule = rule

    def __getitem__(self, key: int | Delivered[int]) -> Sample[BoxTarget]:
        index = key.key if isinstance(key, Delivered) else key
        name = self._table.name(index)
        data = key.images[index] if isinstance(key, Delivered) else self._table.image_bytes(index)
        image = decode(data, name=name)
        height, width = image.shape[-2:]
        pixels, placement = prepare_image(image, self._rule)
        given = self._table.proposals(index)
        frame = Frame(index, name, height, width, placement)
        return Sample(pixels, self._table.truth(index), frame, None if given is None else place(given, placement))


class TrainingStream(Generic[TargetT]):
    """The micro-batches of every update from a given step on: endless, exact, and the same on any number of workers.

    Args:
        images: sample source, indexed by `Draw`.
        order: which draw stands at which position of which update.
        share: what part of each update this process takes.
        workers: processes that decode and augment; 0 does it in this process.
        pin_memory: page-locked batches, for copies to a GPU that do not wait.
        open_feed: makes what brings the images, where they are streamed.
    """

    def __init__(
        self,
        images: Dataset[Sample[TargetT]],
        *,
        order: UpdateOrder,
        share: Share,
        collate: Collate[TargetT],
        workers: int,
        pin_memory: bool,
        open_feed: Callable[[], Feed] | None = None,
    ) -> None:
        self._images = images
        self._order = order
        self._share = share
        self._collate = collate
        self._workers = workers
        self._pin_memory = pin_memory
        self._open_feed = open_feed

    def first_batch(self) -> Batch[TargetT]:
        """The first micro-batch of this process in the first update, whatever step a run is at."""
        sampler = _UpdateSampler(self._order, self._share, 0, self._open_feed)
        with contextlib.closing(iter(sampler)) as batches:
            return self._collate([self._images[key] for key in next(batches)])

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
    images: Dataset[Sample[TargetT]],
    indices: range,
    *,
    batch_size: int,
    collate: Collate[TargetT],
    workers: int,
    pin_memory: bool,
    size_of: Callable[[int], tuple[int, int]] | None = None,
    deliver: Deliver | None = None,
) -> Iterator[Batch[TargetT]]:
    """The given samples, once: in order, the last batch may be smaller; or, given sizes, those of one size together.

    Args:
        size_of: the size of a sample in its batch, where it may have several. No image is padded for the sake of another
            then, so what is found in it does not depend on the others.
        deliver: brings the images of every batch, where they are streamed; without sizes only.
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for index in indices:
        groups.setdefault((0, 0) if size_of is None else size_of(index), []).append(index)
    chunks = [group[i : i + batch_size] for group in groups.values() for i in range(0, len(group), batch_size)]
    loader = _loader(images, _ListSampler(chunks, deliver), collate, min(workers, len(chunks)), pin_memory)
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


class _Guarded(Dataset["Sample[TargetT] | Failure"]):
    """Turns the errors that a user can cause into values, which travel from workers unchanged."""

    def __init__(self, images: Dataset[Sample[TargetT]]) -> None:
        self._images = images

    def __getitem__(self, key: object) -> "Sample[TargetT] | Failure":
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
    sampler: Sampler[Any],
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
    threading.Thread(target=_end_with_trainer, args=(os.getppid(),), daemon=True).start()
    torch.set_num_threads(1)


def _end_with_trainer(trainer: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)
