"""Several footages tracked by several processes: the files of one process."""

import contextlib
import io
import json
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from harness import run_world

from accel_det.cli import track

NAMES = ("a", "b", "c", "d", "e")


def track_all(folder: str) -> str:
    """Track all detections of a folder; what is printed."""
    arguments = ["--source", *(f"{folder}/{name}.txt" for name in NAMES), "--preset", "sort", "--json"]
    outputs = ["--write", "mot", "jsonl", "parquet", "--out", f"{folder}/tracks"]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), patch.object(sys, "argv", ["track", *arguments, *outputs]):
        assert track.main() == 0
    return said.getvalue()


def write_detections(folder: Path) -> None:
    """Footages of different lengths, each with squares that walk at a pace of their own."""
    folder.mkdir()
    for number, name in enumerate(NAMES, start=1):
        walk = np.random.default_rng(number).uniform(-2, 2, (number + 2, 2))
        lines = [
            f"{frame},-1,{50 * one + frame * dx:.2f},{40 + frame * dy:.2f},30,30,0.9,-1,-1,-1\n"
            for frame in range(1, 10 * number)
            for one, (dx, dy) in enumerate(walk)
        ]
        (folder / f"{name}.txt").write_text("".join(lines))


@pytest.mark.parametrize("world", [2, 3])
def test_several_processes_write_the_files_of_one_and_the_first_tells_of_all(world: int, tmp_path: Path) -> None:
    for name, processes in (("one", 1), ("several", world)):
        write_detections(tmp_path / name)
        said = run_world(track_all, processes, str(tmp_path / name), folder=tmp_path / f"world-{name}")
        (answer,) = [json.loads(line) for text in said for line in text.splitlines() if line.startswith("{")]
        assert [one["name"] for one in answer["sequences"]] == list(NAMES)
        assert all(one["tracks"] > 0 for one in answer["sequences"])
    files = sorted(file.name for file in (tmp_path / "one" / "tracks").iterdir())
    assert len(files) == 3 * len(NAMES)
    for name in files:
        one, other = ((tmp_path / folder / "tracks" / name).read_bytes() for folder in ("one", "several"))
        assert one == other, name
