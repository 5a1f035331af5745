"""Retrieval of identities for `evaluate.load(".../accel_det/metrics/reid_retrieval")`."""

from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import datasets
import evaluate.info
import evaluate.module
import torch

from accel_det.metrics.retrieval import RetrievalRule, retrieval_scores
from accel_det.metrics.retrieval_records import split_rows
from accel_det.types import EmbeddingRow

INPUTS = """
Args:
    predictions: one per picture: embedding (D,) float32.
    references: one per picture: sample_id from 0, a picture that comes twice counts once; identity, -1 for a distractor;
        camera, -1 where it is not known; role, 1 for a query, 2 for a picture of the gallery, 3 for both.
    metric, same_camera, ranks, multi_query, rerank: see `accel_det.metrics.retrieval_records.RetrievalRule`.
"""


class PredictionRecord(TypedDict):
    """What a network makes of one picture: (D,)."""

    embedding: list[float]


class ReferenceRecord(TypedDict):
    """Whom a picture shows, and what it is in the evaluation."""

    sample_id: int
    identity: int
    camera: int
    role: int


class ReidRetrieval(evaluate.module.Metric):
    """A shell around `accel_det.metrics.retrieval.retrieval_scores`."""

    def _info(self) -> evaluate.info.MetricInfo:
        return evaluate.info.MetricInfo(
            description="Cumulative matching curve, mean average precision and mean inverse negative penalty.",
            citation="Zheng et al., Scalable Person Re-identification: A Benchmark, 2015",
            inputs_description=INPUTS,
            features=_columns(),
        )

    def _compute(  # type: ignore[override]  # the base takes any keyword; these are the ones there are
        self,
        predictions: Sequence[PredictionRecord],
        references: Sequence[ReferenceRecord],
        *,
        metric: Literal["cosine", "euclidean"] = "cosine",
        same_camera: Literal["exclude", "include"] = "exclude",
        ranks: Sequence[int] = (1, 5, 10, 20),
        multi_query: Literal["none", "mean", "max"] = "none",
        rerank: bool = False,
    ) -> dict[str, float]:
        if same_camera not in ("exclude", "include"):
            raise ValueError(f"same_camera is {same_camera!r}, expected exclude or include")
        rows = [
            EmbeddingRow(**reference, embedding=torch.tensor(prediction["embedding"], dtype=torch.float32))
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        rule = RetrievalRule(
            metric=metric,
            exclude_same_camera=same_camera == "exclude",
            ranks=tuple(ranks),
            multi_query=multi_query,
            rerank=rerank,
        )
        return retrieval_scores(*split_rows(rows), rule)


def _columns() -> Any:
    """What `evaluate` stores between `add_batch` and `compute`."""
    features: Any = datasets.Features
    whole = datasets.Value("int64")
    return features(
        {
            "predictions": {"embedding": datasets.List(datasets.Value("float32"))},
            "references": dict.fromkeys(ReferenceRecord.__annotations__, whole),
        }
    )
