"""Random queries and galleries."""

import torch
from torch import Tensor

from accel_det.metrics.retrieval import Features


def draw(
    seed: int, *, num_queries: int = 13, num_gallery: int = 40, dimension: int = 4, tied: bool = True, shared: int = 0
) -> tuple[Features, Features]:
    """Random sides with distractors, unknown cameras, an identity of one camera and one that has no match.

    Args:
        tied: coordinates are -1 or 1, of which there are 16 embeddings if D is 4; else normal, some pictures twice.
        shared: so many of the queries are in the gallery too.
    """
    generator = torch.Generator().manual_seed(seed)
    count = num_queries + num_gallery - shared
    embeddings = torch.randn(count, dimension, generator=generator)
    if tied:
        embeddings = embeddings.sign()
    else:
        copied = torch.randint(0, count, (count // 4,), generator=generator)
        embeddings[torch.randint(0, count, (count // 4,), generator=generator)] = embeddings[copied]
    identities = torch.randint(-1, 6, (count,), generator=generator)
    cameras = torch.randint(-1, 3, (count,), generator=generator)
    cameras[identities == 4] = 1
    identities[num_queries:][identities[num_queries:] == 5] = -1
    ids = torch.randperm(10 * count, generator=generator)[:count]
    everything = Features(embeddings, identities, cameras, ids)
    return pick(everything, torch.arange(num_queries)), pick(everything, torch.arange(num_queries - shared, count))


def pick(features: Features, rows: Tensor) -> Features:
    return Features(*(column[rows] for column in features))


def shuffled(features: Features, seed: int) -> Features:
    return pick(features, torch.randperm(len(features.ids), generator=torch.Generator().manual_seed(seed)))
