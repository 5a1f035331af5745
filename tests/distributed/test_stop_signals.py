"""SIGTERM, SIGINT and SIGUSR1: the step is finished, a checkpoint is there, and the resumed run is the same bit for bit."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import ROOT, Life
from small_run import STEPS, Result, entries, exit_facts, last_step, result, write_config


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, drawn_images: Path) -> Path:
    return write_config(tmp_path_factory.mktemp("signals"), images=drawn_images)


@pytest.fixture(scope="module")
def untouched(config: Path) -> Result:
    """On two processes."""
    with Life([str(config), "--name", "untouched"], world=2, output=config.parent) as life:
        assert life.codes() == [0, 0], life.output()
    return result(config.parent / "untouched")


def resume(config: Path, name: str) -> Result:
    with Life([str(config), "--name", name, "--resume", "auto"], world=2, output=config.parent) as life:
        assert life.codes() == [0, 0], life.output()
    facts = exit_facts(config.parent / name)
    assert (facts["reason"], facts["step"], facts["code"]) == ("finished", STEPS, 0)
    return result(config.parent / name)


@pytest.mark.parametrize(
    ("number", "rank", "codes"),
    [
        (signal.SIGTERM, 1, [143, 143]),
        pytest.param(signal.SIGINT, 0, [130, 143], marks=pytest.mark.slow),
        pytest.param(signal.SIGUSR1, 0, [138, 143], marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_one_process_in_a_step_ends_all_after_that_step_with_a_checkpoint(
    config: Path, untouched: Result, number: signal.Signals, rank: int, codes: list[int]
) -> None:
    name = f"step-{number.name}"
    run = config.parent / name
    with Life([str(config), "--name", name, "--data.workers", "2"], world=2, output=config.parent) as life:
        life.wait_until(lambda: last_step(run) >= 3)
        life.send(number, rank=rank)
        assert life.codes(timeout_s=30) == codes, life.output()
    facts = exit_facts(run)
    assert facts == {"reason": "signal", "step": last_step(run), "code": codes[0]}
    assert 3 <= facts["step"] < STEPS, "the step that was running is finished, and not many more"
    assert (run / "checkpoints" / f"step-{facts['step']:08d}" / "manifest.json").is_file()
    assert resume(config, name) == untouched


def test_a_signal_in_an_evaluation_puts_it_off_to_the_resume(config: Path, untouched: Result) -> None:
    for attempt in range(4):  # an evaluation takes a tenth of a second: the signal may come too late
        name = f"evaluation-{attempt}"
        run = config.parent / name
        with Life([str(config), "--name", name], world=2, output=config.parent) as life:
            life.wait_until(lambda run=run: last_step(run) >= 4)  # type: ignore[misc]  # the evaluation after update 4 begins now
            life.send(signal.SIGTERM, rank=0)
            assert life.codes(timeout_s=30) == [143, 143], life.output()
        step = exit_facts(run)["step"]
        state = json.loads((run / "checkpoints" / f"step-{step:08d}" / "state.json").read_text())
        if state["counters"]["evaluation_due"]:
            break
    assert step == 4
    assert state["counters"]["evaluation_due"]
    assert entries(run, "val") == []
    assert resume(config, name) == untouched


def test_a_second_run_in_the_same_folder_is_refused_and_names_the_process(config: Path) -> None:
    first = [str(config), "--name", "shared", "--train.steps", "10000", "--evaluate.every_steps", "null"]
    with Life(first, world=1, output=config.parent) as running:
        running.wait_until(lambda: last_step(config.parent / "shared") >= 1)
        with Life([str(config), "--name", "shared", "--resume", "auto"], world=1, output=config.parent) as second:
            assert second.codes() == [2]
            assert f"another run is writing here (process {running.processes[0].pid})" in second.output()
        running.send(signal.SIGTERM, rank=0)
        assert running.codes() == [143]


def launched(arguments: list[str], log: Path) -> "subprocess.Popen[bytes]":
    """The command as people give it, on two processes."""
    accelerate = Path(sys.executable).with_name("accelerate")
    file = ROOT / "accelerate_configs" / "cpu_2.yaml"
    return subprocess.Popen(
        [str(accelerate), "launch", "--config_file", str(file), "scripts/train.py", *arguments],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=log.open("ab"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def wait_for_step(process: "subprocess.Popen[bytes]", run: Path, step: int, log: Path) -> None:
    deadline = time.monotonic() + 120
    while last_step(run) < step:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_launcher_ends_the_run_with_a_checkpoint(
    config: Path, untouched: Result, number: signal.Signals
) -> None:
    name = f"launcher-{number.name}"
    run, log = config.parent / name, config.parent / f"{name}.log"
    process = launched([str(config), "--name", name, "--data.workers", "2"], log)
    wait_for_step(process, run, 2, log)
    process.send_signal(number)
    assert process.wait(60) != 0
    facts = exit_facts(run)
    assert facts == {"reason": "signal", "step": last_step(run), "code": 128 + number}, log.read_text()
    assert resume(config, name) == untouched


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_launcher_and_processes_and_still_leaves_a_checkpoint(
    config: Path, untouched: Result
) -> None:
    """A terminal sends SIGINT to its whole foreground group."""
    name = "ctrl-c"
    run, log = config.parent / name, config.parent / f"{name}.log"
    process = launched([str(config), "--name", name, "--data.workers", "2"], log)
    wait_for_step(process, run, 2, log)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(60)
    assert exit_facts(run) == {"reason": "signal", "step": last_step(run), "code": 130}, log.read_text()
    assert resume(config, name) == untouched


@pytest.mark.slow
def test_after_sigkill_of_the_launcher_the_folder_is_either_still_in_use_or_free_to_resume(
    config: Path, untouched: Result
) -> None:
    name = "no-launcher"
    run, log = config.parent / name, config.parent / f"{name}.log"
    process = launched([str(config), "--name", name], log)
    wait_for_step(process, run, 2, log)
    process.kill()
    process.wait(10)
    # Its processes may live on. They keep others out until they end; the seed is refused where nobody does.
    probe = [str(config), "--name", name, "--resume", "auto", "--train.seed", "1"]
    deadline = time.monotonic() + 60
    kept_out = True
    while kept_out and time.monotonic() < deadline:
        with Life(probe, world=1, output=config.parent) as life:
            life.codes()
            kept_out = "another run is writing here" in life.output()
    with Life([str(config), "--name", name, "--resume", "auto"], world=2, output=config.parent) as life:
        assert life.codes() == [0, 0], life.output()
    assert result(run) == untouched
