"""What accelerate and torch do on two processes, and this code relies on or works around.

If one of these fails, a library has changed: audit the code that the docstring names again; do not edit the assertion.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from accel_det.cli.failures import _LOST_PEER

SCRIPT = Path(__file__).with_name("two_processes.py")

Found = list[dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each of the two processes saw, by rank: one launch for all canaries."""
    folder = tmp_path_factory.mktemp("two_processes")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    processes = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder)],
            env=clean | told | {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(error[-1500:] for error in errors)
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


def test_without_cpu_true_processes_on_a_machine_without_gpu_do_not_find_each_other(found: Found) -> None:
    """engine/runtime.py passes cpu=True there, and compares the world it got with WORLD_SIZE."""
    if "world without cpu=True" not in found[0]:
        pytest.skip("this machine has a GPU")
    assert [one["world without cpu=True"] for one in found] == [1, 1]


def test_with_cpu_true_they_join_over_gloo(found: Found) -> None:
    """engine/runtime.py: the form in which CPU processes train together; only a timeout is given to the group."""
    assert [(one["world"], one["backend"]) for one in found] == [(2, "gloo"), (2, "gloo")]


def test_torch_gives_no_name_to_a_group_that_was_made_without_one(found: Found) -> None:
    """engine/runtime.py must not show `get_backend()` to people: the backends by device are behind a private name."""
    assert {one["backend as torch names it"] for one in found} == {"undefined"}


def test_a_prepared_scheduler_steps_once_per_process(found: Found) -> None:
    """engine/optimize.py: the learning rate is a function of the step, and no scheduler is ever prepared."""
    assert [one["scheduler steps"] for one in found] == [2, 2]


def test_wrapping_gives_every_process_the_weights_of_the_first(found: Found) -> None:
    """cli/train.py restores a checkpoint before it wraps, and draws fresh weights from the seed on every process."""
    assert found[0]["wrapper"] == "DistributedDataParallel"
    assert found[0]["own weights kept"]
    assert not found[1]["own weights kept"]
    assert found[0]["weights"] == found[1]["weights"]


def test_gradients_are_averaged_and_not_added(found: Found) -> None:
    """engine/normalize.py multiplies the loss by the number of processes."""
    first, second = found[0]["gradient of each process"]
    mean = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    for one in found:
        assert one["averaged gradient"] == pytest.approx(mean, rel=1e-6)


def test_inside_no_sync_gradients_stay_with_their_process(found: Found) -> None:
    """engine/step.py accumulates micro-batches without talking, and talks at the last one."""
    for rank, one in enumerate(found):
        assert one["gradient without synchronisation"] == pytest.approx(one["gradient of each process"][rank], rel=1e-6)


def test_buckets_are_rebuilt_once_after_the_first_backward_pass(found: Found) -> None:
    """engine/step.py: `settle_buckets` spends one pass, so that a resumed run adds in the same order."""
    for one in found:
        assert one["buckets are rebuilt after backward pass 1, 2, 3"] == [True, False, False]


def test_buffers_of_the_first_process_are_sent_to_all_at_a_forward_pass(found: Found) -> None:
    """engine/evaluate.py shares buffers before an evaluation, and checkpoints hold those of the first process."""
    assert [one["buffer after forward"] for one in found] == [[0.0], [0.0]]


def test_synchronized_batch_norm_refuses_the_cpu(found: Found) -> None:
    """models/layers/batch_norm.py has a layer of its own for CPU processes."""
    assert all("expected input tensor to be on" in one["synchronized norm"] for one in found)


def test_gloo_gathers_bytes_on_the_first_process(found: Found) -> None:
    """engine/collectives.py sends rows of metrics as bytes, because not every backend knows every type."""
    assert found[0]["gathered bytes"] == [[0, 10], [1, 11]]
    assert found[1]["gathered bytes"] is None


def test_sums_over_processes_keep_float64(found: Found) -> None:
    """engine/normalize.py adds sums and counts in float64."""
    assert [one["sum in float64"] for one in found] == [1 + 2**-50] * 2


def test_a_dead_process_is_an_error_with_known_words_and_not_a_hang(found: Found) -> None:
    """cli/failures.py turns the error into one line; it knows it by these words."""
    error = found[0]["error after a process died"]
    assert any(sign in error for sign in _LOST_PEER), error
