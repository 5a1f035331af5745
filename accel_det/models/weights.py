"""Starting weights: load what fits, and say what did not; and freeze by name."""

import fnmatch
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from accel_det.models.darknet_weights import DarknetOrdered, is_darknet_file, read_darknet

_LEADING_PARTS = ("network.", "network.backbone.", "network.backbone.body.")


class LoadReport(NamedTuple):
    """What became of each name.

    Attributes:
        matched: loaded.
        missing: of the model, not in the file: kept as initialised.
        unexpected: in the file, not of the model: unused.
        mismatched: of both with another shape, not loaded: "name (file shape, model shape)".
        kept: of both, not loaded, because the model's own was asked for by name.
    """

    matched: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]
    kept: Sequence[str] = ()

    def summary(self) -> str:
        """One line with the counts and the first names of each kind."""
        parts = []
        for kind, found in zip(self._fields, self, strict=True):
            if kind == "kept" and not found:
                continue
            shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
            parts.append(f"{len(found)} {kind}" + (f" ({shown})" if found and kind != "matched" else ""))
        return "weights: " + ", ".join(parts)


def load_weights(model: nn.Module, path: str | Path, *, keep: Collection[str] = ()) -> LoadReport:
    """Load what fits of a safetensors file, of an export's folder, or of a file of Darknet for its own networks.

    Args:
        keep: names of the model whose tensors stay as they are, whatever the file holds.

    Raises:
        ValueError: missing or damaged file; another format; nothing fits.
    """
    file = Path(path)
    if not is_darknet_file(file):
        return load_matching(model, read_weights(file), keep=keep)
    if not isinstance(model, DarknetOrdered):
        raise ValueError(
            f"model.weights: {file}: only the YOLOv3 networks read files of Darknet; give a .safetensors file"
        )
    return load_matching(model, read_darknet(model, file).state, keep=keep)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of `model.safetensors` in a folder.

    Raises:
        ValueError: missing or damaged file; another format.
    """
    file = Path(path)
    file = file / "model.safetensors" if file.is_dir() else file
    if not file.is_file():
        raise ValueError(
            f"model.weights: {file}: no such file; expected a .safetensors file, or a folder with model.safetensors"
        )
    if file.suffix != ".safetensors":
        raise ValueError(
            f"model.weights: {file}: only .safetensors files are read, because others can run code when opened; "
            "convert it with torch.load(..., weights_only=True) and safetensors.torch.save_file"
        )
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(f"model.weights: {file}: damaged ({error}); fetch it again") from None


def load_matching(model: nn.Module, state: Mapping[str, Tensor], *, keep: Collection[str] = ()) -> LoadReport:
    """Load the tensors whose name and shape the model has.

    A file whose names lack the model's leading part (`network.`, or for a backbone's file `network.backbone.`), as
    torchvision's own, is recognised.

    Args:
        keep: as of `load_weights`.

    Raises:
        ValueError: nothing matches.
    """
    own = model.state_dict()
    if not any(name in own for name in state):
        candidates = [{f"{part}{name}": value for name, value in state.items()} for part in _LEADING_PARTS]
        state = next((one for one in candidates if any(name in own for name in one)), candidates[0])
    kept = [name for name in state if name in keep and name in own]
    state = {name: tensor for name, tensor in state.items() if name not in kept}
    matched = [name for name, tensor in state.items() if name in own and own[name].shape == tensor.shape]
    mismatched = [
        f"{name} {tuple(tensor.shape)} in the file, {tuple(own[name].shape)} in the model"
        for name, tensor in state.items()
        if name in own and own[name].shape != tensor.shape
    ]
    if not matched:
        examples = f"file: {', '.join(list(state)[:2])}; model: {', '.join(list(own)[:2])}"
        raise ValueError(f"model.weights: not one tensor fits this network ({examples}); is it another network's file?")
    model.load_state_dict({name: state[name] for name in matched}, strict=False)
    missing = [name for name in own if name not in state and name not in kept]
    return LoadReport(matched, missing, [name for name in state if name not in own], mismatched, kept)


def freeze(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Stop training the parameters whose name matches a pattern, as in a shell.

    Returns:
        The names that were frozen.

    Raises:
        ValueError: a pattern matches nothing, or nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    frozen: list[str] = []
    for pattern in patterns:
        hits = fnmatch.filter(parameters, pattern)
        if not hits:
            tops = sorted({".".join(name.split(".")[:3]) for name in parameters})
            raise ValueError(
                f"model.freeze: `{pattern}` matches no parameter; names begin with {', '.join(tops[:8])}, ..."
            )
        frozen += hits
    for name in frozen:
        parameters[name].requires_grad_(False)
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise ValueError("model.freeze: the patterns freeze every parameter, so there is nothing to train")
    return sorted(set(frozen))
