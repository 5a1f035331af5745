"""Random choice of training examples that depends on the image alone, not on its neighbours in the batch or the
process.

Every image draws from its own generator, keyed by `Frame.draw_seed`, on the CPU: the same draw on every device.
"""

import hashlib
from typing import NamedTuple

import torch
from torch import Tensor

RPN_STREAM = "region proposal network"
ROI_STREAM = "regions of interest"


class Sampled(NamedTuple):
    """The chosen candidates of one image.

    Attributes:
        positive: (P,) int64, indices of chosen candidates that are objects.
        negative: (M,) int64, indices of chosen candidates that are background.
    """

    positive: Tensor
    negative: Tensor


def sample_balanced(
    labels: list[Tensor], *, per_image: int, positive_fraction: float, draw_seeds: list[int], stream: str
) -> list[Sampled]:
    """Choose at most `per_image` candidates of every image, at most `positive_fraction` of them objects.

    Waits for the device once a batch, to learn how many candidates there are.

    Args:
        labels: one (A,) tensor per image; above 0 is an object, 0 background, below 0 takes no part.
        draw_seeds: one per image, `Frame.draw_seed`.
        stream: names the purpose, so that two choices about one image are independent.

    Source: torchvision.models.detection._utils.BalancedPositiveNegativeSampler (BSD), which draws from the global
    generator.
    """
    available = torch.stack(
        [torch.stack(((of_image > 0).sum(), (of_image == 0).sum())) for of_image in labels]
    ).tolist()
    chosen = []
    for of_image, (num_positive, num_negative), draw_seed in zip(labels, available, draw_seeds, strict=True):
        generator = image_generator(draw_seed, stream=stream)
        take_positive = min(num_positive, int(per_image * positive_fraction))
        take_negative = min(num_negative, per_image - take_positive)
        positive = draw_without_replacement(num_positive, take=take_positive, generator=generator)
        negative = draw_without_replacement(num_negative, take=take_negative, generator=generator)
        chosen.append(Sampled(_positions(of_image > 0, ranks=positive), _positions(of_image == 0, ranks=negative)))
    return chosen


def image_generator(draw_seed: int, *, stream: str) -> torch.Generator:
    """A CPU generator for one purpose and one image.

    torch seeds its CPU generator with the low 32 bits alone, hence the hash, which mixes all bits into them.
    """
    digest = hashlib.blake2b(f"{draw_seed}/{stream}".encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little"))


def draw_without_replacement(count: int, *, take: int, generator: torch.Generator) -> Tensor:
    """`take` different integers of [0, count), every ordered choice equally likely; (take,) int64 on the CPU.

    A permutation of a hundred thousand anchors to choose 256 of them costs milliseconds an image, so where few of many
    are wanted, draws are repeated and repetitions dropped, which has the same distribution.
    """
    if count <= 8 * take:
        return torch.randperm(count, generator=generator)[:take]
    drawn: dict[int, None] = {}
    while len(drawn) < take:
        drawn.update(dict.fromkeys(torch.randint(count, (2 * take,), generator=generator).tolist()))
    return torch.tensor(list(drawn)[:take], dtype=torch.int64)


def _positions(mask: Tensor, *, ranks: Tensor) -> Tensor:
    """Where the true elements of an (A,) mask stand that have the given 0-based ranks among the true elements.

    As `mask.nonzero()[ranks]`, without asking the device how many there are.
    """
    return torch.searchsorted(mask.cumsum(dim=0), ranks.to(mask.device) + 1)
