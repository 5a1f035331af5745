"""Exports of a run, and their way to the Hub."""

from pathlib import Path
from typing import Literal

from torch import Tensor

from accel_det.cli.compose import Tables
from accel_det.config.schema import Config
from accel_det.engine.console import Console
from accel_det.engine.state import Counters


class Publisher:
    """Writes `export/best` and `export/last` of a run, and pushes the best where the configuration names a repository."""

    def __init__(self, folder: Path, config: Config, tables: Tables, *, speaker: Console, active: bool) -> None:
        self._folder = folder

    def export(self, which: Literal["best", "last"], weights: dict[str, Tensor], counters: Counters) -> None:
        pass

    def close(self) -> None:
        pass
