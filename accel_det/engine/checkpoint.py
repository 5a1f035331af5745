"""Checkpoints: folders of safetensors and JSON with a sha256 manifest, written beside and renamed into place.

    checkpoints/step-00000400/
        model.safetensors  ema.safetensors  optimizer.safetensors    tensors by parameter name
        state.json                                                   counters and what the run must agree on
        manifest.json                                                size and sha256 of each file, and of itself

No pickle is written or read. A crash at any instant leaves the previous or the new checkpoint, whole; damage of any byte is
noticed on reading, and the newest whole checkpoint is used.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

_NAME = re.compile(r"^step-(\d{8})(\.old)?$")
_MANIFEST = "manifest.json"


class CheckpointError(ValueError):
    """A checkpoint that cannot be written, read or trusted; the message names the file and says what to do."""


class Snapshot(NamedTuple):
    """What a checkpoint holds.

    Attributes:
        step: optimizer updates done.
        tensors: file stem ("model", "ema", "optimizer") -> name -> tensor.
        state: plain values for JSON.
    """

    step: int
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(folder: Path, snapshot: Snapshot) -> Path:
    """Write one checkpoint below `folder`; a crash in between leaves what was there before.

    Raises:
        CheckpointError: the disk is full, read-only or broken; names the file and the reason.
    """
    final = folder / f"step-{snapshot.step:08d}"
    part = folder / f"{final.name}.part"
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        contents = {
            f"{stem}.safetensors": safetensors.torch.save({k: _on_disk(v) for k, v in tensors.items()})
            for stem, tensors in snapshot.tensors.items()
        }
        contents["state.json"] = _canonical(snapshot.state)
        files = {name: {"bytes": len(data), "sha256": _sha256(data)} for name, data in contents.items()}
        contents[_MANIFEST] = _canonical({"files": files, "sha256": _sha256(_canonical(files))})
        for name, data in contents.items():
            _write(part / name, data)
        _sync_folder(part)
        aside = folder / f"{final.name}.old"
        if final.exists():  # written by an earlier life of this run, or by a signal that came at a saving step
            shutil.rmtree(aside, ignore_errors=True)
            final.rename(aside)
        part.rename(final)
        _sync_folder(folder)
        shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise CheckpointError(
            f"{error.filename or part}: checkpoint of step {snapshot.step} not written ({error.strerror}); "
            "the previous one is untouched. Free or unlock the disk, then continue with --resume auto"
        ) from error
    return final


def load(path: Path) -> Snapshot:
    """Read and verify one checkpoint.

    Raises:
        CheckpointError: a file is missing, changed or unreadable.
    """
    manifest_file = path / _MANIFEST
    if not manifest_file.is_file():
        raise CheckpointError(f"{manifest_file}: missing, so {path} is no whole checkpoint; use another one")
    files = _read_manifest(manifest_file)
    contents = {name: _read_verified(path / name, entry) for name, entry in files.items()}
    try:
        state: dict[str, Any] = json.loads(contents.pop("state.json"))
        tensors = {name.removesuffix(".safetensors"): safetensors.torch.load(data) for name, data in contents.items()}
        step = int(state["step"])
    except (SafetensorError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: its files are not a checkpoint's ({error}); use another one") from None
    named = _NAME.match(path.name)
    if named is not None and int(named[1]) != step:
        raise CheckpointError(f"{path}: holds step {step}, which its name denies; rename it, or use another checkpoint")
    return Snapshot(step, tensors, state)


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints below `folder`, ascending, whole or not."""
    if not folder.is_dir():
        return []
    return sorted({int(match[1]) for entry in folder.iterdir() if (match := _NAME.match(entry.name))})


def load_newest(folder: Path, *, warn: Callable[[str], None]) -> Snapshot | None:
    """The newest whole checkpoint; each damaged one before it is reported.

    Returns:
        None where there is no checkpoint at all.

    Raises:
        CheckpointError: there are checkpoints, and all are damaged.
    """
    found = steps(folder)
    for step in reversed(found):
        try:
            return load(_locate(folder, step))
        except CheckpointError as error:
            warn(f"damaged checkpoint passed over: {error}")
    if found:
        raise CheckpointError(f"{folder}: none of its {len(found)} checkpoints is whole; start again without --resume")
    return None


def prune(folder: Path, *, current: int, keep_last: int, keep_steps: set[int]) -> None:
    """Remove checkpoints that are no longer wanted, and what crashes left behind.

    Args:
        current: the step just saved. Later ones are damaged, or of a life of the run that was gone back from: removed, or
            they would crowd out the good ones.
        keep_last: so many stay, `current` and those before it.
        keep_steps: these stay too.
    """
    found = steps(folder)
    kept = {*[step for step in found if step <= current][-keep_last:], *keep_steps}
    for step in found:
        if step not in kept or step > current:
            for name in (f"step-{step:08d}", f"step-{step:08d}.old"):
                shutil.rmtree(folder / name, ignore_errors=True)
    for left_over in folder.glob("step-*.part"):
        shutil.rmtree(left_over, ignore_errors=True)


def _locate(folder: Path, step: int) -> Path:
    """A checkpoint that was being replaced when a crash came may have only its old form."""
    path = folder / f"step-{step:08d}"
    return path if path.exists() else folder / f"{path.name}.old"


def _read_manifest(file: Path) -> Mapping[str, Mapping[str, Any]]:
    try:
        data = file.read_bytes()
        manifest = json.loads(data)
        files: Mapping[str, Mapping[str, Any]] = manifest["files"]
        whole = manifest["sha256"] == _sha256(_canonical(files)) and data == _canonical(manifest)
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror}; use another checkpoint") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        whole = False
    if not whole:
        raise CheckpointError(f"{file}: damaged: its text is not what was written; use another checkpoint")
    return files


def _read_verified(file: Path, entry: Mapping[str, Any]) -> bytes:
    try:
        data = file.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{file}: {error.strerror}; use another checkpoint") from None
    if len(data) != entry["bytes"]:
        raise CheckpointError(
            f"{file}: damaged: {len(data)} bytes, {entry['bytes']} were written; use another checkpoint"
        )
    if _sha256(data) != entry["sha256"]:
        raise CheckpointError(f"{file}: damaged: its sha256 is not the one in {_MANIFEST}; use another checkpoint")
    return data


def _on_disk(tensor: Tensor) -> Tensor:
    """A copy of its own on the CPU: names that share memory are stored twice, and load strictly."""
    return tensor.detach().to("cpu", copy=True).contiguous()


def _canonical(value: object) -> bytes:
    return (json.dumps(value, sort_keys=True, indent=1) + "\n").encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write(file: Path, data: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
