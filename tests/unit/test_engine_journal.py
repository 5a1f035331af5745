"""The journal: after a resume, it holds each entry once, as if nothing had happened."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from accel_det.config.detection import DetectionConfig
from accel_det.engine.fit import evaluation_is_due
from accel_det.engine.journal import Journal, read_journal, write_json


class Silent:
    """The two things that a journal asks of an Accelerator."""

    def __init__(self, *, is_main_process: bool) -> None:
        self.is_main_process = is_main_process
        self.logged: list[tuple[dict[str, float], int]] = []

    def log(self, values: dict[str, float], *, step: int) -> None:
        self.logged.append((values, step))


def journal(folder: Path, *, from_step: int = 0, first: bool = True) -> Journal:
    return Journal(folder, cast(Any, Silent(is_main_process=first)), from_step=from_step)


def steps(folder: Path) -> list[tuple[str, int]]:
    return [(entry["kind"], entry["step"]) for entry in read_journal(folder)]


def test_entries_after_the_checkpoint_and_half_a_line_are_forgotten_on_resume(tmp_path: Path) -> None:
    first = journal(tmp_path)
    for step in range(1, 6):
        first.write("train", step, {"total": step / 3})
    with (tmp_path / "metrics.jsonl").open("a") as stream:
        stream.write('{"kind": "train", "st')
    assert len(read_journal(tmp_path)) == 5
    second = journal(tmp_path, from_step=3)
    second.write("train", 4, {"total": 4 / 3})
    assert steps(tmp_path) == [("train", step) for step in (1, 2, 3, 4)]
    assert [entry["total"].hex() for entry in read_journal(tmp_path)] == [(step / 3).hex() for step in (1, 2, 3, 4)]
    assert (tmp_path / "metrics.jsonl").read_text().endswith("}\n")


def test_a_new_run_forgets_everything(tmp_path: Path) -> None:
    journal(tmp_path).write("train", 1, {"total": 1.0})
    journal(tmp_path)
    assert read_journal(tmp_path) == []


def test_an_evaluation_that_is_made_up_for_twice_is_written_once(tmp_path: Path) -> None:
    """It was put off by a signal, made up for after the resume, and the process was killed before it could save."""
    journal(tmp_path).write("train", 4, {"total": 1.0})
    for _ in range(2):
        journal(tmp_path, from_step=4).write("val", 4, {"AP": 0.5})
    assert steps(tmp_path) == [("train", 4), ("val", 4)]


def test_other_processes_write_nothing(tmp_path: Path) -> None:
    journal(tmp_path).write("train", 1, {"total": 1.0})
    journal(tmp_path, first=False).write("train", 2, {"total": 1.0})
    assert steps(tmp_path) == [("train", 1)]


def test_numbers_that_json_does_not_know_are_written_as_text(tmp_path: Path) -> None:
    journal(tmp_path).write("train", 1, {"total": float("nan"), "norm": float("inf")})
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail) == {"kind": "train", "step": 1, "total": "nan", "norm": "inf"}


def test_a_reader_of_a_status_file_never_sees_half_of_it(tmp_path: Path) -> None:
    file = tmp_path / "exit.json"
    write_json(file, {"code": 0})
    with pytest.raises(TypeError):
        write_json(file, {"code": object()})
    assert json.loads(file.read_text()) == {"code": 0}


def config(**evaluate: float) -> DetectionConfig:
    sets = {"a": {"format": "coco"}}
    data = {"sets": sets, "train": "a:train", "val": "a:val"}
    train = {"steps": 30, "images_per_update": 4}
    return DetectionConfig.model_validate(
        {"name": "x", "model": {"name": "yolov5n"}, "data": data, "train": train, "evaluate": evaluate}
    )


def test_evaluations_by_epoch_come_with_the_update_that_completes_it() -> None:
    """10 images and 4 an update: epochs end within updates 3, 5, 8, 10, 13, 15, ..."""
    due = [step for step in range(1, 16) if evaluation_is_due(step, config(every_epochs=1.0), 10)]
    assert due == [3, 5, 8, 10, 13, 15]
    half = [step for step in range(1, 6) if evaluation_is_due(step, config(every_epochs=0.5), 10)]
    assert half == [2, 3, 4, 5]


def test_evaluations_by_step_and_none_at_all() -> None:
    assert [step for step in range(1, 10) if evaluation_is_due(step, config(every_steps=3), 10)] == [3, 6, 9]
    assert not any(evaluation_is_due(step, config(), 10) for step in range(1, 30))
