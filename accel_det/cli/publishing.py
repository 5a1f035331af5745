"""Exports of a run, and their way to the Hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from accel_det.cli.compose import Parts, Provenance, Tables, command_line, split_info
from accel_det.config.schema import Config
from accel_det.engine.console import Console
from accel_det.engine.runtime import versions
from accel_det.engine.state import Counters
from accel_det.models.zoo import OptionValue
from accel_det.publish.export import write_export
from accel_det.publish.hub import BackgroundPusher, Destination
from accel_det.publish.info import ExportInfo, TrainingInfo

_PATIENCE_S = 120.0


class Publisher:
    """Writes `export/best` and `export/last` of a run, and pushes the best where the configuration names a repository.

    Args:
        active: whether this is the first process; the others do nothing.

    Attributes:
        options: with which exports build the network again; those of the configuration, until they are set.
    """

    def __init__(
        self, folder: Path, config: Config, parts: Parts, tables: Tables[Any], *, speaker: Console, active: bool
    ) -> None:
        self._folder = folder
        self._config = config
        self._parts = parts
        self._tables = tables
        self._speaker = speaker
        self.options: Mapping[str, OptionValue] = config.model.options
        push = config.push
        self._pusher = (
            BackgroundPusher(Destination(push.repo, private=push.private), report=speaker.say)
            if push.repo is not None and active
            else None
        )

    def export(self, which: Literal["best", "last"], weights: dict[str, Tensor], counters: Counters) -> None:
        """Write an export; a failure to push it later never stops training."""
        target = self._folder / "export" / which
        write_export(target, state=self._parts.exported(weights), info=self._info(counters))
        if which == "best" and self._pusher is not None:
            self._pusher.submit(target, message=f"Step {counters.step}: best {counters.best_fitness:.4f}")

    def close(self) -> None:
        """Wait a while for a push that is under way, and say how it went."""
        if self._pusher is not None:
            result = self._pusher.close(timeout_s=_PATIENCE_S)
            if result is not None and not result.ok:
                self._speaker.say(f"warning: {result.line()}")

    def _info(self, counters: Counters) -> ExportInfo:
        config, tables = self._config, self._tables
        data = {
            "train": split_info(config, config.data.train, tables.train),
            "val": split_info(config, config.data.val, tables.val),
        }
        training = TrainingInfo(counters.step, config.train.seed, command_line(), versions())
        return self._parts.export_info(tables, Provenance(data, counters.scores, training, self.options))
