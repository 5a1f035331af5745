"""`accel-det curves RUN`: how a training went, as a picture."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from accel_det.cli.failures import DONE
from accel_det.engine.console import Console
from accel_det.engine.journal import read_journal
from accel_det.report.curves import draw_curves

FILE_NAME = "train.png"
"""The picture that a training leaves in its folder."""

_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def run(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="accel-det curves",
        description="Draw the loss, the learning rate and the scores of a training, also of one that goes on.",
        epilog=f"writes RUN/{FILE_NAME}, or the file of --out. exit codes: 0 done; 2 bad input.",
    )
    parser.add_argument("run", type=Path, help="folder of a run")
    parser.add_argument("--out", type=Path, help=f"picture to write; RUN/{FILE_NAME}")
    options = parser.parse_args(list(arguments))
    file = write_curves(options.run, options.out)
    Console(speaks=True).say(f"curves: {file}")
    return DONE


def write_curves(folder: Path, file: Path | None = None) -> Path:
    """Draw the journal of a run; the file that was there is replaced in one instant.

    Args:
        folder: of the run.
        file: to write; `train.png` in the folder.

    Raises:
        ValueError: no run with reports there, the name of the file is not that of a picture, or it cannot be written.
    """
    file = file or folder / FILE_NAME
    if file.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"{file}: expected a file for a picture, whose name ends in {', '.join(_SUFFIXES)}; rename it")
    records = read_journal(folder)
    if not records:
        raise ValueError(f"{folder}: no metrics.jsonl with reports in it; expected the folder of a run that has begun")
    part = file.with_name(f"{file.stem}.part{file.suffix}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        draw_curves(records, title=folder.resolve().name).save(part)
        part.replace(file)
    except OSError as error:
        raise ValueError(f"{file}: cannot be written ({error.strerror or error}); choose another place") from None
    return file
