"""Networks for re-identification in tests, and pictures to show them."""

from typing import Any

import pytest
import torch
from torch import Tensor

from accel_det.models import zoo
from accel_det.models.reid.model import ReidModel
from accel_det.types import Batch, Frame, IdentityTarget


def build(name: str, *, identities: int = 0, **options: Any) -> ReidModel:
    torch.manual_seed(0)
    model = zoo.build(name, num_classes=identities, options=options)
    assert isinstance(model, ReidModel)
    return model


def pictures(height: int, width: int, *, cameras: tuple[int, ...] = (-1, -1)) -> Batch[IdentityTarget]:
    draw = torch.Generator().manual_seed(1)
    count = len(cameras)
    images = torch.randint(0, 256, (count, 3, height, width), generator=draw, dtype=torch.uint8)
    targets = [IdentityTarget(-1, camera) for camera in cameras]
    frames = [Frame(place, f"picture {place}", height, width) for place in range(count)]
    return Batch(images, torch.tensor([[height, width]] * count), targets, frames)


@torch.no_grad()
def embed(model: ReidModel, batch: Batch[IdentityTarget]) -> Tensor:
    return torch.stack(model.eval().predict(batch))


def refusal(name: str, **options: Any) -> str:
    with pytest.raises(ValueError) as error:
        build(name, **options)
    assert "\n" not in str(error.value)
    return str(error.value)
