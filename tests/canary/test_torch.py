"""What torch and torchvision do, and this code relies on or works around.

If one of these fails, torch has changed: audit the code that the docstring names again; do not edit the assertion.
"""

import inspect
import multiprocessing
import os
import re
import signal
from collections.abc import Callable

import pytest
import torch
from forks import in_a_fork
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional


class Numbers(Dataset[int]):
    """0 to 9; does something else at one of them."""

    def __init__(self, at_3: Callable[[], None] = lambda: None) -> None:
        self._at_3 = at_3

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> int:
        if index == 3:
            self._at_3()
        return index


def _refuse() -> None:
    raise ValueError("image_3.png: damaged")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_draws_its_seed_from_its_own_generator_where_it_has_one(workers: int) -> None:
    """data/loaders.py gives every loader one, so that the global one does not depend on how often data is read."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(DataLoader(Numbers(), num_workers=workers, generator=torch.Generator()))
    assert torch.equal(torch.get_rng_state(), before)
    list(DataLoader(Numbers(), num_workers=workers))
    assert not torch.equal(torch.get_rng_state(), before), "the work-around is no longer needed"


def test_an_error_of_a_worker_arrives_with_a_traceback_in_its_message() -> None:
    """data/loaders.py sends errors as values, to keep the line that a person can read."""
    batches = iter(DataLoader(Numbers(_refuse), num_workers=1))
    with pytest.raises(ValueError, match=r"Caught ValueError in DataLoader worker process 0") as error:
        list(batches)
    batches._shutdown_workers()  # type: ignore[attr-defined]
    assert "Traceback" in str(error.value)


def test_a_killed_worker_is_a_runtime_error_and_not_a_hang() -> None:
    """cli/failures.py: this is what a person sees whose data worker was killed for lack of memory.

    A worker that dies while one of its batches is being fetched is a ConnectionResetError instead.
    """

    def read() -> str:
        try:
            list(DataLoader(Numbers(_die), batch_size=10, num_workers=1, timeout=60))
        except RuntimeError as error:
            return str(error)
        return "no error"

    assert re.match(r"DataLoader worker \(pid.*\) (is killed by signal|exited unexpectedly)", in_a_fork(read))


def test_workers_are_ended_by_a_method_of_a_private_name_that_may_be_called_twice() -> None:
    """data/loaders.py calls it where a stream ends, rather than wait for the garbage collector."""
    before = multiprocessing.active_children()
    batches = iter(DataLoader(Numbers(), num_workers=2))
    next(batches)
    assert len(multiprocessing.active_children()) == len(before) + 2
    batches._shutdown_workers()  # type: ignore[attr-defined]
    batches._shutdown_workers()  # type: ignore[attr-defined]
    assert set(multiprocessing.active_children()) <= set(before)


def test_a_batch_sampler_may_be_endless_and_holds_any_index() -> None:
    """data/loaders.py: updates have no end, and an index is a draw."""

    class Endless:
        def __iter__(self):  # type: ignore[no-untyped-def]
            number = 0
            while True:
                yield [number % 10, (number + 1) % 10]
                number += 2

    batches = iter(DataLoader(Numbers(), batch_sampler=Endless(), collate_fn=list))  # type: ignore[arg-type]
    assert [next(batches) for _ in range(6)] == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [0, 1]]


def test_the_norm_and_the_clipping_apart_equal_both_together() -> None:
    """engine/step.py looks at the norm before it clips."""

    def gradients() -> list[nn.Parameter]:
        generator = torch.Generator().manual_seed(0)
        parameters = [nn.Parameter(torch.zeros(shape)) for shape in ((3, 4), (5,), (2, 2, 2))]
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        return parameters

    for limit in (0.5, 1e6):
        apart, together = gradients(), gradients()
        norm = torch.nn.utils.get_total_norm([p.grad for p in apart if p.grad is not None])
        expected = torch.nn.utils.clip_grad_norm_(together, limit)
        assert torch.equal(norm, expected)
        torch.nn.utils.clip_grads_with_norm_(apart, limit, norm)
        for one, other in zip(apart, together, strict=True):
            assert one.grad is not None
            assert other.grad is not None
            assert torch.equal(one.grad, other.grad)


def test_a_gradient_that_is_no_number_makes_the_norm_no_number() -> None:
    """engine/step.py finds non-finite gradients by their norm alone."""
    for bad in (float("nan"), float("inf"), float("-inf")):
        norm = torch.nn.utils.get_total_norm([torch.ones(3), torch.tensor([1.0, bad])])
        assert not torch.isfinite(norm)


def test_lists_of_tensors_are_interpolated_in_place() -> None:
    """engine/ema.py averages weights with one call, of a private name."""
    own, new = [torch.zeros(2), torch.ones(1)], [torch.ones(2), torch.full((1,), 3.0)]
    torch._foreach_lerp_(own, new, 0.25)
    assert [tensor.tolist() for tensor in own] == [[0.25, 0.25], [1.5]]


def test_normalisation_layers_share_a_base_of_a_private_name() -> None:
    """engine/optimize.py takes weight decay from all of them by it."""
    for layer in (nn.BatchNorm2d(1), nn.SyncBatchNorm(1), nn.InstanceNorm2d(1)):
        assert isinstance(layer, nn.modules.batchnorm._NormBase)


def test_seeding_repeats_dropout_and_takes_63_bits() -> None:
    """engine/step.py seeds every update; draws.py gives 63 bits."""
    torch.manual_seed((1 << 63) - 1)
    first = torch.nn.functional.dropout(torch.ones(1000))
    torch.manual_seed((1 << 63) - 1)
    assert torch.equal(first, torch.nn.functional.dropout(torch.ones(1000)))
    torch.manual_seed((1 << 63) - 2)
    assert not torch.equal(first, torch.nn.functional.dropout(torch.ones(1000)))


def test_a_stable_sort_keeps_the_order_of_equal_scores() -> None:
    """models/layers/nms.py and the metrics rely on it for the same answer on any number of processes."""
    scores = torch.randint(0, 5, (20_000,), generator=torch.Generator().manual_seed(0)).float()
    order = torch.argsort(scores, descending=True, stable=True)
    pairs = list(zip((-scores[order]).tolist(), order.tolist(), strict=True))
    assert pairs == sorted(pairs)


@pytest.mark.parametrize("size", [(17, 23), (80, 90), (40, 50)])
def test_resizing_uint8_gives_uint8_within_one_of_the_float_result(size: tuple[int, int]) -> None:
    """data/transforms.py resamples uint8 directly."""
    image = torch.randint(0, 256, (3, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found: Tensor = functional.resize(image, list(size), antialias=True)
    expected: Tensor = functional.resize(image.double(), list(size), antialias=True)
    assert found.dtype == torch.uint8
    assert found.shape == (3, *size)
    assert float((found.double() - expected).abs().max()) <= 1.0


def test_antialias_is_on_unless_it_is_turned_off() -> None:
    """data/transforms.py says it all the same; other readers of images may not."""
    assert inspect.signature(functional.resize).parameters["antialias"].default is True


@pytest.mark.parametrize(
    ("optimizer", "keys"),
    [
        (lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9), {"momentum_buffer"}),
        (lambda p: torch.optim.Adam(p, lr=0.1), {"exp_avg", "exp_avg_sq", "step"}),
        (lambda p: torch.optim.AdamW(p, lr=0.1), {"exp_avg", "exp_avg_sq", "step"}),
    ],
)
def test_the_state_of_an_optimizer_is_made_of_tensors(
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer], keys: set[str]
) -> None:
    """engine/state.py saves tensors alone, and keeps a step counter without dimensions on the CPU."""
    parameter = nn.Parameter(torch.ones(2))
    made = optimizer([parameter])
    parameter.grad = torch.ones(2)
    made.step()
    state = made.state[parameter]
    assert set(state) == keys
    assert all(isinstance(value, Tensor) for value in state.values())
    assert {value.ndim for value in state.values()} == ({1} if len(keys) == 1 else {0, 1})


def test_a_strict_load_names_the_first_difference_on_its_second_line() -> None:
    """engine/state.py shows that line."""
    with pytest.raises(RuntimeError) as error:
        nn.Linear(2, 2).load_state_dict({"weight": torch.zeros(2, 2)})
    assert "bias" in str(error.value).splitlines()[1]


def test_any_tensor_can_be_seen_as_bytes_and_back() -> None:
    """engine/collectives.py sends tensors as bytes."""
    for dtype in (torch.float64, torch.int64, torch.bool, torch.uint8, torch.bfloat16):
        tensor = torch.arange(6).reshape(2, 3).to(dtype)
        back = tensor.view(-1).view(torch.uint8).clone().view(dtype).reshape(2, 3)
        assert torch.equal(tensor, back)


def test_the_gradient_of_batch_norm_of_one_image_is_wrong_on_a_cpu_where_layouts_differ() -> None:
    """Hence `models/transformers/gradients.py`. Should this fail, torch has mended it: remove both."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=draw, requires_grad=True)
    ones = torch.ones(4, dtype=torch.float64)
    y = torch.nn.functional.batch_norm(x, 0 * ones, ones.clone(), ones, 0 * ones, training=True)
    plain = torch.randn(1, 4, 8, 8, dtype=torch.float64, generator=draw)
    channels_last = plain.flatten(2).transpose(1, 2).contiguous().transpose(1, 2).reshape(plain.shape)
    assert torch.equal(plain, channels_last) and channels_last.stride() == (4, 1, 32, 4)  # the usual first is 256
    right, wrong = (torch.autograd.grad(y, x, gradient, retain_graph=True)[0] for gradient in (plain, channels_last))
    assert float((right - wrong).abs().max()) > 0.1


@pytest.mark.parametrize("size", [(24, 32), (32, 32), (131, 75), (61, 90)])
def test_an_image_in_pixel_order_is_resized_to_the_same_bytes_as_one_in_planes(size: tuple[int, int]) -> None:
    """`data.decode` leaves images as decoders write them, because `data.resize` is faster on these."""
    planes = torch.randint(0, 256, (3, 61, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    pixels = planes.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    for whole, other in (
        (planes, pixels),
        (planes[:, 3:50, 7:], pixels[:, 3:50, 7:]),
        (planes.flip(-1), pixels.flip(-1)),
    ):
        resized = (functional.resize(image, list(size), antialias=True) for image in (whole, other))
        assert torch.equal(*resized)
