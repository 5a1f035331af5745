"""What accelerate does on one process, and this code relies on or works around.

If one of these fails, accelerate has changed: audit the code that the docstring names again; do not edit the assertion.
"""

import dataclasses
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from accelerate import Accelerator
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.state import AcceleratorState, GradientState
from accelerate.tracking import get_available_trackers
from accelerate.utils import send_to_device
from torch import Tensor, nn


@pytest.fixture(autouse=True)
def fresh_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """accelerate keeps its state in the process: begin and end without any, and without a launcher's variables."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_CPU"):
        monkeypatch.delenv(name, raising=False)
    _reset()
    yield
    _reset()


def _reset() -> None:
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


class Pair(NamedTuple):
    tensor: Tensor
    name: str


@dataclasses.dataclass
class Record:
    tensor: Tensor


def test_tensors_in_named_tuples_are_moved_and_those_in_dataclasses_are_not() -> None:
    """types.py: what crosses to the device is a NamedTuple."""
    moved = send_to_device({"pair": [Pair(torch.zeros(1), "a")], "record": Record(torch.zeros(1))}, "meta")
    assert isinstance(moved["pair"][0], Pair)
    assert moved["pair"][0].tensor.device.type == "meta"
    assert moved["pair"][0].name == "a"
    assert moved["record"].tensor.device.type == "cpu"


@pytest.mark.parametrize(("steps", "expected"), [(1, 1.0), (4, 0.25)])
def test_backward_divides_by_the_configured_accumulation(steps: int, expected: float) -> None:
    """engine/runtime.py leaves accumulation at 1, because engine/step.py divides by counts itself."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=steps)
    weight = torch.ones(1, requires_grad=True)
    accelerator.backward(weight.sum())
    assert weight.grad is not None
    assert weight.grad.item() == expected


def test_a_prepared_optimizer_steps_and_says_that_nothing_was_skipped() -> None:
    """engine/step.py steps outside of `accumulate`, and counts skipped updates."""
    accelerator = Accelerator(cpu=True)
    weight = nn.Parameter(torch.ones(1))
    optimizer = accelerator.prepare(torch.optim.SGD([weight], lr=1.0))
    weight.grad = torch.ones(1)
    accelerator.unscale_gradients(optimizer)
    optimizer.step()
    assert weight.item() == 0.0
    assert accelerator.optimizer_step_was_skipped is False
    assert accelerator.scaler is None


def test_a_network_is_not_wrapped_on_one_process() -> None:
    """engine/step.py unwraps, and takes whatever `prepare` gave."""
    accelerator = Accelerator(cpu=True)
    model = nn.Linear(1, 1)
    assert accelerator.unwrap_model(accelerator.prepare(model)) is model


def test_the_environment_decides_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """engine/runtime.py compares runtime.precision with this variable before anything starts."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert Accelerator(cpu=True).mixed_precision == "bf16"


def test_a_tracker_that_is_not_installed_is_dropped_without_an_error(tmp_path: Path) -> None:
    """engine/runtime.py: `check_trackers` refuses it instead."""
    absent = next((name for name in ("aim", "swanlab", "dvclive", "comet_ml") if find_spec(name) is None), None)
    if absent is None:
        pytest.skip("every tracker is installed")
    accelerator = Accelerator(cpu=True, log_with=absent, project_dir=tmp_path)
    assert accelerator.log_with == []
    assert absent not in [str(tracker) for tracker in get_available_trackers()]


def test_trackers_take_flat_values_alone(tmp_path: Path) -> None:
    """cli/train.py flattens the configuration for them."""
    accelerator = Accelerator(cpu=True, log_with="tensorboard", project_dir=tmp_path)
    with pytest.raises(ValueError, match="value should be one of int, float, str, bool"):
        accelerator.init_trackers("run", config={"train": {"steps": 3}})


def test_a_launch_file_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    """The test of accelerate_configs/ relies on it to notice a misspelt key."""
    file = tmp_path / "cpu.yaml"
    text = "compute_environment: LOCAL_MACHINE\ndistributed_type: 'NO'\nmixed_precision: 'no'\nuse_cpu: true\n"
    text += "debug: false\n"
    file.write_text(text + "num_processes: 1\n", encoding="utf-8")
    assert load_config_from_file(str(file)).num_processes == 1
    file.write_text(text + "num_proceses: 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="num_proceses"):
        load_config_from_file(str(file))
