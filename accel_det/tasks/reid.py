"""Re-identification: from pictures to batches, from embeddings to the numbers of retrieval."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from accel_det.data.collate import collate_boxes
from accel_det.metrics.retrieval import RetrievalRule, retrieval_scores
from accel_det.metrics.retrieval_records import split_rows
from accel_det.types import Batch, EmbeddingRow, Frame, IdentityTarget, Sample


class ReidTask:
    """Fulfils `accel_det.tasks.base.Task` for identities.

    Args:
        rule: how queries are answered and scored.
    """

    fitness = "mAP"

    def __init__(self, rule: RetrievalRule) -> None:
        self.rule = rule

    def collate(self, samples: Sequence[Sample[IdentityTarget]]) -> Batch[IdentityTarget]:
        """Pictures, all of one size, one under the other."""
        return collate_boxes(samples)

    def row(self, frame: Frame, target: IdentityTarget, prediction: Tensor) -> EmbeddingRow:
        """Bring one embedding, (D,), to the CPU, in float32."""
        embedding = prediction.detach().to("cpu", torch.float32)
        return EmbeddingRow(frame.sample_id, target.identity, target.camera, int(target.role), embedding)

    def score(self, rows: Iterable[EmbeddingRow]) -> dict[str, float]:
        """The numbers of `retrieval_scores`, with the queries and the gallery that the roles make."""
        queries, gallery = split_rows(rows)
        return retrieval_scores(queries, gallery, self.rule)

    def pack(self, rows: Sequence[EmbeddingRow]) -> dict[str, Tensor]:
        """Columns of all rows.

        Returns:
            pictures (R, 4) int64: sample_id, identity, camera, role; embeddings (R * D,) float32, flat, because a process
            without a row does not know D.
        """
        return {
            "pictures": torch.tensor([tuple(row[:4]) for row in rows], dtype=torch.int64).reshape(-1, 4),
            "embeddings": torch.cat([torch.zeros(0), *(row.embedding for row in rows)]),
        }

    def unpack(self, packed: Mapping[str, Tensor]) -> list[EmbeddingRow]:
        """The rows that `pack` took.

        Raises:
            ValueError: the embeddings are not of so many pictures.
        """
        pictures, flat = packed["pictures"], packed["embeddings"]
        if len(flat) % max(1, len(pictures)) or bool(len(flat)) != bool(len(pictures)):
            raise ValueError(
                f"packed rows: {len(flat)} numbers for {len(pictures)} pictures; unpack the tensors of one pack together"
            )
        embeddings = flat.reshape(len(pictures), -1) if len(pictures) else flat.reshape(0, 0)
        return [
            EmbeddingRow(sample_id, identity, camera, role, embedding)
            for (sample_id, identity, camera, role), embedding in zip(pictures.tolist(), embeddings, strict=True)
        ]
