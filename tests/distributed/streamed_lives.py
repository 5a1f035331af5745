"""What is asked of every streamed run, whatever its task: that it goes on after a kill, and on another number of processes."""

import signal
from pathlib import Path

import pytest
from harness import Life
from small_run import STEPS, entries, last_step, result


def assert_it_goes_on_after_a_kill_bit_for_bit(file: Path, folder: Path, *, images_per_update: int) -> None:
    arguments = _start(file, name="untouched", world=2, images_per_update=images_per_update)
    _finish(arguments, world=2, output=folder)
    arguments = _start(file, name="killed", world=2, workers=1, images_per_update=images_per_update)
    with Life(arguments, world=2, output=folder) as life:
        life.wait_until(lambda: last_step(folder / "killed") >= 5)
        life.send(signal.SIGKILL, rank=1)
        assert -signal.SIGKILL in life.codes(timeout_s=30)
    _finish([*arguments, "--resume", "auto"], world=2, output=folder)
    assert result(folder / "killed") == result(folder / "untouched")


def assert_it_goes_on_on_other_numbers_of_processes(
    file: Path, folder: Path, *, images_per_update: int, metric: str
) -> list[float]:
    """Stopped on two processes and finished on one, its losses and scores are those of one; gives the scores."""
    common = ["--model.batch_norm", "frozen", "--optimizer.name", "sgd", "--optimizer.lr", "0.01"]
    run = folder / "resized"
    for life_number, (world, stop_after) in enumerate(((2, 4), (1, STEPS))):
        resume = ["--resume", "auto"] if life_number else []
        arguments = _start(file, name="resized", world=world, images_per_update=images_per_update)
        with Life([*arguments, *common, *resume], world=world, output=folder) as life:
            if stop_after < STEPS:
                life.wait_until(lambda step=stop_after: last_step(run) >= step)  # type: ignore[misc]
                life.send(signal.SIGTERM, rank=world - 1)
            assert life.codes() == [143 if stop_after < STEPS else 0] * world, life.output()
    arguments = _start(file, name="one", world=1, images_per_update=images_per_update)
    _finish([*arguments, *common], world=1, output=folder)
    for entry, other in zip(entries(run), entries(folder / "one"), strict=True):
        assert entry["step"] == other["step"]
        assert entry["total"] == pytest.approx(other["total"], rel=1e-5)
    scores = [float(other[metric]) for other in entries(folder / "one", "val")]
    assert [entry[metric] for entry in entries(run, "val")] == pytest.approx(scores, abs=1e-6)
    return scores


def _start(file: Path, *, name: str, world: int, images_per_update: int, workers: int = 0) -> list[str]:
    return [
        str(file),
        *("--name", name, "--data.workers", str(workers)),
        *("--train.max_images_per_forward", str(images_per_update // world)),
    ]


def _finish(arguments: list[str], *, world: int, output: Path) -> None:
    with Life(arguments, world=world, output=output) as life:
        assert life.codes() == [0] * world, life.output()
