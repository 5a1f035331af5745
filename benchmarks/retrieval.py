"""Seconds and memory of the numbers of retrieval, at the size of Market-1501's test set.

    python benchmarks/retrieval.py [--large] [--rerank] [--threads 1] [--queries 3368 --gallery 19732 --dimension 256]

`--large` is 20,000 queries in a gallery of 100,000, with 512 numbers each. Embeddings are drawn: 750 identities in six
cameras, a tenth of the gallery distractors, noise such that rank-1 is neither 0 nor 1. The answer is one line of JSON.
"""

import argparse
import json
import platform
import resource
import time

import torch
from torch.nn.functional import normalize

from accel_det.metrics.retrieval import Features, RetrievalRule, retrieval_scores

MARKET = (3368, 19732, 256)
LARGE = (20_000, 100_000, 512)
NUM_IDENTITIES, NUM_CAMERAS = 750, 6
NOISE = 2.5
BLOCK = 4096


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    sizes = LARGE if options.large else MARKET
    num_queries, num_gallery, dimension = (
        given or size for given, size in zip((options.queries, options.gallery, options.dimension), sizes, strict=True)
    )
    queries = draw(num_queries, dimension=dimension, first_id=0, distractors=0.0)
    gallery = draw(num_gallery, dimension=dimension, first_id=num_queries, distractors=0.1)
    before_mib = peak_mib()
    started, started_cpu = time.perf_counter(), time.process_time()
    scores = retrieval_scores(queries, gallery, RetrievalRule(rerank=options.rerank))
    result = {
        "queries": num_queries,
        "gallery": num_gallery,
        "dimension": dimension,
        "rerank": options.rerank,
        "threads": options.threads,
        "seconds": round(time.perf_counter() - started, 2),
        "cpu_seconds": round(time.process_time() - started_cpu, 2),
        "peak_mib": round(peak_mib()),
        "peak_mib_before": round(before_mib),
        "machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "scores": {name: round(value, 6) for name, value in scores.items()},
    }
    print(json.dumps(result))


def draw(count: int, *, dimension: int, first_id: int, distractors: float) -> Features:
    """Unit vectors around those of their identities; the same for the same arguments."""
    generator = torch.Generator().manual_seed(first_id)
    means = torch.randn(NUM_IDENTITIES, dimension, generator=torch.Generator().manual_seed(17))
    identities = torch.randint(0, NUM_IDENTITIES, (count,), generator=generator)
    cameras = torch.randint(0, NUM_CAMERAS, (count,), generator=generator)
    embeddings = torch.empty(count, dimension)
    for start in range(0, count, BLOCK):
        block = identities[start : start + BLOCK]
        noise = torch.randn(len(block), dimension, generator=generator)
        embeddings[start : start + BLOCK] = normalize(means[block] + NOISE * noise, dim=1)
    identities[torch.rand(count, generator=generator) < distractors] = -1
    return Features(embeddings, identities, cameras, torch.arange(first_id, first_id + count))


def peak_mib() -> float:
    """Of this process since it began, with the interpreter and torch."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--large", action="store_true", help="20,000 x 100,000 x 512")
    parser.add_argument("--rerank", action="store_true", help="by k-reciprocal neighbours")
    parser.add_argument("--threads", type=int, default=1, help="of torch; 1")
    parser.add_argument("--queries", type=int, help=f"{MARKET[0]}")
    parser.add_argument("--gallery", type=int, help=f"{MARKET[1]}")
    parser.add_argument("--dimension", type=int, help=f"{MARKET[2]}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
