"""Phases of a training: which parameters are trained in which update, a pure function of its number."""

import fnmatch
import math
from collections.abc import Sequence

from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.optim import Optimizer

from accel_det.config.schema import PhaseSection

# These take parameters apart when they wrap a network; afterwards there is no other network to wrap.
_SHARDED = {DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA}


class Phases:
    """Where each phase ends, and what is trained in it; the last one, behind those given, trains everything.

    Args:
        phases: ends ascending.
        total_steps: budget in updates.
        model: what is trainable now is "everything".
        distributed: how parameters are spread.

    Raises:
        ValueError: a pattern matches no parameter, a phase has nothing to train, or parameters are sharded.
    """

    def __init__(
        self,
        phases: Sequence[PhaseSection],
        *,
        total_steps: int,
        model: nn.Module,
        distributed: DistributedType = DistributedType.NO,
    ) -> None:
        if phases and distributed in _SHARDED:
            raise ValueError(
                f"train.phases needs plain data parallelism, but accelerate was told {distributed.value}: freeze for the "
                "whole run with model.freeze, or use another accelerate config"
            )
        self._model = model
        # A share that is a whole number of updates must not become one more by rounding.
        self._ends = [math.ceil(section.until * total_steps - 1e-6) for section in phases]
        self._factors = [*(section.lr_factor for section in phases), 1.0]
        every = frozenset(name for name, parameter in model.named_parameters() if parameter.requires_grad)
        self._trained = [every - _matching(model, section, place) for place, section in enumerate(phases)]
        for place, trained in enumerate(self._trained):
            if not trained:
                raise ValueError(
                    f"train.phases[{place}].freeze: the patterns freeze every parameter, so there is nothing to train"
                )
        self._trained.append(every)

    def number(self, step: int) -> int:
        """The phase of update number `step` (0-based), counted from 0."""
        return sum(step >= end for end in self._ends)

    def lr_factor(self, step: int) -> float:
        return self._factors[self.number(step)]

    def describe(self) -> list[str]:
        """One line for each phase, where there are any."""
        starts = [0, *self._ends]
        lines = []
        for place in range(len(self._trained) if self._ends else 0):
            end = f"{self._ends[place]}" if place < len(self._ends) else "the end"
            if end == f"{starts[place]}":
                continue  # of a budget so small that nothing is left for the phase
            frozen = len(self._trained[-1]) - len(self._trained[place])
            lines.append(
                f"phase {place + 1}: updates {starts[place] + 1} to {end}, {frozen} parameters frozen, "
                f"learning rate x {self._factors[place]:g}"
            )
        return lines

    def freeze_for(self, number: int) -> None:
        """Let only the parameters of a phase have gradients."""
        for name, parameter in self._model.named_parameters():
            parameter.requires_grad_(name in self._trained[number])


def undo_wrapping(accelerator: Accelerator, model: nn.Module, optimizer: Optimizer) -> None:
    """Take back `accelerator.prepare`, so that the network can be wrapped for other parameters.

    DistributedDataParallel fixes at its construction which parameters have gradients.

    Args:
        model, optimizer: unwrapped; the caller must have dropped what they were wrapped in, or its memory stays.
    """
    optimizer.zero_grad()  # gradients are views of the old buckets
    if accelerator.num_processes > 1:  # a lone process gets its network back as it is, for good
        accelerator.unwrap_model(model, keep_fp32_wrapper=False)
    accelerator.free_memory()


def set_train_mode(model: nn.Module) -> None:
    """Train mode; batch norms whose parameters are all frozen keep their statistics."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._NormBase):
            parameters = list(module.parameters(recurse=False))
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                module.eval()


def _matching(model: nn.Module, section: PhaseSection, place: int) -> frozenset[str]:
    names = [name for name, _ in model.named_parameters()]
    found: set[str] = set()
    for pattern in section.freeze:
        hits = fnmatch.filter(names, pattern)
        if not hits:
            tops = sorted({".".join(name.split(".")[:3]) for name in names})
            raise ValueError(
                f"train.phases[{place}].freeze: `{pattern}` matches no parameter; names begin with "
                f"{', '.join(tops[:8])}, ..."
            )
        found.update(hits)
    return frozenset(found)
