"""Two processes with 1 and 3 images against the norms of torch on the 4 images together, in float64."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from accel_det.models.layers.batch_norm import convert_batch_norm

SPLIT = (1, 3)
STEPS = 3


def network() -> nn.Module:
    """Three norms, so that gradients pass through them; one with a cumulative average, one of vectors, as a neck has."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(2, 3, 3, bias=False),
        nn.BatchNorm2d(3, momentum=None),
        nn.SiLU(),
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4, eps=1e-3, momentum=0.03),
        nn.Flatten(),
        nn.BatchNorm1d(4 * 4 * 5),
    )
    return layers.double()


def data() -> tuple[Tensor, Tensor]:
    """(STEPS, 4, 2, 8, 9) images far from zero mean, and weights of the outputs."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(STEPS, sum(SPLIT), 2, 8, 9, generator=generator, dtype=torch.float64) * 3 + 50
    weights = torch.randn(STEPS, sum(SPLIT), 4 * 4 * 5, generator=generator, dtype=torch.float64)
    return images, weights


def train(model: nn.Module, images: Tensor, weights: Tensor) -> dict[str, Tensor]:
    """Outputs and gradient of the last step; gradients of the weights are sums over the images given."""
    images = images.clone().requires_grad_()
    for step in range(STEPS):
        model.zero_grad()
        outputs = model(images[step])
        (outputs * weights[step]).sum().backward()
    assert images.grad is not None
    return {
        "outputs": outputs.detach(),
        "images": images.grad,
        **{f"gradient {name}": p.grad for name, p in model.named_parameters() if p.grad is not None},
        **{f"buffer {name}": b.double() for name, b in model.named_buffers()},
    }


def train_share(rank: int, folder: str) -> None:
    """One of the processes: trains on its images, writes what it found."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=len(SPLIT))
    images, weights = data()
    mine = slice(sum(SPLIT[:rank]), sum(SPLIT[: rank + 1]))
    model = convert_batch_norm(network(), "synchronized").train()
    found = train(model, images[:, mine], weights[:, mine])
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    folder: Path = tmp_path_factory.mktemp("batch_norm")
    mp.spawn(train_share, args=(str(folder),), nprocs=len(SPLIT), join=True)
    return [torch.load(folder / f"{rank}.pt") for rank in range(len(SPLIT))]


@pytest.fixture(scope="module")
def joint() -> dict[str, Tensor]:
    return train(network().train(), *data())


def test_outputs_and_image_gradients_equal_those_of_the_joint_batch(
    shares: list[dict[str, Tensor]], joint: dict[str, Tensor]
) -> None:
    outputs = torch.cat([share["outputs"] for share in shares])
    assert relative_error(outputs, joint["outputs"]) <= 1e-12
    images = torch.cat([share["images"] for share in shares], dim=1)
    assert relative_error(images, joint["images"]) <= 1e-12


def test_weight_gradients_add_up_to_those_of_the_joint_batch(
    shares: list[dict[str, Tensor]], joint: dict[str, Tensor]
) -> None:
    names = [name for name in joint if name.startswith("gradient")]
    assert len(names) == 9
    scale = max(float(joint[name].norm()) for name in names)
    for name in names:
        total = shares[0][name] + shares[1][name]
        # The bias before a norm has a gradient of zero but for rounding: compared against the largest.
        assert float((total - joint[name]).norm()) <= 1e-12 * max(float(joint[name].norm()), 1e-3 * scale), name


def test_running_statistics_of_every_process_equal_those_of_the_joint_batch(
    shares: list[dict[str, Tensor]], joint: dict[str, Tensor]
) -> None:
    names = [name for name in joint if name.startswith("buffer")]
    assert len(names) == 9
    for share in shares:
        for name in names:
            assert relative_error(share[name], joint[name]) <= 1e-12, name
    assert all(torch.equal(shares[0][name], shares[1][name]) for name in names)
