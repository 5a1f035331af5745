"""The numbers of retrieval as `evaluate` loads them from their folder, without a network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from accel_det.metrics.retrieval import Features, RetrievalRule, retrieval_scores
from accel_det.types import Role

ROOT = Path(__file__).parents[2]

PROGRAM = """
import json
import sys

import evaluate

pictures = json.load(open(sys.argv[1]))
metric = evaluate.load(sys.argv[2])
for settings in json.loads(sys.argv[3]):
    for embedding, reference in pictures:
        metric.add(prediction={"embedding": embedding}, reference=reference)
    print("scores", json.dumps(metric.compute(**settings)))
try:
    metric.compute(
        predictions=[{"embedding": pictures[0][0]}], references=[pictures[0][1]], same_camera="yes"
    )
except ValueError as error:
    print("refused", error)
"""


def test_the_metric_loads_offline_and_gives_the_numbers_of_the_function(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(60, 16, generator=generator)
    identities, cameras, roles = (
        torch.randint(low, high, (60,), generator=generator) for low, high in ((-1, 8), (-1, 3), (1, 4))
    )
    ids = torch.randperm(1000, generator=generator)[:60]
    pictures = [
        [embedding, {"sample_id": sample, "identity": identity, "camera": camera, "role": role}]
        for embedding, sample, identity, camera, role in zip(
            *(column.tolist() for column in (embeddings, ids, identities, cameras, roles)), strict=True
        )
    ]
    pictures += pictures[:7]  # as a last batch that was filled up
    (tmp_path / "pictures.json").write_text(json.dumps(pictures))
    settings = [
        {},
        {"metric": "euclidean", "same_camera": "include", "ranks": [1, 3], "multi_query": "mean", "rerank": True},
    ]
    folder = ROOT / "accel_det" / "metrics" / "reid_retrieval"
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "pictures.json"), str(folder), json.dumps(settings)],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    found = [json.loads(line.removeprefix("scores ")) for line in lines if line.startswith("scores ")]
    everything = Features(embeddings, identities, cameras, ids)
    queries, gallery = (
        Features(*(column[(roles & role) > 0] for column in everything)) for role in (Role.QUERY, Role.GALLERY)
    )
    rules = [
        RetrievalRule(),
        RetrievalRule("euclidean", exclude_same_camera=False, ranks=(1, 3), multi_query="mean", rerank=True),
    ]
    expected = [retrieval_scores(queries, gallery, rule) for rule in rules]
    assert found == expected
    assert 0 < expected[0]["mAP"] < 1 and expected[0]["queries_without_match"] > 0 and "rank3" in expected[1]
    assert any(line.startswith("refused same_camera is 'yes', expected exclude or include") for line in lines)
