"""What a person sees: a live line while training, a table after each evaluation; plain lines when not on a terminal."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import psutil
import torch
from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

_HEADLINES = (
    "AP",
    "AP50",
    "AP75",
    "APs",
    "APm",
    "APl",
    "AR100",
    "VOC12/mAP",
    "rank1",
    "rank5",
    "rank10",
    "mAP",
    "mINP",
)


# Columns for any table of names and numbers.
_ENOUGH = 400
# Columns of a terminal from which the bar and every term of the loss have room.
_WIDE = 140


class Pace(NamedTuple):
    """How fast it goes: over all processes, since the last report."""

    images_per_s: float
    data_wait: float
    memory_gb: float
    remaining_s: float


class Meter:
    """Measures the pace.

    Args:
        images_per_update: over all processes.
        total_steps: budget.
    """

    def __init__(self, *, images_per_update: int, total_steps: int, device: torch.device) -> None:
        self._images_per_update = images_per_update
        self._total_steps = total_steps
        self._device = device
        self._since = time.perf_counter()
        self._waited_s = 0.0
        self._updates = 0
        self.training_s = 0.0
        self.updates = 0

    def count(self, *, waited_s: float, step_s: float) -> None:
        """One update: seconds it waited for data, and seconds in all."""
        self._waited_s += waited_s
        self._updates += 1
        self.training_s += step_s
        self.updates += 1

    def read(self, step: int) -> Pace:
        """The pace since the last reading."""
        elapsed = max(1e-9, time.perf_counter() - self._since)
        rate = self._updates / elapsed
        pace = Pace(
            images_per_s=rate * self._images_per_update,
            data_wait=self._waited_s / elapsed,
            memory_gb=_memory_gb(self._device),
            remaining_s=(self._total_steps - step) / rate if rate else 0.0,
        )
        self._since, self._waited_s, self._updates = time.perf_counter(), 0.0, 0
        return pace

    def pause(self) -> None:
        """Begin anew, so that what happened since does not count: an evaluation, a checkpoint."""
        self._since, self._waited_s, self._updates = time.perf_counter(), 0.0, 0

    def overall_images_per_s(self) -> float:
        """Over the whole run, evaluations and checkpoints left out."""
        return self.updates * self._images_per_update / max(1e-9, self.training_s)


class Console:
    """The voice of the first process; the others are quiet.

    Args:
        speaks: whether this is the first process.
        total_steps: budget, for the bar.
        to_stderr: leaves stdout to a machine-readable result.
    """

    def __init__(self, *, speaks: bool, total_steps: int = 0, to_stderr: bool = False) -> None:
        self._speaks = speaks
        self._total_steps = total_steps
        self._rich = RichConsole(
            file=sys.stderr if to_stderr else sys.stdout, highlight=False, emoji=False, soft_wrap=True
        )
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def say(self, line: str) -> None:
        if self._speaks:
            self._rich.print(line, markup=False)

    def show(self, table: Table, *, whole: bool = False) -> None:
        """Print a table.

        Args:
            whole: at the width that its cells need, also where the terminal is narrower: for names that are copied.
        """
        if self._speaks:
            wide = (
                RichConsole(file=self._rich.file, highlight=False, emoji=False, width=_ENOUGH) if whole else self._rich
            )
            wide.print(table, soft_wrap=False)

    def begin(self, step: int) -> None:
        """Show the bar, where there is a terminal."""
        if self._speaks and self._rich.is_terminal:
            columns: list[ProgressColumn] = [
                TextColumn("{task.completed}/{task.total}"),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            ]
            if self._rich.width >= _WIDE:
                columns.insert(0, BarColumn(24))
            self._bar = Progress(*columns, console=self._rich)
            self._task = self._bar.add_task("", total=self._total_steps, completed=step)
            self._bar.start()

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def advance(self, step: int) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step)

    def describe(self, text: str) -> bool:
        """Say beside the bar how it goes; False where there is no bar."""
        if self._bar is None or self._task is None:
            return False
        self._bar.update(self._task, description=text)
        return True

    def training(self, step: int, losses: Mapping[str, float], *, lr: float, pace: Pace) -> None:
        """The numbers of one report."""
        total = losses["total"]
        terms = " ".join(f"{name} {value:.3g}" for name, value in group_terms(losses).items())
        detail = f"({terms}) " if self._bar is None or self._rich.width >= _WIDE else ""
        text = (
            f"loss {total:.4g} {detail}lr {lr:.3g} {pace.images_per_s:.1f} images/s "
            f"data wait {pace.data_wait:.0%} {pace.memory_gb:.1f} GB"
        )
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, description=text)
        else:
            self.say(f"step {step}/{self._total_steps} {text} ETA {_duration(pace.remaining_s)}")

    def evaluation(self, step: int, scores: Mapping[str, float], *, images: int, seconds: float, best: bool) -> None:
        """The table after an evaluation."""
        self.headline(f"step {step}: {images} images in {seconds:.1f} s{', best so far' if best else ''}", scores)

    def headline(self, title: str, scores: Mapping[str, float]) -> None:
        """The numbers that people look at first, in one row."""
        shown = [name for name in _HEADLINES if name in scores]
        table = Table(title=title, title_justify="left")
        for name in shown:
            table.add_column(name, justify="right")
        table.add_row(*(_score(scores[name]) for name in shown))
        self.show(table)

    def per_class(self, scores: Mapping[str, float], classes: Sequence[str]) -> None:
        """AP and AP50 of every class."""
        table = Table("class", "AP", "AP50")
        for name in classes:
            table.add_row(name, _score(scores.get(f"AP/{name}", -1)), _score(scores.get(f"AP50/{name}", -1)))
        self.show(table)


def group_terms(losses: Mapping[str, float]) -> dict[str, float]:
    """Loss terms for display: "box/p3" and "box/p4" are shown as one "box"."""
    grouped: dict[str, float] = {}
    for name, value in losses.items():
        if name != "total":
            head = name.partition("/")[0]
            grouped[head] = grouped.get(head, 0.0) + value
    return grouped


def _score(value: float) -> str:
    return "-" if value < 0 else f"{value:.3f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _memory_gb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return float(psutil.Process().memory_info().rss) / 2**30
