"""The loop on one process, with a network of one layer and scores that the test makes up."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from accel_det.config.detection import DetectionConfig
from accel_det.engine import evaluate as evaluate_module
from accel_det.engine import fit as fit_module
from accel_det.engine.console import Console
from accel_det.engine.ema import MovingAverage
from accel_det.engine.fit import Job, Outcome, fit
from accel_det.engine.journal import Journal, read_journal
from accel_det.engine.optimize import make_optimizer
from accel_det.engine.phases import Phases
from accel_det.engine.schedule import Course, peak_learning_rate
from accel_det.engine.state import Counters
from accel_det.engine.step import StepResult
from accel_det.types import Batch, BoxTarget, Frame, LossTerm, Sample


class Network(nn.Module):
    """Loss: the mean of (x . backbone + head) over images, so gradients are known on paper."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv2d(3, 1, 1, bias=False)
        self.head = nn.Parameter(torch.ones(1))
        nn.init.ones_(self.backbone.weight)

    def forward(self, batch: Batch[BoxTarget]) -> dict[str, LossTerm]:
        values = self.backbone(batch.images.float()).mean(dim=(1, 2, 3)) + self.head
        return {"mean": LossTerm(values.sum(), torch.tensor(float(len(batch.images))))}

    def counts(self, batch: Batch[BoxTarget]) -> dict[str, Tensor]:
        return {"mean": torch.tensor(float(len(batch.images)))}


class ScriptedTask:
    """Scores one after the other."""

    fitness = "score"

    def __init__(self, scores: Sequence[float]) -> None:
        self._scores = iter(scores)

    def score(self, rows: object) -> dict[str, float]:
        return {"score": next(self._scores)}

    def pack(self, rows: object) -> dict[str, Tensor]:
        return {}

    def unpack(self, packed: Mapping[str, Tensor]) -> list[Any]:
        return []

    def collate(self, samples: Sequence[Sample[BoxTarget]]) -> Batch[BoxTarget]:
        raise AssertionError("not needed")

    def row(self, frame: Frame, target: BoxTarget, prediction: Any) -> Any:
        raise AssertionError("not needed")


class Images:
    """Two micro-batches of two images each, all of one color."""

    def first_batch(self) -> Batch[BoxTarget]:
        pixels = torch.full((2, 3, 2, 2), 2, dtype=torch.uint8)
        return Batch(pixels, torch.full((2, 2), 2), [BoxTarget.empty()] * 2, [Frame(0, "a", 2, 2)] * 2)

    def updates(self, start_step: int) -> Iterator[list[Batch[BoxTarget]]]:
        while True:
            yield [self.first_batch(), self.first_batch()]


def make_job(folder: Path, *, scores: Sequence[float] = (), **changes: Any) -> Job[Any, Any, Any]:
    tree: dict[str, Any] = {
        "name": "a",
        "model": {"name": "yolov5n"},
        "data": {"sets": {"s": {"format": "coco"}}, "train": "s:train", "val": "s:val"},
        "optimizer": {"lr": 0.5, "momentum": 0.0, "weight_decay": 0.0},
        "schedule": {"name": "constant"},
        "train": {"steps": 12, "images_per_update": 4},
        "ema": {"enabled": False},
        "evaluate": {},
        "journal": {"every_steps": 1, "trackers": []},
    }
    for section, values in changes.items():
        tree[section] = tree[section] | values
    config = DetectionConfig.model_validate(tree)
    accelerator, model = Accelerator(cpu=True), Network()
    steps = config.train.steps or 0
    peak, _ = peak_learning_rate(config.optimizer, config.train.images_per_update)
    return Job(
        config=config,
        accelerator=accelerator,
        model=model,
        optimizer=make_optimizer(model, config.optimizer),
        average=None,
        task=ScriptedTask(scores),
        training=Images(),
        validation=lambda: iter(()),
        course=Course(config.optimizer, config.schedule, peak, steps, config.schedule.warmup_steps),
        phases=Phases(config.train.phases, total_steps=steps, model=model),
        total_steps=steps,
        num_samples=100,
        folder=folder,
        agreement={},
        counters=Counters(),
        journal=Journal(folder, accelerator, from_step=0),
        console=Console(speaks=False),
        export=lambda which, weights, counters: None,
    )


