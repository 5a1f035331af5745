"""Trained networks that embed pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from accel_det.data.augment.identity import prepare_identity
from accel_det.inference.exact import load_exactly
from accel_det.inference.pictures import Picture, read_picture
from accel_det.models import zoo
from accel_det.models.base import ZooModel
from accel_det.models.reid.model import WithMirror
from accel_det.publish.export import EmbedderInfo
from accel_det.types import Batch, Frame, IdentityTarget


class Embedder:
    """A trained network with all that it takes to use it.

    Attributes:
        info: where it comes from, how it scored.
    """

    def __init__(self, model: nn.Module, info: EmbedderInfo, *, device: str = "cpu") -> None:
        self.info = info
        self._device = torch.device(device)
        self._model = model.to(self._device).eval().requires_grad_(False)

    def embed(self, images: Sequence[Picture], *, cameras: Sequence[int] | None = None, batch_size: int = 64) -> Tensor:
        """Embed pictures, each of one identity: (N, D) float32 of unit length, on the CPU.

        Two of one identity have a large inner product. An embedding does not depend on the other pictures, up to rounding.

        Args:
            images: files, Pillow images, or tensors (3, H, W) uint8 RGB.
            cameras: number of the camera of each, for networks that were trained to know it; -1 where it is not known.
            batch_size: images per forward pass at most; it changes speed and memory only.

        Raises:
            ValueError: a file cannot be read, a tensor has another shape or type, or an argument is out of range.
        """
        if isinstance(images, str | Path | Tensor | Image.Image):
            raise ValueError(f"images is one {type(images).__name__}, expected a sequence; put it in a list")
        if batch_size < 1 or (cameras is not None and len(cameras) != len(images)):
            given = "none" if cameras is None else len(cameras)
            raise ValueError(
                f"batch_size is {batch_size}, and there are {len(images)} images with {given} cameras; expected at least 1, "
                "and a camera for each"
            )
        known = [-1] * len(images) if cameras is None else list(cameras)
        parts = [
            self._embed(images[start : start + batch_size], known[start : start + batch_size], start)
            for start in range(0, len(images), batch_size)
        ]
        return torch.cat(parts) if parts else torch.zeros((0, self.num_channels))

    @property
    def num_channels(self) -> int:
        """D, the length of an embedding."""
        blank = torch.zeros((3, *self.info.size_px), dtype=torch.uint8)
        return self._embed([blank], [-1], 0).shape[1]

    @torch.inference_mode()
    def _embed(self, images: Sequence[Picture], cameras: Sequence[int], first: int) -> Tensor:
        height, width = self.info.size_px
        pixels: list[Tensor] = []
        frames: list[Frame] = []
        for position, picture in enumerate(images, start=first):
            image, name = read_picture(picture, position)
            pixels.append(prepare_identity(image, size_px=(height, width)))
            frames.append(Frame(position, name, int(image.shape[-2]), int(image.shape[-1])))
        batch = Batch(
            torch.stack(pixels).to(self._device),
            torch.tensor([[height, width]] * len(pixels)),
            [IdentityTarget(-1, camera) for camera in cameras],
            frames,
        )
        found: list[Tensor] = self._model(batch)
        return torch.stack(found).cpu()


def build_embedder(info: EmbedderInfo, state: Mapping[str, Tensor]) -> nn.Module:
    """The network of an export, on the CPU, with its weights; behind its mirror where the export asks for that.

    It cannot be trained: what told the identities of the training data apart is not exported.

    Raises:
        ValueError: the zoo has no such network or option, or the weights are of another one.
    """
    with torch.random.fork_rng(devices=[]):  # the first weights are drawn, and replaced below
        model: ZooModel[Any, Any] = zoo.build(info.model, num_classes=0, options=info.options)
    load_exactly(model, state, info)
    return WithMirror(model) if info.flip else model
