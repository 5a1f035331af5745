"""metrics.jsonl, the trackers of accelerate, and the status file of a run; written by the first process alone."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import Accelerator


class Journal:
    """One line of JSON per entry; the same numbers go to the trackers.

    Args:
        folder: of the run.
        from_step: entries after this step are of a life of the run that was not saved; they are removed.
    """

    def __init__(self, folder: Path, accelerator: Accelerator, *, from_step: int) -> None:
        self._accelerator = accelerator
        self._file = folder / "metrics.jsonl"
        # An evaluation that a signal put off may be made up for more than once, when a kill follows.
        self._written = _forget_after(self._file, from_step) if accelerator.is_main_process else set()

    def write(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        """Log numbers of one kind ("train" or "val") after `step` updates."""
        if not self._accelerator.is_main_process or (kind, step) in self._written:
            return
        entry = {"kind": kind, "step": step, **{k: (v if math.isfinite(v) else str(v)) for k, v in values.items()}}
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        self._accelerator.log({f"{kind}/{name}": value for name, value in values.items()}, step=step)


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The entries of a run, oldest first."""
    file = folder / "metrics.jsonl"
    if not file.is_file():
        return []
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if _is_whole(line)]


def write_json(file: Path, value: object) -> None:
    """Write beside and rename, so that a reader never sees half a file."""
    part = file.with_name(f"{file.name}.part")
    part.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    part.replace(file)


def _forget_after(file: Path, step: int) -> set[tuple[str, int]]:
    """Remove later entries and half a line; (kind, step) of what is left."""
    if not file.is_file():
        return set()
    lines = file.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if _is_whole(line) and json.loads(line)["step"] <= step]
    part = file.with_name(f"{file.name}.part")
    part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    part.replace(file)
    return {(entry["kind"], entry["step"]) for entry in map(json.loads, kept)}


def _is_whole(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
