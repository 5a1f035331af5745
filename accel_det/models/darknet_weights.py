"""Darknet's weight files: numbers without names, in the order of the network's layers.

A file is a header, then per convolution with a norm its shift, scale, mean and variance and then its kernel, per linear
convolution its bias and then its kernel, all float32, little-endian. The header is three int32 (major, minor and revision
of the format) and the number of images seen in training: int64 from format 0.2 on, int32 before.

Source: the published weight files and the description of the format; checked against their sizes.
"""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from accel_det.models.layers.blocks import ConvBnAct

FORMAT = (0, 2, 5)
_FLOAT_BYTES = 4

Layers = Sequence[tuple[str, nn.Module]]


@runtime_checkable
class DarknetOrdered(Protocol):
    """A network that Darknet's files are made for.

    `darknet_layers` gives its `ConvBnAct` and linear `nn.Conv2d` modules by name, in the order of the file;
    `darknet_pretrained_layers` how many of them the files for starting a training hold. All linear convolutions have
    A * (5 + K) outputs, so the number of classes K of a file follows from its size.
    """

    num_anchors: int

    def darknet_layers(self) -> Layers: ...

    def darknet_pretrained_layers(self) -> int: ...


class DarknetFile(NamedTuple):
    """The tensors of a file by the names of the network, and the images seen in training."""

    state: dict[str, Tensor]
    images_seen: int


class _Part(NamedTuple):
    """A tensor of the file: its name in the network, and its shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


def is_darknet_file(path: Path) -> bool:
    """By its name: `yolov3.weights`, or, for starting a training, `darknet53.conv.74`."""
    return path.suffix == ".weights" or ".conv." in path.name


def read_darknet(model: DarknetOrdered, path: Path) -> DarknetFile:
    """Read a whole file, for any number of classes, or one for starting a training.

    Raises:
        ValueError: the file is not there, or its size is not that of this network's files: says how many bytes.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"model.weights: {path}: cannot be read: {error.strerror or error}") from None
    header_bytes, images_seen = _header(data, path)
    layers = model.darknet_layers()
    num_floats, rest = divmod(len(data) - header_bytes, _FLOAT_BYTES)
    first = _parts(layers[: model.darknet_pretrained_layers()], outputs=0)
    if rest == 0 and num_floats == _total(first):
        parts = first
    else:
        none, one = (_total(_parts(layers, outputs=model.num_anchors * k)) for k in (0, 1))
        channels, remainder = divmod(num_floats - none, one - none)
        if rest or remainder or channels < 6:
            own = _total(_parts(layers, outputs=None))
            raise ValueError(
                f"model.weights: {path} has {len(data):,} bytes; a file of this network has "
                f"{header_bytes + _FLOAT_BYTES * own:,} with as many classes, or {header_bytes + _FLOAT_BYTES * _total(first):,} "
                "with the backbone alone: it is damaged, or of another network; fetch it again"
            )
        parts = _parts(layers, outputs=model.num_anchors * channels)
    numbers = torch.from_numpy(np.frombuffer(data, "<f4", offset=header_bytes).astype(np.float32))
    pieces = numbers.split([part.size for part in parts])
    state = {part.name: piece.view(part.shape) for part, piece in zip(parts, pieces, strict=True)}
    for name in [name for name in state if name.endswith("running_var")]:
        if not bool((state[name] >= 0).all()):  # so is a number that is not one
            raise ValueError(
                f"model.weights: {path}: {name} holds variances below 0: the file is damaged; fetch it again"
            )
        state[name.replace("running_var", "num_batches_tracked")] = torch.tensor(0)
    return DarknetFile(state, images_seen)


def write_darknet(model: DarknetOrdered, path: Path, *, images_seen: int = 0, num_layers: int | None = None) -> None:
    """Write the first `num_layers` convolutions, by default all, as Darknet would."""
    assert isinstance(model, nn.Module)
    state = model.state_dict()
    parts = _parts(model.darknet_layers()[:num_layers], outputs=None)
    with path.open("wb") as stream:
        stream.write(struct.pack("<3iq", *FORMAT, images_seen))
        for part in parts:
            stream.write(state[part.name].detach().cpu().numpy().astype("<f4").tobytes())


def _header(data: bytes, path: Path) -> tuple[int, int]:
    """Its length in bytes, and the images seen."""
    if len(data) < 20:
        raise ValueError(f"model.weights: {path} has {len(data)} bytes, less than a header: fetch it again")
    major, minor, _ = struct.unpack_from("<3i", data)
    wide = major * 10 + minor >= 2 and major < 1000 and minor < 1000
    (images_seen,) = struct.unpack_from("<q" if wide else "<i", data, 12)
    return 20 if wide else 16, images_seen


def _parts(layers: Layers, *, outputs: int | None) -> list[_Part]:
    """What layers are stored as; linear ones with that many outputs, None for their own."""
    parts = []
    for name, layer in layers:
        if isinstance(layer, ConvBnAct):
            channels = (layer.norm.num_features,)
            norm = [
                _Part(f"{name}.norm.{kind}", channels) for kind in ("bias", "weight", "running_mean", "running_var")
            ]
            parts += [*norm, _Part(f"{name}.conv.weight", tuple(layer.conv.weight.shape))]
        else:
            assert isinstance(layer, nn.Conv2d)
            own, *kernel = layer.weight.shape
            rows = own if outputs is None else outputs
            parts += [_Part(f"{name}.bias", (rows,)), _Part(f"{name}.weight", (rows, *kernel))]
    return parts


def _total(parts: Sequence[_Part]) -> int:
    return sum(part.size for part in parts)
