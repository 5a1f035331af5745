"""Re-identification on real processes: the promises of the engine hold for networks and losses that compare pictures."""

import signal
from collections.abc import Mapping
from pathlib import Path

import pytest
from gradients import Work, compare
from harness import Life, run_world
from reid_run import GROUP, IMAGES_PER_UPDATE, STEPS, write_config, write_people
from small_run import Result, entries, last_step, result

from accel_det.models.zoo import OptionValue

NETWORK = "osnet_x0_25"
TOLERANCE = 1e-12

# Identities of the pictures of an update: groups of two identities x two pictures, one of them with a single identity.
IDENTITIES = (0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 1, 1)
GROUPS_OF_PROCESSES = {"two groups and one": ((8,), (4,)), "two micro-batches each": ((4, 4), (4,) * 2)}
LOSSES: dict[str, Mapping[str, OptionValue]] = {
    "softmax, triplet, center": {"label_smoothing": 0.1, "metric_loss": "triplet", "center_weight": 0.01},
    "cosine softmax, soft triplet": {"identity_loss": "cosine_softmax", "metric_loss": "triplet_soft"},
    "arcface, weighted triplet": {"identity_loss": "arcface", "metric_loss": "triplet_weighted"},
    "cosface, circle": {"identity_loss": "cosface", "metric_loss": "circle", "metric_margin": 0.25},
    "magnet alone": {"identity_loss": "none", "metric_loss": "magnet", "metric_margin": 1.0},
}


def work(losses: str, shares: tuple[tuple[int, ...], ...], batch_norm: str) -> Work:
    images = sum(map(sum, shares))
    identities = (IDENTITIES * 2)[:images]
    return Work(NETWORK, 32, identities, shares, batch_norm, {**LOSSES[losses], "group_images": GROUP})


@pytest.mark.parametrize("batch_norm", ["frozen", "synchronized"])
@pytest.mark.timeout(600)
def test_two_processes_compute_the_gradient_of_one_with_every_loss(tmp_path: Path, batch_norm: str) -> None:
    works = [work(losses, GROUPS_OF_PROCESSES["two groups and one"], batch_norm) for losses in LOSSES]
    if batch_norm == "frozen":
        works += [work(losses, GROUPS_OF_PROCESSES["two micro-batches each"], batch_norm) for losses in LOSSES]
    found = run_world(compare, 2, works, folder=tmp_path, timeout_s=560)
    for number, one in enumerate(works):
        for process in found:
            assert process[number].error <= TOLERANCE, (one, process[number].error)
            assert process[number].without == [], one
            assert process[number].values == pytest.approx(process[number].reference_values, rel=1e-12), one
        assert found[0][number].digest == found[1][number].digest, one


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    people = tmp_path_factory.mktemp("people")
    write_people(people)
    return write_config(tmp_path_factory.mktemp("runs"), people=people)


def start(config: Path, *, name: str, world: int, micro: int = 1, workers: int = 0) -> list[str]:
    share = IMAGES_PER_UPDATE // world // micro
    return [
        str(config),
        *("--name", name, "--train.max_images_per_forward", str(share), "--data.workers", str(workers)),
    ]


def finish(arguments: list[str], *, world: int, output: Path) -> None:
    with Life(arguments, world=world, output=output) as life:
        assert life.codes() == [0] * world, life.output()


@pytest.fixture(scope="module")
def untouched(config: Path) -> Result:
    finish(start(config, name="untouched", world=2), world=2, output=config.parent)
    return result(config.parent / "untouched")


def test_a_killed_run_continues_bit_for_bit(config: Path, untouched: Result) -> None:
    arguments = start(config, name="killed", world=2, workers=1)
    run = config.parent / "killed"
    with Life(arguments, world=2, output=config.parent) as life:
        life.wait_until(lambda: last_step(run) >= 5)
        life.send(signal.SIGKILL, rank=1)
        assert -signal.SIGKILL in life.codes(timeout_s=30)
    finish([*arguments, "--resume", "auto"], world=2, output=config.parent)
    assert result(run) == untouched


def test_a_run_continues_on_other_numbers_of_processes_as_if_it_had_stayed_on_one(config: Path) -> None:
    common = ["--model.batch_norm", "frozen", "--optimizer.name", "sgd", "--optimizer.lr", "0.01"]
    run = config.parent / "resized"
    for life_number, (world, stop_after) in enumerate(((2, 3), (1, 5), (4, STEPS))):
        resume = ["--resume", "auto"] if life_number else []
        with Life(
            [*start(config, name="resized", world=world), *common, *resume], world=world, output=config.parent
        ) as life:
            if stop_after < STEPS:
                life.wait_until(lambda step=stop_after: last_step(run) >= step)  # type: ignore[misc]
                life.send(signal.SIGTERM, rank=world - 1)
            assert life.codes() == [143 if stop_after < STEPS else 0] * world, life.output()
    finish([*start(config, name="one", world=1), *common], world=1, output=config.parent)
    found, expected = entries(run), entries(config.parent / "one")
    assert [entry["step"] for entry in found] == list(range(1, STEPS + 1))
    for entry, other in zip(found, expected, strict=True):
        assert entry["total"] == pytest.approx(other["total"], rel=1e-5), entry["step"]
    # The same pictures, one to a forward pass, and weights that differ by rounding: the same ranking.
    found, expected = entries(run, "val"), entries(config.parent / "one", "val")
    for entry, other in zip(found, expected, strict=True):
        assert other["mAP"] > 0
        assert entry["mAP"] == pytest.approx(other["mAP"], abs=1e-6)
        assert entry["queries"] == other["queries"] == 3


def test_a_share_that_would_tear_a_group_apart_is_refused_before_the_processes_meet(config: Path) -> None:
    with Life(
        [*start(config, name="torn", world=2)[:3], "--train.images_per_update", "12"], world=2, output=config.parent
    ) as life:
        assert life.codes() == [2, 2]
        assert "2 processes cannot share equally in whole groups of 4: choose a multiple of 8" in life.output()
