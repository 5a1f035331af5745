"""SIGKILL at any moment, then a resume: the same bits as in a run that nobody touched."""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Life
from small_run import IMAGES_PER_UPDATE, STEPS, Result, entries, last_step, result, write_config

Reference = Callable[[int, int], Result]

# (processes, workers, micro-batches, step after which the kill comes); three of them always, the others as slow tests.
QUICK = [(1, 2, 1, 5), (2, 0, 3, 6), (2, 2, 3, 2)]
ALL = [
    (world, workers, micro, 1 + (world + workers + micro) % 6)
    for world in (1, 2, 4)
    for workers in (0, 2)
    for micro in (1, 3)
]
CASES = [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in ALL if case not in QUICK)]


def arguments(config: Path, *, name: str, world: int, micro: int, workers: int = 0) -> list[str]:
    share = IMAGES_PER_UPDATE // world // micro
    settings = {"name": name, "train.max_images_per_forward": share, "data.workers": workers}
    return [str(config), *(text for key, value in settings.items() for text in (f"--{key}", str(value)))]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, drawn_images: Path) -> Path:
    return write_config(tmp_path_factory.mktemp("runs"), images=drawn_images)


@pytest.fixture(scope="module")
def untouched(config: Path) -> Reference:
    """What a run without interruption computes, on so many processes with so many micro-batches; without workers."""
    known: dict[tuple[int, int], Result] = {}

    def find(world: int, micro: int) -> Result:
        if (world, micro) not in known:
            name = f"untouched-{world}-{micro}"
            with Life(
                arguments(config, name=name, world=world, micro=micro), world=world, output=config.parent
            ) as life:
                assert life.codes() == [0] * world, life.output()
            known[world, micro] = result(config.parent / name)
        return known[world, micro]

    return find


def finish(start: list[str], *, world: int, output: Path) -> str:
    """Resume until the end; what it said."""
    with Life([*start, "--resume", "auto"], world=world, output=output) as life:
        assert life.codes() == [0] * world, life.output()
        return life.output()


@pytest.mark.parametrize(("world", "workers", "micro", "kill_after"), CASES)
def test_a_run_whose_process_is_killed_continues_bit_for_bit(
    config: Path, untouched: Reference, world: int, workers: int, micro: int, kill_after: int
) -> None:
    name = f"killed-{world}-{workers}-{micro}"
    start = arguments(config, name=name, world=world, micro=micro, workers=workers)
    run = config.parent / name
    chance = random.Random(name)
    with Life(start, world=world, output=config.parent) as life:
        life.wait_until(lambda: last_step(run) >= kill_after)
        time.sleep(chance.uniform(0, 0.15))
        life.send(signal.SIGKILL, rank=chance.randrange(world))
        began = time.monotonic()
        codes = life.codes(timeout_s=30)
        assert None not in codes, f"a process hangs when another is dead:\n{life.output()}"
        assert time.monotonic() - began < 15
    assert -signal.SIGKILL in codes
    finish(start, world=world, output=config.parent)
    found, expected = result(run), untouched(world, micro)
    assert [entry["step"] for entry in entries(run)] == list(range(1, STEPS + 1))
    assert found.entries == expected.entries
    assert found.digests == expected.digests


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_a_run_that_is_killed_again_and_again_continues_bit_for_bit(
    config: Path, untouched: Reference, seed: int
) -> None:
    chance = random.Random(seed)
    world, name = 2, f"unlucky-{seed}"
    run = config.parent / name
    start = arguments(config, name=name, world=world, micro=1)
    first_kill = chance.randint(1, 6)
    kills = 0
    for life_number in range(12):
        resume = ["--resume", "auto"] if life_number else []
        with Life([*start, *resume], world=world, output=config.parent) as life:
            if life_number:  # at any moment of its start as well
                time.sleep(chance.uniform(0.2, 2.5))
            else:
                life.wait_until(lambda: last_step(run) >= first_kill)
            for process in life.processes:
                process.kill()
            codes = life.codes()
        kills += -signal.SIGKILL in codes
        if codes == [0] * world:
            break
    else:
        finish(start, world=world, output=config.parent)
    assert kills >= 1
    assert result(run) == untouched(world, 1)


def test_a_run_continues_on_other_numbers_of_processes_as_if_it_had_stayed_on_one(
    config: Path, untouched: Reference
) -> None:
    name = "resized"
    # Adam's first updates are signs of gradients, and live norms of 2x2 maps are ill-conditioned: both blow rounding up.
    common = ["--model.batch_norm", "frozen", "--optimizer.name", "sgd", "--optimizer.lr", "0.01"]
    run = config.parent / name
    for life_number, (world, stop_after) in enumerate(((2, 3), (1, 5), (4, STEPS))):
        start = [*arguments(config, name=name, world=world, micro=1), *common]
        with Life([*start, *(["--resume", "auto"] if life_number else [])], world=world, output=config.parent) as life:
            if stop_after < STEPS:
                life.wait_until(lambda step=stop_after: last_step(run) >= step)  # type: ignore[misc]
                life.send(signal.SIGTERM, rank=world - 1)
            codes = life.codes()
            assert codes == [143 if stop_after < STEPS else 0] * world, life.output()
    start = [*arguments(config, name="one", world=1, micro=1), *common]
    with Life(start, world=1, output=config.parent) as life:
        assert life.codes() == [0], life.output()
    found, expected = entries(run), entries(config.parent / "one")
    assert [entry["step"] for entry in found] == list(range(1, STEPS + 1))
    for entry, other in zip(found, expected, strict=True):
        assert entry["lr"] == other["lr"]
        assert entry["total"] == pytest.approx(other["total"], rel=1e-5), entry["step"]


def test_a_finished_run_that_is_started_again_ends_at_once_and_says_so(config: Path, untouched: Reference) -> None:
    before = untouched(1, 1)
    run = config.parent / "untouched-1-1"
    changed = (run / "metrics.jsonl").stat().st_mtime_ns
    said = finish(arguments(config, name=run.name, world=1, micro=1), world=1, output=config.parent)
    assert "this run is finished: 8 updates" in said
    assert "Nothing left to do" in said
    assert result(run) == before
    assert (run / "metrics.jsonl").stat().st_mtime_ns == changed


@pytest.mark.parametrize(("policy", "codes"), [("stop", [2, 2]), ("warn", [0, 0])])
def test_a_checkpoint_that_cannot_be_written_stops_all_processes_together_or_warns_as_configured(
    config: Path, policy: str, codes: list[int]
) -> None:
    run = config.parent / f"unwritable-{policy}"
    run.mkdir()
    (run / "checkpoints").write_text("a file where the folder belongs")
    with Life(
        [str(config), "--name", run.name, "--checkpoint.on_save_error", policy], world=2, output=config.parent
    ) as life:
        assert life.codes(timeout_s=60) == codes, life.output()
        assert f"{run / 'checkpoints'}" in life.output()
        assert "checkpoint of step 2 not written (Not a directory)" in life.output()
    assert last_step(run) == (2 if policy == "stop" else STEPS)
