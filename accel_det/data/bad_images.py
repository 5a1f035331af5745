"""What becomes of a micro-batch when some of its images cannot be read.

A file is as bad in every epoch and for every process, so what is done follows from the data alone: no order changes, no
process waits, and sums and counts of the loss are those of the images that are left.
"""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from accel_det.types import Batch, IdentityTarget, Sample

TargetT = TypeVar("TargetT")


class Failure(NamedTuple, Generic[TargetT]):
    """An image that cannot be read.

    Attributes:
        message: its error as one line that names it; a traceback out of a worker would hide that.
        blank: a grey image in its place, without objects; None where bad images stop the run.
    """

    message: str
    blank: Sample[TargetT] | None = None


Read = Sample[TargetT] | Failure[TargetT]
Collate = Callable[[Sequence[Sample[TargetT]]], Batch[TargetT]]
Mend = Callable[[Sequence[Read[TargetT]], Collate[TargetT]], Batch[TargetT] | Failure[TargetT]]
"""Samples and failures -> a batch, or the failure that stops the run."""


def stop_at_failure(samples: Sequence[Read[TargetT]], collate: Collate[TargetT]) -> Batch[TargetT] | Failure[TargetT]:
    """Every image must be read."""
    failures = [sample for sample in samples if isinstance(sample, Failure)]
    return failures[0] if failures else collate([sample for sample in samples if isinstance(sample, Sample)])


def leave_out(samples: Sequence[Read[TargetT]], collate: Collate[TargetT]) -> Batch[TargetT] | Failure[TargetT]:
    """A batch of the images that can be read; of one blank, and void, where there is none: a process without a forward pass
    would leave the others waiting."""
    whole = [sample for sample in samples if isinstance(sample, Sample)]
    failures = [sample for sample in samples if isinstance(sample, Failure)]
    messages = tuple(failure.message for failure in failures)
    if whole:
        return collate(whole)._replace(left_out=messages)
    blank = failures[0].blank
    assert blank is not None
    return collate([blank])._replace(left_out=messages, void=True)


def repeat_identity(
    samples: Sequence[Read[IdentityTarget]], collate: Collate[IdentityTarget]
) -> Batch[IdentityTarget] | Failure[IdentityTarget]:
    """Another picture of the same identity in the micro-batch takes the place of a bad one, so that groups stay whole.

    An order of groups repeats pictures of an identity that has few in the same way. Where an identity has no other here, the
    failure stops the run.
    """
    whole = [sample for sample in samples if isinstance(sample, Sample)]
    mended: list[Sample[IdentityTarget]] = []
    messages: list[str] = []
    for sample in samples:
        if isinstance(sample, Sample):
            mended.append(sample)
            continue
        assert sample.blank is not None
        identity = sample.blank.target.identity
        others = [other for other in whole if other.target.identity == identity]
        if not others:
            return sample
        mended.append(others[len(messages) % len(others)])
        messages.append(sample.message)
    return collate(mended)._replace(left_out=tuple(messages))
