"""A whole recipe in one run, killed and continued: phases, warm-ups of rate, bias and momentum, and the multiplied loss."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import yaml
from harness import Life
from small_run import STEPS, Result, entries, last_step, result, write_config

# Updates 1 and 2 train the heads, 3 to 5 all but the stem, 6 to 8 everything.
ENDS = (2, 5)
STEM = "network.backbone.stem."


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory, drawn_images: Path) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    file = write_config(folder, images=drawn_images)
    tree = yaml.safe_load(file.read_text())
    tree["optimizer"] = {
        "name": "sgd",
        "lr": 0.002,
        "nesterov": True,
        "momentum": 0.937,
        "max_grad_norm": 10.0,
        "loss_times_images": True,
        "warmup_momentum": 0.8,
        "warmup_bias_lr": 0.02,
        "backbone_factor": 0.5,
        "layer_decay": 0.9,
        "bias_factor": 2.0,
    }
    # 23 images in updates of 12: two passes are 4 updates, longer than the 3 that are asked for as well.
    tree["schedule"] = {"name": "cosine", "warmup_steps": 3, "warmup_epochs": 2.0, "flat_end": 0.1}
    tree["train"]["phases"] = [
        {"until": ENDS[0] / STEPS, "freeze": ["network.backbone.*", "network.neck.*"], "lr_factor": 0.5},
        {"until": ENDS[1] / STEPS, "freeze": [f"{STEM}*"]},
    ]
    tree["checkpoint"] = {"every_steps": 1, "keep_last": STEPS}
    file.write_text(yaml.safe_dump(tree))
    return file


@pytest.fixture(scope="module")
def untouched(config: Path) -> Callable[[int], Result]:
    """What a run without interruption computes on so many processes."""
    known: dict[int, Result] = {}

    def find(world: int) -> Result:
        if world not in known:
            name = f"untouched-{world}"
            with Life([str(config), "--name", name], world=world, output=config.parent) as life:
                assert life.codes() == [0] * world, life.output()
                assert "phase 1: updates 1 to 2" in life.output()
                assert "phase 3: updates 6 to the end, 0 parameters frozen" in life.output()
                assert "with 4 updates of warm-up" in life.output()
            known[world] = result(config.parent / name)
        return known[world]

    return find


def checkpoint(config: Path, step: int, stem: str = "model") -> dict[str, bytes]:
    """Name -> bits, of a tensor after so many updates of the untouched run."""
    folder = config.parent / "untouched-2" / "checkpoints" / f"step-{step:08d}"
    tensors = safetensors.torch.load_file(folder / f"{stem}.safetensors")
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def changed(before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    return {name for name, bits in after.items() if before.get(name) != bits}


CASES = [(2, 3), *(pytest.param(*case, marks=pytest.mark.slow) for case in ((2, 1), (2, 6), (1, 4), (4, 3)))]


@pytest.mark.parametrize(("world", "kill_after"), CASES)
def test_a_run_in_phases_that_is_killed_in_one_and_continued_across_the_next_is_the_same_bit_for_bit(
    config: Path, untouched: Callable[[int], Result], world: int, kill_after: int
) -> None:
    name = f"killed-{world}-{kill_after}"
    run = config.parent / name
    with Life([str(config), "--name", name], world=world, output=config.parent) as life:
        life.wait_until(lambda: last_step(run) >= kill_after)
        life.send(signal.SIGKILL, rank=world - 1)
        codes = life.codes(timeout_s=30)
        assert codes[-1] == -signal.SIGKILL
        assert None not in codes
    assert last_step(run) < STEPS
    with Life([str(config), "--name", name, "--resume", "auto"], world=world, output=config.parent) as life:
        assert life.codes() == [0] * world, life.output()
    found, expected = result(run), untouched(world)
    assert found.entries == expected.entries
    assert found.digests == expected.digests
    assert [entry["step"] for entry in entries(run)] == list(range(1, STEPS + 1))


def test_what_a_phase_freezes_keeps_its_bits_statistics_included_and_gets_no_optimizer_state(
    config: Path, untouched: Callable[[int], Result]
) -> None:
    untouched(2)
    weights = {step: checkpoint(config, step) for step in range(1, STEPS + 1)}
    frozen = [name for name in weights[1] if name.startswith(("network.backbone.", "network.neck."))]
    assert len([name for name in frozen if name.endswith("running_mean")]) > 20
    first = changed(weights[1], weights[2])
    assert first and all(name.startswith("network.heads.") for name in first)
    for step in (3, 4):
        moved = changed(weights[step], weights[step + 1])
        assert moved and not any(name.startswith(STEM) for name in moved)
        assert any(name.endswith("running_mean") for name in moved)
    assert {f"{STEM}conv.weight", f"{STEM}norm.running_mean"} <= changed(weights[5], weights[6])
    assert set(checkpoint(config, 2, "optimizer")) <= {
        f"{name}:momentum_buffer" for name in weights[1] if name.startswith("network.heads.")
    }
    assert f"{STEM}conv.weight:momentum_buffer" in checkpoint(config, 6, "optimizer")


def test_the_journal_reports_the_rate_of_the_phase_and_of_the_warm_up(
    config: Path, untouched: Callable[[int], Result]
) -> None:
    untouched(2)
    rates = [entry["lr"] for entry in entries(config.parent / "untouched-2")]
    warm = [0.002 * (0.001 + 0.999 * step / 4) for step in range(4)]
    assert rates[:5] == pytest.approx([0.5 * warm[0], 0.5 * warm[1], warm[2], warm[3], 0.002], rel=1e-12)
    assert rates[-1] == pytest.approx(0.002 * 0.01, rel=1e-12)