@pytest.mark.parametrize(
    ("scores", "patience", "stopped_after", "best"),
    [
        ([0.5, 0.4, 0.4, 0.9], 2, 6, 2),
        # A result that is equal is not better; a better one begins the count anew.
        ([0.5, 0.5, 0.6, 0.6, 0.1, 0.9], 2, 10, 6),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 1, 12, 12),
        ([0.6, 0.5, 0.4, 0.3, 0.2, 0.1], None, 12, 2),
    ],
)
def test_training_stops_after_so_many_evaluations_without_a_better_one(
    tmp_path: Path, scores: list[float], patience: int | None, stopped_after: int, best: int
) -> None:
    job = make_job(tmp_path, scores=scores, evaluate={"every_steps": 2, "patience": patience})
    outcome: Outcome = fit(job)
    assert (outcome.counters.step, outcome.counters.best_step) == (stopped_after, best)
    assert outcome.counters.best_fitness == scores[best // 2 - 1]
    assert outcome.reason == ("finished" if stopped_after == 12 else "stopped early")
    assert outcome.counters.finished and outcome.exit_code == 0


def test_a_loss_times_the_images_moves_weights_so_much_further_and_reports_the_same_means(tmp_path: Path) -> None:
    """The gradient of the mean is 2 for each of three weights and 1 for the head; 4 images in an update."""
    lines = []
    for number, times_images in enumerate((False, True)):
        folder = tmp_path / str(number)
        folder.mkdir()
        factor = 4 if times_images else 1
        settings = {"lr": 0.01, "momentum": 0.0, "weight_decay": 0.0, "loss_times_images": times_images}
        job = make_job(folder, scores=[0.0], train={"steps": 1, "images_per_update": 4}, optimizer=settings)
        fit(job)
        assert job.model.backbone.weight.flatten().tolist() == pytest.approx([1 - 0.01 * 2 * factor] * 3)
        assert job.model.head.item() == pytest.approx(1 - 0.01 * factor)
        lines.append(read_journal(folder)[0])
    assert lines[0]["total"] == lines[1]["total"] == 7.0
    assert lines[1]["gradient_norm"] == pytest.approx(4 * lines[0]["gradient_norm"]) == pytest.approx(4 * 13**0.5)


def test_the_gradient_of_the_multiplied_loss_is_clipped(tmp_path: Path) -> None:
    settings = {"lr": 1.0, "momentum": 0.0, "weight_decay": 0.0, "loss_times_images": True, "max_grad_norm": 10.0}
    job = make_job(tmp_path, scores=[0.0], train={"steps": 1, "images_per_update": 4}, optimizer=settings)
    fit(job)
    # Norm 4 * sqrt(13) = 14.4 is clipped to 10: each weight moves by 8 * 10 / 14.4.
    assert job.model.head.item() == pytest.approx(1 - 4 * 10 / (4 * 13**0.5), rel=1e-5)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_what_a_phase_freezes_neither_decays_nor_keeps_moving_and_takes_up_its_state_afterwards(
    tmp_path: Path, optimizer: str
) -> None:
    phases = [{"until": 0.25}, {"until": 0.5, "freeze": ["backbone.*"], "lr_factor": 0.5}]
    settings = {"name": optimizer, "lr": 0.01, "momentum": 0.9, "weight_decay": 0.1}
    job = make_job(tmp_path, scores=[0.0], optimizer=settings, train={"steps": 12, "phases": phases})
    watched: list[tuple[float, float, Any]] = []
    job.console.advance = lambda step: watched.append(  # type: ignore[method-assign]
        (
            float(job.model.backbone.weight.flatten()[0].detach()),
            float(job.model.head.detach()),
            copy.deepcopy(job.optimizer.state[job.model.backbone.weight]),
        )
    )
    fit(job)
    backbone, head, states = zip(*watched, strict=True)
    assert backbone[2] == backbone[3] == backbone[5] != backbone[6]
    assert len(set(head)) == 12
    for key, value in states[2].items():
        assert torch.equal(value, states[5][key]), f"{key} of the optimizer changed while frozen"
        assert not torch.equal(value, states[6][key])
    rates = [entry["lr"] for entry in read_journal(tmp_path) if entry["kind"] == "train"]
    assert rates == [0.01] * 3 + [0.005] * 3 + [0.01] * 6
    assert job.phase == 2


def test_the_moving_average_takes_in_nothing_from_void_updates_and_does_not_count_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Update n keeps a share of 0.5 * (1 - exp(-n / 3)), n counting the updates that moved the weights."""
    void = {1, 2, 5}
    done: list[int] = []

    def scripted(accelerator: Any, wrapped: nn.Module, *others: Any, **settings: Any) -> StepResult:
        done.append(len(done) + 1)
        if done[-1] not in void:
            wrapped.head.data += 1  # type: ignore[operator,union-attr]
        return StepResult({"total": 1.0}, 1.0, False, done[-1] in void)

    monkeypatch.setattr(fit_module, "train_step", scripted)
    job = make_job(tmp_path, scores=[0.0], train={"steps": 6, "images_per_update": 4})
    job.average = MovingAverage(job.model, decay=0.5, ramp_steps=3.0)
    watched: list[float] = []
    job.console.advance = lambda step: watched.append(job.average.model.head.item())  # type: ignore
    fit(job)
    weight = average = 1.0
    expected = []
    for update, number in ((1, 0), (2, 0), (3, 1), (4, 2), (5, 0), (6, 3)):
        if update not in void:
            weight += 1
            keep = 0.5 * (1 - math.exp(-number / 3))
            average = keep * average + (1 - keep) * weight
        expected.append(average)
    assert watched == pytest.approx(expected, rel=1e-6)
    assert job.counters.skipped_updates == 3


def test_best_and_last_are_both_written_after_one_evaluation_that_is_the_best_and_the_last(tmp_path: Path) -> None:
    """And so is the checkpoint of that update, which is kept as the newest and as the best at once."""
    job = make_job(tmp_path, scores=[0.3, 0.4, 0.7], evaluate={"every_steps": 4})
    written: list[tuple[str, int, float]] = []
    job.export = lambda which, weights, counters: written.append((which, counters.step, weights["head"].item()))
    fit(job)
    head = job.model.head.item()
    assert [entry[:2] for entry in written] == [("best", 4), ("best", 8), ("best", 12), ("last", 12)]
    assert written[2][2] == written[3][2] == head
    assert written[0][2] > written[1][2] > head
    assert sorted(file.name for file in (tmp_path / "checkpoints").glob("step-*"))[-1].endswith("12")


@pytest.mark.parametrize("averaged", [False, True])
def test_what_is_evaluated_is_never_wrapped_and_has_the_buffers_of_the_first_process_before_it_predicts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, averaged: bool
) -> None:
    """A forward pass through DistributedDataParallel would wait for processes that have fewer batches."""
    events: list[str] = []

    class Wrapped(nn.Module):
        def __init__(self, inside: nn.Module) -> None:
            super().__init__()
            self.inside = inside

        def forward(self, batch: Batch[BoxTarget]) -> Any:
            events.append("wrapped")
            return self.inside(batch)

    job = make_job(tmp_path, scores=[0.1], train={"steps": 1, "images_per_update": 4})
    if averaged:
        job.average = MovingAverage(job.model, decay=0.9, ramp_steps=1.0)
    expected = job.evaluated_model
    prepare, unwrap = job.accelerator.prepare, job.accelerator.unwrap_model
    monkeypatch.setattr(job.accelerator, "prepare", lambda model, optimizer: (Wrapped(model), prepare(optimizer)))
    monkeypatch.setattr(job.accelerator, "unwrap_model", lambda model, **_: unwrap(model.inside))
    monkeypatch.setattr(evaluate_module, "share_buffers", lambda model: events.append(f"share {model is expected}"))
    job.validation = lambda: iter([job.training.first_batch()])
    job.task.row = lambda frame, target, prediction: events.append("row")
    expected.register_forward_hook(lambda *_: events.append("predicted"))
    monkeypatch.setattr(
        expected, "forward", lambda batch: [None] * len(batch.images) if not expected.training else None
    )
    monkeypatch.setattr(fit_module, "train_step", lambda *_, **__: StepResult({"total": 1.0}, 1.0, False, False))
    fit(job)
    assert isinstance(job.wrapped, Wrapped)
    assert events == ["share True", "predicted", "row", "row"]
