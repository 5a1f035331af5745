"""Which files make an export and where it lies: paths and bytes, no tensors, so that pushing needs no torch.

    <run>/export/best/
        model.safetensors    weights
        config.json          all that is needed to build the network and to read its output
        README.md            the model card
        run_config.yaml      the resolved configuration

A folder is written beside as `best.part`; the old one is renamed to `best.old`, the new one to `best`, then the old one
goes. Between the two renames only `best.old` is there, and readers take it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

WEIGHTS = "model.safetensors"
CONFIG = "config.json"
CARD = "README.md"
RUN_CONFIG = "run_config.yaml"
FILES = (WEIGHTS, CONFIG, CARD, RUN_CONFIG)

_CHUNK_BYTES = 1 << 20


class ExportError(ValueError):
    """An export that cannot be written, found, read or trusted; the message names the file and says what to do."""


def standing(folder: Path) -> Path:
    """The folder, or what stands in for it if a crash came between the two renames of a replacement."""
    old = _old(folder)
    return old if not folder.exists() and (old / CONFIG).is_file() else folder


def find_export(path: Path, *, choices: tuple[str, ...] = ("best", "last")) -> Path:
    """The export that a folder is, or else the first of `choices` that the run in it has.

    Raises:
        ExportError: neither.
    """
    if (path / CONFIG).is_file():
        return path
    for folder in [path, *(path / "export" / choice for choice in choices)]:
        if (standing(folder) / CONFIG).is_file():
            return standing(folder)
    expected = " or ".join(f"export/{choice}" for choice in choices)
    raise ExportError(
        f"{path}: no export in it; expected {CONFIG}, or a run's folder with {expected}, which training writes"
    )


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files beside `folder`, then put them in its place; at every instant a whole export can be read.

    Raises:
        ExportError: the disk is full, read-only or broken.
    """
    part = folder.with_name(f"{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, data in contents.items():
            with (part / name).open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        _sync(part)
        _replace(part, folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise ExportError(
            f"{error.filename or part}: export not written ({error.strerror}); the previous one is untouched. "
            "Free or unlock the disk, then export again"
        ) from error


def parse_config(data: bytes, *, file: Path) -> dict[str, Any]:
    """The text of `config.json` as plain values.

    Raises:
        ExportError: it is no JSON object.
    """
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ExportError(f"{file}: damaged: not JSON ({error}); export or download it again") from None
    if not isinstance(found, dict):
        raise ExportError(
            f"{file}: holds a JSON {type(found).__name__}, expected an object; export or download it again"
        )
    return found


def check_weights(stream: BinaryIO, config: Mapping[str, Any], *, file: Path) -> None:
    """Compare the weights, read from the start of `stream`, with the size and sha256 that `config.json` gives.

    Raises:
        ExportError: they differ, or `config.json` does not say.
    """
    said = config.get("weights")
    if not isinstance(said, dict) or not isinstance(said.get("sha256"), str):
        raise ExportError(f"{file.with_name(CONFIG)}: weights.sha256 is missing; export or download it again")
    stream.seek(0)
    digest, num_bytes = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
        num_bytes += len(chunk)
    stream.seek(0)
    if num_bytes != said.get("bytes"):
        raise ExportError(
            f"{file}: damaged: {num_bytes} bytes, {said.get('bytes')} were written; export or download it again"
        )
    if digest.hexdigest() != said["sha256"]:
        raise ExportError(f"{file}: damaged: its sha256 is not the one in {CONFIG}; export or download it again")


def _replace(part: Path, folder: Path) -> None:
    old = _old(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    part.rename(folder)
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _old(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.old")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
