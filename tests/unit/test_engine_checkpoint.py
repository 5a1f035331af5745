"""Checkpoints: damage is found, crashes leave a whole one, and nothing in them is executed."""

import json
import os
import pickle
import random
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from accel_det.engine import checkpoint
from accel_det.engine.checkpoint import CheckpointError, Snapshot

FILES = ("model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "manifest.json")


def snapshot(step: int) -> Snapshot:
    draw = torch.Generator().manual_seed(step)
    tensors = {
        stem: {"weight": torch.randn(7, 5, generator=draw), "steps": torch.tensor(step)}
        for stem in ("model", "ema", "optimizer")
    }
    return Snapshot(step, tensors, {"step": step, "counters": {"step": step, "best_fitness": 0.1 * step}})


def is_same(found: Snapshot | None, expected: Snapshot) -> bool:
    return (
        found is not None
        and (found.step, found.state, set(found.tensors)) == (expected.step, expected.state, set(expected.tensors))
        and all(
            torch.equal(found.tensors[stem][name], tensor)
            for stem, tensors in expected.tensors.items()
            for name, tensor in tensors.items()
        )
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Checkpoints of steps 2 and 4."""
    for step in (2, 4):
        checkpoint.save(tmp_path, snapshot(step))
    return tmp_path


def newest(folder: Path) -> tuple[Snapshot | None, list[str]]:
    warnings: list[str] = []
    return checkpoint.load_newest(folder, warn=warnings.append), warnings


def test_what_is_saved_is_what_is_loaded_bit_for_bit(folder: Path) -> None:
    found, warnings = newest(folder)
    assert is_same(found, snapshot(4))
    assert warnings == []
    assert {entry.name for entry in (folder / "step-00000004").iterdir()} == set(FILES)
    assert newest(folder / "nothing") == (None, [])


def flips(size: int) -> list[int]:
    """50 offsets, and the first and the last."""
    return [0, size - 1, *(random.Random(size).randrange(size) for _ in range(50))]


@pytest.mark.parametrize("name", FILES)
def test_one_changed_byte_anywhere_in_a_file_is_found_and_the_checkpoint_before_is_used(
    folder: Path, name: str
) -> None:
    file = folder / "step-00000004" / name
    good = file.read_bytes()
    for offset in flips(len(good)):
        damaged = bytearray(good)
        damaged[offset] ^= 1 << offset % 8
        file.write_bytes(damaged)
        found, warnings = newest(folder)
        assert is_same(found, snapshot(2)), offset
        assert len(warnings) == 1
        assert str(file) in warnings[0]
        assert "damaged" in warnings[0]
    file.write_bytes(good)
    assert is_same(newest(folder)[0], snapshot(4))


def _truncate(file: Path, other: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def _empty(file: Path, other: Path) -> None:
    file.write_bytes(b"")


def _zero(file: Path, other: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def _extend(file: Path, other: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\n")


def _delete(file: Path, other: Path) -> None:
    file.unlink()


def _swap(file: Path, other: Path) -> None:
    shutil.copy(other, file)


def _make_folder(file: Path, other: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("damage", [_truncate, _empty, _zero, _extend, _delete, _swap, _make_folder])
@pytest.mark.parametrize("name", FILES)
def test_any_damaged_file_is_named_and_the_checkpoint_before_is_used(
    folder: Path, name: str, damage: Callable[[Path, Path], None]
) -> None:
    file = folder / "step-00000004" / name
    damage(file, folder / "step-00000002" / name)
    found, warnings = newest(folder)
    assert is_same(found, snapshot(2))
    assert len(warnings) == 1
    # A manifest of another checkpoint is whole itself; it is the first file that denies it.
    named = str(file.parent) if (damage, name) == (_swap, "manifest.json") else str(file)
    assert named in warnings[0]


def test_a_checkpoint_under_the_name_of_another_step_is_found(folder: Path) -> None:
    shutil.copytree(folder / "step-00000002", folder / "step-00000006")
    found, warnings = newest(folder)
    assert is_same(found, snapshot(4))
    assert "step-00000006" in warnings[0]
    assert "holds step 2" in warnings[0]


def test_where_every_checkpoint_is_damaged_the_message_says_so_and_names_each(folder: Path) -> None:
    for step in (2, 4):
        _truncate(folder / f"step-{step:08d}" / "model.safetensors", folder)
    warnings: list[str] = []
    with pytest.raises(CheckpointError, match="none of its 2 checkpoints is whole"):
        checkpoint.load_newest(folder, warn=warnings.append)
    assert [f"step-{step:08d}" in line for step, line in zip((4, 2), warnings, strict=True)] == [True, True]


class Trap:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.proof,))


@pytest.mark.parametrize("with_fitting_manifest", [False, True])
@pytest.mark.parametrize("name", FILES)
def test_a_planted_pickle_is_refused_and_not_executed(folder: Path, name: str, with_fitting_manifest: bool) -> None:
    proof = folder / "executed"
    planted = pickle.dumps(Trap(proof))
    file = folder / "step-00000004" / name
    file.write_bytes(planted)
    if with_fitting_manifest and name != "manifest.json":
        manifest = json.loads((file.parent / "manifest.json").read_text())
        manifest["files"][name] = {"bytes": len(planted), "sha256": checkpoint._sha256(planted)}
        manifest["sha256"] = checkpoint._sha256(checkpoint._canonical(manifest["files"]))
        (file.parent / "manifest.json").write_bytes(checkpoint._canonical(manifest))
    found, warnings = newest(folder)
    assert is_same(found, snapshot(2))
    assert len(warnings) == 1
    assert not proof.exists()
    pickle.loads(planted)
    assert proof.exists(), "the trap itself works"


class Crash(BaseException):
    """The machine goes down."""


@pytest.fixture
def crash_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int | None], list[str]]]:
    """Prepare a crash before the n-th change of the file system; the list fills with what was done until then."""

    def prepare(number: int | None) -> list[str]:
        done: list[str] = []

        def watched(name: str, operation: Callable[..., object]) -> Callable[..., object]:
            def run(*arguments: object, **options: object) -> object:
                if len(done) == number:
                    if name == "_write":  # torn: half of the data is there
                        file, data = arguments
                        assert isinstance(file, Path)
                        assert isinstance(data, bytes)
                        file.write_bytes(data[: len(data) // 2])
                    raise Crash
                done.append(name)
                return operation(*arguments, **options)

            return run

        monkeypatch.undo()
        for owner, name in ((checkpoint, "_write"), (checkpoint, "_sync_folder"), (Path, "rename"), (Path, "mkdir")):
            monkeypatch.setattr(owner, name, watched(name, getattr(owner, name)))
        # What shutil.rmtree is made of: a crash may come between two of its files.
        for name in ("unlink", "rmdir"):
            monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
        return done

    yield prepare
    monkeypatch.undo()


@pytest.mark.parametrize("before", [(), (2,), (2, 4)], ids=["first", "second", "same_step_again"])
def test_a_crash_before_any_operation_of_a_save_leaves_the_old_or_the_new_checkpoint(
    tmp_path: Path, crash_before: Callable[[int | None], list[str]], before: tuple[int, ...]
) -> None:
    """The checkpoint of step 4 is written: as the first, after that of step 2, and over one of step 4 itself."""
    old = snapshot(before[-1]) if before else None
    if old is not None and old.step == 4:
        old.state["counters"]["best_fitness"] = 0.0
    new = snapshot(4)
    outcomes: list[str] = []
    for number in range(100):
        folder = tmp_path / str(number)
        for step in before:
            checkpoint.save(folder, old if old is not None and step == old.step else snapshot(step))
        crash_before(number)
        try:
            checkpoint.save(folder, new)
            checkpoint.prune(folder, current=4, keep_last=2, keep_steps=set())
        except Crash:
            crash_before(None)
            found, warnings = newest(folder)
            assert warnings == [], number
            outcomes.append("new" if is_same(found, new) else "old")
            assert outcomes[-1] == "new" or (found is None if old is None else is_same(found, old)), number
            # What the crash left behind does not disturb the next life.
            checkpoint.save(folder, new)
            checkpoint.prune(folder, current=4, keep_last=2, keep_steps=set())
            assert is_same(newest(folder)[0], new)
            assert {entry.name for entry in folder.iterdir()} == {f"step-{step:08d}" for step in {*before, 4}}
        else:
            break
    assert len(outcomes) >= 9, "five files, two folders, a rename and the folder itself"
    assert outcomes == sorted(outcomes, reverse=True), "first the old one, then the new one"
    assert outcomes[0] == "old"


def test_a_full_disk_leaves_the_checkpoint_before_and_names_path_and_reason(folder: Path) -> None:
    big = snapshot(6)
    big.tensors["model"]["more"] = torch.zeros(100_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(CheckpointError) as caught:
            checkpoint.save(folder, big)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(folder / "step-00000006") in str(caught.value)
    assert os.strerror(27) in str(caught.value)  # EFBIG, "File too large"
    assert "the previous one is untouched" in str(caught.value)
    assert checkpoint.steps(folder) == [2, 4]
    assert not list(folder.glob("*.part"))
    assert is_same(newest(folder)[0], snapshot(4))


def test_pruning_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in range(1, 7):
        checkpoint.save(tmp_path, snapshot(step))
        checkpoint.prune(tmp_path, current=step, keep_last=2, keep_steps={3} if step >= 3 else set())
    assert checkpoint.steps(tmp_path) == [3, 5, 6]


def test_damaged_newer_checkpoints_do_not_crowd_out_the_one_that_was_just_written(tmp_path: Path) -> None:
    for step in (2, 4, 6):
        checkpoint.save(tmp_path, snapshot(step))
    for step in (4, 6):
        _truncate(tmp_path / f"step-{step:08d}" / "model.safetensors", tmp_path)
    assert is_same(newest(tmp_path)[0], snapshot(2))
    checkpoint.save(tmp_path, snapshot(3))
    checkpoint.prune(tmp_path, current=3, keep_last=2, keep_steps=set())
    assert checkpoint.steps(tmp_path) == [2, 3]
    found, warnings = newest(tmp_path)
    assert is_same(found, snapshot(3))
    assert warnings == []
