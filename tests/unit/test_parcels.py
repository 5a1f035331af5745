"""Batches arrive as they were sent; only what is large travels as shared memory."""

from collections.abc import Iterator
from multiprocessing.reduction import ForkingPickler
from typing import Any

import pytest
import torch
from painted_pictures import target_of
from torch import Tensor

from accel_det.data.bad_images import Failure
from accel_det.data.parcels import Parcel
from accel_det.types import Batch, BoxTarget, Frame, IdentityTarget, Placement

SIDE = 128  # 3 x 128 x 128 bytes an image: more than is sent by value


def batch_of(*, proposals: bool) -> Batch[BoxTarget]:
    images = torch.arange(2 * 3 * SIDE * SIDE).remainder(251).to(torch.uint8).view(2, 3, SIDE, SIDE)
    targets = [target_of((1, 2, 30, 40), (5, 6, 7.25, 8)), target_of()]
    frames = [Frame(i, f"{i}.jpg", SIDE, SIDE, Placement(1.0, 1.0), 7) for i in range(2)]
    given = [torch.rand(3, 4), torch.zeros(0, 4)] if proposals else None
    return Batch(images, torch.tensor([[SIDE, SIDE]] * 2), targets, frames, given, ("a.jpg: gone",), void=False)


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, tuple | list):
        for part in value:
            yield from leaves(part)
    else:
        yield value


def assert_same(found: Any, sent: Any) -> None:
    pairs = list(zip(leaves(found), leaves(sent), strict=True))
    assert len(pairs) > 4
    for one, other in pairs:
        assert type(one) is type(other)
        if isinstance(one, Tensor):
            assert one.dtype == other.dtype and one.shape == other.shape and torch.equal(one, other)
        else:
            assert one == other


@pytest.mark.parametrize("proposals", [False, True])
def test_a_batch_arrives_as_it_was_sent(proposals: bool) -> None:
    sent = batch_of(proposals=proposals)
    found = Parcel(sent).open()
    assert_same(found, sent)
    assert isinstance(found, Batch) and isinstance(found.targets, list) and isinstance(found.targets[0], BoxTarget)
    assert isinstance(found.frames[0].placement, Placement)
    found.targets[0].boxes.add_(1)  # tensors that arrive can be written to


def test_of_a_batch_only_the_images_are_shared_memory() -> None:
    sent = batch_of(proposals=True)
    assert sum(isinstance(leaf, Tensor) for leaf in leaves(sent)) == 2 + 2 * 4 + 2
    parcel = Parcel(sent)
    tensors = [leaf for leaf in leaves(parcel._content) if isinstance(leaf, Tensor)]
    assert [tensor.shape for tensor in tensors] == [(2, 3, SIDE, SIDE)]
    # The images leave a handle in the message, and the rest its 700 bytes: far less than the 98,304 of the images.
    assert len(bytes(ForkingPickler.dumps(parcel))) < 8_000


def test_identities_and_failures_travel_too() -> None:
    batch = batch_of(proposals=False)._replace(targets=[IdentityTarget(3, 1), IdentityTarget(4, 2)])
    assert Parcel(batch).open().targets == batch.targets
    assert Parcel(Failure("a.jpg: gone")).open() == Failure("a.jpg: gone")


def test_every_tensor_of_a_parcel_is_pinned_where_the_loader_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[Tensor] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: pinned.append(self) or self.clone())
    sent = batch_of(proposals=True)
    found = torch.utils.data._utils.pin_memory.pin_memory(Parcel(sent)).open()
    assert len(pinned) == 12
    assert_same(found, sent)
