"""`accel-det tune-tracker` as a user types it, on squares that walk faster than the published noise expects."""

import json
from pathlib import Path

import pytest

from accel_det.cli import tune_tracker
from accel_det.cli.failures import BAD_INPUT, DONE, guarded
from accel_det.cli.tracker_settings import read_settings
from accel_det.metrics.mot import mot_counts, mot_scores
from accel_det.metrics.mot_files import read_truth
from accel_det.video.saved import read_findings

FRAMES, SIDE = 20, 20
SPACE = (
    "initial_velocity_std: {low: 0.05, high: 3.0, log: true}\nn_init: {low: 1, high: 3}\nmotion_weight: [0.0, 1.0]\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with walk.txt, what was found; truth/walk.txt; and space.yaml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "truth").mkdir()
    found, truth = [], []
    for number in range(1, FRAMES + 1):
        for one in range(4):
            box = f"{100 * one + 25 * number},{60 * one + 10},{SIDE},{SIDE}"
            found.append(f"{number},-1,{box},0.9,-1,-1,-1\n")
            truth.append(f"{number},{one + 1},{box},1,1,1\n")
    (tmp_path / "walk.txt").write_text("".join(found))
    (tmp_path / "truth" / "walk.txt").write_text("".join(truth))
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path


def call(*changes: str, trials: int = 12) -> int:
    arguments = [
        "--source",
        "walk.txt",
        "--truth",
        "truth/{name}.txt",
        "--space",
        "space.yaml",
        "--trials",
        str(trials),
    ]
    return guarded(tune_tracker.run, [*arguments, *changes])


def test_the_search_finds_settings_that_follow_and_writes_them(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert call("--json") == DONE
    answered = json.loads(capfd.readouterr().out)
    assert answered["before"]["HOTA"] < 0.2, "the published noise expects a sixteenth of a height a frame, not 1.25"
    assert answered["after"]["HOTA"] > 0.9
    assert len(answered["trials"]) == 12 and answered["trials"][0]["fitness"] == answered["before"]["HOTA"]
    settings = read_settings(None, Path("tracker-tune/best.yaml"), [])
    tracks = tune_tracker.retrack(read_findings(Path("walk.txt")), settings)
    assert mot_scores([mot_counts(read_truth(Path("truth/walk.txt")), tracks)])["HOTA"] == answered["after"]["HOTA"]


def test_a_search_goes_on_where_it_was_and_is_the_same_as_in_one_go(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for trials in (4, 9):
        assert call("--json", "--out", "parts", trials=trials) == DONE
    parts = json.loads(capfd.readouterr().out.splitlines()[-1])
    assert call("--json", "--out", "whole", trials=9) == DONE
    whole = json.loads(capfd.readouterr().out)
    assert [trial["values"] for trial in parts["trials"]] == [trial["values"] for trial in whole["trials"]]
    assert parts["after"] == whole["after"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("--truth", "nowhere/{name}.txt"), "nowhere/walk.txt: cannot be read"),
        (("--source", "nowhere.txt"), "nowhere.txt: no such file"),
        (("--space", "none.yaml"), "none.yaml: no such file"),
        (("--tracker.speed", "3"), "the tracker has no setting `speed`"),
    ],
)
def test_what_a_user_does_wrong_is_one_line(
    changes: tuple[str, ...], message: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert call(*changes) == BAD_INPUT
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
    assert len(errors) == 1 and message in errors[0]


def test_a_space_with_something_that_is_no_setting_is_refused(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "space.yaml").write_text(SPACE + "optimizer.lr: {low: 0.1, high: 1.0}\n")
    assert call() == BAD_INPUT
    assert "space.yaml: `optimizer.lr` is no setting of the tracker" in capfd.readouterr().err
