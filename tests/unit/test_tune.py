"""Hyper-parameter search: spaces, what a study remembers, and searches with a made-up fitness."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from accel_det.cli import tune
from accel_det.cli.search_space import Choices, Range, Space, check_space, read_space, starting_point
from accel_det.cli.study import Study, Tried
from accel_det.cli.tune import Search, TrialEnd, launch_command, search
from accel_det.config.load import ConfigError, load_config

ROOT = Path(__file__).parents[2]
SPACE: Space = {"optimizer.lr": Range(1e-4, 0.1, True), "train.seed": Range(0, 9, False), "task": Choices(("a", "b"))}


def space_file(folder: Path, text: str) -> Path:
    file = folder / "space.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def study(folder: Path, *, seed: int = 0, start: dict[str, str] | None = None, agreement: str = "x") -> Study:
    return Study(folder / "study.db", space=SPACE, seed=seed, agreement=agreement, start=start or {})


def fitness(tried: Tried) -> float:
    """Best at a learning rate of 0.01, seed 7, choice b."""
    off = abs(math.log10(float(tried.values["optimizer.lr"])) + 2) + abs(int(tried.values["train.seed"]) - 7) / 9
    return 1 - off / 4 + (0.1 if tried.values["task"] == "b" else 0.0)


def run_search(found: Study, folder: Path, *, trials: int, jobs: int = 1, runner: Any = None) -> tuple[int, list[str]]:
    said: list[str] = []
    code = search(
        found, Search(folder, trials, jobs), runner or (lambda tried: TrialEnd(fitness(tried))), say=said.append
    )
    return code, said


def test_a_space_has_ranges_of_numbers_whole_numbers_and_choices(tmp_path: Path) -> None:
    text = "a.b: {low: 0.1, high: 1, log: true}\nc: {low: 1, high: 8}\nd: [0.5, no, true, [1.0, 2.0]]\n"
    assert read_space(space_file(tmp_path, text)) == {
        "a.b": Range(0.1, 1.0, True),
        "c": Range(1, 8, False),
        "d": Choices(("0.5", "'no'", "true", "[1.0, 2.0]")),
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 3\n", r"`a` is 3, expected \{low: NUMBER"),
        ("a: {low: 1}\n", r"`a` is .*, expected \{low: NUMBER"),
        ("a: {low: 1, high: 2, step: 1}\n", r"`a` is .*, expected \{low: NUMBER"),
        ("a: {low: 2, high: 1}\n", "expected numbers with low below high"),
        ("a: {low: one, high: 2}\n", "expected numbers with low below high"),
        ("a: {low: 0.0, high: 1.0, log: true}\n", "starts at 0.0: with log: true it must start above 0"),
        ("a: [1]\n", "at least 2 different choices"),
        ("a: [1, 1]\n", "at least 2 different choices"),
        ("- a\n", "expected keys"),
        ("{}\n", "no key to search over"),
    ],
)
def test_what_is_no_space_is_refused_by_file_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        read_space(space_file(tmp_path, text))
    assert "space.yaml" in str(error.value)


def test_a_missing_space_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no\.yaml: no such file; --space takes"):
        read_space(tmp_path / "no.yaml")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"optimizer.lrr": Range(0.1, 0.2, False)}, "unknown key `optimizer.lrr`; did you mean `lr`"),
        ({"optimizer.momentum": Range(0.5, 1.5, False)}, "`optimizer.momentum`: .*less than 1, but it is 1.5"),
        ({"optimizer.name": Choices(("sgd", "rmsprop"))}, "`optimizer.name`: .*rmsprop"),
    ],
)
def test_keys_and_values_that_the_configuration_would_refuse_are_refused_before_anything_runs(
    space: Space, message: str
) -> None:
    config = ROOT / "configs" / "smoke" / "bccd.yaml"
    with pytest.raises(ConfigError, match=message):
        check_space(space, config, [])
    check_space({"optimizer.lr": Range(0.001, 0.1, True), "optimizer.name": Choices(("sgd", "adamw"))}, config, [])


def test_an_option_that_the_network_does_not_have_is_refused_before_anything_runs() -> None:
    config = ROOT / "configs" / "smoke" / "bccd.yaml"
    with pytest.raises(ConfigError, match=r"`model\.options\.box_gian`: yolov5n has no such option"):
        check_space({"model.options.box_gian": Range(0.02, 0.2, False)}, config, [])
    check_space({"model.options.box_gain": Range(0.02, 0.2, False)}, config, [])


def test_the_space_that_comes_with_the_project_fits_a_yolov5_configuration() -> None:
    space = read_space(ROOT / "search_spaces" / "yolov5.yaml")
    assert len(space) >= 20
    config = ROOT / "configs" / "detection" / "yolov5n_bccd.yaml"
    check_space(space, config, ["--optimizer.name", "sgd"])
    start = starting_point(space, load_config(config).config.model_dump(mode="json"))
    assert start["optimizer.lr"] == "0.003"
    assert start["data.augment.flip"] == "0.5"
    assert "data.augment.scale" not in start  # [0.6, 1.6] is none of the choices


def test_the_first_trial_is_the_configuration_itself_and_later_ones_stay_inside_the_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accel_det.cli.study._FIRST_RANDOM", 2)
    found = study(tmp_path, start={"optimizer.lr": "0.05", "task": "b"})
    code, _ = run_search(found, tmp_path, trials=6)
    trials = found.trials()
    assert code == 0
    assert len(trials) == 6
    assert (trials[0].values["optimizer.lr"], trials[0].values["task"]) == ("0.05", "b")
    for one in trials:
        assert list(one.values) == list(SPACE)
        assert 1e-4 <= float(one.values["optimizer.lr"]) <= 0.1
        assert int(one.values["train.seed"]) in range(10)
        assert one.values["task"] in ("a", "b")
    assert len({one.values["optimizer.lr"] for one in trials}) == 6


def test_a_search_that_is_continued_draws_what_an_unbroken_one_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accel_det.cli.study._FIRST_RANDOM", 2)
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    run_search(study(tmp_path / "whole"), tmp_path, trials=5)
    for trials in (1, 3, 5):
        code, said = run_search(study(tmp_path / "parts"), tmp_path, trials=trials)
        assert code == 0
    assert len(said) == 2 * 2  # of the last part: two trials, two lines each
    assert study(tmp_path / "parts").trials() == study(tmp_path / "whole").trials()
    assert study(tmp_path / "whole").best() == max(study(tmp_path / "whole").trials(), key=fitness)
    (tmp_path / "other").mkdir()
    run_search(study(tmp_path / "other", seed=1), tmp_path, trials=2)
    assert study(tmp_path / "other", seed=1).trials()[1] != study(tmp_path / "whole").trials()[1]


@pytest.mark.slow
def test_the_search_learns_from_its_trials(tmp_path: Path) -> None:
    """Trials 0 to 9 are drawn evenly; the mean of the next 20 is better, and the best is near the optimum of 1.1."""
    found = study(tmp_path)
    run_search(found, tmp_path, trials=30)
    values = [one.fitness or 0.0 for one in found.trials()]
    assert sum(values[10:]) / 20 > sum(values[:10]) / 10
    assert max(values) > 1.0


def test_a_failed_trial_is_recorded_with_its_message_and_the_search_goes_on(tmp_path: Path) -> None:
    found = study(tmp_path)

    def runner(tried: Tried) -> TrialEnd:
        return TrialEnd(None, "loss is not finite") if tried.number == 1 else TrialEnd(0.5)

    code, said = run_search(found, tmp_path, trials=3, runner=runner)
    assert code == 0
    assert [(one.state, one.fitness, one.message) for one in found.trials()] == [
        ("done", 0.5, ""),
        ("failed", None, "loss is not finite"),
        ("done", 0.5, ""),
    ]
    assert "trial 1 failed: loss is not finite" in said
    written = json.loads((tmp_path / "tune.json").read_text())
    assert written["best"]["number"] == 0
    assert written["trials"][1]["message"] == "loss is not finite"


def test_a_search_that_was_killed_counts_the_trial_it_was_in_as_interrupted(tmp_path: Path) -> None:
    found = study(tmp_path)
    found.ask()
    again = study(tmp_path)
    assert [(one.state, one.message) for one in again.trials()] == [("failed", "interrupted")]
    code, _ = run_search(again, tmp_path, trials=2)
    assert (code, [one.state for one in again.trials()]) == (0, ["failed", "done"])


def test_whoever_stops_a_trial_stops_the_search(tmp_path: Path) -> None:
    found = study(tmp_path)
    code, _ = run_search(found, tmp_path, trials=5, runner=lambda _: TrialEnd(None, "stopped", stopped=True))
    assert (code, len(found.trials())) == (130, 1)


def test_jobs_run_at_a_time_and_all_trials_are_there(tmp_path: Path) -> None:
    found = study(tmp_path)
    code, _ = run_search(found, tmp_path, trials=4, jobs=3)
    assert code == 0
    assert [one.state for one in found.trials()] == ["done"] * 4


def test_another_search_cannot_continue_the_same_file(tmp_path: Path) -> None:
    study(tmp_path)
    with pytest.raises(ValueError, match=r"study\.db: holds a search with another configuration"):
        study(tmp_path, agreement="y")


def test_several_processes_are_started_by_accelerate() -> None:
    assert launch_command(None, None)[1:] == ["-m", "accel_det", "train"]
    several = " ".join(launch_command(2, None)[1:])
    assert several == "-m accelerate.commands.launch --multi_gpu --num_processes 2 -m accel_det train"
    given = " ".join(launch_command(None, "cpu_2.yaml")[1:])
    assert given == "-m accelerate.commands.launch --config_file cpu_2.yaml -m accel_det train"


def test_a_search_inside_a_launcher_and_one_without_a_space_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        tune.run(["config.yaml"])
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="run it without a launcher, with --processes N"):
        tune.run(["config.yaml", "--space", "space.yaml"])
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setattr(tune, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'accel_det\[tune\]'"):
        tune.run(["config.yaml", "--space", "space.yaml"])
