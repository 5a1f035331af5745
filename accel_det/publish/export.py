"""Trained weights as a folder that anyone can load: safetensors, JSON, a model card; no pickle."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from accel_det.publish import layout
from accel_det.publish.card import render_card
from accel_det.publish.info import DetectorInfo as DetectorInfo
from accel_det.publish.info import EmbedderInfo as EmbedderInfo
from accel_det.publish.info import ExportInfo as ExportInfo
from accel_det.publish.info import SplitInfo as SplitInfo
from accel_det.publish.info import TrainingInfo as TrainingInfo
from accel_det.publish.info import from_values, to_json
from accel_det.publish.layout import ExportError as ExportError
from accel_det.publish.redact import redact

_ALIASES = "aliases"


def write_export(folder: Path, *, state: Mapping[str, Tensor], info: ExportInfo) -> None:
    """Write an export, replacing the one that is there; a crash at any instant leaves the old or the new one, whole.

    Tensors that share memory are stored once. Access tokens in the command or the configuration are blotted out.

    Args:
        folder: `<run>/export/best` or `<run>/export/last`.
        state: the network's `state_dict()`, on any device.
        info: what it is.

    Raises:
        ExportError: the disk is full, read-only or broken, or a class name is not Unicode text.
    """
    weights = _pack(state)
    digest = hashlib.sha256(weights).hexdigest()
    texts = {
        layout.CONFIG: to_json(info, weights_sha256=digest, weights_bytes=len(weights)),
        layout.CARD: render_card(info),
        layout.RUN_CONFIG: info.run_config,
    }
    try:
        encoded = {name: redact(text).encode() for name, text in texts.items()}
    except UnicodeEncodeError as error:
        raise ExportError(
            f"export of {info.name}: {error.object[max(0, error.start - 20) : error.end]!r} is not Unicode text; "
            "correct the class names or the command"
        ) from None
    layout.write_folder(folder, {layout.WEIGHTS: weights, **encoded})


def read_export(folder: Path) -> tuple[ExportInfo, dict[str, Tensor]]:
    """Read and verify an export.

    Returns:
        What it says of itself, and the state of the network on the CPU; names that shared memory share it again.

    Raises:
        ExportError: a file is missing, damaged, or of another format.
    """
    folder = layout.standing(folder)
    config_file, weights_file = folder / layout.CONFIG, folder / layout.WEIGHTS
    values = layout.parse_config(_read(config_file), file=config_file)
    run_config = folder / layout.RUN_CONFIG
    text = run_config.read_text(encoding="utf-8", errors="replace") if run_config.is_file() else ""
    info = from_values(values, run_config=text, file=config_file)
    try:
        with weights_file.open("rb") as stream:
            layout.check_weights(stream, values, file=weights_file)
            data = stream.read()
    except OSError as error:
        raise ExportError(f"{weights_file}: {error.strerror}; export or download it again") from None
    return info, _unpack(data, file=weights_file)


def _pack(state: Mapping[str, Tensor]) -> bytes:
    """Tensors -> safetensors; of names with the same memory and shape the first is stored, the others point to it."""
    first_name: dict[tuple[object, ...], str] = {}
    aliases: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        place = (tensor.device, tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() and place in first_name:
            aliases[name] = first_name[place]
            continue
        first_name[place] = name
        tensors[name] = tensor.detach().cpu().contiguous()
    # What overlaps otherwise, a view of a part for example, gets memory of its own: safetensors refuses shared memory.
    owners: set[int] = set()
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        if memory in owners:
            tensors[name] = tensor.clone()
        owners.add(memory)
    return _in_fixed_order(safetensors.torch.save(tensors, metadata={"format": "pt", _ALIASES: json.dumps(aliases)}))


def _in_fixed_order(data: bytes) -> bytes:
    """The same safetensors file with its metadata sorted: the library writes them in an order that differs by process,
    and equal weights should have equal digests."""
    header_bytes = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + header_bytes])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + header_bytes :]


def _unpack(data: bytes, *, file: Path) -> dict[str, Tensor]:
    try:
        tensors = safetensors.torch.load(data)
        header_bytes = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + header_bytes]).get("__metadata__", {})
        aliases: dict[str, str] = json.loads(metadata.get(_ALIASES, "{}"))
        return {**tensors, **{name: tensors[kept] for name, kept in aliases.items()}}
    except (SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise ExportError(
            f"{file}: not a safetensors file of this library ({error}); export or download it again"
        ) from None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ExportError(f"{file}: {error.strerror}; expected an export folder, as training writes it") from None
