"""The state of a run <-> a snapshot: optimizer state by parameter name, counters as plain values."""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from accel_det.engine.checkpoint import CheckpointError


@dataclasses.dataclass
class Counters:
    """Where a run is; beside the tensors, all that a resume needs.

    Attributes:
        step: optimizer updates done: the position in the data, the schedule and all random draws follow from it.
        skipped_updates: of them, those that fp16 overflow made void.
        overflows_in_a_row: of those, the last uninterrupted series.
        best_fitness, best_step: the best evaluation so far.
        evaluations_without_gain: since the best.
        scores: of the last evaluation.
        evaluation_due: an evaluation of this step was put off by a signal.
        finished: the budget is spent, or training stopped early.
    """

    step: int = 0
    skipped_updates: int = 0
    overflows_in_a_row: int = 0
    best_fitness: float | None = None
    best_step: int | None = None
    evaluations_without_gain: int = 0
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    evaluation_due: bool = False
    finished: bool = False


def optimizer_tensors(optimizer: Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """State of the optimizer: "parameter name:key" -> tensor."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    return {
        f"{names[parameter]}:{key}": value
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(optimizer: Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave.

    Raises:
        CheckpointError: a tensor belongs to no parameter that is trained now.
    """
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    parameters = {name: p for name, p in model.named_parameters() if id(p) in trained}
    for full_name, value in tensors.items():
        name, _, key = full_name.rpartition(":")
        if name not in parameters:
            raise CheckpointError(
                f"optimizer state for `{name}`, which is not trained now: resume with the same model, or start a new run "
                "with model.weights"
            )
        # Adam's step counter stays on the CPU unless the optimizer is fused.
        parameter = parameters[name]
        device = parameter.device if value.ndim or _is_fused(optimizer) else torch.device("cpu")
        restored = value.to(device, copy=True)
        # Laid out as the optimizer made it, or the next step would round otherwise.
        if value.ndim and value.shape == parameter.shape:
            restored = torch.empty_like(parameter, dtype=value.dtype).copy_(restored)
        optimizer.state[parameter][key] = restored


def restore_model(model: nn.Module, tensors: dict[str, Tensor], what: str) -> None:
    """Load all tensors, strictly.

    Raises:
        CheckpointError: names or shapes differ from the network's.
    """
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise CheckpointError(
            f"the checkpoint's {what} is of another network ({first}); use the configuration it was made with"
        ) from None


def counters_from(state: dict[str, Any]) -> Counters:
    return Counters(**state["counters"])


def _is_fused(optimizer: Optimizer) -> bool:
    return bool(optimizer.param_groups[0].get("fused"))
