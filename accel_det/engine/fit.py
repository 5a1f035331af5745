"""The one training loop."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from accel_det.config.schema import Config
from accel_det.draws import mix
from accel_det.engine import checkpoint, state
from accel_det.engine.collectives import share_json
from accel_det.engine.console import Console, Meter
from accel_det.engine.ema import MovingAverage
from accel_det.engine.evaluate import Evaluation, evaluate
from accel_det.engine.journal import Journal
from accel_det.engine.left_out import LeftOut
from accel_det.engine.optimize import set_rates
from accel_det.engine.phases import Phases, set_train_mode, undo_wrapping
from accel_det.engine.schedule import Course
from accel_det.engine.signals import StopRequest
from accel_det.engine.state import Counters
from accel_det.engine.step import StepResult, settle_buckets, train_step
from accel_det.tasks.base import Task
from accel_det.types import Batch

TargetT = TypeVar("TargetT")
PredictionT = TypeVar("PredictionT")
RowT = TypeVar("RowT")

_MAX_OVERFLOWS = 30


class TrainingData(Protocol[TargetT]):
    """Where batches come from; see `data.loaders.TrainingStream`."""

    def first_batch(self) -> Batch[TargetT]: ...
    def updates(self, start_step: int) -> Iterator[list[Batch[TargetT]]]: ...


class Export(Protocol):
    """Writes weights for inference; called on the first process alone."""

    def __call__(self, which: Literal["best", "last"], weights: dict[str, Tensor], counters: Counters) -> None: ...


def _as_it_is(model: nn.Module) -> nn.Module:
    return model


@dataclasses.dataclass
class Job(Generic[TargetT, PredictionT, RowT]):
    """All that training needs, put together by the command line or a test.

    Attributes:
        model: unwrapped network, on its device.
        optimizer: torch's own, over all that is trained in some phase.
        validation: gives this process's part of the evaluation split.
        course: learning rates; phases: what is trained when.
        total_steps: budget in optimizer updates; num_samples: of the training data.
        agreement: what a resumed run must have in common with the run it continues.
        wrapped, prepared_optimizer: what accelerate made of model and optimizer for the phase that goes on; None before
            the first one begins.
        phase: its number.
        for_evaluation: what an evaluation makes of the network: one that looks at each image several times, say.
        left_out: images that the run goes on without.
    """

    config: Config
    accelerator: Accelerator
    model: nn.Module
    optimizer: Optimizer
    average: MovingAverage | None
    task: Task[TargetT, PredictionT, RowT]
    training: TrainingData[TargetT]
    validation: Callable[[], Iterator[Batch[TargetT]]]
    course: Course
    phases: Phases
    total_steps: int
    num_samples: int
    folder: Path
    agreement: dict[str, Any]
    counters: Counters
    journal: Journal
    console: Console
    export: Export
    wrapped: Any = None
    prepared_optimizer: Any = None
    phase: int | None = None
    for_evaluation: Callable[[nn.Module], nn.Module] = _as_it_is
    left_out: LeftOut = dataclasses.field(default_factory=lambda: LeftOut(most=0))

    @property
    def evaluated_model(self) -> nn.Module:
        return self.average.model if self.average else self.model


class Outcome(NamedTuple):
    """How training ended: "finished", "stopped early", or "signal"."""

    reason: Literal["finished", "stopped early", "signal"]
    exit_code: int
    counters: Counters
    images_per_s: float


def fit(job: Job[TargetT, PredictionT, RowT]) -> Outcome:
    """Train until the budget is spent, patience ends or a signal comes. Collective: every process must call it."""
    counters, config = job.counters, job.config
    meter = Meter(
        images_per_update=config.train.images_per_update, total_steps=job.total_steps, device=job.accelerator.device
    )
    with StopRequest() as stop:
        _enter_phase(job)
        job.console.begin(counters.step)
        try:
            interrupted = counters.evaluation_due and _conclude(job, stop, meter)
            updates = job.training.updates(counters.step)
            while not (interrupted or counters.finished):
                _enter_phase(job)
                began = time.perf_counter()
                batches = next(updates)
                waited_s = time.perf_counter() - began
                result = _update(job, batches, stop)
                meter.count(waited_s=waited_s, step_s=time.perf_counter() - began)
                if result.left_out:
                    _note_left_out(job, [line for batch in batches for line in batch.left_out])
                _report(job, result, meter)
                counters.evaluation_due = counters.step == job.total_steps or evaluation_is_due(
                    counters.step, config, job.num_samples
                )
                interrupted = _conclude(job, stop, meter, asked_to_stop=result.stop)
        finally:
            job.console.end()
    reason: Literal["finished", "stopped early", "signal"] = (
        "signal" if not counters.finished else "finished" if counters.step == job.total_steps else "stopped early"
    )
    return Outcome(reason, stop.exit_code if reason == "signal" else 0, counters, meter.overall_images_per_s())


def _enter_phase(job: Job[TargetT, PredictionT, RowT]) -> None:
    """Where the next update is of another phase than the one before, or of the first: wrap for what is trained in it.

    Collective: every process must call it.
    """
    number = job.phases.number(job.counters.step)
    if number == job.phase:
        return
    if job.wrapped is not None:
        job.wrapped = job.prepared_optimizer = None
        undo_wrapping(job.accelerator, job.model, job.optimizer)
    job.phases.freeze_for(number)
    # DistributedDataParallel sends the first process's weights to all, also restored ones.
    job.wrapped, job.prepared_optimizer = job.accelerator.prepare(job.model, job.optimizer)
    set_train_mode(job.wrapped)
    settle_buckets(job.accelerator, job.wrapped, job.optimizer, job.training.first_batch())
    job.phase = number


def _update(job: Job[TargetT, PredictionT, RowT], batches: list[Batch[TargetT]], stop: StopRequest) -> StepResult:
    """One optimizer update with the learning rate of its step, then the moving average, which takes in no void update."""
    counters, config = job.counters, job.config
    set_rates(job.optimizer, job.course, counters.step, lr_factor=job.phases.lr_factor(counters.step))
    result = train_step(
        job.accelerator,
        job.wrapped,
        job.prepared_optimizer,
        batches,
        seed=mix(config.train.seed, counters.step),
        loss_factor=config.train.images_per_update if config.optimizer.loss_times_images else 1.0,
        max_grad_norm=config.optimizer.max_grad_norm,
        stop=stop.requested,
    )
    counters.step += 1
    counters.skipped_updates += result.skipped
    counters.overflows_in_a_row = counters.overflows_in_a_row + 1 if result.skipped else 0
    if counters.overflows_in_a_row > _MAX_OVERFLOWS:
        raise ValueError(
            f"fp16 overflowed in {_MAX_OVERFLOWS} updates in a row, up to step {counters.step}: lower optimizer.lr, "
            "or use bf16"
        )
    if job.average is not None and not result.skipped:
        job.average.update(job.model, update=counters.step - counters.skipped_updates)
    return result


def _report(job: Job[TargetT, PredictionT, RowT], result: StepResult, meter: Meter) -> None:
    step = job.counters.step
    job.console.advance(step)
    if step % job.config.journal.every_steps and step != job.total_steps:
        return
    pace = meter.read(step)
    update = step - 1
    rate = job.course.lr(update, factor=job.phases.lr_factor(update))  # of a group without a factor of its own
    measured = {"lr": rate, "images_per_s": pace.images_per_s, "data_wait": pace.data_wait, "memory_gb": pace.memory_gb}
    job.journal.write("train", step, result.losses | {"gradient_norm": result.gradient_norm} | measured)
    job.console.training(step, result.losses, lr=rate, pace=pace)


def _conclude(
    job: Job[TargetT, PredictionT, RowT], stop: StopRequest, meter: Meter, *, asked_to_stop: bool = False
) -> bool:
    """Evaluate and save where it is time, after an update or after a resume; True where a signal ends the run here.

    An evaluation that a signal prevents stays due, and is made up for when the run is resumed.
    """
    counters = job.counters
    evaluated = counters.evaluation_due and not asked_to_stop and _evaluate(job, stop)
    interrupted = asked_to_stop or (counters.evaluation_due and not evaluated)
    counters.finished = evaluated and (counters.step == job.total_steps or _patience_ended(job))
    every = job.config.checkpoint.every_steps
    if evaluated or interrupted or (every and counters.step % every == 0):
        save(job)
        meter.pause()
    return interrupted


def evaluation_is_due(step: int, config: Config, num_samples: int) -> bool:
    """Whether update number `step` (1-based) crosses a boundary between evaluations."""
    if config.evaluate.every_steps is not None:
        return step % config.evaluate.every_steps == 0
    if config.evaluate.every_epochs is None:
        return False
    images = config.evaluate.every_epochs * num_samples
    return math.floor(step * config.train.images_per_update / images) > math.floor(
        (step - 1) * config.train.images_per_update / images
    )


def _evaluate(job: Job[TargetT, PredictionT, RowT], stop: StopRequest) -> bool:
    """Score the evaluation split and remember the best; False where a signal interrupted it."""
    counters = job.counters
    found: Evaluation = evaluate(
        job.accelerator,
        job.for_evaluation(job.evaluated_model),
        job.task,
        job.validation(),
        stop=lambda: stop.requested,
    )
    if found.interrupted:
        return False
    counters.evaluation_due = False
    counters.scores = found.scores
    fitness = found.scores[job.task.fitness]
    best = counters.best_fitness is None or fitness > counters.best_fitness
    counters.evaluations_without_gain = 0 if best else counters.evaluations_without_gain + 1
    if best:
        counters.best_fitness, counters.best_step = fitness, counters.step
    if found.left_out:
        _note_left_out(job, found.left_out)
    job.journal.write("val", counters.step, found.scores)
    job.console.evaluation(counters.step, found.scores, images=found.images, seconds=found.seconds, best=best)
    if best and job.accelerator.is_main_process:
        job.export("best", job.evaluated_model.state_dict(), counters)
    return True


def _note_left_out(job: Job[TargetT, PredictionT, RowT], messages: Sequence[str]) -> None:
    """Say once what could not be read. Collective: every process must call it."""
    for line in job.left_out.add(messages, job.accelerator.device):
        job.console.say(f"warning: left out: {line}")


def _patience_ended(job: Job[TargetT, PredictionT, RowT]) -> bool:
    patience = job.config.evaluate.patience
    return patience is not None and job.counters.evaluations_without_gain >= patience


def save(job: Job[TargetT, PredictionT, RowT]) -> None:
    """Write a checkpoint and remove old ones. Collective: every process must call it.

    Raises:
        CheckpointError: on every process, where writing failed and the configuration says stop.
    """
    problem: object = None
    if job.accelerator.is_main_process:
        try:
            _save_on_first(job)
        except checkpoint.CheckpointError as error:
            problem = str(error)
    problem = share_json(problem, job.accelerator.device)
    if problem is not None:
        if job.config.checkpoint.on_save_error == "stop":
            raise checkpoint.CheckpointError(str(problem))
        job.console.say(f"warning: {problem}")


def _save_on_first(job: Job[TargetT, PredictionT, RowT]) -> None:
    counters, folder = job.counters, job.folder / "checkpoints"
    tensors = {
        "model": job.model.state_dict(),
        "optimizer": state.optimizer_tensors(job.optimizer, job.model),
    }
    if job.average is not None:
        tensors["ema"] = job.average.model.state_dict()
    scaler = job.accelerator.scaler
    values = {
        "step": counters.step,
        "counters": dataclasses.asdict(counters),
        "agreement": job.agreement,
        "scaler": scaler.state_dict() if scaler else None,
        "processes": job.accelerator.num_processes,
    }
    checkpoint.save(folder, checkpoint.Snapshot(counters.step, tensors, values))
    kept = {counters.best_step} if counters.best_step is not None else set()
    checkpoint.prune(folder, current=counters.step, keep_last=job.config.checkpoint.keep_last, keep_steps=kept)
    if counters.finished:
        job.export("last", job.evaluated_model.state_dict(), counters)


def restore(job: Job[TargetT, PredictionT, RowT], snapshot: checkpoint.Snapshot) -> None:
    """Take up a run where a checkpoint left it.

    Raises:
        CheckpointError: the checkpoint is of another network, other data, or another order of data.
    """
    for key, now in job.agreement.items():
        then = snapshot.state["agreement"].get(key)
        if then != now:
            raise checkpoint.CheckpointError(
                f"{key} was {then} in the checkpoint of step {snapshot.step} and is {now} now, so this would be another run: "
                "restore it, or start a new run with model.weights set to this run's export"
            )
    state.restore_model(job.model, snapshot.tensors["model"], "model")
    if job.average is not None:
        # A run that did without an average begins one from the weights that it has.
        state.restore_model(job.average.model, snapshot.tensors.get("ema", snapshot.tensors["model"]), "ema")
    state.restore_optimizer(job.optimizer, job.model, snapshot.tensors["optimizer"])
    if job.accelerator.scaler is not None and snapshot.state["scaler"]:
        job.accelerator.scaler.load_state_dict(snapshot.state["scaler"])
    job.counters = state.counters_from(snapshot.state)
